"""What a plan needs before it can run: models and datasets that can be had, their sizes, and the time of a GPU."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import constants

from lightreasoner.errors import UserError
from lightreasoner.experiments.plan import Plan
from lightreasoner.experiments.stages import BATCH, round_stages
from lightreasoner.formatting import format_bytes, format_duration
from lightreasoner.hub.access import look_up
from lightreasoner.hub.download import MODEL_FILES
from lightreasoner.models.pairs import presets
from lightreasoner.models.references import parse_ref
from lightreasoner.models.weights import find_files, known_parameters, on_disk
from lightreasoner.problems.sources import SOURCES, has_copy
from lightreasoner.problems.stream import open_problems, source_fingerprint, training_split

DATA = (".parquet", ".json", ".jsonl", ".csv", ".arrow")  # files of a dataset


@dataclass(frozen=True)
class Requirement:
    """A model or a dataset. size: bytes to download, None where nobody knows; trouble: why it cannot be had."""

    kind: str  # "model" or "dataset"
    name: str
    size: int | None = 0
    source: str = "here"  # of the size: "here" if nothing is downloaded, else "the Hub", else "the catalogue"
    trouble: str = ""

    @property
    def line(self) -> str:
        if self.source == "here" and not self.trouble:
            return f"{self.kind:8} {self.name}: on this machine"
        size = "some MB" if self.size is None else format_bytes(self.size)
        return f"{self.kind:8} {self.name}: {size} to download, says {self.source}"


@dataclass(frozen=True)
class Speed:
    """Seconds measured on one GPU, in docs/gpu.md. step: of one model, for a batch of rows."""

    name: str
    gpu: str
    parameters: float  # of the expert
    loading: float  # of a pair
    problem: float  # to sample 128 tokens, with both models, without CUDA graphs
    update: float  # of 16 samples
    step: float  # without CUDA graphs
    graphs: float  # with them


#: Of docs/gpu.md: "The paper's pipeline" of both sizes. The steps of the 1.5B are those of "Single steps", of up to 256
#: rows. Of the 7B, whose steps were not measured alone, they hold the amateur's, too: without graphs those of sampling
#: (17.7 s for 128), with graphs a token of the live trace, whose one row takes about as long as many.
SPEEDS = (
    Speed("Qwen2.5-Math-1.5B's shape", "an H100", 1.54e9, 2.3, 1 / 18.4, 0.243, 0.0601, 0.0063),
    Speed("Qwen2.5-Math-7B's shape", "an H200", 7.62e9, 4.8, 17.7 / 256, 0.239, 17.7 / 128, 1 / 107.7),
)


def requirements(plans: Iterable[Plan]) -> list[Requirement]:
    """Of all plans, each once. Asks the Hub about what is not on this machine; nothing is downloaded."""
    plans = list(plans)
    models = dict.fromkeys(ref for plan in plans for ref in (plan.expert, plan.amateur))
    problems = dict.fromkeys(source for plan in plans for source in (plan.problems, *plan.tests))
    return [*map(model_requirement, models), *map(dataset_requirement, problems)]


def model_requirement(ref: str) -> Requirement:
    """Also where the reference is wrong: its trouble says so."""
    known = next((n for p in presets() for name, n in _sizes_of(p) if name == ref), None)
    size = known and 2 * known  # of the catalogue's models, in 16 bits
    try:
        parsed = parse_ref(ref)
        if on_disk(parsed):
            return Requirement("model", ref)
        if parsed.kind != "hub":
            find_files(parsed, download=False)
        found = look_up(parsed.base, parsed.revision, "model", _model_files)
        return Requirement("model", ref, found, "the Hub")
    except UserError as error:
        return Requirement("model", ref, size, "the catalogue", str(error))


def dataset_requirement(problems: str) -> Requirement:
    """A key of SOURCES or a file."""
    source = SOURCES.get(problems)
    try:
        if source is None or source.repo is None:
            source_fingerprint(problems)
            return Requirement("dataset", problems)
        if has_copy(source):
            return Requirement("dataset", problems)

        def wanted(paths: list[str]) -> list[str]:
            found = [path for path in paths if path.endswith(DATA)]
            return [path for path in found if any(config and config in path for config in source.configs)] or found

        return Requirement("dataset", problems, look_up(source.repo, None, "dataset", wanted), "the Hub")
    except UserError as error:
        return Requirement("dataset", problems, None, "the catalogue", str(error))


def refuse_troubles(found: Iterable[Requirement]) -> None:
    """Raises UserError with a sentence for everything that cannot be had, and where the disk is too small for it."""
    found = list(found)
    troubles = [one.trouble for one in found if one.trouble] + ([full] if (full := no_room(found)) else [])
    if troubles:
        raise UserError("\n".join(dict.fromkeys(troubles)))


def no_room(found: Iterable[Requirement]) -> str:
    """Why the disk of the Hub's cache cannot take what is to be downloaded; empty where it can."""
    needed, cache = sum(one.size or 0 for one in found), Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(place for place in (cache, *cache.parents) if place.exists())).free
    if needed <= free:
        return ""
    return (
        f"{format_bytes(needed)} are to be downloaded, but {cache} has only {format_bytes(free)} free; make room, or "
        "set HF_HOME to a folder on a larger disk."
    )


def gpu_time(plans: Iterable[Plan]) -> str:
    """How long plans keep a GPU busy at most, by figures that were measured on one: a sentence."""
    quick, slow, used = 0.0, 0.0, []
    for plan in plans:
        parameters = _parameters(plan.expert)
        if parameters is None:
            return "GPU time unknown: nobody knows the size of the expert yet."
        speed = min(SPEEDS, key=lambda one: max(one.parameters, parameters) / min(one.parameters, parameters))
        quick += gpu_seconds(plan, speed, speed.graphs)
        slow += gpu_seconds(plan, speed, speed.step)
        used.append(f"{speed.name} on {speed.gpu}")
    return (
        f"At most {format_duration(quick)} of a GPU with CUDA graphs, {format_duration(slow)} without, where every "
        f"response is as long as it may be (by {' and '.join(dict.fromkeys(used))})."
    )


def gpu_seconds(plan: Plan, speed: Speed, step: float) -> float:
    """Loading, sampling, training and judging, all at full length. step: seconds that a batch of one model takes."""
    sampled = min(_count(plan.problems, plan.split or training_split(plan.problems)), plan.limit or 10**9)
    previewed = min(plan.preview, sampled) * (1 + len(plan.preview_betas.split(",")))
    judged = sum(-(-min(_count(test, plan.test_split), plan.test_limit or 10**9) // BATCH) for test in plan.tests)
    length = plan.test_max_new_tokens or 512
    updates = sum(arm.config.max_steps for arm in plan.arms)
    once = len(round_stages(plan, Path("x"))) * speed.loading + updates * speed.update
    once += (sampled + previewed) * speed.problem * plan.max_new_tokens / 128
    once += (1 + len(plan.arms)) * judged * length * step
    return plan.rounds * once


def _count(problems: str, split: str | None) -> int:
    source = SOURCES.get(problems)
    if source is None:
        return sum(1 for _ in open_problems(problems, skip_unreadable=True))
    return source.sizes[source.splits.index(split) if split in source.splits else 0]


def _parameters(ref: str) -> int | None:
    known = next((n for p in presets() for name, n in _sizes_of(p) if name == ref), None)
    return known or known_parameters(ref)


def _sizes_of(preset) -> tuple[tuple[str, int], ...]:
    return (preset.expert, preset.expert_params), (preset.amateur, preset.amateur_params)


def _model_files(paths: list[str]) -> list[str]:
    return [path for path in paths if "/" not in path and any(fnmatch(path, pattern) for pattern in MODEL_FILES)]
