"""Sample problems into a dataset: one shard per batch; an interrupted run resumes where it stopped.

The shards present are the progress. A killed run resumes with the same batches (plan.py), hence with the same numbers.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightreasoner.datasets.trajectories import (
    FOLDER,
    flat,
    is_as_written,
    kl_histogram,
    read_shard,
    remove_leftovers,
    shards,
    write_shard,
)
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, Given, generate_batch
from lightreasoner.errors import UserError
from lightreasoner.models.devices import DoesNotFit, run_with_oom_backoff
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import BETA
from lightreasoner.progress import Progress
from lightreasoner.sampling.given_responses import GivenPrompts
from lightreasoner.sampling.plan import Prompts, batches
from lightreasoner.sampling.trajectory_table import batch_table
from lightreasoner.storage.runs import note_versions

HISTOGRAM_SECONDS = 2.0  # between two histogram events

OnStep = Callable[[int], None]  # receives the number of responses of the batch that have ended
#: What a batch still needs: its items, and the numbers of the amateurs that have not read them; 0 is the pair's own.
Missing = tuple[list[GenerationRow], tuple[int, ...]]
#: Samples missing batches (number, what is missing) elsewhere; yields (number, a table per amateur) in any order.
ParallelMap = Callable[[Iterable[tuple[int, Missing]]], Iterable[tuple[int, list[pa.Table]]]]


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
        kl = flat(table, "kl")
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


@dataclass
class _SampledDataset:
    """A dataset while it is sampled: finds the missing batches, stores those that were sampled, and reports."""

    folders: list[Path]  # the dataset's own, then those of its further amateurs' measures
    prompts: Prompts | GivenPrompts
    batch_size: int
    total: int  # problems in the stream
    progress: Progress
    counts: SamplingCounts
    resuming: bool  # until the first missing batch
    expected: set[str] = field(default_factory=set)  # names of shards
    written: dict[int, pa.Table] = field(default_factory=dict)  # batches that only further amateurs miss
    unread: dict[int, tuple[int, ...]] = field(default_factory=dict)  # batch → the amateurs that miss it
    last_histogram: float = 0.0  # when it was reported

    def missing(self) -> Iterator[tuple[int, Missing]]:
        """The batches without a shard; shards present are counted on the way."""
        for batch, items in batches(self.prompts, self.batch_size, self.counts.samples_per_problem):
            self.progress.checkpoint()
            self.expected.add(shard_name(batch))
            tables = [_read_existing(folder, batch, items, self.progress) for folder in self.folders]
            wanted = tuple(n for n, table in enumerate(tables) if table is None)
            if not wanted:
                self.counts.add(tables[0], new=False)
                self.report()
                continue
            if not self.counts.new_responses and (changed := note_versions(self.folders[0])):
                self.progress.status(changed)
            if self.resuming:
                self.resuming, self.counts.started = False, time.monotonic()
                self.progress.status(self.prompts.doing)
            if tables[0] is None:
                wanted = tuple(range(len(self.folders)))
            else:
                self.written[batch], items = tables[0], _given(items, tables[0])
            self.unread[batch] = wanted
            yield batch, (items, wanted)

    def store(self, batch: int, tables: list[pa.Table]) -> None:
        """Write a batch's table for each amateur that missed it."""
        missed_by = list(zip(self.unread.pop(batch), tables, strict=True))
        for n, table in reversed(missed_by):  # the dataset's own last, because it completes the batch
            write_shard(self.folders[n], shard_name(batch), table)
        self.counts.add(self.written.pop(batch, tables[0]), new=True)
        self.report()

    def report(self, in_flight: int = 0) -> None:
        """in_flight: responses of the current batch that have ended."""
        if time.monotonic() - self.last_histogram >= HISTOGRAM_SECONDS:
            self.report_histogram()
        known = self.counts.responses
        responses = max((self.total - self.prompts.unreadable) * self.counts.samples_per_problem, known)
        self.progress.update(min(known + in_flight, responses), responses, **self.counts.rates(in_flight))

    def report_histogram(self) -> None:
        self.last_histogram = time.monotonic()
        self.progress.event("histogram", counts=self.counts.histogram.tolist())

    def check_complete(self) -> None:
        """Raises UserError when shards are no longer as they were written."""
        names = {name for folder in self.folders for name in self.expected if not is_as_written(folder, name)}
        if names:
            raise UserError(
                f"{len(names):,} of the {len(self.expected):,} shards in {self.folders[0]} were deleted or changed "
                "meanwhile; resume to sample their problems again."
            )


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
    others: Sequence[tuple[Pair, Path]] = (),
) -> None:
    """Sample the batches whose shards are missing; afterwards `counts` covers the whole dataset.

    others: further amateurs of the same expert, each with the folder of its measures. Where only they miss a batch, its
    responses are read again and not written again.

    total: problems in the stream, whether they fit into the models or not. parallel_map: samples the missing batches
    elsewhere; None: this process does. However it ends (a UserError, a full disk, StopRequested), the shards written
    so far are complete, and the next call resumes from them.
    """
    folders, pairs = [folder, *(own for _, own in others)], [pair, *(other for other, _ in others)]
    for own in folders:
        remove_leftovers(own)
    dataset = _SampledDataset(folders, prompts, batch_size, total, progress, counts, resuming=bool(shards(folder)))
    progress.status("Reading the existing shards" if dataset.resuming else prompts.doing)

    def on_step(ended: int) -> None:
        progress.checkpoint()
        dataset.report(ended)

    def sample_here() -> Iterator[tuple[int, list[pa.Table]]]:
        max_rows = batch_size
        for batch, needed in dataset.missing():
            tables, max_rows = sample_batch(pairs, needed, decoding, progress, on_step, max_rows)
            yield batch, tables

    for batch, tables in parallel_map(dataset.missing()) if parallel_map else sample_here():
        dataset.store(batch, tables)
        if parallel_map:
            progress.checkpoint()
    dataset.check_complete()
    dataset.report()
    dataset.report_histogram()


def shard_name(batch: int) -> str:
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


def _given(items: list[GenerationRow], table: pa.Table) -> list[GenerationRow]:
    """The items with the responses that a shard holds."""
    stored = zip(items, table["response_ids"].to_pylist(), table["finish_reason"].to_pylist(), strict=True)
    return [replace(item, given=Given(ids, why, sampled=item.given is None)) for item, ids, why in stored]


def sample_batch(
    pairs: Sequence[Pair],
    missing: Missing,
    decoding: DecodingConfig,
    progress: Progress,
    on_step: OnStep,
    max_rows: int,
) -> tuple[list[pa.Table], int]:
    """Sample a batch, at most `max_rows` responses at once: (a table per missing amateur, the rows that fit).

    pairs: the expert beside each of its amateurs. Out of memory, it tries again with half of the rows. Raises UserError
    when a single row does not fit.
    """

    items, wanted = missing
    items, reading = [item.read_by(wanted) for item in items], [pairs[n] for n in wanted]

    def attempt(rows: list[GenerationRow], before: int) -> list[pa.Table]:
        found = generate_batch(reading[0], rows, decoding, lambda ended: on_step(before + ended), reading[1:])
        measured = zip(reading, (found, *found.others), strict=True)
        return [batch_table(pair, rows, responses, decoding.stop) for pair, responses in measured]

    try:
        on_halved = lambda rows: progress.event("halved", rows=rows)  # noqa: E731
        parts, max_rows = run_with_oom_backoff(items, max_rows, attempt, on_halved)
    except DoesNotFit as full:
        raise UserError(
            f"The problem {items[full.row].problem.id} alone needs more memory than {pairs[0].expert.device} has free. "
            "Free some memory, lower the token limit, or use a smaller pair. The batches sampled so far are saved."
        ) from None
    return [pa.concat_tables(own).combine_chunks() for own in zip(*parts, strict=True)], max_rows
