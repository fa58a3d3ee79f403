"""The context of a long-running command: it locks the run folder and the accelerator and writes the event log.

with job_context(run_dir, "sample", settings, title="Sample 1,000 problems") as context:
    context.status("Loading the expert")
    for done in …:
        context.checkpoint()
        context.update(done, total, samples=…)
    context.result(samples=…)
"""

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightreasoner.errors import UserError, disk_trouble, log_unexpected
from lightreasoner.jobs.accelerator import AcceleratorLock, LockHandle
from lightreasoner.jobs.events import EVENTS_FILE, EventLog, last_event, reversed_events
from lightreasoner.jobs.trackers import Mirror
from lightreasoner.processes import elsewhere, heartbeat, mark
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import remove_leftovers
from lightreasoner.storage.runs import BEATING, LOCK
from lightreasoner.storage.working_run import check_held, clear_away, holding

STOP_FILE = "stop"  # in a run folder: "keep" or "cancel"
RESUME = "Free some space and resume."
MIRRORED = ("preview", "sample", "finetune", "evaluate")  # verbs of the runs that a tracker mirrors
PAUSE = 0.3  # seconds between progress events
BRIEFLY = 0.2  # seconds for those who only look whether the folder's lock is held


def stop_requested(run_dir: Path) -> str | None:
    """The stop request in a run folder: "keep" (save the results so far), "cancel" or None. A damaged file cancels."""
    try:
        return "keep" if (Path(run_dir) / STOP_FILE).read_text(errors="replace").strip() == "keep" else "cancel"
    except FileNotFoundError:
        return None
    except OSError:
        return "cancel"


class JobContext:
    """Writes a run's progress to its event log and learns of stop requests. Made by `job_context`."""

    def __init__(self, run_dir: Path, log: EventLog):
        self.run_dir, self._log, self._handle = run_dir, log, None
        self.mirror: Mirror | None = None  # of the user's tracker
        self._status, self._pending, self._written = "", None, float("-inf")
        self._result, self._finishing = {}, False

    def status(self, text: str) -> None:
        """Report the current activity in a few words."""
        self._status = text
        self.event("status", text=text)

    def update(self, done: float, total: float | None, **numbers: Any) -> None:
        """Report progress. About three events per second are written, and always the last one."""
        self._pending = {"done": done, "total": total, "status": self._status} | numbers
        if done == total or time.monotonic() - self._written >= PAUSE:
            self.flush()

    def event(self, kind: str, **data: Any) -> None:
        """Write any other event. Like every method here it raises UserError on a full disk and for a deleted folder."""
        self.flush()
        self._append(kind, **data)

    def flush(self) -> None:
        """Write progress that `update` held back."""
        pending, self._pending = self._pending, None
        if pending:
            self._written = time.monotonic()
            self._append("progress", **pending)

    def _append(self, kind: str, **data: Any) -> None:
        check_held(self.run_dir)
        event = self._log.append(kind, **data)
        if self.mirror:
            self.mirror.event(event)

    def result(self, **data: Any) -> None:
        """Add numbers to the end event."""
        self._result |= data

    def checkpoint(self) -> None:
        """Stop here if requested, without losing anything, and yield the accelerator to interactive runs.

        Raises StopRequested. After StopRequested(keep=True) the command may save its results with the same calls; from
        then on only a cancellation is raised.
        """
        self._check()
        if self._handle and self._handle.yield_to_interactive():
            self.event("status", text=self._status)

    def _check(self) -> None:
        check_held(self.run_dir)
        request = stop_requested(self.run_dir)
        if request == "cancel":
            raise StopRequested(keep=False)
        if request == "keep" and not self._finishing:
            self._finishing = True
            raise StopRequested(keep=True)

    def wait(self, accelerator: AcceleratorLock, stack: ExitStack, title: str, job: str | None) -> None:
        """Hold the accelerator until the stack is closed."""
        last = []

        def on_wait(holder: dict | None) -> None:
            self._check()
            if last != [holder]:
                last[:] = [holder]
                self.event("waiting", holder=holder)

        self._handle: LockHandle = stack.enter_context(accelerator.acquire(f"job {title}", on_wait=on_wait, job=job))
        if last:
            self.status("Starting")


def _lock_folder(run_dir: Path) -> FileLock:
    """Acquire the folder's lock. Raises UserError naming the process that holds it."""
    lock = FileLock(run_dir / LOCK, thread_local=False)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=BRIEFLY)
    except Timeout:
        start = last_event(run_dir / EVENTS_FILE, "start") or {}
        who = f"process {start['pid']}" if start.get("pid") else "another process"
        if where := elsewhere(str(start.get("mark"))):
            who += f" on {where}"
        raise UserError(f"{run_dir} is in use by {who}; wait for it or stop it, or choose another folder.") from None
    except OSError as error:
        raise UserError(f"{run_dir} is not writable: {error.strerror}. Choose another folder.") from error
    return lock


@contextmanager
def _handled_by(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Inside, these signals have this handler; afterwards their former ones are restored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former if former is not None else signal.SIG_DFL)


def _signals_ignored() -> AbstractContextManager[None]:
    """Inside, Ctrl+C and SIGTERM are ignored, so that the end event gets written."""
    return _handled_by(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT)


@contextmanager
def job_context(
    run_dir: Path,
    verb: str,
    settings: Settings,
    title: str = "",
    *,
    accelerator: bool = True,
    keeps: bool = True,
    resumes: bool = True,
) -> Iterator[JobContext]:
    """Lock the folder, take the accelerator, and log "start" … "end" around the block.

    accelerator: whether the command computes. keeps: whether it saves results when stopped early. resumes: whether the
    same command continues where it stopped. The end event's state is succeeded, failed or cancelled; every exception,
    StopRequested included, is raised again. Raises UserError when another process works in the folder.
    """
    run_dir, title = Path(run_dir).absolute(), title or verb
    job, _, attempt = settings.job.partition("/")
    pid = os.getpid()
    with ExitStack() as stack:
        stack.enter_context(_handled_by(signal.default_int_handler, signal.SIGTERM))  # as Ctrl+C
        stack.callback(_lock_folder(run_dir).release)
        with suppress(OSError):
            stack.enter_context(heartbeat(run_dir / BEATING))
        if not job:  # of a job, the scheduler removed older requests, so one that is there is meant for this attempt
            (run_dir / STOP_FILE).unlink(missing_ok=True)
        if not attempt:
            attempt = 1 + sum(event["kind"] == "start" for event in reversed_events(run_dir / EVENTS_FILE))
        log = EventLog(run_dir / EVENTS_FILE, by=settings.job or f"{pid}.{secrets.token_hex(4)}")
        stack.callback(log.close)
        context = JobContext(run_dir, log)
        about = {"verb": verb, "title": title, "argv": sys.argv[1:], "attempt": int(attempt), "job": job or None}
        log.append("start", pid=pid, mark=mark(pid), **about, keeps=keeps, resumes=resumes)
        stack.enter_context(holding(run_dir, log.path))
        remove_leftovers(run_dir, everywhere=True)
        try:
            if settings.report_to and verb in MIRRORED:
                note = lambda text: log.append("note", text=text)  # noqa: E731
                context.mirror = Mirror(settings.report_to, run_dir, title, note)
            with ExitStack() as computing:
                if accelerator:
                    lock = AcceleratorLock(Path(settings.lock_folder or settings.workspace), settings.device)
                    context.wait(lock, computing, title, job or None)
                yield context
                context.flush()
                check_held(run_dir)
        except BaseException as error:
            reported = _as_reported(context, error)
            with _signals_ignored(), suppress(UserError):  # a full disk may be the cause, which is reported already
                _end(context, log, *_outcome(context, verb, reported))
            if reported is error:
                raise
            raise reported from error
        else:
            with _signals_ignored():
                _end(context, log, "succeeded", "", False)


def _as_reported(context: JobContext, error: BaseException) -> BaseException:
    """The error that a run ends with: whatever a library made of a deleted folder or a full disk is one sentence."""
    if not isinstance(error, Exception) or isinstance(error, StopRequested):
        return error
    try:
        check_held(context.run_dir)
    except UserError as deleted:
        clear_away(context.run_dir)
        return deleted
    trouble = None if isinstance(error, UserError) else disk_trouble(error, RESUME)
    return UserError(f"{context.run_dir} could not be written: {trouble}") if trouble else error


def _outcome(context: JobContext, verb: str, error: BaseException) -> tuple[str, str, bool]:
    """(state, message, kept) of a run that ended with this exception."""
    if isinstance(error, StopRequested) and error.keep:
        return "succeeded", "Stopped early; results so far are saved.", True
    if isinstance(error, StopRequested):
        return "cancelled", f"{error}.", False
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "Cancelled.", False
    if isinstance(error, UserError):
        return "failed", str(error), False
    if stop_requested(context.run_dir) == "cancel":  # its child processes may have been stopped first
        return "cancelled", "Cancelled.", False
    return "failed", log_unexpected(verb), False


def _end(context: JobContext, log: EventLog, state: str, message: str, kept: bool) -> None:
    try:
        context.flush()
        if context.mirror:
            context.mirror.finish(context._result)
        log.append("end", state=state, message=message, result=context._result, kept=kept)
    finally:
        with suppress(OSError):
            (context.run_dir / STOP_FILE).unlink(missing_ok=True)
