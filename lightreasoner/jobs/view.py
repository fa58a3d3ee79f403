"""A job as the page and the terminal show it: one dictionary, ready for JSON."""

import shlex
from typing import Any

from lightreasoner.jobs.accelerator import describe_holder
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.context import stop_requested
from lightreasoner.jobs.events import EVENTS_FILE, first_event, reversed_events
from lightreasoner.jobs.scheduler import device_of, folder_deleted, resumable, runs_elsewhere
from lightreasoner.jobs.store import ACTIVE, FINISHED, Job, JobStore

LOOK_BACK = 300  # events: at three per second, the rate covers the last minute or two
LINE = 2_000  # assumed bytes per log line
PROGRESS = {"seq", "time", "elapsed", "kind", "by", "done", "total", "status"}


def job_view(store: JobStore, job: Job) -> dict[str, Any]:
    """The state of a job. Times in unix seconds, `eta` and `elapsed` in seconds, `rate` per second.

    Rate and ETA use the attempt's monotonic clock, so setting the wall clock changes neither.
    """
    events = _recent(job)
    progress = [event for event in events if event["kind"] == "progress" and _number(event.get("done")) is not None]
    last = progress[-1] if progress else {}
    done, total = _number(last.get("done")), _number(last.get("total"))
    rate = _rate(progress)
    running = job.state in ACTIVE
    ending = running and stop_requested(job.run_dir) == "keep"  # it will not do what is left
    left = max(0.0, total - done) / rate if rate and total is not None and running and not ending else None
    end = events[-1] if events and events[-1]["kind"] == "end" else {}
    active = store.jobs(active=True) if job.state == "queued" else []
    queue = [other.id for other in active if other.state == "queued"]
    waiting, device = _waiting_for(job, events, active), device_of(store, job)
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
        "status": _status(job, events, waiting) + (f" (on {device})" if device and running else ""),
        "message": job.message,
        "kept": job.kept,
        "numbers": {name: value for name, value in last.items() if name not in PROGRESS},
        "result": end.get("result") or {},
        "command": shlex.join(["python", "-m", "lightreasoner", *job.argv]),
        "actions": _actions(job, queue),
        "waiting_for": waiting,
        "device": device,  # of several; None where there is one
        "host": runs_elsewhere(job),  # another machine or container; None for this one
    }


def log_tail(store: JobStore, job: Job, lines: int = 200) -> str:
    """The last lines of the job's output. It contains model text: show it as plain text only."""
    try:
        with open(store.folder(job.id) / OUTPUT_FILE, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * LINE))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # a progress bar redraws its line after a carriage return: the last drawing counts
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(shown[-lines - 1 :] if not shown[-1] else shown[-lines:])


def _recent(job: Job) -> list[dict]:
    """The latest events of the current attempt, oldest first; of a finished job, back to its last progress."""
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
    """Units per second over these events; None while unknown."""
    points = [(at, event["done"]) for event in progress if (at := _number(event.get("elapsed"))) is not None]
    if len(points) < 2:
        return None
    seconds, done = points[-1][0] - points[0][0], points[-1][1] - points[0][1]
    return done / seconds if seconds > 0 and done > 0 else None


def _status(job: Job, events: list[dict], waiting: str | None) -> str:
    """The current activity in a few words."""
    if job.state in FINISHED:
        return ""
    if waiting:
        return f"Waiting for {waiting}"
    if job.state == "queued":
        return "Queued"
    if job.state == "stopping":
        return "Stopping"
    if folder_deleted(job):
        return "Its run folder was deleted; the job stops at its next write"
    if stop_requested(job.run_dir) == "keep":
        return "Stopping at the next checkpoint"
    for event in reversed(events):
        if event["kind"] == "status" and event.get("text"):
            return str(event["text"])
        if event["kind"] == "progress" and event.get("status"):
            return str(event["status"])
    return "Starting"


def _waiting_for(job: Job, events: list[dict], active: list[Job]) -> str | None:
    """What the job waits for: the running job, or the holder of the accelerator."""
    if job.state == "queued":
        return next((f"the job “{other.title}”" for other in active if other.state in ACTIVE), None)
    if job.state == "running" and events and events[-1]["kind"] == "waiting":
        return describe_holder(events[-1].get("holder"))
    return None


def _actions(job: Job, queue: list[str]) -> list[str]:
    start = first_event(job.run_dir / EVENTS_FILE) or {}
    if job.state == "queued":
        return [
            *(["up", "first"] if job.id in queue[1:] else []),
            *(["down"] if job.id in queue[:-1] else []),
            "cancel",
        ]
    if job.state == "running":
        keeps = start.get("keeps", False) and stop_requested(job.run_dir) != "keep"  # not requested twice
        return [*(["keep"] if keeps else []), "cancel"]
    if job.state == "stopping":
        return []
    return [*(["resume"] if resumable(job) and start.get("resumes", True) else []), "retry", "delete"]
