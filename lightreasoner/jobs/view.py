"""A job as a page or a terminal shows it: one dictionary, ready for JSON."""

from __future__ import annotations

import shlex
from typing import Any

from lightreasoner.jobs.accelerator import describe_holder
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.context import stop_requested
from lightreasoner.jobs.events import EVENTS_FILE, first_event, reversed_events
from lightreasoner.jobs.scheduler import resumable
from lightreasoner.jobs.store import ACTIVE, FINISHED, Job, JobStore

LOOK_BACK = 300  # events: at three a second the rate is that of the last minute or two
LINE = 2_000  # bytes a log line is reckoned with
PROGRESS = {"seq", "time", "elapsed", "kind", "by", "done", "total", "status"}


def job_view(store: JobStore, job: Job) -> dict[str, Any]:
    """Everything worth showing of a job. Times in unix seconds, `eta` and `elapsed` in seconds, `rate` per second.

    Rate and ETA come from the attempt's own monotonic clock, so that a wall clock that is set changes neither.
    """
    events = _recent(job)
    progress = [event for event in events if event["kind"] == "progress" and _number(event.get("done")) is not None]
    last = progress[-1] if progress else {}
    done, total = _number(last.get("done")), _number(last.get("total"))
    rate = _rate(progress)
    running = job.state in ACTIVE
    left = max(0.0, total - done) / rate if rate and total is not None and running else None
    end = events[-1] if events and events[-1]["kind"] == "end" else {}
    active = store.jobs(active=True) if job.state == "queued" else []
    queue = [other.id for other in active if other.state == "queued"]
    waiting = _waiting_for(job, events, active)
    return {
        "id": job.id,
        "run": job.run_dir.name,
        "run_dir": str(job.run_dir),
        "verb": job.verb,
        "title": job.title,
        "state": job.state,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "attempt": job.attempt,
        "retry_of": job.retry_of,
        "position": queue.index(job.id) + 1 if job.id in queue else None,  # from 1
        "done": done,
        "total": total,
        "fraction": min(1.0, max(0.0, done / total)) if done is not None and total else None,
        "rate": rate,
        "eta": left,
        "elapsed": events[-1].get("elapsed") if events else None,
        "status": _status(job, events, waiting),
        "message": job.message,
        "kept": job.kept,
        "numbers": {name: value for name, value in last.items() if name not in PROGRESS},
        "result": end.get("result") or {},
        "command": shlex.join(["python", "-m", "lightreasoner", *job.argv]),
        "actions": _actions(job, queue),
        "waiting_for": waiting,
    }


def log_tail(store: JobStore, job: Job, lines: int = 200) -> str:
    """The last lines that the job's attempts printed. Model text is in it: show it as text and nothing else."""
    try:
        with open(store.folder(job.id) / OUTPUT_FILE, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * LINE))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # a progress bar redraws its line after a carriage return: what it drew last is what is on it
    found = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(found[-lines - 1 :] if not found[-1] else found[-lines:])


def _recent(job: Job) -> list[dict]:
    """The latest events of the current attempt, oldest first; of one that has ended, back to its last progress."""
    events, over = [], job.state in FINISHED
    for event in reversed_events(job.run_dir / EVENTS_FILE):
        if event.get("by") != job.token:
            break
        events.append(event)
        if event["kind"] == "start" or len(events) == LOOK_BACK or (over and event["kind"] == "progress"):
            break
    return events[::-1]


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rate(progress: list[dict]) -> float | None:
    """Done per second over the events at hand; None until that can be told."""
    points = [(at, event["done"]) for event in progress if (at := _number(event.get("elapsed"))) is not None]
    if len(points) < 2:
        return None
    seconds, done = points[-1][0] - points[0][0], points[-1][1] - points[0][1]
    return done / seconds if seconds > 0 and done > 0 else None


def _status(job: Job, events: list[dict], waiting: str | None) -> str:
    """What it does now, in a few words."""
    if job.state in FINISHED:
        return ""
    if waiting:
        return f"Waiting for {waiting}"
    if job.state == "queued":
        return "Queued"
    if job.state == "stopping":
        return "Stopping"
    if stop_requested(job.run_dir) == "keep":
        return "Stopping at the next safe point"
    for event in reversed(events):
        if event["kind"] == "status" and event.get("text"):
            return str(event["text"])
        if event["kind"] == "progress" and event.get("status"):
            return str(event["status"])
    return "Starting"


def _waiting_for(job: Job, events: list[dict], active: list[Job]) -> str | None:
    """Who has what the job waits for: the job that runs, or who holds the accelerator."""
    if job.state == "queued":
        return next((f"the job “{other.title}”" for other in active if other.state in ACTIVE), None)
    if job.state == "running" and events and events[-1]["kind"] == "waiting":
        return describe_holder(events[-1].get("holder"))
    return None


def _actions(job: Job, queue: list[str]) -> list[str]:
    """What can be asked of the job now."""
    start = first_event(job.run_dir / EVENTS_FILE) or {}
    if job.state == "queued":
        return [
            *(["up", "first"] if job.id in queue[1:] else []),
            *(["down"] if job.id in queue[:-1] else []),
            "cancel",
        ]
    if job.state == "running":
        keeps = start.get("keeps", False) and stop_requested(job.run_dir) != "keep"  # once is enough
        return [*(["keep"] if keeps else []), "cancel"]
    if job.state == "stopping":
        return []
    return [*(["resume"] if resumable(job) and start.get("resumes", True) else []), "retry", "delete"]
