"""Shared by the job tests: a workspace with a scheduler whose jobs are tests/support/job_script.py, and servers.

python -m tests.support.job_bench WORKSPACE [before|after] is a server: a scheduler until it is killed, which kills
itself just before or just after it spawns its first job when told so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lightreasoner import processes
from lightreasoner.jobs.events import EVENTS_FILE, read_events
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import FINISHED, Job, JobStore
from lightreasoner.settings import ROOT, Settings
from lightreasoner.storage.atomic import new_id

SCRIPT = (sys.executable, "-m", "tests.support.job_script")
PATIENCE = 60  # seconds after which a test gives up


def until(condition, what: str = "it"):
    """Wait until condition() is true; what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} never happened"
        time.sleep(0.02)
    return found


def make_scheduler(workspace: Path, backend: LocalBackend | None = None, **settings) -> Scheduler:
    settings = Settings(workspace=workspace, **settings)
    return Scheduler(JobStore(settings.jobs / "jobs.sqlite"), {"local": backend or LocalBackend(SCRIPT)}, settings)


class Bench:
    """A scheduler that ticks only when the test says so."""

    def __init__(self, workspace: Path, **settings):
        self.workspace, self.scheduler = workspace, make_scheduler(workspace, **settings)
        self.store, self.settings, self.servers = self.scheduler.store, self.scheduler.settings, []

    def submit(self, verb: str, *argv: str, run: str | None = None) -> Job:
        folder = self.settings.runs / (run or new_id())
        return self.scheduler.submit(verb, argv, f"Test {verb}", folder)

    def get(self, job: Job) -> Job:
        return self.store.get(job.id)

    def tick_until(self, condition, what: str = "it"):
        def ticked():
            self.scheduler.tick()
            return condition()

        return until(ticked, what)

    def running(self, job: Job, kind: str = "start") -> dict:
        """Tick until the job's current attempt has logged an event of this kind; the event."""
        return self.tick_until(lambda: self.said(self.get(job), kind), f"a {kind} event")

    def said(self, job: Job, kind: str) -> dict | None:
        events = [e for e in read_events(job.run_dir / EVENTS_FILE) if e["by"] == job.token and e["kind"] == kind]
        return events[-1] if events else None

    def finished(self, job: Job) -> Job:
        self.tick_until(lambda: self.get(job).state in FINISHED, "the end")
        return self.get(job)

    def server(self, death: str = "") -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.support.job_bench", str(self.workspace), death]
        server = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
        for job in self.store.jobs(active=True):
            LocalBackend().kill(job)


def gone(pid: int) -> bool:
    """Whether no such process runs; a zombie does not."""
    return not processes.alive(pid, processes.mark(pid))


class Dying(LocalBackend):
    """Takes its server with it, before or after it spawns."""

    def __init__(self, death: str):
        super().__init__(SCRIPT)
        self.death = death

    def submit(self, job, folder, env):
        if self.death == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        handle = super().submit(job, folder, env)
        if self.death == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return handle


if __name__ == "__main__":
    make_scheduler(Path(sys.argv[1]), Dying(sys.argv[2])).start()
    threading.Event().wait()
