"""What the page's scripts may ask about jobs, and do with them. Each answer is a dict; mistakes come as "error".

Anybody may call these with anything: everything is checked here or in the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from lightreasoner.errors import UserError
from lightreasoner.jobs.accelerator import AcceleratorLock, describe_holder
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import Job
from lightreasoner.jobs.view import job_view, log_tail
from lightreasoner.serving.archive import RunArchiver
from lightreasoner.storage.atomic import ID_PATTERN
from lightreasoner.validation import number
from ui.access.actions import action
from ui.access.visitors import current_user
from ui.components.script_calls import add_if_changed, answering

MOST = 1000  # jobs of the past in one answer, whatever is asked
#: What a line of the list shows; the rest of a view is sent for the opened job only.
LINE = ("id", "title", "state", "created", "started", "ended", "position", "done", "total", "fraction", "rate")
LINE += ("eta", "elapsed", "status", "message")
#: What a person can do with a job, by the names that job_view gives under "actions".
ACTIONS: dict[str, Callable[[Scheduler, str], Job | None]] = {
    "cancel": lambda jobs, job_id: jobs.cancel(job_id),
    "keep": lambda jobs, job_id: jobs.keep(job_id),
    "retry": lambda jobs, job_id: jobs.retry(job_id),
    "resume": lambda jobs, job_id: jobs.resume(job_id),
    "delete": lambda jobs, job_id: jobs.delete(job_id),
    "up": lambda jobs, job_id: jobs.store.move(job_id, "up"),
    "down": lambda jobs, job_id: jobs.store.move(job_id, "down"),
    "first": lambda jobs, job_id: jobs.store.move(job_id, "first"),
}


class Jobs:
    """The workspace's jobs as the page asks for them. Its calls are the functions look, act and header_status."""

    def __init__(self, scheduler: Scheduler, archiver: RunArchiver | None = None):
        self.scheduler, self.store, self.archiver = scheduler, scheduler.store, archiver
        self.accelerator = AcceleratorLock(scheduler.settings.workspace)
        # what has ended stays as it was, until it is resumed, and then it is another Job
        self._ended = lru_cache(maxsize=MOST)(lambda job: job_view(self.store, job))
        self.calls = [answering(call) for call in (self.look, self.act, self.header_status)]

    def find(self, job_id: object) -> Job:
        """The job of this id. Raises UserError."""
        if not isinstance(job_id, str) or not ID_PATTERN.fullmatch(job_id):
            raise UserError("That link holds no valid job id; copy it again in full.")
        return self.store.get(job_id)

    def active(self) -> list[dict]:
        """Views of what runs and what waits, in this order."""
        return [job_view(self.store, job) for job in self.store.jobs(active=True)]

    def summary(self, views: list[dict]) -> dict:
        """The header's few words: the job that runs, how many wait, who holds the accelerator since when."""
        running, holder = [view for view in views if view["state"] != "queued"], self.accelerator.holder()
        names = ("id", "title", "state", "fraction", "eta", "waiting_for")
        return {
            "running": {name: running[0][name] for name in names} if running else None,
            "queued": len(views) - len(running),
            "holder": {"who": describe_holder(holder), "since": holder["since"]} if holder else None,
        }

    @action("jobs.view")
    def look(self, limit, opened, seen) -> dict:
        """All that the tab shows: what runs and waits, `limit` jobs of the past, and the opened one in full.

        seen: the marks of the answer before; what has not changed since is left out.
        """
        limit = number("The number of jobs", limit, 1, MOST, whole=True)
        seen = seen if isinstance(seen, dict) else {}
        active, found = self.active(), self.store.jobs(active=False, limit=limit + 1)
        past = [line(self._ended(job)) for job in found[:limit]]
        answer = {"active": [line(view) for view in active], "more": len(found) > limit, "marks": {}}
        answer |= {
            "summary": self.summary(active),
            "trouble": self.scheduler.trouble or (self.archiver and self.archiver.trouble),
        }
        add_if_changed(answer, "past", past, seen)
        if opened:
            try:
                job = self.find(opened)
                made = (job.run_dir / "run.json").is_file()  # there is something to open
                answer["opened"] = job_view(self.store, job) | {"made": made}
                add_if_changed(answer, "log", log_tail(self.store, job), seen)
            except UserError as error:
                answer["missing"] = str(error)
        return answer

    @action("jobs.control")
    def act(self, job_id, action, limit, opened, seen) -> dict:
        """Do something with a job and look again; "made" is the id of a new job. Raises UserError for what makes no
        sense in the job's state."""
        job = self.find(job_id)
        if not isinstance(action, str) or action not in ACTIONS:
            raise UserError(f"There is no action called {str(action)[:20]!r}.")
        if action not in job_view(self.store, job)["actions"]:
            raise UserError(f"This job is {job.state} by now, so this cannot be done any more.")
        done = ACTIONS[action](self.scheduler, job.id)
        made = done.id if isinstance(done, Job) and done.id != job.id else None
        if action == "delete" and opened == job.id:
            opened = None
        return self.look(limit, made or opened, {} if made else seen) | {"made": made}

    @action("jobs.summarize", visitors=True)
    def header_status(self, _nothing) -> dict:
        """The header's few words. A visitor of a public server learns whether a job runs, and nothing about it."""
        if current_user(self.scheduler.settings).owner:
            return self.summary(self.active())
        running = any(job.state != "queued" for job in self.store.jobs(active=True))
        return {"running": None, "queued": 0, "holder": None, "busy": running}


def line(view: dict) -> dict:
    return {name: view[name] for name in LINE}
