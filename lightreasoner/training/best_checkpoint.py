"""The adapter with the lowest held-out loss of a run: kept while it trains, and used in place of the last one."""

import json
import shutil
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.models.adapters import save_adapter
from lightreasoner.storage.atomic import atomic_folder, locked
from lightreasoner.storage.runs import LOCK, read_run
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.runs import ADAPTER, adapter_folder, measured_in

BEST, LAST = "adapter-best", "adapter-last"  # folders of a run; the second exists once another one was in use
ADVICE = "Free some space and try again."


def keep_if_best(run_dir: Path, model: Any, expert: str, update: int, measured: dict[str, float]) -> None:
    """Keep the adapter of this update unless an earlier one of the run has as low a held-out loss. Raises UserError."""
    loss, before = measured.get("held_out_loss"), measured_in(run_dir / BEST)
    if loss is not None and not (before and before["held_out_loss"] <= loss):
        save_adapter(model, run_dir / BEST, "", expert, json.dumps({"update": update} | measured))


def forget_others(run_dir: Path, updates: int) -> None:
    """Training has written its last adapter: the best one stays beside it unless it is the same."""
    shutil.rmtree(run_dir / LAST, ignore_errors=True)
    if (measured_in(run_dir / BEST) or {}).get("update") == updates:
        shutil.rmtree(run_dir / BEST, ignore_errors=True)


def other_adapter(run_dir: Path, record: dict) -> tuple[str, dict] | None:
    """Which adapter of a run could be used instead of the one in use, "best" or "last", and what was measured there."""
    best = measured_in(run_dir / BEST)
    if not best or not (run_dir / ADAPTER).is_dir():
        return None
    used = measured_in(run_dir / ADAPTER)
    return ("last", _last(record)) if used and used["update"] == best["update"] else ("best", best)


def _last(record: dict) -> dict:
    result = FinetuneResult.from_record(record) or FinetuneResult()
    return {"update": result.updates, "held_out_loss": result.held_out_loss, "drift": result.drift}


def use_adapter(run_dir: Path, which: object) -> dict:
    """Put the "best" or the "last" adapter of a run into use: evaluation, merging, publishing and Inspect then take it.

    Returns what was measured at its update, losses in nats. The other one stays beside it. Raises UserError.
    """
    if which not in ("best", "last"):
        raise UserError(f"There is no adapter called {str(which)[:20]!r}; choose best or last.")
    adapter_folder(run_dir)
    record = read_run(run_dir)
    last, other = _last(record), other_adapter(run_dir, record)
    if last["held_out_loss"] is None and not other:
        raise UserError("This run held no trajectories out, so it is not known which of its adapters is the best.")
    if not other or other[0] != which:
        return last if which == "last" or not other else measured_in(run_dir / BEST)
    with locked(run_dir / LOCK, "A job is working on this run; wait until it ends, then choose its adapter."):
        _put_into_use(run_dir, which, record, other[1])
    return other[1]


def use_best(run_dir: Path) -> None:
    """`use_adapter` with "best", inside the job that has just written the run's last one. Raises UserError."""
    record = read_run(run_dir)
    if (other := other_adapter(run_dir, record)) and other[0] == "best":
        _put_into_use(run_dir, "best", record, other[1])


def _put_into_use(run_dir: Path, which: str, record: dict, measured: dict) -> None:
    """measured: what was measured at that adapter's update."""
    if not (run_dir / LAST).is_dir():
        _copy(run_dir / ADAPTER, run_dir / LAST, {})
    card = adapter_card(record | ({"adapter": measured} if which == "best" else {}))
    _copy(run_dir / (BEST if which == "best" else LAST), run_dir / ADAPTER, {"README.md": card})


def _copy(source: Path, target: Path, texts: dict[str, str]) -> None:
    with atomic_folder(target, ADVICE) as place:
        shutil.copytree(source, place, dirs_exist_ok=True)
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
