"""A shard of trajectories as flat arrays: one number per step, over all responses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightreasoner.datasets.trajectories import COMPARED, read_shard
from lightreasoner.errors import UserError
from lightreasoner.scoring.candidates import teaching_signals


@dataclass(frozen=True)
class Details:
    """The steps of a shard that were stored in detail, in order: flat candidates with fp32 log-probabilities."""

    step: np.ndarray  # (details,) position among all steps of the shard
    offsets: np.ndarray  # (details + 1,) start of each one's candidates
    ids: np.ndarray  # (candidates,)
    expert_logprobs: np.ndarray  # (candidates,)
    amateur_logprobs: np.ndarray  # (candidates,)

    def teaching(self, alpha: float, steps: int, cap: float | None = None) -> np.ndarray:
        """(steps,) the teaching signal in nats at an α and a cap on the log ratio, NaN where a step of the shard was
        not stored in detail."""
        found = np.full(steps, np.nan, np.float32)
        found[self.step] = teaching_signals(self.expert_logprobs, self.amateur_logprobs, self.offsets, alpha, cap)
        return found

    def padded(self, column: np.ndarray, which: np.ndarray, fill: float) -> np.ndarray:
        """A column of candidates as a matrix (which, most candidates); shorter rows are padded with `fill`."""
        starts, counts = self.offsets[:-1][which], np.diff(self.offsets)[which]
        position = np.arange(counts.max(initial=1))
        inside = position < counts[:, None]
        matrix = np.full(inside.shape, fill, column.dtype)
        matrix[inside] = column[(starts[:, None] + position)[inside]]
        return matrix


@dataclass(frozen=True)
class StepTable:
    """Columns of one shard. `starts` (rows + 1,): where each row's steps begin among the steps of the shard."""

    table: pa.Table
    starts: np.ndarray
    values: dict[str, np.ndarray]  # list column → (steps,); NaN where a measure is undefined

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def row(self) -> np.ndarray:
        """(steps,) the row of each step."""
        return np.repeat(np.arange(self.rows), np.diff(self.starts))

    @property
    def index(self) -> np.ndarray:
        """(steps,) each step's position in its response, from 0."""
        return np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], np.diff(self.starts))

    def details(self) -> Details:
        """The column `steps`. Raises UserError where it does not fit the other columns."""
        steps = self.table.column("steps").combine_chunks()
        counts = _lengths(steps)
        flat = steps.flatten()
        index = _numpy(flat.field("index"))
        row = np.repeat(np.arange(self.rows), counts)
        lists = [flat.field(name) for name in ("ids", "expert_logprobs", "amateur_logprobs")]
        sizes = [_lengths(column) for column in lists]
        valid = (index >= 0).all() and (index < np.diff(self.starts)[row]).all() and (sizes[0] > 0).all()
        if not valid or not all((size == sizes[0]).all() for size in sizes):
            raise UserError("the stored details do not fit the steps")
        ids, *logprobs = (_numpy(column.flatten()) for column in lists)
        logprobs = [np.where(np.isnan(column), -np.inf, column) for column in logprobs]
        return Details(self.starts[row] + index, np.concatenate([[0], np.cumsum(sizes[0])]), ids, *logprobs)


def read_steps(path: Path, measures: tuple[str, ...], others: tuple[str, ...] = ()) -> StepTable:
    """Columns of a shard; `measures` (one value per step) are read flat. Raises UserError for a damaged shard."""
    table = read_shard(path, [*measures, *others])
    lengths, values = None, {}
    for name in measures:
        column = table.column(name).combine_chunks()
        measured = _lengths(column)
        lengths = measured if lengths is None else lengths
        if not (measured == lengths).all():
            raise UserError(f"The shard {path} is damaged: its measures differ in length. Sample its batch again.")
        values[name] = _numpy(column.flatten())
    return StepTable(table, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), values)


def compared_share(paths: Iterable[Path]) -> float | None:
    """The mean share of the expert's probability that was compared at the steps of shards of a pair across tokenizers;
    None without steps. Raises UserError for a damaged shard."""
    found = [read_steps(path, (COMPARED.name,)).values[COMPARED.name] for path in paths]
    shares = np.concatenate(found) if found else np.zeros(0)
    return float(shares.mean(dtype=np.float64)) if len(shares) else None


def read_details(table: StepTable, path: Path) -> Details:
    """See StepTable.details. Raises UserError naming the shard."""
    try:
        return table.details()
    except UserError as error:
        raise UserError(f"The shard {path} is damaged: {error}. Sample its batch again.") from None


def _lengths(lists: pa.ListArray) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _numpy(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)  # null becomes NaN
