"""The costs and the gains of fine-tuned models, as measured in this workspace: the paper's cost table.

Nothing is estimated. A number that the run folders do not contain is None, with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pandas as pd
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
    """A tuned model compared with its base. Differences of pass@1 from −1 to 1, with their 95 % interval."""

    evaluation: str  # its run's folder name
    benchmark: str  # key of SOURCES, or a file's name
    problems: int
    difference: float
    low: float
    high: float
    created: float


@dataclass(frozen=True)
class Cost:
    """One fine-tuning run. Seconds are those of every attempt, without the time spent waiting for the accelerator."""

    run: str
    base: str  # the expert's reference
    method: str
    created: float
    device: str | None
    sampling_seconds: float | None
    tuning_seconds: float | None
    problems: int | None  # sampled
    tuned_tokens: int | None  # positions with a target that training used, repeats counted
    gains: tuple[Gain, ...]  # one per benchmark
    missing: dict[str, str] = field(default_factory=dict)  # field → why it is None

    @property
    def seconds(self) -> float | None:
        """Sampling and fine-tuning together, as in the paper; None unless both are known."""
        parts = self.sampling_seconds, self.tuning_seconds
        return None if None in parts else sum(parts)

    @property
    def gain(self) -> float | None:
        """The mean over the benchmarks."""
        return sum(gain.difference for gain in self.gains) / len(self.gains) if self.gains else None


def sampled_problems(folder: Path, samples_per_problem: int) -> int | None:
    """Problems with responses in a dataset. None where a shard is damaged, or there is none."""
    try:
        responses = sum(pq.read_metadata(path).num_rows for path in shards(folder))
    except (pa.ArrowException, OSError):
        return None
    return responses // samples_per_problem or None


def gains(runs: Path) -> dict[Path, tuple[Gain, ...]]:
    """Adapter folder → its gains, one per benchmark on which it was compared with its base.

    Of several evaluations on one benchmark the one with the most problems counts, and of those the newest.
    """
    found = []
    for folder, run in list_runs(runs, "evaluation"):  # newest first
        results, config = read_results(folder), run["config"]
        if not results or not config.get("base", True):
            continue
        adapters = [Path(place).resolve() for place in config.get("adapters") or []]
        by_name = dict(zip(map(str, (run["about"].get("models") or [])[1:]), adapters, strict=False))
        for comparison in results["comparisons"]:
            adapter = by_name.get(comparison.get("after"))
            gain = _gain(folder.name, run, comparison)
            if adapter is not None and gain is not None:
                found.append((adapter, gain.benchmark, gain.problems, gain))
    table = pd.DataFrame(found, columns=["adapter", "benchmark", "problems", "gain"])
    best = largest(table, ["adapter", "benchmark"]).sort_values("benchmark")
    return {adapter: tuple(of_adapter) for adapter, of_adapter in best.groupby("adapter")["gain"]}


def largest(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Of the rows that agree in the columns `by`, the one over the most problems; of those the first."""
    return table.sort_values("problems", ascending=False, kind="stable").drop_duplicates(by)


def _gain(name: str, run: dict, comparison: dict) -> Gain | None:
    try:
        difference, low, high = (float(comparison[part]) for part in ("difference", "low", "high"))
        return Gain(name, benchmark(run), int(comparison["problems"]), difference, low, high, run["created"])
    except (KeyError, TypeError, ValueError):
        return None


def benchmark(run: dict) -> str:
    """The problems of an evaluation: the source's key, with the split if one was named, or the file's name."""
    name, split = Path(str(run["config"].get("problems"))).name, run["config"].get("split")
    return f"{name} ({split})" if split else name


def cost_table(runs: Path, seconds: Callable[[Path], float | None] = working_seconds) -> list[Cost]:
    """Every fine-tuning run that has an adapter, newest first. seconds: working_seconds, or a cached version of it."""
    all_gains, sampled = gains(runs), cache(sampled_problems)  # several runs share a dataset
    return [
        _cost(folder, run, all_gains.get((folder / "adapter").resolve(), ()), seconds, sampled)
        for folder, run in list_runs(runs, "finetune")
        if (folder / "adapter" / "adapter_model.safetensors").is_file()
    ]


def _cost(
    folder: Path,
    run: dict,
    gains: tuple[Gain, ...],
    seconds: Callable[[Path], float | None],
    sampled: Callable[[Path, int], int | None],
) -> Cost:
    config, about, result = run["config"], run["about"], FinetuneResult.from_record(run)
    place, sampling_seconds, problems = Path(str(config.get("dataset"))), None, None
    try:
        dataset = read_run(place)
        why = "the samples were imported" if dataset["about"].get("imported") else "its dataset's log is gone"
        if not dataset["about"].get("imported"):
            sampling_seconds = seconds(place)
            problems = sampled(place, max(1, int(dataset["config"].get("samples_per_problem") or 1)))
            if dataset["config"].get("responses"):  # of a file, as many as it has for each problem
                problems = (dataset.get("result") or {}).get("problems")
    except UserError:
        why = "its dataset was deleted"
    cost = Cost(
        folder.name,
        str(about.get("expert", "?")),
        str(config.get("method", "?")),
        run["created"],
        about.get("device"),
        sampling_seconds,
        seconds(folder),
        problems,
        result and result.samples_seen,
        gains,
    )
    reasons = {
        "sampling_seconds": why,
        "tuning_seconds": "its log is gone",
        "problems": why,
        "tuned_tokens": "it has not ended yet",
        "gain": "not evaluated beside its base yet",
    }
    return replace(cost, missing={name: why for name, why in reasons.items() if getattr(cost, name) is None})
