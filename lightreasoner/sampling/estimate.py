"""Resource estimate: what sampling a dataset would bring and cost, measured by sampling a few of its problems."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.trajectories import flat
from lightreasoner.decoding.batch_size import chunk_bytes
from lightreasoner.decoding.generate import CHUNK, DecodingConfig, GenerationRow, generate_batch
from lightreasoner.decoding.kv_cache import cache_bytes
from lightreasoner.formatting import format_bytes, format_duration
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.paper import BETA
from lightreasoner.problems.rows import Problem
from lightreasoner.sampling.plan import planned_rows
from lightreasoner.sampling.trajectory_table import batch_table

BETAS = tuple(round(0.05 * n, 2) for n in range(1, 41))  # nats, for ResourceEstimate.kept


@dataclass(frozen=True)
class ResourceEstimate:
    """The cost and yield of sampling `problems` problems, extrapolated from `measured` of them."""

    measured: int  # problems sampled for the estimate
    problems: int  # problems it is an estimate for
    steps: float  # per problem
    samples: float  # steps of KL above BETA, in total
    seconds: float  # in total
    disk_bytes: float  # in total
    memory_bytes: float  # models, caches and one chunk of logits, at the usual batch size
    kept: tuple[float, ...]  # fraction of the steps with KL > BETAS[n]

    def sentence(self) -> str:
        return (
            f"About {_round(self.samples)} samples at β = {BETA:g} in {format_duration(self.seconds)}, "
            f"{format_bytes(self.disk_bytes)} on disk; measured on {self.measured} of the problems."
        )


def estimate_resources(
    pair: Pair,
    problems: list[Problem],
    decoding: DecodingConfig,
    samples_per_problem: int,
    total: int,
    checkpoint: Callable[[], None] = lambda: None,
    prompt: PromptSettings = PAPER,
) -> tuple[ResourceEstimate, pa.Table]:
    """Sample these few problems in one batch: (the estimate for `total` problems, the batch's table).

    The table has trajectories.SCHEMA. Raises UserError for a problem that makes no prompt and for a model whose output
    is not a distribution.
    """
    items = [
        GenerationRow(problem, 0, *pair_prompts(pair, problem.question, prompt, problem.context))
        for problem in problems
    ]
    started = time.perf_counter()
    table = batch_table(pair, items, generate_batch(pair, items, decoding, lambda ended: checkpoint()), decoding.stop)
    seconds = time.perf_counter() - started
    kl = flat(table, "kl")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    factor = total * samples_per_problem / len(items)
    estimate = ResourceEstimate(
        measured=len(items),
        problems=total,
        steps=len(kl) / len(items),
        samples=float((kl > BETA).sum()) * factor,
        seconds=seconds * factor,
        disk_bytes=buffer.tell() * factor,
        memory_bytes=sampling_memory(pair, max(len(item.prompt) for item in items) + decoding.max_new_tokens),
        kept=tuple(float((kl > beta).mean()) for beta in BETAS),
    )
    return estimate, table


def sampling_memory(pair: Pair, tokens: int) -> float:
    """Bytes needed to sample at the usual batch size with sequences of `tokens` tokens."""
    models = list({id(loaded): loaded for loaded in (pair.expert, pair.amateur)}.values())
    rows = planned_rows(pair, tokens)
    caches = sum(rows * tokens * cache_bytes(loaded) for loaded in models)
    return sum(loaded.memory_bytes for loaded in models) + caches + chunk_bytes(models, rows, CHUNK)


def _round(value: float) -> str:
    """Two significant figures: an estimate is no more precise."""
    if value < 10:
        return f"{value:.0f}"
    unit = 10 ** (int(math.log10(value)) - 1)
    return f"{round(value / unit) * unit:,.0f}"
