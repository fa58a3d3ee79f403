"""A server whose jobs the tests put in and look up: through the store, as a command line would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import Job, JobStore
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from tests.support.browser import App


class JobsApp(App):
    """A server whose queue the tests fill as a command line would: through the store."""

    def jobs(self) -> Scheduler:
        settings = Settings(workspace=self.workspace, device="cpu")
        return Scheduler(JobStore(settings.jobs / "jobs.sqlite"), {"local": LocalBackend()}, settings)

    def submit(self, title: str, *argv: str) -> Job:
        jobs = self.jobs()
        return jobs.submit("sample", argv, title, jobs.settings.runs / new_id())

    def past(self, title: str, state: str, message: str = "") -> Job:
        """A job that has ended, as its row tells; nothing was ever run."""
        jobs = self.jobs()
        job = jobs.store.add(Job(new_id(), "sample", title, ("sample",), jobs.settings.runs / new_id()), 1000)
        now = time.time()
        jobs.store.change(job.id, ("queued",), state=state, message=message, started=now - 5, ended=now, attempt=1)
        return job


A = TypeVar("A", bound=JobsApp)


@contextmanager
def serving(app: A) -> Iterator[A]:
    """It runs inside the block. No job outlives it, and nothing may have logged a traceback."""
    app.start("--no-preload")
    try:
        yield app
    finally:
        app.stop()
        for job in app.jobs().store.jobs(active=True):
            LocalBackend().kill(job)
    assert not app.tracebacks()
