"""The progress of a stage: goes to its own log, where it has one, and as a fraction to that of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightreasoner.experiments.stages import WITH_ALL, Stage
from lightreasoner.progress import Progress, StopRequested


class StageProgress:
    """A Progress. progress: that of the whole run, of which `done` of `total` stages have ended; numbers: what its
    updates hold beside a stage's own."""

    def __init__(self, progress: Progress, done: int, total: int, stage: Stage | None = None, /, **numbers: Any):
        self.progress, self._done, self._total, self._stage = progress, done, total, stage
        self._inner: Progress | None = None
        self._numbers = numbers
        self.event, self.result = progress.event, progress.result
        self.gives_up: Callable[[], bool] = lambda: False

    def over(self, inner: Progress) -> StageProgress:
        """inner: the progress that writes the stage's own log."""
        self._inner = inner
        self.event, self.result = inner.event, inner.result
        return self

    def status(self, text: str) -> None:
        stage = self._stage
        if stage and stage.kind == "evaluation":  # which knows its adapter by the folder's name alone
            text = text.replace(stage.job.adapters[0].name, stage.arm.name)
        if self._inner:
            self._inner.status(text)
        self.progress.status(f"{stage.title}: {text}" if stage else text)

    def update(self, done: float, total: float | None, **numbers: Any) -> None:
        if self._inner:
            self._inner.update(done, total, **numbers)
            numbers = {}
        fraction = min(1.0, done / total) if total else 0.0
        self.progress.update(self._done + fraction, self._total, **numbers, **self._numbers)

    def checkpoint(self) -> None:
        try:
            self.progress.checkpoint()
        except StopRequested:
            if self._inner:  # it goes on with the whole run
                self.event(WITH_ALL)
            raise
        if self._inner:
            self._inner.checkpoint()
        if self.gives_up():
            self.event("note", text="Clearly worse than the best arm, so its evaluation ends here.")
            raise StopRequested(keep=True, message="Clearly worse than the best arm")
