"""Training curves of a run, read from its event log while it grows; each line is read once.

A resumed run continues from its last checkpoint, so later updates come again. Their earlier measurements are dropped.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lightreasoner.jobs.events import EVENTS_FILE, EventTail

#: Measured during training; `loss` in nats, `samples_seen` with repeats counted. Both kinds have `seconds`: the work so
#: far, without waiting for the accelerator and without what a resumed run does again.
TRAINED = (
    "loss",
    "learning_rate",
    "grad_norm",
    "samples_per_second",
    "tokens_per_second",
    "epoch",
    "samples_seen",
    "seconds",
)
MEASURED = ("held_out_loss", "drift", "seconds")  # nats, on the held-out trajectories
RISE = 0.01  # of the lowest held-out loss: less than this is no rise
RECENT = 30  # points from which the remaining time is estimated


@dataclass
class Curve:
    """Measurements at ascending updates. Each column has the length of `updates`; None where a value is missing or not
    finite."""

    names: tuple[str, ...]
    updates: list[int] = field(default_factory=list)
    columns: dict[str, list[float | None]] = field(default_factory=dict)

    def __post_init__(self):
        self.columns = {name: [] for name in self.names}

    def rewind(self, update: int) -> None:
        while self.updates and self.updates[-1] >= update:
            self.updates.pop()
            for column in self.columns.values():
                column.pop()

    def add(self, update: int, event: dict) -> None:
        self.updates.append(update)
        for name, column in self.columns.items():
            column.append(_number(event.get(name)))

    def last(self, name: str) -> float | None:
        return next((value for value in reversed(self.columns[name]) if value is not None), None)

    def lowest(self, name: str) -> tuple[int, float] | None:
        """(update, value) of the lowest value after training began; the first of equal ones."""
        pairs = zip(self.updates, self.columns[name], strict=True)
        found = [(value, update) for update, value in pairs if update and value is not None]
        return min(found)[::-1] if found else None

    def table(self, most: int) -> pd.DataFrame:
        """The columns update and all others, to six digits: at most `most` rows, evenly spaced, both ends included; and
        the row of the lowest held-out loss."""
        last = len(self.updates) - 1
        keep = range(last + 1) if last < most else [round(n * last / (most - 1)) for n in range(most)]
        if "held_out_loss" in self.columns and (lowest := self.lowest("held_out_loss")):
            keep = sorted({*keep, self.updates.index(lowest[0])})
        columns = {name: [_short(column[n]) for n in keep] for name, column in self.columns.items()}
        whole = pd.Series([self.updates[n] for n in keep], dtype=int)
        return pd.DataFrame({"update": whole} | {name: pd.Series(c, dtype=float) for name, c in columns.items()})


class Curves:
    """The curves of the run in a folder; `refresh` reads new events. Thread-safe."""

    def __init__(self, folder: Path):
        self._tail, self._reading = EventTail(Path(folder) / EVENTS_FILE), threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.trained, self.measured = Curve(TRAINED), Curve(MEASURED)
        self.examples: dict[str, int] = {}  # counts: samples, trajectories, held_out (trajectories), tokens
        self.notes: list[str] = []  # messages of the training for the user
        self.version = 0  # changes with every new measurement
        self._pace: list[tuple[float, int]] = []  # (seconds, update) of the current attempt
        self._earlier: float | None = None  # seconds of work of earlier attempts; None before this one's first point
        self._waited, self._waits_since = 0.0, None
        self._seq = 0

    def refresh(self) -> Curves:
        """Read new events; returns itself."""
        with self._reading:
            for event in self._tail.new():
                if event["seq"] <= self._seq:  # another log in the same place
                    self._reset()
                self._seq = event["seq"]
                self._add(event)
        return self

    def _add(self, event: dict) -> None:
        kind, update, at = event["kind"], event.get("update"), self._working(event)
        if kind == "start":
            self._pace = []
        elif kind == "lessons":  # the training examples; stored under this name
            names = ("samples", "trajectories", "held_out", "tokens")
            self.examples = {name: value for name in names if isinstance(value := event.get(name), int)}
        elif kind == "note" and event.get("text"):
            self.notes = [*[note for note in self.notes if note != event["text"]], str(event["text"])][-5:]
        elif kind in ("metrics", "held_out") and isinstance(update, int) and not isinstance(update, bool):
            curve = self.trained if kind == "metrics" else self.measured
            if curve.updates and update <= curve.updates[-1]:
                self.trained.rewind(update)
                self.measured.rewind(update)
            if self._earlier is None:  # an attempt goes on where its checkpoint was
                self._earlier = max(self.trained.last("seconds") or 0, self.measured.last("seconds") or 0)
            curve.add(update, event | {"seconds": None if at is None else self._earlier + at})
            if kind == "metrics" and at is not None:
                self._pace = [*self._pace, (at, update)][-RECENT:]
        else:
            return
        self.version += 1

    def _working(self, event: dict) -> float | None:
        """Seconds of work in the event's attempt so far, without the waits; None where its time is not known."""
        at = _number(event.get("elapsed"))
        if event["kind"] == "start":
            self._earlier, self._waited, self._waits_since = None, 0.0, None
        if at is None:
            return None
        if self._waits_since is not None:
            self._waited += at - self._waits_since
        self._waits_since = at if event["kind"] == "waiting" else None
        return at - self._waited

    def held_out_comment(self) -> str | None:
        """A sentence on a held-out loss that rises; None where it falls, or was not measured twice."""
        losses = self.measured.columns["held_out_loss"]
        lowest, last = self.measured.lowest("held_out_loss"), self.measured.last("held_out_loss")
        if lowest is None or last is None:
            return None
        update, value = lowest
        start = losses[0] if self.measured.updates[0] == 0 else None
        if start is not None and value > start:
            return (
                f"The held-out loss rises from the first update on: it was {start:.3g} nats before training and "
                f"{value:.3g} at its lowest since. Lower the learning rate, or train on another dataset."
            )
        if last <= value * (1 + RISE):
            return None
        return (
            f"The held-out loss rises: it was lowest at training step {update:,}, {value:.3g} nats, and is "
            f"{last:.3g} now. From there on training fits its samples only."
        )

    @property
    def update(self) -> int:
        """The last update with a measurement; 0 before the first."""
        return max([0, *self.trained.updates[-1:], *self.measured.updates[-1:]])

    def seconds_left(self, updates: int) -> float | None:
        """Seconds until this many updates are done, at the pace of the last ones; None until there are two points."""
        if len(self._pace) < 2:
            return None
        seconds, done = (b - a for a, b in zip(self._pace[0], self._pace[-1], strict=True))
        return max(0, updates - self.update) * seconds / done if done > 0 and seconds > 0 else None

    def table(self, most: int = 300) -> pd.DataFrame:
        """All measurements by update, at most `most` of each kind: update, samples_seen, seconds and those of TRAINED
        and MEASURED; NaN where a row does not have one."""
        with self._reading:
            trained, measured = self.trained.table(most), self.measured.table(most)
            known = pd.Series(self.trained.columns["samples_seen"], [*self.trained.updates], float).dropna()
        measured["samples_seen"] = np.interp(measured["update"], [0, *known.index], [0, *known])
        return pd.concat([trained, measured]).sort_values("update", kind="stable", ignore_index=True)


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
