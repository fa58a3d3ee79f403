"""Many problems into a dataset: one shard a batch, and a run that was stopped anywhere goes on where it was.

The batches are a pure function of the problems and the batch size, and the shards present are the progress; so a run
that was killed has the very same batches when it goes on, hence the same numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lightreasoner.datasets.trajectories import FOLDER, kl_histogram, read_shard, remove_leftovers, shards, write_shard
from lightreasoner.decoding.generate import Decoding, Item, respond
from lightreasoner.errors import UserError
from lightreasoner.models.devices import NoRoom, in_parts
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import BETA
from lightreasoner.progress import Progress
from lightreasoner.sampling.batch_table import batch_table
from lightreasoner.sampling.plan import Prompts, batches

HISTOGRAM_SECONDS = 2.0  # between two histogram events


OnStep = Callable[[int], None]  # told how many responses of the batch have ended
#: Missing batches (number, items) → (number, table) of each, in any order: `sampled`, called somewhere else.
Spread = Callable[[Iterable[tuple[int, list[Item]]]], Iterable[tuple[int, pa.Table]]]


@dataclass
class Tally:
    """What the dataset holds so far. `fresh` responses and `tokens` are those of this process."""

    samples_per_problem: int = 1
    responses: int = 0
    steps: int = 0
    above_beta: int = 0
    fresh: int = 0
    tokens: int = 0
    histogram: np.ndarray = field(default_factory=lambda: kl_histogram([]))  # over trajectories.KL_EDGES
    began: float = field(default_factory=time.monotonic)

    def add(self, table: pa.Table, fresh: bool) -> None:
        kl = table["kl"].combine_chunks().flatten().to_numpy()
        self.responses += len(table)
        self.steps += len(kl)
        self.above_beta += int((kl > BETA).sum())
        self.histogram = self.histogram + kl_histogram(kl)
        if fresh:
            self.fresh += len(table)
            self.tokens += len(kl)

    def recount(self, folder: Path) -> None:
        """Count all shards that are there, whether this process came to them or not."""
        self.responses = self.steps = self.above_beta = 0
        self.histogram = kl_histogram([])
        for path in shards(folder):
            self.add(read_shard(path, ["kl"]), fresh=False)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def numbers(self, in_flight: int = 0) -> dict[str, float]:
        """For progress events; one sample is one step above BETA. in_flight: responses that a batch has ended."""
        seconds = max(self.seconds(), 1e-9)
        return {
            "problems_per_second": round((self.fresh + in_flight) / self.samples_per_problem / seconds, 4),
            "tokens_per_second": round(self.tokens / seconds, 2),
            "steps": self.steps,
            "above_beta": self.above_beta,
            "samples": self.above_beta,
        }

    def result(self, folder: Path) -> dict[str, Any]:
        """The numbers of a finished run, or of one that was stopped early."""
        return {
            "problems": -(-self.responses // self.samples_per_problem),
            "responses": self.responses,
            "steps": self.steps,
            "above_beta": self.above_beta,
            "beta": BETA,
            "bytes": sum(path.stat().st_size for path in shards(folder)),
            "seconds": round(self.seconds(), 2),
        }


def sample(
    pair: Pair,
    prompts: Prompts,
    folder: Path,
    decoding: Decoding,
    *,
    batch_size: int,
    total: int,
    progress: Progress,
    tally: Tally,
    spread: Spread | None = None,
) -> None:
    """Sample what is not there yet; `tally` then holds what is.

    total: problems in the stream, readable or not. spread: what samples the batches that are missing, in any order, if
    not this process. Whatever ends it (a UserError, a full disk, what `progress.checkpoint` raises), the shards written
    before stand, and the next call goes on from there.
    """
    remove_leftovers(folder)
    going_on, told = bool(shards(folder)), 0.0
    progress.status("Reading what is there already" if going_on else "Sampling")

    def report(in_flight: int = 0) -> None:
        nonlocal told
        if time.monotonic() - told >= HISTOGRAM_SECONDS:
            told = time.monotonic()
            progress.event("histogram", counts=tally.histogram.tolist())
        whole = max((total - prompts.unreadable) * tally.samples_per_problem, tally.responses)
        progress.update(min(tally.responses + in_flight, whole), whole, **tally.numbers(in_flight))

    def missing() -> Iterator[tuple[int, list[Item]]]:
        """The batches that are not there; the others are counted as they are passed."""
        nonlocal going_on
        for batch, items in batches(prompts, batch_size, tally.samples_per_problem):
            progress.checkpoint()
            table = _present(folder, batch, items, progress)
            if table is not None:
                tally.add(table, fresh=False)
                report()
                continue
            if going_on:
                going_on, tally.began = False, time.monotonic()
                progress.status("Sampling")
            yield batch, items

    def on_step(ended: int) -> None:
        progress.checkpoint()
        report(ended)

    done = spread(missing()) if spread else _here(pair, missing(), decoding, progress, on_step, batch_size)
    for batch, table in done:
        write_shard(folder, shard_name(batch), table)
        tally.add(table, fresh=True)
        report()
        if spread:
            progress.checkpoint()
    report()
    progress.event("histogram", counts=tally.histogram.tolist())


def _here(
    pair: Pair,
    missing: Iterable[tuple[int, list[Item]]],
    decoding: Decoding,
    progress: Progress,
    on_step: OnStep,
    rows_at_once: int,
) -> Iterator[tuple[int, pa.Table]]:
    """Sample in this process, batch after batch."""
    for batch, items in missing:
        table, rows_at_once = sampled(pair, items, decoding, progress, on_step, rows_at_once)
        yield batch, table


def shard_name(batch: int) -> str:
    """The shard of a batch, without ending."""
    return f"{batch:06d}"


def _present(folder: Path, batch: int, items: list[Item], progress: Progress) -> pa.Table | None:
    """The batch's shard, or None where it is still to be sampled. A damaged one is put aside beside the dataset."""
    path = Path(folder) / FOLDER / f"{shard_name(batch)}.parquet"
    if not path.exists():
        return None
    try:
        table = read_shard(path)
    except UserError as error:
        aside = Path(folder) / f"{path.name}.corrupt"
        os.replace(path, aside)
        progress.event("corrupt", shard=path.name, message=str(error))
        return None
    held = list(zip(table["problem_id"].to_pylist(), table["sample"].to_pylist(), strict=True))
    if held != [(item.problem.id, item.sample) for item in items]:
        raise UserError(
            f"The shard {path} holds other problems than the source has at that place now; the source has changed. "
            "Start a new run in another folder."
        )
    return table


def sampled(
    pair: Pair, items: list[Item], decoding: Decoding, progress: Progress, on_step: OnStep, rows_at_once: int
) -> tuple[pa.Table, int]:
    """(the batch's table, how many rows fit at once). Where memory runs out, half of the rows are tried.

    Raises UserError when it runs out at a single row.
    """

    def attempt(rows: list[Item], before: int) -> pa.Table:
        return batch_table(pair, rows, respond(pair, rows, decoding, lambda ended: on_step(before + ended)))

    try:
        parts, rows_at_once = in_parts(items, rows_at_once, attempt, lambda rows: progress.event("halved", rows=rows))
    except NoRoom as full:
        raise UserError(
            f"The problem {items[full.row].problem.id} alone needs more memory than {pair.expert.device} has free; "
            "close what uses it, lower the token limit, or take a smaller pair. What was sampled before is kept."
        ) from None
    return pa.concat_tables(parts).combine_chunks(), rows_at_once
