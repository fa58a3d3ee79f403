"""What a long-running verb wraps itself in: the folder is its own, the accelerator too, and its log says how it went.

with working(run_dir, "sample", settings, title="Sample 1,000 problems") as work:
    work.status("Loading the expert")
    for done in …:
        work.safe_point()
        work.progress(done, total, samples=…)
    work.result(samples=…)
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.jobs.accelerator import AcceleratorLock, LockHandle
from lightreasoner.jobs.events import EVENTS_FILE, EventLog, last_event, reversed_events
from lightreasoner.jobs.processes import mark
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import LOCK

STOP_FILE = "stop"  # in a run folder: "keep" or "cancel"
PAUSE = 0.3  # seconds between progress events


def stop_requested(run_dir: Path) -> str | None:
    """What somebody asked of the work in this folder: "keep", "cancel", or None. A file that says nothing cancels."""
    try:
        return "keep" if (Path(run_dir) / STOP_FILE).read_text(errors="replace").strip() == "keep" else "cancel"
    except FileNotFoundError:
        return None
    except OSError:
        return "cancel"


class JobContext:
    """What the verb says about itself, and where it learns that it should stop. Made by `job_context`."""

    def __init__(self, run_dir: Path, log: EventLog):
        self.run_dir, self._log, self._hold = run_dir, log, None
        self._status, self._pending, self._written = "", None, float("-inf")
        self._result, self._finishing = {}, False

    def status(self, text: str) -> None:
        """Say in a few words what is being done now."""
        self._status = text
        self.event("status", text=text)

    def update(self, done: float, total: float | None, **numbers: Any) -> None:
        """How far it is. Call it as often as you like: about three a second are written, and the last always."""
        self._pending = {"done": done, "total": total, "status": self._status} | numbers
        if done == total or time.monotonic() - self._written >= PAUSE:
            self.flush()

    def event(self, kind: str, **data: Any) -> None:
        """Write any other event. Raises UserError on a full disk, as everything here does."""
        self.flush()
        self._log.append(kind, **data)

    def flush(self) -> None:
        """Write the progress that was held back, if any."""
        pending, self._pending = self._pending, None
        if pending:
            self._written = time.monotonic()
            self._log.append("progress", **pending)

    def result(self, **data: Any) -> None:
        """Numbers for the end event; a later call adds to them."""
        self._result |= data

    def checkpoint(self) -> None:
        """Where stopping loses nothing. Raises Stopping when asked to; lets interactive runs go first.

        After Stopping(keep=True) was raised, the verb may finish what it has with these same calls: from then on only
        a cancellation is raised.
        """
        self._check()
        if self._hold and self._hold.yield_to_interactive():
            self.event("status", text=self._status)

    def _check(self) -> None:
        wish = stop_requested(self.run_dir)
        if wish == "cancel":
            raise StopRequested(keep=False)
        if wish == "keep" and not self._finishing:
            self._finishing = True
            raise StopRequested(keep=True)

    def wait(self, accelerator: AcceleratorLock, stack: ExitStack, title: str, job: str | None) -> None:
        """Take the accelerator until the stack is closed."""
        last = []

        def on_wait(holder: dict | None) -> None:
            self._check()
            if last != [holder]:
                last[:] = [holder]
                self.event("waiting", holder=holder)

        self._hold: LockHandle = stack.enter_context(accelerator.acquire(f"job {title}", on_wait=on_wait, job=job))
        if last:
            self.status("Starting")


def _lock_folder(run_dir: Path) -> FileLock:
    """The folder's lock. Raises UserError naming the process that has it."""
    lock = FileLock(run_dir / LOCK, thread_local=False)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        start = last_event(run_dir / EVENTS_FILE, "start")
        who = f"process {start['pid']}" if start and start.get("pid") else "another process"
        raise UserError(
            f"{run_dir} is being worked on by {who}; wait for it or stop it, or name another folder."
        ) from None
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written: {error.strerror}. Name another folder.") from error
    return lock


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl+C is: the work ends in order. The handler that was there comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Inside, a second Ctrl+C or SIGTERM does not keep the end from being written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


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

    accelerator: whether the verb computes. keeps: whether something is left when it is stopped early. resumes: whether
    the same command goes on where it was. The end's state is succeeded, failed or cancelled; every exception, Stopping
    included, leaves the block again. Raises UserError when another process works in the folder.
    """
    run_dir, title = Path(run_dir).absolute(), title or verb
    job, _, attempt = settings.job.partition("/")
    pid = os.getpid()
    with ExitStack() as stack:
        stack.enter_context(_sigterm_interrupts())
        stack.callback(_lock_folder(run_dir).release)
        if not job:  # a job's stop file may be meant for it already; the scheduler removed older ones
            (run_dir / STOP_FILE).unlink(missing_ok=True)
        if not attempt:
            attempt = 1 + sum(event["kind"] == "start" for event in reversed_events(run_dir / EVENTS_FILE))
        log = EventLog(run_dir / EVENTS_FILE, by=settings.job or f"{pid}.{secrets.token_hex(4)}")
        stack.callback(log.close)
        context = JobContext(run_dir, log)
        about = {"verb": verb, "title": title, "argv": sys.argv[1:], "attempt": int(attempt), "job": job or None}
        log.append("start", pid=pid, mark=mark(pid), **about, keeps=keeps, resumes=resumes)
        try:
            with ExitStack() as holding:
                if accelerator:
                    context.wait(
                        AcceleratorLock(Path(settings.lease or settings.workspace)), holding, title, job or None
                    )
                yield context
                context.flush()
        except BaseException as error:
            with _signals_ignored(), suppress(UserError):  # a full disk may be why it failed: that is said already
                _end(context, log, *_outcome(context, verb, error))
            raise
        else:
            with _signals_ignored():
                _end(context, log, "succeeded", "", False)


def _outcome(context: JobContext, verb: str, error: BaseException) -> tuple[str, str, bool]:
    """(state, message, kept) of work that ended with this exception."""
    if isinstance(error, StopRequested) and error.keep:
        return "succeeded", "Stopped early; what was there by then is kept.", True
    if isinstance(error, StopRequested | KeyboardInterrupt):
        return "cancelled", "Cancelled.", False
    if isinstance(error, UserError):
        return "failed", str(error), False
    if stop_requested(context.run_dir) == "cancel":  # its child processes may have been stopped first
        return "cancelled", "Cancelled.", False
    return "failed", log_unexpected(verb), False


def _end(context: JobContext, log: EventLog, state: str, message: str, kept: bool) -> None:
    try:
        context.flush()
        log.append("end", state=state, message=message, result=context._result, kept=kept)
    finally:
        with suppress(OSError):
            (context.run_dir / STOP_FILE).unlink(missing_ok=True)
