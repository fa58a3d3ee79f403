"""How an attempt ended, told from what it left behind: its events first, then its exit status and its output."""

from __future__ import annotations

from lightreasoner.jobs.events import EVENTS_FILE, reversed_events
from lightreasoner.jobs.local import header
from lightreasoner.jobs.store import Job

ERROR_PREFIXES = ("lightreasoner: ", "python -m lightreasoner ")  # how the command line begins its last words

END_STATES = ("succeeded", "failed", "cancelled")
PROCESS_GONE = "Its process is gone: it was killed, or the machine restarted. Resume goes on where it was."


def outcome(job: Job, status: int | None, output: str) -> dict:
    """state, message and kept of a job whose process is gone. status: its exit status, None when nobody knows it."""
    said = last_attempt_event(job) or {}
    state = said.get("state") if said.get("kind") == "end" else None
    if state in END_STATES and not (job.state == "stopping" and state == "failed"):
        return {"state": state, "message": str(said.get("message") or ""), "kept": bool(said.get("kept"))}
    if job.state == "stopping":
        return {"state": "cancelled", "message": "Cancelled.", "kept": False}
    last = _last_line(job, output)
    if status == 0:
        return {"state": "succeeded", "message": "", "kept": False}
    if last.startswith(ERROR_PREFIXES):
        return {"state": "failed", "message": last.removeprefix(ERROR_PREFIXES[0]), "kept": False}
    if status is not None and status > 0:
        message = last or "It ended without saying why; is the disk full?"
        return {"state": "failed", "message": f"Exit status {status}: {message}", "kept": False}
    return {"state": "interrupted", "message": PROCESS_GONE, "kept": False}


def last_attempt_event(job: Job) -> dict | None:
    """The last event of the current attempt; None when its work never began."""
    return next((event for event in reversed_events(job.run_dir / EVENTS_FILE) if event.get("by") == job.token), None)


def _last_line(job: Job, output: str) -> str:
    """The last line that the current attempt printed."""
    lines = [line.strip() for line in output.rpartition(header(job))[2].splitlines()[1:] if line.strip()]
    return lines[-1][:500] if lines else ""
