"""What keeps the queue going: one job at a time, and the list in step with the processes that really live.

Any number of servers may do this on one workspace at once. Every decision is a comparison and a write in the store, so
whoever comes second does nothing; a job's process belongs to none of them.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.hub.token import job_environment
from lightreasoner.jobs import processes
from lightreasoner.jobs.backend import Backend
from lightreasoner.jobs.context import STOP_FILE
from lightreasoner.jobs.outcome import last_attempt_event, outcome
from lightreasoner.jobs.store import ACTIVE, FINISHED, FRESH, Job, JobStore
from lightreasoner.settings import Settings, to_environment
from lightreasoner.storage.atomic import new_id, write_text

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between looks at the processes
SETTLE = 1.0  # seconds before a job without a process on record is taken for one that was never started
PATIENCE = 5.0  # seconds for another scheduler to say what became of the job that it started: it has the exit status
TERM_AFTER, KILL_AFTER = 4.0, 7.0  # seconds after somebody cancelled; before, the work may stop at a safe point


class Scheduler:
    """Runs the jobs of a store. `trouble` is what keeps it from working right now, a sentence, or None."""

    def __init__(self, store: JobStore, backends: dict[str, Backend], settings: Settings):
        self.store, self.backends, self.settings = store, backends, settings
        self.trouble: str | None = None
        self._name = processes.new_name()
        self._since: dict[str, float] = {}  # attempt → when it was first seen stopping, by the monotonic clock
        self._warned: set[str] = set()  # attempts that got their TERM
        self._tokens: dict[str, str] = {}  # job → what it was handed for the Hub; never written down
        self._doubts: dict[str, float] = {}  # attempt → when it first was not clear what became of it
        self._one_at_a_time, self._wake, self._closed = threading.Lock(), threading.Event(), threading.Event()
        self._thread, self._announced = None, None

    def start(self) -> Scheduler:
        """Tick in a daemon thread until `close`, and let command lines know that somebody does."""
        with suppress(OSError):
            self._announced = processes.announce(servers(self.settings))
        self._thread = threading.Thread(target=self._run, daemon=True, name="scheduler")
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread. Jobs that run go on running."""
        self._closed.set()
        self._wake.set()
        if self._thread:
            self._thread.join(10)
        if self._announced:
            self._announced.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self.tick()
                self.trouble = None
            except UserError as error:
                if self.trouble != str(error):
                    log.warning("the queue stands still: %s", error)
                self.trouble = str(error)
            except Exception:  # nothing may end this thread
                log.exception("error in the scheduler")
                self.trouble = "Something broke on our side; the server's log has more."
            self._wake.wait(TICK)
            self._wake.clear()

    def tick(self, start: bool = True) -> None:
        """Bring the list in step with the processes, carry cancellations on, and start the next job if none runs.

        start: False only looks after what runs. Raises UserError when the store cannot be used.
        """
        with self._one_at_a_time:
            for job in self.store.jobs(active=True):
                if job.state in ACTIVE and job.backend in self.backends:
                    self._follow(job, self.backends[job.backend])
            if start and (job := self.store.claim(self._name)):
                self._launch(job)

    # ---- what happens to a job that was started

    def _launch(self, job: Job) -> None:
        try:
            if job.backend not in self.backends:
                raise UserError(f"The backend {job.backend!r} is not set up here; set it up or retry the job locally.")
            here = replace(self.settings, job=job.token, workspace=self.settings.workspace.resolve())
            env = to_environment(here) | job_environment(job.verb, self._tokens.pop(job.id, None))
            pid, mark = self.backends[job.backend].submit(job, self.store.folder(job.id), env)
        except UserError as error:
            self.store.change(job.id, ACTIVE, job, state="failed", ended=time.time(), message=str(error))
            return
        self.store.change(job.id, ACTIVE, job, pid=pid, mark=mark)

    def _follow(self, job: Job, backend: Backend) -> None:
        if job.pid is None:
            self._settle_claim(job, backend)
        elif not backend.alive(job):
            if self._conclude(job, backend):
                self._since.pop(job.token, None)
                self._warned.discard(job.token)
        elif job.state == "stopping":
            self._press(job, backend)

    def _settle_claim(self, job: Job, backend: Backend) -> None:
        """A job that somebody took and has no process on record: it is being started, or was when its server died."""
        if self._others(job):  # however long it takes: started twice would be worse
            return
        if self._waited(job) < SETTLE:  # a process is not to be told from its server until it is past its exec
            return
        if found := backend.find(job):
            self.store.change(job.id, ACTIVE, job, pid=found[0], mark=found[1])
        elif last_attempt_event(job):
            self._conclude(job, backend)
        elif job.state == "stopping":
            self.store.change(job.id, ACTIVE, job, state="cancelled", ended=time.time(), message="Cancelled.")
        else:
            self._doubts.pop(job.token, None)
            self.store.change(job.id, ("running",), job, **FRESH | {"state": "queued", "attempt": job.attempt - 1})

    def _conclude(self, job: Job, backend: Backend) -> bool:
        """Write down how a job ended whose process is gone; whether this was the one to do so."""
        status, said = backend.status(job), last_attempt_event(job)
        if (
            status is None
            and not (said and said["kind"] == "end")
            and self._others(job)
            and self._waited(job) < PATIENCE
        ):
            return False
        backend.kill(job)  # what the process started and left behind
        ending = outcome(job, status, backend.logs(self.store.folder(job.id), 20_000))
        # only from the state that was judged: a cancellation that came in between is another verdict
        return self.store.change(job.id, (job.state,), job, ended=time.time(), **ending)

    def _others(self, job: Job) -> bool:
        """Whether the job was started by another scheduler that lives."""
        return job.claimed_by != self._name and processes.owner_alive(job.claimed_by)

    def _waited(self, job: Job) -> float:
        """Seconds since this scheduler first had doubts about this attempt."""
        return time.monotonic() - self._doubts.setdefault(job.token, time.monotonic())

    def _press(self, job: Job, backend: Backend) -> None:
        """Stop a job: a word first, then TERM, then KILL. The monotonic clock counts, whatever the wall says."""
        if job.token not in self._since:
            self._since[job.token] = time.monotonic()
            with suppress(UserError):  # on a full disk the signals do it
                write_text(job.run_dir / STOP_FILE, "cancel\n")
        waited = time.monotonic() - self._since[job.token]
        if waited >= KILL_AFTER:
            backend.kill(job)
        elif waited >= TERM_AFTER and job.token not in self._warned:
            self._warned.add(job.token)
            backend.interrupt(job)

    # ---- what people ask for

    def submit(
        self,
        verb: str,
        argv: tuple[str, ...] | list[str],
        title: str,
        run_dir: Path,
        backend: str | None = None,
        retry_of: str | None = None,
        token: str | None = None,
    ) -> Job:
        """Queue `python -m lightreasoner *argv`; --run-dir is added where it is missing. Raises UserError when the
        queue is full, or jobs are off here.

        backend: by default the last of this scheduler's. token: for the Hub; it stays in this process's memory until
        the job's process gets it in its environment, so such a job stays on this machine."""
        self._allow()
        backend = backend or ("local" if token else list(self.backends)[-1])
        argv, run_dir = tuple(str(word) for word in argv), Path(run_dir).absolute()
        argv = argv if argv[:1] == (verb,) else (verb, *argv)
        argv = argv if "--run-dir" in argv else (*argv, "--run-dir", str(run_dir))
        title = "".join(c if c.isprintable() else " " for c in title)[:200]
        job = Job(new_id(), verb, title, argv, run_dir, backend=backend, retry_of=retry_of)
        if token:  # before the row is there: another thread may start it at once
            self._tokens[job.id] = token
        try:
            job = self.store.add(job, self.settings.max_queued)
        except BaseException:
            self._tokens.pop(job.id, None)
            raise
        self._wake.set()
        return job

    def _allow(self) -> None:
        if self.settings.no_jobs:
            raise UserError(self.settings.no_jobs)

    def cancel(self, job_id: str) -> Job:
        """Stop a job for good: at once when queued, else within ten seconds. Raises UserError when it has ended."""
        if not self.store.change(job_id, ("queued",), state="cancelled", ended=time.time(), message="Cancelled."):
            self.store.change(job_id, ("running",), state="stopping")
        job = self.store.get(job_id)
        self._tokens.pop(job_id, None)
        if job.state == "stopping":
            if job.backend in self.backends:
                with self._one_at_a_time:
                    self._press(job, self.backends[job.backend])
        elif job.state != "cancelled":
            raise UserError(f"This job has {job.state} already; there is nothing to cancel.")
        self._wake.set()
        return job

    def keep(self, job_id: str) -> Job:
        """Let a running job end at its next safe point and keep what it has. Raises UserError when it does not run."""
        job = self.store.get(job_id)
        if job.state != "running":
            raise UserError(f"This job is {job.state}; only a running one can be stopped with what it has.")
        write_text(job.run_dir / STOP_FILE, "keep\n")
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a new job with the same settings and a run folder of its own. Raises UserError."""
        job = self.store.get(job_id)
        if job.state not in FINISHED:
            raise UserError(f"This job is {job.state}; wait for it to end or cancel it, then retry.")
        run_dir = job.run_dir.with_name(new_id())
        argv = [str(run_dir) if word == str(job.run_dir) else word for word in job.argv]
        return self.submit(job.verb, argv, job.title, run_dir, job.backend, retry_of=job.id)

    def resume(self, job_id: str) -> Job:
        """Queue the same job again, to go on in its run folder. Raises UserError when nothing can go on."""
        self._allow()
        job = self.store.get(job_id)
        if not resumable(job):
            raise UserError(f"This job has {job.state}; there is nothing to resume. Retry starts it anew.")
        with suppress(OSError):
            (job.run_dir / STOP_FILE).unlink(missing_ok=True)  # meant for the attempt before
        if not self.store.requeue(job.id, (job.state,), self.settings.max_queued):
            raise UserError("This job was resumed a moment ago, or deleted.")
        self._wake.set()
        return self.store.get(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a finished job and its output; the run folder stays. Raises UserError for one that has not ended."""
        job = self.store.get(job_id)
        if not self.store.delete(job_id):
            raise UserError(f"This job is {job.state}; cancel it first, then delete it.")
        shutil.rmtree(self.store.folder(job_id), ignore_errors=True)


def resumable(job: Job) -> bool:
    """Whether a job can go on where it stopped."""
    return job.state in ("interrupted", "failed", "cancelled") or (job.state == "succeeded" and job.kept)


def servers(settings: Settings) -> Path:
    """The folder in which the schedulers that run announce themselves."""
    return settings.jobs / "servers"
