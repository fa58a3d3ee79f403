"""The calls of the page's scripts that show jobs and control them.

Users can send any arguments over HTTP, so everything is checked here or in the scheduler.
"""

from functools import lru_cache

from lightreasoner.errors import UserError
from lightreasoner.jobs.accelerator import AcceleratorLock, describe_holder
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import Job
from lightreasoner.jobs.view import job_view, log_tail
from lightreasoner.serving.archive import RunArchiver
from lightreasoner.storage.atomic import ID_PATTERN
from lightreasoner.validation import number
from ui.access.actions import action, current_user
from ui.components.script_calls import add_if_changed, answering

MAX_PAST = 1000  # finished jobs in one answer
NEWS = 5  # finished jobs in the answer to the header, which tells of those that it has not seen ending
NEWS_FIELDS = ("id", "title", "state", "message", "ended")
#: The fields of a line in the list; only the opened job is sent in full.
LINE = ("id", "title", "state", "created", "started", "ended", "position", "done", "total", "fraction", "rate")
LINE += ("eta", "elapsed", "status", "message", "host", "actions")
#: Actions on a job, by the names that job_view lists under "actions": methods of the scheduler, and moves in the queue.
MOVES = ("up", "down", "first")
ACTIONS = ("cancel", "keep", "retry", "resume", "delete", *MOVES)


class Jobs:
    """The workspace's jobs for the page. `calls` are the functions look, act and header_status."""

    def __init__(self, scheduler: Scheduler, archiver: RunArchiver | None = None):
        self.scheduler, self.store, self.archiver = scheduler, scheduler.store, archiver
        self.accelerator = AcceleratorLock(scheduler.settings.workspace, scheduler.settings.device)
        # a finished job does not change; a resumed one is another Job object
        self._finished = lru_cache(maxsize=MAX_PAST)(lambda job: job_view(self.store, job))
        self.calls = [answering(call) for call in (self.look, self.act, self.header_status)]

    def find(self, job_id: object) -> Job:
        """The job of this id. Raises UserError."""
        if not isinstance(job_id, str) or not ID_PATTERN.fullmatch(job_id):
            raise UserError("That link holds no valid job id; copy it again in full.")
        return self.store.get(job_id)

    def active(self) -> list[dict]:
        """Views of the running and the queued jobs, in this order."""
        return [job_view(self.store, job) for job in self.store.jobs(active=True)]

    def summary(self, views: list[dict]) -> dict:
        """For the header: the running job, the number of queued ones, and the holder of the accelerator."""
        running, holder = [view for view in views if view["state"] != "queued"], self.accelerator.holder()
        ended = self.store.jobs(active=False, limit=NEWS)
        names = ("id", "title", "state", "fraction", "eta", "waiting_for")
        return {
            "running": {name: running[0][name] for name in names} if running else None,
            "queued": len(views) - len(running),
            "holder": {"who": describe_holder(holder), "since": holder["since"]} if holder else None,
            "ended": [{name: getattr(job, name) for name in NEWS_FIELDS} for job in ended],
        }

    @action("jobs.view")
    def look(self, limit, opened, seen) -> dict:
        """The content of the tab: active jobs, up to `limit` finished ones, and the opened one in full.

        seen: the marks of the previous answer; unchanged parts are left out.
        """
        limit = number("The number of jobs", limit, 1, MAX_PAST, whole=True)
        active, finished = self.active(), self.store.jobs(active=False, limit=limit + 1)
        past = [line(self._finished(job)) for job in finished[:limit]]
        answer = {"active": [line(view) for view in active], "more": len(finished) > limit, "marks": {}}
        answer |= {
            "summary": self.summary(active),
            "trouble": self.scheduler.trouble or (self.archiver and self.archiver.trouble),
        }
        add_if_changed(answer, "past", past, seen)
        if opened:
            try:
                job = self.find(opened)
                made = (job.run_dir / "run.json").is_file()  # so it can be opened
                answer["opened"] = job_view(self.store, job) | {"made": made}
                add_if_changed(answer, "log", log_tail(self.store, job), seen)
            except UserError as error:
                answer["missing"] = str(error)
        return answer

    @action("jobs.control")
    def act(self, job_id, action, limit, opened, seen) -> dict:
        """Apply an action to a job, then `look`; "made" is the id of a new job. Raises UserError for an action that the
        job's state does not allow."""
        job = self.find(job_id)
        if not isinstance(action, str) or action not in ACTIONS:
            raise UserError(f"There is no action called {str(action)[:20]!r}.")
        if action not in job_view(self.store, job)["actions"]:
            raise UserError(f"This job is {job.state} by now, so this action is no longer possible.")
        result = self.store.move(job.id, action) if action in MOVES else getattr(self.scheduler, action)(job.id)
        made = result.id if isinstance(result, Job) and result.id != job.id else None
        if action == "delete" and opened == job.id:
            opened = None
        return self.look(limit, made or opened, {} if made else seen) | {"made": made}

    @action("jobs.summarize", visitors=True)
    def header_status(self, _nothing) -> dict:
        """The summary for the header. Visitors of a public server only learn whether a job is running."""
        if current_user(self.scheduler.settings).owner:
            return self.summary(self.active())
        running = any(job.state != "queued" for job in self.store.jobs(active=True))
        return {"running": None, "queued": 0, "holder": None, "busy": running}


def line(view: dict) -> dict:
    return {name: view[name] for name in LINE}
