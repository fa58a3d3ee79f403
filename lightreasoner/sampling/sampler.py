"""Sample problems into a dataset: one shard per batch; an interrupted run resumes where it stopped.

The batches are a pure function of the problems and the batch size, and the shards present are the progress. A run that
was killed therefore resumes with the same batches, hence with the same numbers.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightreasoner.datasets.trajectories import (
    FOLDER,
    is_as_written,
    kl_histogram,
    read_shard,
    remove_leftovers,
    shards,
    write_shard,
)
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, generate_batch
from lightreasoner.errors import UserError
from lightreasoner.models.devices import DoesNotFit, run_with_oom_backoff
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import BETA
from lightreasoner.progress import Progress
from lightreasoner.sampling.batch_table import batch_table
from lightreasoner.sampling.given import GivenPrompts
from lightreasoner.sampling.plan import Prompts, batches
from lightreasoner.storage.runs import note_versions

HISTOGRAM_SECONDS = 2.0  # between two histogram events

OnStep = Callable[[int], None]  # receives the number of responses of the batch that have ended
#: Samples the missing batches (number, items) elsewhere and yields (number, table) of each in any order.
ParallelMap = Callable[[Iterable[tuple[int, list[GenerationRow]]]], Iterable[tuple[int, pa.Table]]]


@dataclass
class SamplingCounts:
    """What the dataset contains so far. `new_responses` and `new_tokens` count only what this process sampled."""

    samples_per_problem: int = 1
    problems: int = 0
    responses: int = 0
    steps: int = 0
    above_beta: int = 0
    new_responses: int = 0
    new_tokens: int = 0
    histogram: np.ndarray = field(default_factory=lambda: kl_histogram([]))  # over trajectories.KL_EDGES
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def add(self, table: pa.Table, new: bool) -> None:
        kl = table["kl"].combine_chunks().flatten().to_numpy()
        self.problems += pc.sum(pc.equal(table["sample"], 0)).as_py()
        self.responses += len(table)
        self.steps += len(kl)
        self.above_beta += int((kl > BETA).sum())
        self.histogram = self.histogram + kl_histogram(kl)
        if new:
            self.new_responses += len(table)
            self.new_tokens += len(kl)

    def recount(self, folder: Path) -> None:
        """Count all shards in the folder, including those that this process has not reached."""
        self.problems = self.responses = self.steps = self.above_beta = 0
        self.histogram = kl_histogram([])
        for path in shards(folder):
            self.add(read_shard(path, ["sample", "kl"]), new=False)

    def rates(self, in_flight: int = 0) -> dict[str, float]:
        """Numbers for progress events. in_flight: responses of the current batch that have ended."""
        seconds = max(self.seconds, 1e-9)
        return {
            "problems_per_second": round((self.new_responses + in_flight) / self.samples_per_problem / seconds, 4),
            "tokens_per_second": round(self.new_tokens / seconds, 2),
            "steps": self.steps,
            "above_beta": self.above_beta,
            "samples": self.above_beta,
        }


def sample_dataset(
    pair: Pair,
    prompts: Prompts | GivenPrompts,
    folder: Path,
    decoding: DecodingConfig,
    *,
    batch_size: int,
    total: int,
    progress: Progress,
    counts: SamplingCounts,
    parallel_map: ParallelMap | None = None,
) -> None:
    """Sample the batches whose shards are missing; afterwards `counts` covers the whole dataset.

    total: problems in the stream, whether they fit into the models or not. parallel_map: samples the missing batches
    elsewhere; None: this process does. However it ends (a UserError, a full disk, StopRequested), the shards written
    so far are complete, and the next call resumes from them.
    """
    remove_leftovers(folder)
    resuming, last_histogram = bool(shards(folder)), 0.0
    expected: set[str] = set()
    progress.status("Reading the existing shards" if resuming else prompts.doing)

    def report(in_flight: int = 0) -> None:
        nonlocal last_histogram
        if time.monotonic() - last_histogram >= HISTOGRAM_SECONDS:
            last_histogram = time.monotonic()
            progress.event("histogram", counts=counts.histogram.tolist())
        responses = max((total - prompts.unreadable) * counts.samples_per_problem, counts.responses)
        progress.update(min(counts.responses + in_flight, responses), responses, **counts.rates(in_flight))

    def missing() -> Iterator[tuple[int, list[GenerationRow]]]:
        """The batches without a shard; shards present are counted on the way."""
        nonlocal resuming
        for batch, items in batches(prompts, batch_size, counts.samples_per_problem):
            progress.checkpoint()
            expected.add(shard_name(batch))
            table = _read_existing(folder, batch, items, progress)
            if table is not None:
                counts.add(table, new=False)
                report()
                continue
            if not counts.new_responses and (changed := note_versions(folder)):
                progress.status(changed)
            if resuming:
                resuming, counts.started = False, time.monotonic()
                progress.status(prompts.doing)
            yield batch, items

    def on_step(ended: int) -> None:
        progress.checkpoint()
        report(ended)

    def sample_here() -> Iterator[tuple[int, pa.Table]]:
        max_rows = batch_size
        for batch, items in missing():
            table, max_rows = sample_batch(pair, items, decoding, progress, on_step, max_rows)
            yield batch, table

    for batch, table in parallel_map(missing()) if parallel_map else sample_here():
        write_shard(folder, shard_name(batch), table)
        counts.add(table, new=True)
        report()
        if parallel_map:
            progress.checkpoint()
    if lost := sum(not is_as_written(folder, name) for name in expected):
        raise UserError(
            f"{lost:,} of the {len(expected):,} shards in {folder} were deleted or changed meanwhile; resume to sample "
            "their problems again."
        )
    report()
    progress.event("histogram", counts=counts.histogram.tolist())


def shard_name(batch: int) -> str:
    """The name of a batch's shard, without suffix."""
    return f"{batch:06d}"


def _read_existing(folder: Path, batch: int, items: list[GenerationRow], progress: Progress) -> pa.Table | None:
    """The batch's shard, or None if it must be sampled. A damaged shard is moved aside."""
    path = Path(folder) / FOLDER / f"{shard_name(batch)}.parquet"
    if not path.exists():
        return None
    try:
        table = read_shard(path)
    except UserError as error:
        os.replace(path, Path(folder) / f"{path.name}.corrupt")
        progress.event("corrupt", shard=path.name, message=str(error))
        return None
    rows = list(zip(table["problem_id"].to_pylist(), table["sample"].to_pylist(), strict=True))
    if rows != [(item.problem.id, item.sample) for item in items]:
        raise UserError(
            f"The shard {path} contains other problems than the source now has at its place, so the source has "
            "changed. Start a new run in another folder."
        )
    return table


def sample_batch(
    pair: Pair, items: list[GenerationRow], decoding: DecodingConfig, progress: Progress, on_step: OnStep, max_rows: int
) -> tuple[pa.Table, int]:
    """Sample one batch, at most `max_rows` responses at once: (its table, the number of rows that fit into memory).

    Out of memory, it tries again with half of the rows. Raises UserError when a single row does not fit.
    """

    def attempt(rows: list[GenerationRow], before: int) -> pa.Table:
        responses = generate_batch(pair, rows, decoding, lambda ended: on_step(before + ended))
        return batch_table(pair, rows, responses, decoding.stop)

    try:
        on_halved = lambda rows: progress.event("halved", rows=rows)  # noqa: E731
        parts, max_rows = run_with_oom_backoff(items, max_rows, attempt, on_halved)
    except DoesNotFit as full:
        raise UserError(
            f"The problem {items[full.row].problem.id} alone needs more memory than {pair.expert.device} has free. "
            "Free some memory, lower the token limit, or use a smaller pair. The batches sampled so far are saved."
        ) from None
    return pa.concat_tables(parts).combine_chunks(), max_rows
