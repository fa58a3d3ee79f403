"""Cost and gain of every fine-tuned model, from the run folders: the paper's cost table, measured here.

No number is estimated. A missing one is None, with its reason in `Cost.missing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import read_results
from lightreasoner.jobs.events import working_seconds
from lightreasoner.storage.runs import list_runs, read_run
from lightreasoner.training.result import FinetuneResult


@dataclass(frozen=True)
class Gain:
    """Paired comparison of a tuned model with its base. Differences of pass@1, from −1 to 1."""

    evaluation: str  # its run's folder name
    benchmark: str  # key of SOURCES, or a file's name
    problems: int
    difference: float
    low: float
    high: float
    created: float


@dataclass(frozen=True)
class Cost:
    """One fine-tuning run. Seconds are of all attempts, without waiting for the accelerator."""

    run: str
    base: str  # the expert's reference
    method: str
    created: float
    device: str | None
    sampling_seconds: float | None
    tuning_seconds: float | None
    problems: int | None  # sampled
    tuned_tokens: int | None  # samples seen, repeats counted
    gains: tuple[Gain, ...]  # one per benchmark
    missing: dict[str, str] = field(default_factory=dict)  # field → why it is None

    @property
    def seconds(self) -> float | None:
        """Sampling and fine-tuning together, as in the paper; None unless both are known."""
        parts = self.sampling_seconds, self.tuning_seconds
        return None if None in parts else sum(parts)

    @property
    def gain(self) -> float | None:
        """Average over the benchmarks."""
        return sum(gain.difference for gain in self.gains) / len(self.gains) if self.gains else None


def sampled_problems(folder: Path, samples_per_problem: int) -> int | None:
    """Problems with responses in a dataset. None for a dataset without shards or with a damaged one."""
    try:
        responses = sum(pq.read_metadata(path).num_rows for path in shards(folder))
    except (pa.ArrowException, OSError):
        return None
    return responses // samples_per_problem or None


def gains(runs: Path) -> dict[Path, tuple[Gain, ...]]:
    """Adapter folder → its gain on each benchmark on which it was evaluated together with its base.

    Of several evaluations on one benchmark, the one with the most problems counts, and among equals the newest.
    """
    best: dict[tuple[Path, str], Gain] = {}
    for folder, run in list_runs(runs, "evaluation"):  # newest first
        results, config = read_results(folder), run["config"]
        if not results or not config.get("base", True):
            continue
        adapters = [Path(place).resolve() for place in config.get("adapters") or []]
        by_name = dict(zip((run["about"].get("models") or [])[1:], adapters, strict=False))
        for comparison in results["comparisons"]:
            adapter = by_name.get(comparison.get("after"))
            found = _gain(folder.name, run, comparison)
            if adapter is None or found is None:
                continue
            known = best.get((adapter, found.benchmark))
            if known is None or found.problems > known.problems:
                best[adapter, found.benchmark] = found
    by_adapter: dict[Path, list[Gain]] = {}
    for (adapter, _), gain in best.items():
        by_adapter.setdefault(adapter, []).append(gain)
    return {adapter: tuple(sorted(found, key=lambda gain: gain.benchmark)) for adapter, found in by_adapter.items()}


def _gain(name: str, run: dict, comparison: dict) -> Gain | None:
    try:
        difference, low, high = (float(comparison[part]) for part in ("difference", "low", "high"))
        return Gain(name, benchmark(run), int(comparison["problems"]), difference, low, high, run["created"])
    except (KeyError, TypeError, ValueError):
        return None


def benchmark(run: dict) -> str:
    """The problems of an evaluation: the source's key or the file's name, with the split where one was chosen."""
    named, split = Path(str(run["config"].get("problems"))).name, run["config"].get("split")
    return f"{named} ({split})" if split else named


def cost_table(runs: Path, seconds: Callable[[Path], float | None] = working_seconds) -> list[Cost]:
    """Every fine-tuning run with an adapter, newest first. seconds: `working_seconds`, or a cached version of it."""
    gained, sampled = gains(runs), cache(sampled_problems)  # several runs share a dataset
    return [
        _cost(folder, run, gained.get((folder / "adapter").resolve(), ()), seconds, sampled)
        for folder, run in list_runs(runs, "finetune")
        if (folder / "adapter" / "adapter_model.safetensors").is_file()
    ]


def _cost(
    folder: Path,
    run: dict,
    gained: tuple[Gain, ...],
    seconds: Callable[[Path], float | None],
    sampled: Callable[[Path, int], int | None],
) -> Cost:
    config, about, missing = run["config"], run["about"], {}

    def known(name: str, value: Any, why: str) -> Any:
        if value is None:
            missing[name] = why
        return value

    place, dataset = Path(str(config.get("dataset"))), None
    try:
        dataset = read_run(place)
        why = "the samples were imported" if dataset["about"].get("imported") else "its dataset's log is gone"
    except UserError:
        why = "its dataset was deleted"
    own = dataset is not None and not dataset["about"].get("imported")
    per_problem = max(1, int(dataset["config"].get("samples_per_problem") or 1)) if own else 1
    result = FinetuneResult.from_record(run)
    return Cost(
        folder.name,
        str(about.get("expert", "?")),
        str(config.get("method", "?")),
        run["created"],
        about.get("device"),
        known("sampling_seconds", seconds(place) if own else None, why),
        known("tuning_seconds", seconds(folder), "its log is gone"),
        known("problems", sampled(place, per_problem) if own else None, why),
        known("tuned_tokens", result and result.samples_seen, "it has not ended yet"),
        gained,
        missing | ({} if gained else {"gain": "not evaluated beside its base yet"}),
    )
