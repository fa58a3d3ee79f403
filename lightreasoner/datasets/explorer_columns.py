"""ExplorerColumns: a dataset in memory for the explorer, about 80 bytes per step and the texts of the responses."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from lightreasoner.datasets.step_table import Details, read_details, read_steps
from lightreasoner.paper import ALPHA_FLOOR, TIE
from lightreasoner.scoring.candidates import by_expert, last_plausible, prefix_signals
from lightreasoner.scoring.measures import FLOAT_MEASURES

UNKNOWN = -1


@dataclass(frozen=True)
class Response:
    """One response of a dataset; its numbers are in row `row` of the file `shard`."""

    problem_id: str
    sample: int
    question: str
    answer: str | None
    text: str
    finish_reason: str | None  # None in an imported dataset
    shard: str
    row: int
    search_text: str  # question and text, casefolded


@dataclass(frozen=True)
class ExplorerColumns:
    """The steps of a dataset, or of one of its shards, as flat arrays."""

    responses: tuple[Response, ...]
    starts: np.ndarray  # (responses + 1,) where each response's steps begin
    values: dict[str, np.ndarray]  # FLOAT_MEASURES, (steps,) fp32 each, NaN where undefined
    index: np.ndarray  # (steps,) position in the response
    token_id: np.ndarray  # (steps,) the generated token; in an imported dataset the target's top-1 token
    agree: np.ndarray  # (steps,) int8: 1, 0, or UNKNOWN in an imported dataset
    category: np.ndarray  # (steps,) int8, an index into CATEGORIES
    detail: np.ndarray  # (steps,) index into the arrays below, or UNKNOWN for a step not stored in detail
    gap_starts: np.ndarray  # (details + 1,) where each one's gaps begin
    gaps: np.ndarray  # fp32 log-probability below the top-1 token's, of each plausible token at ALPHA_FLOOR
    logprobs: np.ndarray  # (2, gaps) fp32, the expert's and the amateur's; none in an imported dataset
    signals: np.ndarray  # (gaps,) fp32, `candidates.prefix_signals`; none in an imported dataset
    top1: np.ndarray  # (details, 2) the expert's and the amateur's top-1 token, or UNKNOWN
    texts: tuple[str, ...] | None = None  # of the tokens; imported datasets only
    before: tuple[str, ...] | None = None  # the text before each token; imported datasets only

    @property
    def steps(self) -> int:
        return len(self.index)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The numbers of each step that no α changes; see `table_with`."""
        return self.table_with({})

    def table_with(self, measures: dict[str, np.ndarray]) -> pd.DataFrame:
        """The numbers of each step, also these, in the arrays' memory; the index is the position among all steps."""
        more = {"index_in_response": self.index, "token_id": self.token_id, "agree": self.agree}
        more |= {"category": self.category, "detail": self.detail}
        return pd.DataFrame(self.values | more | measures, copy=False)

    @property
    def row(self) -> np.ndarray:
        """(steps,) the response of each step."""
        return np.repeat(np.arange(len(self.responses)), np.diff(self.starts))

    def teaching(self, alpha: float, cap: float | None = None) -> np.ndarray:
        """(steps,) the teaching signal in nats for any α from ALPHA_FLOOR up; NaN for a step not stored in detail, and
        in an imported dataset, which has targets only."""
        found, known = np.full(self.steps, np.nan, np.float32), self.detail >= 0
        if self.texts is None and known.any():
            all_signals = self.signals if cap is None else prefix_signals(*self.logprobs, self.gap_starts, cap)
            signals = all_signals[last_plausible(self.gaps, self.gap_starts, alpha)]
            found[known] = signals[self.detail[known]]
        return found

    def target_sizes(self, alpha: float) -> np.ndarray:
        """(details,) exact number of tokens in the plausible set, for any α from ALPHA_FLOOR up."""
        if not len(self.top1):
            return np.zeros(0, np.int64)
        return last_plausible(self.gaps, self.gap_starts, alpha) - self.gap_starts[:-1] + 1


def read_shard_columns(path: Path, categories: Callable[[np.ndarray], np.ndarray]) -> ExplorerColumns:
    """Read one shard. categories: token ids → categories, (steps,) each. Raises UserError for a damaged shard."""
    columns = ("problem_id", "sample", "question", "answer", "response", "finish_reason", "steps")
    table = read_steps(path, (*FLOAT_MEASURES, "agree", "response_ids"), columns)
    details = read_details(table, path)
    names = columns[:-1]
    lists = (table.table.column(name).to_pylist() for name in names)
    responses = tuple(
        Response(*values, path.name, row, _search_text(values[2], values[4]))
        for row, values in enumerate(zip(*lists, strict=True))
    )
    token_id = table.values["response_ids"].astype(np.int32)
    detail = np.full(len(token_id), UNKNOWN, np.int32)
    detail[details.step] = np.arange(len(details.step))
    plausible = _gaps(details)
    values = {name: table.values[name].astype(np.float32, copy=False) for name in FLOAT_MEASURES}
    agree = table.values["agree"].astype(np.int8)
    top1 = _top1(details)
    index = table.index.astype(np.int32)
    category = categories(token_id)
    return ExplorerColumns(responses, table.starts, values, index, token_id, agree, category, detail, *plausible, top1)


def _search_text(question: str, text: str) -> str:
    return f"{question}\n{text}".casefold()


def _gaps(details: Details) -> tuple[np.ndarray, ...]:
    """(gap_starts, gaps, logprobs, signals) of ExplorerColumns."""
    if not len(details.step):
        return np.zeros(1, np.int64), np.zeros(0, np.float32), np.zeros((2, 0), np.float32), np.zeros(0, np.float32)
    log_e, log_a, gaps = by_expert(details.expert_logprobs, details.amateur_logprobs, details.offsets)
    keep = gaps >= math.log(ALPHA_FLOOR) - TIE
    sizes = np.add.reduceat(keep.astype(np.int64), details.offsets[:-1])
    bounds, logprobs = np.concatenate([[0], np.cumsum(sizes)]), np.stack([log_e[keep], log_a[keep]])
    return bounds, gaps[keep], logprobs, prefix_signals(*logprobs, bounds)


def _top1(details: Details) -> np.ndarray:
    which = np.arange(len(details.step))
    if not len(which):
        return np.zeros((0, 2), np.int32)
    logprobs = (details.expert_logprobs, details.amateur_logprobs)
    best = [details.padded(column, which, -np.inf).argmax(1) for column in logprobs]
    return np.stack([details.ids[details.offsets[:-1] + position] for position in best], 1).astype(np.int32)


def imported_columns(table: pa.Table, category: Callable[[str], int]) -> ExplorerColumns:
    """Rows of an imported dataset, each as a response of one step. category: token text → category."""
    rows = table.to_pylist()
    top = [max(range(len(row["weights"])), key=row["weights"].__getitem__) for row in rows]
    texts = tuple(row["tokens"][i] for row, i in zip(rows, top, strict=True))
    responses = tuple(
        Response(
            *(row["problem_id"], row["sample"], row["question"], None, row["prefix"], None, "", n),
            _search_text(row["question"], row["prefix"]),
        )
        for n, row in enumerate(rows)
    )
    count, sizes = len(rows), [len(row["weights"]) for row in rows]
    gap_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    unknown = np.full(count, np.nan, np.float32)
    return ExplorerColumns(
        responses,
        np.arange(count + 1),
        dict.fromkeys(FLOAT_MEASURES, unknown) | {"kl": np.array([row["kl"] for row in rows], np.float64)},
        np.array([row["step"] for row in rows], np.int32),
        np.array([row["token_ids"][i] for row, i in zip(rows, top, strict=True)], np.int32),
        np.full(count, UNKNOWN, np.int8),
        np.array([category(text) for text in texts], np.int8),
        np.arange(count, dtype=np.int32),
        gap_starts,
        np.zeros(gap_starts[-1], np.float32),  # the targets are fixed: every token belongs to them at any α
        np.zeros((2, 0), np.float32),
        np.zeros(0, np.float32),
        np.full((count, 2), UNKNOWN, np.int32),
        texts,
        tuple(row["prefix"][-200:] for row in rows),
    )


def concatenate(parts: Iterable[ExplorerColumns]) -> ExplorerColumns:
    parts = list(parts)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def shifted(name: str) -> np.ndarray:  # bounds (n + 1,) of each part, counted on
        ends = np.cumsum([0, *(getattr(part, name)[-1] for part in parts)])
        return np.concatenate([[0], *(getattr(p, name)[1:] + end for p, end in zip(parts, ends, strict=False))])

    offsets = np.cumsum([0, *(len(part.top1) for part in parts)])
    detail = [np.where(p.detail >= 0, p.detail + offset, UNKNOWN) for p, offset in zip(parts, offsets, strict=False)]
    imported = parts[0].texts is not None
    return ExplorerColumns(
        tuple(response for part in parts for response in part.responses),
        shifted("starts").astype(np.int64),
        {name: np.concatenate([part.values[name] for part in parts]) for name in FLOAT_MEASURES},
        *(joined(name) for name in ("index", "token_id", "agree", "category")),
        np.concatenate(detail).astype(np.int32),
        shifted("gap_starts").astype(np.int64),
        joined("gaps"),
        np.concatenate([part.logprobs for part in parts], 1),
        joined("signals"),
        joined("top1"),
        tuple(text for part in parts for text in part.texts) if imported else None,
        tuple(text for part in parts for text in part.before) if imported else None,
    )


def no_columns() -> ExplorerColumns:
    none = np.zeros(0, np.int32)
    bounds = np.zeros(1, np.int64)
    values = {name: np.zeros(0, np.float32) for name in FLOAT_MEASURES}
    small = none.astype(np.int8)
    many = bounds, none, np.zeros((2, 0), np.float32), values["kl"], np.zeros((0, 2), np.int32)
    return ExplorerColumns((), bounds, values, none, none, small, small, none, *many)
