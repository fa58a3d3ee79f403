"""The outcome of an attempt, from its events, its exit status and its output, in this order."""

from pathlib import Path

from lightreasoner.jobs.events import EVENTS_FILE, last_event, reversed_events
from lightreasoner.jobs.local import header
from lightreasoner.jobs.store import Job
from lightreasoner.processes import alive, elsewhere, fresh
from lightreasoner.storage.runs import BEATING

ERROR_PREFIXES = ("lightreasoner: ", "python -m lightreasoner ")  # of the command line's error messages

END_STATES = ("succeeded", "failed", "cancelled")
PROCESS_GONE = "The process was killed, or the machine restarted. Resume continues where it stopped."


def outcome(job: Job, status: int | None, output: str) -> dict:
    """State, message and kept of a job whose process has ended. status: its exit status, None when unknown."""
    end = last_attempt_event(job) or {}
    state = end.get("state") if end.get("kind") == "end" else None
    if state in END_STATES and not (job.state == "stopping" and state == "failed"):
        return {"state": state, "message": str(end.get("message") or ""), "kept": bool(end.get("kept"))}
    if job.state == "stopping":
        return {"state": "cancelled", "message": "Cancelled.", "kept": False}
    last = _last_line(job, output)
    if status == 0:
        return {"state": "succeeded", "message": "", "kept": False}
    if last.startswith(ERROR_PREFIXES):
        return {"state": "failed", "message": last.removeprefix(ERROR_PREFIXES[0]), "kept": False}
    if status is not None and status > 0:
        message = last or "The process ended without an error message; is the disk full?"
        return {"state": "failed", "message": f"Exit status {status}: {message}", "kept": False}
    return {"state": "interrupted", "message": PROCESS_GONE, "kept": False}


def last_attempt_event(job: Job) -> dict | None:
    """The last event of the current attempt; None when it wrote none."""
    return next((event for event in reversed_events(job.run_dir / EVENTS_FILE) if event.get("by") == job.token), None)


def _last_line(job: Job, output: str) -> str:
    """The last non-empty line of the current attempt's output."""
    lines = [line.strip() for line in output.rpartition(header(job))[2].splitlines()[1:] if line.strip()]
    return lines[-1][:500] if lines else ""


def is_in_progress(folder: Path) -> bool:
    """Whether the process that last started in the folder is alive. The folder's lock is not touched, so that a command
    that starts at this moment finds it free."""
    start = last_event(folder / EVENTS_FILE, "start") or {}
    if not isinstance(start.get("pid"), int) or not isinstance(start.get("mark"), str):
        return False
    return fresh(folder / BEATING) if elsewhere(start["mark"]) else alive(start["pid"], start["mark"])
