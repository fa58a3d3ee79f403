"""How a long-running computation reports its progress and learns that it should stop."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

_INTERRUPTION: ContextVar[Callable[[], None] | None] = ContextVar("interruption", default=None)


class StopRequested(Exception):
    """The user asked the run to stop. keep: results so far are to be saved; otherwise they are discarded."""

    def __init__(self, keep: bool, message: str = ""):
        super().__init__(message or ("Stopped early" if keep else "Cancelled"))
        self.keep = keep


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Inside, in this thread, a long pass through a model or a large file ends in the middle with what check() raises,
    or the check of a block around this one."""
    around = _INTERRUPTION.get()

    def both() -> None:
        if around:
            around()
        check()

    token = _INTERRUPTION.set(both)
    try:
        yield
    finally:
        _INTERRUPTION.reset(token)


def is_interruptible() -> bool:
    return _INTERRUPTION.get() is not None


def check_interruption() -> None:
    """Raises what ends the computation of this thread, if anything does."""
    if check := _INTERRUPTION.get():
        check()


def stoppable(say: Callable[[str], None], check: Callable[[], None]) -> Callable[[str], None]:
    """The on_status of a loading model: gives `say` each new text, and raises what check() raises, which stops it."""
    said = [""]

    def on_status(text: str) -> None:
        check()
        if text != said[0]:
            said[0] = text
            say(text)

    return on_status


class Progress(Protocol):
    """Receives the progress of a run. `jobs.context.JobContext` writes it to the run's event log."""

    def status(self, text: str) -> None:
        """Say in a few words what is being done now."""

    def update(self, done: float, total: float | None, **numbers: Any) -> None:
        """Report that `done` of `total` units are complete (total None: unknown), with further numbers by name."""

    def event(self, kind: str, **data: Any) -> None:
        """Record any other event."""

    def result(self, **data: Any) -> None:
        """Add numbers to the run's final event."""

    def checkpoint(self) -> None:
        """Called where stopping loses nothing. Raises StopRequested when the user has asked for it."""


def while_loading(progress: Progress, resumed: bool = False) -> Callable[[str], None]:
    """The on_status with which a run loads its models. It raises StopRequested, without results to keep.

    resumed: an earlier attempt may have results; they are saved with the loaded model, so a request to keep them waits.
    """

    def check() -> None:
        if resumed:
            return
        try:
            progress.checkpoint()
        except StopRequested as stop:
            message = "Stopped while a model was loading, so nothing was computed" if stop.keep else ""
            raise StopRequested(False, message) from None

    return stoppable(progress.status, check)


class SilentProgress:
    """Reports nothing and never stops: for worker processes, whose driver reports for all of them."""

    def status(self, text: str) -> None: ...
    def update(self, done: float, total: float | None, **numbers: Any) -> None: ...
    def event(self, kind: str, **data: Any) -> None: ...
    def result(self, **data: Any) -> None: ...
    def checkpoint(self) -> None: ...


class ConsoleProgress:
    """Prints status and progress to standard error and passes everything on to `inner`.

    line(done, total, numbers) formats one progress line. In a terminal the line is rewritten in place; elsewhere, only
    status texts are printed unless `always` is set.
    """

    def __init__(
        self,
        line: Callable[[float, float | None, dict[str, Any]], str],
        inner: Progress | None = None,
        always: bool = False,
    ):
        self._inner, self._line, self._always = inner or SilentProgress(), line, always
        self.event, self.checkpoint, self.result = self._inner.event, self._inner.checkpoint, self._inner.result
        self._terminal = sys.stderr.isatty()

    def status(self, text: str) -> None:
        self._inner.status(text)
        print(("\r\033[K" if self._terminal else "") + text, file=sys.stderr, flush=True)

    def update(self, done: float, total: float | None, **numbers: Any) -> None:
        self._inner.update(done, total, **numbers)
        text = self._line(done, total, numbers) if self._terminal or self._always else ""
        if self._terminal:
            print(f"\r\033[K{text}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)
