"""The result of a fine-tuning run, as its run.json stores it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

#: Keys of run.json files that version 0.2 wrote.
OLD_KEYS = {"samples_seen": "samples seen", "train_loss": "train loss", "held_out_loss": "held-out loss"}


@dataclass(frozen=True)
class FinetuneResult:
    """Counts and measurements of a run that ended. None: not measured, or not stored."""

    updates: int | None = None
    samples_seen: int | None = None  # repeats counted
    samples: int | None = None  # different ones
    trajectories: int | None = None
    train_loss: float | None = None  # nats, mean over all updates
    held_out_loss: float | None = None  # nats, after the last update
    drift: float | None = None  # nats, after the last update
    seconds: float | None = None  # of all attempts, waiting left out
    early: int | None = None  # the update at which the held-out loss had stopped falling, so that training ended
    stopped: bool = False  # before the last update, at the user's request

    @classmethod
    def from_record(cls, record: dict | None) -> FinetuneResult | None:
        """The result in a run's record, also one of version 0.2; None where there is none."""
        stored = (record or {}).get("result")
        if not isinstance(stored, dict):
            return None
        names = [field.name for field in fields(cls) if field.name != "stopped"]
        return cls(**{name: _finite(stored.get(name, stored.get(OLD_KEYS.get(name)))) for name in names})

    def as_json(self) -> dict[str, Any]:
        """For run.json and the run's last event, which says itself whether the run was stopped."""
        found = {name: value for name, value in asdict(self).items() if name != "stopped"}
        return {name: value for name, value in found.items() if value is not None or name != "early"}


def _finite(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
