"""What a fine-tuning run has measured so far, read from its events while it grows: each line of the log is read once.

A run that is resumed goes back to its last checkpoint, so the same updates come again: what was measured beyond the
first of them belongs to a past that has been undone, and is dropped.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightreasoner.jobs.events import EVENTS_FILE, EventTail

#: Measured as it trains; `samples` is the number seen, repeats counted, and `epoch` the passes over the data.
TRAINED = ("loss", "learning_rate", "grad_norm", "samples_per_second", "tokens_per_second", "epoch", "samples_seen")
MEASURED = ("held_out_loss", "drift")  # on what was kept aside, now and then
RECENT = 30  # points whose pace tells how long the rest will take


@dataclass
class Curve:
    """Numbers at updates, ascending. Columns are as long as `updates`; None where a number was none."""

    names: tuple[str, ...]
    updates: list[int] = field(default_factory=list)
    columns: dict[str, list[float | None]] = field(default_factory=dict)

    def __post_init__(self):
        self.columns = {name: [] for name in self.names}

    def rewind(self, update: int) -> None:
        """Forget what was measured at this update or later."""
        while self.updates and self.updates[-1] >= update:
            self.updates.pop()
            for column in self.columns.values():
                column.pop()

    def add(self, update: int, event: dict) -> None:
        self.updates.append(update)
        for name, column in self.columns.items():
            column.append(_number(event.get(name)))

    def last(self, name: str) -> float | None:
        """The latest number there is."""
        return next((value for value in reversed(self.columns[name]) if value is not None), None)

    def thinned(self, most: int) -> dict[str, list]:
        """At most `most` of the points, evenly chosen, the first and the last among them; ready for JSON."""
        last = len(self.updates) - 1
        keep = range(last + 1) if last < most else [round(n * last / (most - 1)) for n in range(most)]
        columns = {name: [_short(column[n]) for n in keep] for name, column in self.columns.items()}
        return {"update": [self.updates[n] for n in keep]} | columns


class Curves:
    """Reads the events of the run in a folder; `refresh` takes in what has come since. Safe with threads."""

    def __init__(self, folder: Path):
        self._tail, self._reading = EventTail(Path(folder) / EVENTS_FILE), threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self.trained, self.measured = Curve(TRAINED), Curve(MEASURED)
        self.lessons: dict[str, int] = {}  # samples, trajectories, held_out and tokens that this run learns from
        self.notes: list[str] = []  # what the training had to say for itself
        self.version = 0  # another number whenever there is something new
        self._attempt: Any = None
        self._pace: list[tuple[float, int]] = []  # (seconds, update) of the current attempt
        self._seq = 0

    def refresh(self) -> Curves:
        """Take in what has come since; itself."""
        with self._reading:
            for event in self._tail.new():
                if event["seq"] <= self._seq:  # another log in the same place
                    self._forget()
                self._seq = event["seq"]
                self._take(event)
        return self

    def _take(self, event: dict) -> None:
        kind, update = event["kind"], event.get("update")
        if kind == "start":
            self._attempt, self._pace = event.get("by"), []
        elif kind == "lessons":
            names = ("samples", "trajectories", "held_out", "tokens")
            self.lessons = {name: value for name in names if isinstance(value := event.get(name), int)}
        elif kind == "note" and event.get("text"):
            self.notes = [*[note for note in self.notes if note != event["text"]], str(event["text"])][-5:]
        elif kind in ("metrics", "held_out") and isinstance(update, int) and not isinstance(update, bool):
            curve = self.trained if kind == "metrics" else self.measured
            if curve.updates and update <= curve.updates[-1]:
                self.trained.rewind(update)
                self.measured.rewind(update)
            curve.add(update, event)
            if kind == "metrics" and (at := _number(event.get("elapsed"))) is not None:
                self._pace = [*self._pace, (at, update)][-RECENT:]
        else:
            return
        self.version += 1

    @property
    def update(self) -> int:
        """The last update that is known of; 0 before the first."""
        return max([0, *self.trained.updates[-1:], *self.measured.updates[-1:]])

    def seconds_left(self, updates: int) -> float | None:
        """How long the rest of so many updates takes at the pace of the last ones; None until that can be told."""
        if len(self._pace) < 2:
            return None
        seconds, done = (b - a for a, b in zip(self._pace[0], self._pace[-1], strict=True))
        return max(0, updates - self.update) * seconds / done if done > 0 and seconds > 0 else None

    def as_json(self, most: int = 300) -> dict:
        """Everything for a page, at most so many points a curve."""
        return {
            "trained": self.trained.thinned(most),
            "measured": self.measured.thinned(most),
            "lessons": self.lessons,
            "notes": self.notes,
        }


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
