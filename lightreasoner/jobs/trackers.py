"""Trackers: programs that mirror a run's numbers, if the user names one. Without it nothing is sent anywhere.

A tracker gets the numbers of a run's events as they are written to its log, and the settings of its run.json. What it
does with them (a local file, a server, a login) is its own affair.
"""

import importlib
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lightreasoner.errors import UserError, first_line
from lightreasoner.storage.runs import RECORD, flat_config, read_run

PROJECT = "lightreasoner"
HEAD = {"seq", "time", "elapsed", "kind", "by", "update", "done", "total", "status"}  # of an event: no measurements
MEASURED = {"metrics": "train", "held_out": "held_out"}  # kind of event → group of its numbers
FOLDER = "tensorboard"  # in a run's folder


class Tracker(Protocol):
    """One run in a tracker."""

    def configure(self, config: dict[str, Any]) -> None:
        """Tell the run's settings. Called once, before the first numbers."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Numbers by "group/name", at a training step or at so many done. Steps can repeat, and go back at a resume."""

    def finish(self, numbers: dict[str, float]) -> None:
        """The end of this attempt, with the numbers of its result."""


class Trackio:
    """Local unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set."""

    def __init__(self, package: Any, folder: Path, title: str):
        quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self._run = package.init(project=PROJECT, name=folder.name, config={"title": title}, resume="allow", **quiet)

    def configure(self, config: dict[str, Any]) -> None:
        self._run.config.update(config)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)

    def finish(self, numbers: dict[str, float]) -> None:
        if numbers:
            self._run.log({f"result/{name}": value for name, value in numbers.items()})
        self._run.finish()


class TensorBoard:
    """Event files in the run's own folder."""

    def __init__(self, package: Any, folder: Path, title: str):
        self._writer = package.SummaryWriter(str(folder / FOLDER))
        self._writer.add_text("title", title)
        self._last = 0

    def configure(self, config: dict[str, Any]) -> None:
        self._writer.add_text("settings", "\n".join(f"- {name}: {value}" for name, value in config.items()))

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._last = step
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"result/{name}", value, self._last)
        self._writer.close()


class WandB:
    """Wherever wandb is logged in to; WANDB_MODE=offline keeps it on this disk."""

    def __init__(self, package: Any, folder: Path, title: str):
        same = {"id": folder.name, "resume": "allow", "reinit": "create_new"}
        self._run = package.init(project=PROJECT, name=title, dir=str(folder), **same)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")  # its own step can never go back

    def configure(self, config: dict[str, Any]) -> None:
        self._run.config.update(config, allow_val_change=True)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers | {"step": step})

    def finish(self, numbers: dict[str, float]) -> None:
        self._run.summary.update(numbers)
        self._run.finish()


#: Name → (class, module, package to install)
TRACKERS: dict[str, tuple[Callable[[Any, Path, str], Tracker], str, str]] = {
    "trackio": (Trackio, "trackio", "trackio"),
    "tensorboard": (TensorBoard, "torch.utils.tensorboard", "tensorboard"),
    "wandb": (WandB, "wandb", "wandb"),
}


def check_tracker(name: str) -> None:
    """Raises UserError for a tracker that is unknown or not installed."""
    if name not in TRACKERS:
        raise UserError(f"There is no tracker {name!r:.40}; choose one of {', '.join(TRACKERS)}.")
    package = TRACKERS[name][2]
    if find_spec(package) is None:
        raise UserError(
            f"To report to {name}, the package {package} is needed, and it is not installed here; run "
            f"`pip install {package}`, or leave --report-to out."
        )


class Mirror:
    """Mirrors the events of one run to a tracker. A tracker that fails later is left behind, with a note in the log."""

    def __init__(self, name: str, folder: Path, title: str, note: Callable[[str], Any]):
        """note: writes a sentence to the run's log. Raises UserError for a tracker that cannot be used."""
        check_tracker(name)
        made, module, _ = TRACKERS[name]
        self._name, self._folder, self._note = name, folder, note
        self._configured = self._measured = False
        try:
            self._tracker: Tracker | None = made(importlib.import_module(module), folder, title)
        except Exception as error:  # not logged in, no connection, a broken installation: each has errors of its own
            raise UserError(
                f"{name} cannot be used: {first_line(error)} Set it up, or leave --report-to out."
            ) from error

    def event(self, event: dict[str, Any]) -> None:
        """Mirror the numbers of an event of the log."""
        kind, group = event["kind"], MEASURED.get(event["kind"])
        self._measured |= group is not None
        if group is None and (kind != "progress" or self._measured):  # progress of a training repeats its numbers
            return
        step = event.get("update") if group else event.get("done")
        numbers = {f"{group or 'progress'}/{name}": value for name, value in event.items() if name not in HEAD}
        numbers = {name: value for name, value in numbers.items() if _is_number(value)}
        if _is_number(step) and numbers:
            self._call(lambda tracker: tracker.log(numbers, int(step)))

    def finish(self, result: dict[str, Any]) -> None:
        """The end of the run's attempt."""
        numbers = {name: value for name, value in result.items() if _is_number(value)}
        self._call(lambda tracker: tracker.finish(numbers))

    def _call(self, act: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            if not self._configured and (self._folder / RECORD).exists():
                self._configured = True
                config = flat_config(read_run(self._folder)["config"])
                self._tracker.configure({name: value for name, value in config.items() if value is not None})
            act(self._tracker)
        except Exception as error:  # the run is worth more than its mirror
            self._tracker = None
            self._note(f"{self._name} failed, so the rest of the run is not mirrored: {first_line(error)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
