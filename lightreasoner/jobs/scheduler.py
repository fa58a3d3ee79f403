"""The scheduler: runs queued jobs, one per GPU, and keeps the job list in step with the processes.

Any number of servers may run one on the same workspace. Every decision is a compare-and-set in the store, so the second
server changes nothing, and no server owns a job's process.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from lightreasoner import processes
from lightreasoner.errors import UserError
from lightreasoner.hub.token import job_environment
from lightreasoner.jobs.accelerator import job_devices
from lightreasoner.jobs.backend import HEARTBEAT, Backend
from lightreasoner.jobs.context import STOP_FILE
from lightreasoner.jobs.outcome import last_attempt_event, outcome
from lightreasoner.jobs.store import ACTIVE, FINISHED, FRESH, Job, JobStore
from lightreasoner.settings import Settings, to_environment
from lightreasoner.storage.atomic import in_use, new_id, write_text
from lightreasoner.storage.runs import BEATING, LOCK

log = logging.getLogger(__name__)

LOST = "It ran on {}, from where nothing has been heard for a while. Resume continues where it stopped."
DEVICE_FILE = "device"  # in a job's folder: the device that it was given
TICK = 0.5  # seconds between looks at the processes
SETTLE = 1.0  # seconds before a job without a recorded process counts as never started
PATIENCE = 5.0  # seconds for the scheduler that started a job to record its end: it knows the exit status
TERM_AFTER, KILL_AFTER = 4.0, 7.0  # seconds after a cancellation; until then the job may stop at a checkpoint


class Scheduler:
    """Runs the jobs of a store. `trouble`: a sentence saying why it cannot run them now, or None."""

    def __init__(self, store: JobStore, backends: dict[str, Backend], settings: Settings):
        self.store, self.backends, self.settings = store, backends, settings
        self.trouble: str | None = None
        self._name = processes.new_name()
        self._since: dict[str, float] = {}  # attempt → start of its stopping, monotonic clock
        self._warned: set[str] = set()  # attempts that got SIGTERM
        self._tokens: dict[str, str] = {}  # job → its Hub token; never written to disk
        self._doubts: dict[str, float] = {}  # attempt → when its outcome was first unclear
        self._one_at_a_time, self._wake, self._closed = threading.Lock(), threading.Event(), threading.Event()
        self._thread, self._announced = None, None

    @cached_property
    def _devices(self) -> tuple[str, ...]:
        """Each runs one job at a time. A cluster distributes its jobs by itself, and gets one at a time from here."""
        return job_devices(self.settings) if list(self.backends) == ["local"] else (self.settings.device,)

    def start(self) -> Scheduler:
        """Tick in a daemon thread until `close`, and announce that this server runs the queue."""
        with suppress(OSError):
            self._announced = processes.announce(servers(self.settings), self._name)
        self._thread = threading.Thread(target=self._run, daemon=True, name="scheduler")
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread. Running jobs continue."""
        self._closed.set()
        self._wake.set()
        if self._thread:
            self._thread.join(10)
        if self._announced:
            self._announced.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._closed.is_set():
            if self._announced:
                processes.beat(self._announced)
            try:
                self.tick()
                self.trouble = None
            except UserError as error:
                if self.trouble != str(error):
                    log.warning("the queue is blocked: %s", error)
                self.trouble = str(error)
            except Exception:  # the thread must survive
                log.exception("error in the scheduler")
                self.trouble = "An unexpected error occurred; see the server's log."
            self._wake.wait(TICK)
            self._wake.clear()

    def tick(self, start: bool = True) -> None:
        """Update the list from the processes, continue cancellations, and start the next job if a device is free.

        start: False starts none. Raises UserError when the store cannot be used.
        """
        with self._one_at_a_time:
            for job in self.store.jobs(active=True):
                if job.state in ACTIVE and job.backend in self.backends:
                    self._check_process(job, self.backends[job.backend])
            if start and (job := self.store.claim(self._name, len(self._devices))):
                self._launch(job)

    # ---- jobs that were started

    def _launch(self, job: Job) -> None:
        try:
            if job.backend not in self.backends:
                raise UserError(f"This server has no backend {job.backend!r}; configure it or retry the job locally.")
            here = replace(self.settings, job=job.token, workspace=self.settings.workspace.resolve())
            if len(self._devices) > 1:  # its own first, and the others where a model has no room beside another
                own = self._free_device(job)
                here = replace(here, device=",".join([own, *(other for other in self._devices if other != own)]))
            env = to_environment(here) | job_environment(job.verb, self._tokens.pop(job.id, None))
            pid, mark = self.backends[job.backend].submit(job, self.store.folder(job.id), env)
        except UserError as error:
            self.store.change(job.id, ACTIVE, job, state="failed", ended=time.time(), message=str(error))
            return
        with suppress(OSError):  # the job says why; from here on, a folder that is missing was deleted
            job.run_dir.mkdir(parents=True, exist_ok=True)
        self.store.change(job.id, ACTIVE, job, pid=pid, mark=mark)

    def _free_device(self, job: Job) -> str:
        """The device for a job, which is noted in its folder: the last one that no other job has, since traces on the
        page use the first."""
        others = [other for other in self.store.jobs(active=True) if other.state in ACTIVE and other.id != job.id]
        taken = {device_of(self.store, other) for other in others}
        device = next((device for device in reversed(self._devices) if device not in taken), self._devices[-1])
        write_text(self.store.folder(job.id) / DEVICE_FILE, device)
        return device

    def _check_process(self, job: Job, backend: Backend) -> None:
        if runs_elsewhere(job):
            self._check_elsewhere(job)
        elif job.pid is None:
            self._recover_claim(job, backend)
        elif not backend.alive(job):
            if self._finish(job, backend):
                self._since.pop(job.token, None)
                self._warned.discard(job.token)
        elif job.state == "stopping":
            self._stop(job, backend)

    def _check_elsewhere(self, job: Job) -> None:
        """Handle a job of another machine or container, whose processes cannot be seen or signalled from here."""
        if self._owned_by_other(job):  # that server sees them
            return
        event, beats = last_attempt_event(job), (self.store.folder(job.id) / HEARTBEAT, job.run_dir / BEATING)
        ended = event and event["kind"] == "end"
        if (not ended and any(map(processes.fresh, beats))) or in_use(job.run_dir / LOCK):
            return
        ending = outcome(job, None, "")
        if not ended and job.state != "stopping":
            ending["message"] = LOST.format(runs_elsewhere(job))
        self.store.change(job.id, (job.state,), job, ended=time.time(), **ending)

    def _recover_claim(self, job: Job, backend: Backend) -> None:
        """Handle a claimed job without a recorded process: it is starting, or its server died while starting it."""
        if self._owned_by_other(job):  # starting twice would be worse than waiting
            return
        if self._seconds_in_doubt(job) < SETTLE:  # until its exec a child looks like its server
            return
        if handle := backend.find(job):
            self.store.change(job.id, ACTIVE, job, pid=handle[0], mark=handle[1])
        elif last_attempt_event(job):
            self._finish(job, backend)
        elif job.state == "stopping":
            self.store.change(job.id, ACTIVE, job, state="cancelled", ended=time.time(), message="Cancelled.")
        else:
            self._doubts.pop(job.token, None)
            self.store.change(job.id, ("running",), job, **FRESH | {"state": "queued", "attempt": job.attempt - 1})

    def _finish(self, job: Job, backend: Backend) -> bool:
        """Record the outcome of a job whose process has ended; whether this call did."""
        status, event = backend.status(job), last_attempt_event(job)
        if (
            status is None
            and not (event and event["kind"] == "end")
            and self._owned_by_other(job)
            and self._seconds_in_doubt(job) < PATIENCE
        ):
            return False
        backend.kill(job)  # child processes that it left behind
        ending = outcome(job, status, backend.logs(self.store.folder(job.id), 20_000))
        # only from the same state: a cancellation in between changes the outcome
        return self.store.change(job.id, (job.state,), job, ended=time.time(), **ending)

    def _owned_by_other(self, job: Job) -> bool:
        """Whether another living scheduler started the job."""
        return job.claimed_by != self._name and processes.owner_alive(job.claimed_by, servers(self.settings))

    def _seconds_in_doubt(self, job: Job) -> float:
        """Seconds since the outcome of this attempt was first unclear."""
        return time.monotonic() - self._doubts.setdefault(job.token, time.monotonic())

    def _stop(self, job: Job, backend: Backend) -> None:
        """Stop a job by its stop file, then SIGTERM, then SIGKILL, timed by the monotonic clock."""
        if job.token not in self._since:
            self._since[job.token] = time.monotonic()
            with suppress(UserError):  # on a full disk, and in a folder that was deleted, the signals stop it
                if job.run_dir.is_dir():
                    write_text(job.run_dir / STOP_FILE, "cancel\n")
        if runs_elsewhere(job):  # its own server sends the signals
            return
        waited = time.monotonic() - self._since[job.token]
        if waited >= KILL_AFTER:
            backend.kill(job)
        elif waited >= TERM_AFTER and job.token not in self._warned:
            self._warned.add(job.token)
            backend.interrupt(job)

    # ---- requests of users

    def submit(
        self,
        verb: str,
        argv: tuple[str, ...] | list[str],
        title: str,
        run_dir: Path | None = None,
        backend: str | None = None,
        retry_of: str | None = None,
        token: str | None = None,
    ) -> Job:
        """Queue `python -m lightreasoner *argv`, with --run-dir added if it is missing. Raises UserError when the queue
        is full or jobs are disabled.

        run_dir: a new one by default. backend: the last one by default. token: for the Hub; it stays in memory until
        the job's process gets it in its environment, so such a job runs on this machine."""
        self._check_enabled()
        backend = backend or ("local" if token else list(self.backends)[-1])
        argv, run_dir = tuple(str(word) for word in argv), Path(run_dir or self.settings.runs / new_id()).absolute()
        argv = argv if argv[:1] == (verb,) else (verb, *argv)
        argv = argv if "--run-dir" in argv else (*argv, "--run-dir", str(run_dir))
        title = "".join(c if c.isprintable() else " " for c in title)[:200]
        job = Job(new_id(), verb, title, argv, run_dir, backend=backend, retry_of=retry_of)
        if token:  # before the row exists, since another thread may start the job at once
            self._tokens[job.id] = token
        try:
            job = self.store.add(job, self.settings.max_queued)
        except BaseException:
            self._tokens.pop(job.id, None)
            raise
        self._wake.set()
        return job

    def _check_enabled(self) -> None:
        if self.settings.no_jobs:
            raise UserError(self.settings.no_jobs)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: a queued one at once, a running one within ten seconds. Raises UserError when it has ended."""
        if not self.store.change(job_id, ("queued",), state="cancelled", ended=time.time(), message="Cancelled."):
            self.store.change(job_id, ("running",), state="stopping")
        job = self.store.get(job_id)
        self._tokens.pop(job_id, None)
        if job.state == "stopping":
            if job.backend in self.backends:
                with self._one_at_a_time:
                    self._stop(job, self.backends[job.backend])
        elif job.state != "cancelled":
            raise UserError(f"This job cannot be cancelled: it has ended already ({job.state}).")
        self._wake.set()
        return job

    def keep(self, job_id: str) -> Job:
        """Let a running job stop at its next checkpoint and save its results. Raises UserError when it does not run."""
        job = self.store.get(job_id)
        if job.state != "running":
            raise UserError(f"This job is {job.state}; only a running job can be stopped with its results saved.")
        if folder_deleted(job):
            raise UserError(
                f"The run folder {job.run_dir} was deleted, so there are no results to save; cancel the job."
            )
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
        """Queue the same job again, to continue in its run folder. Raises UserError when it cannot be resumed."""
        self._check_enabled()
        job = self.store.get(job_id)
        if not resumable(job):
            raise UserError(f"This job cannot be resumed ({job.state}). Retry starts it anew.")
        with suppress(OSError):
            (job.run_dir / STOP_FILE).unlink(missing_ok=True)  # of an earlier attempt
        if not self.store.requeue(job.id, (job.state,), self.settings.max_queued):
            raise UserError("This job was resumed a moment ago, or deleted.")
        self._wake.set()
        return self.store.get(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a finished job and its output; the run folder stays. Raises UserError for an unfinished job."""
        job = self.store.get(job_id)
        if not self.store.delete(job_id):
            raise UserError(f"This job is {job.state}; cancel it first, then delete it.")
        shutil.rmtree(self.store.folder(job_id), ignore_errors=True)


def device_of(store: JobStore, job: Job) -> str | None:
    """The device that a job was given; None where there is only one."""
    try:
        return (store.folder(job.id) / DEVICE_FILE).read_text(encoding="utf-8")
    except OSError:
        return None


def folder_deleted(job: Job) -> bool:
    """Whether a job's run folder was deleted while its process runs."""
    return job.state in ACTIVE and job.pid is not None and not job.run_dir.exists()


def resumable(job: Job) -> bool:
    """Whether a job can continue where it stopped."""
    return job.state in ("interrupted", "failed", "cancelled") or (job.state == "succeeded" and job.kept)


def runs_elsewhere(job: Job) -> str | None:
    """The other machine or container that runs a job; None for one of this place, and for a job that does not run."""
    if job.state not in ACTIVE:
        return None
    return processes.elsewhere(job.mark or processes.owner_mark(job.claimed_by))


def servers(settings: Settings) -> Path:
    """The folder in which running schedulers announce themselves."""
    return settings.jobs / "servers"
