"""How a long-running computation reports what it does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol


class Work(Protocol):
    """What the sampler tells about itself and asks: jobs.work.Work, or whatever else has these."""

    def status(self, text: str) -> None: ...
    def progress(self, done: float, total: float | None, **numbers: Any) -> None: ...
    def event(self, kind: str, **data: Any) -> None: ...
    def safe_point(self) -> None: ...


class Told:
    """Stands for a `jobs.work.Work`. line(done, total, numbers) is what a person is shown of progress."""

    def __init__(self, work: Any, line: Callable[[float, float | None, dict[str, Any]], str]):
        self._work, self._line = work, line
        self.event, self.safe_point, self.result = work.event, work.safe_point, work.result
        self._shown = sys.stderr.isatty()

    def status(self, text: str) -> None:
        self._work.status(text)
        print(("\r\033[K" if self._shown else "") + text, file=sys.stderr, flush=True)

    def progress(self, done: float, total: float | None, **numbers: Any) -> None:
        self._work.progress(done, total, **numbers)
        if self._shown:
            end = "\n" if done == total else ""
            print(f"\r\033[K{self._line(done, total, numbers)}", end=end, file=sys.stderr, flush=True)
