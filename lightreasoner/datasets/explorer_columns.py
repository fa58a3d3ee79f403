"""What the explorer keeps of a dataset in memory: some fifty bytes a step, and the texts of the responses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lightreasoner.datasets.step_table import Details, read_details, read_steps
from lightreasoner.paper import ALPHA_FLOOR, TIE
from lightreasoner.scoring.measures import FLOAT_MEASURES

UNKNOWN = -1


@dataclass(frozen=True)
class Response:
    """One row of a dataset without its numbers. `shard` and `place` say where these lie."""

    problem_id: str
    sample: int
    question: str
    answer: str | None
    text: str
    finish_reason: str | None  # None in an imported set
    shard: str
    place: int
    searched: str  # question and text, casefolded


@dataclass(frozen=True)
class Explored:
    """A dataset's steps, one after another; or those of one shard of it, with rows and details counted from 0."""

    responses: tuple[Response, ...]
    starts: np.ndarray  # (rows + 1,) where each response's steps begin
    values: dict[str, np.ndarray]  # FLOAT_MEASURES, (steps,) fp32 each, NaN where undefined
    index: np.ndarray  # (steps,) position in the response
    token_id: np.ndarray  # (steps,) the token taken; in an imported set the target's likeliest
    agree: np.ndarray  # (steps,) int8: 1, 0, or UNKNOWN in an imported set
    kind: np.ndarray  # (steps,) int8, an index into token_kinds.KINDS
    detail: np.ndarray  # (steps,) index into what follows, or UNKNOWN where no details were stored
    gap_starts: np.ndarray  # (details + 1,) where each one's gaps begin
    gaps: np.ndarray  # log-probability under the likeliest token's, of each plausible token at the α floor; fp32
    favourites: np.ndarray  # (details, 2) the expert's and the amateur's likeliest token, or UNKNOWN
    texts: tuple[str, ...] | None = None  # of the tokens, in an imported set only
    before: tuple[str, ...] | None = None  # what stood before each of them, in an imported set only

    @property
    def steps(self) -> int:
        return len(self.index)

    @property
    def row(self) -> np.ndarray:
        """(steps,) the response of each step."""
        return np.repeat(np.arange(len(self.responses)), np.diff(self.starts))

    def target_sizes(self, alpha: float) -> np.ndarray:
        """(details,) tokens in the plausible set at α, exactly, for any α from the floor up."""
        if not len(self.favourites):
            return np.zeros(0, np.int64)
        return np.add.reduceat((self.gaps >= math.log(alpha) - TIE).astype(np.int64), self.gap_starts[:-1])


def read_trajectories(path: Path, kinds: Callable[[np.ndarray], np.ndarray]) -> Explored:
    """One shard. kinds: token ids → kinds. Raises UserError naming a damaged one."""
    columns = ("problem_id", "sample", "question", "answer", "response", "finish_reason", "steps")
    table = read_steps(path, (*FLOAT_MEASURES, "agree", "response_ids"), columns)
    details = read_details(table, path)
    names = columns[:-1]
    lists = (table.table.column(name).to_pylist() for name in names)
    responses = tuple(
        Response(*row, path.name, place, _searched(row[2], row[4]))
        for place, row in enumerate(zip(*lists, strict=True))
    )
    token_id = table.values["response_ids"].astype(np.int32)
    detail = np.full(len(token_id), UNKNOWN, np.int32)
    detail[details.step] = np.arange(len(details.step))
    gap_starts, gaps = _gaps(details)
    values = {name: table.values[name].astype(np.float32, copy=False) for name in FLOAT_MEASURES}
    agree = table.values["agree"].astype(np.int8)
    favourites = _favourites(details)
    index = table.index.astype(np.int32)
    kind = kinds(token_id)
    return Explored(responses, table.starts, values, index, token_id, agree, kind, detail, gap_starts, gaps, favourites)


def _searched(question: str, text: str) -> str:
    return f"{question}\n{text}".casefold()


def _gaps(details: Details) -> tuple[np.ndarray, np.ndarray]:
    if not len(details.step):
        return np.zeros(1, np.int64), np.zeros(0, np.float32)
    starts, counts = details.offsets[:-1], np.diff(details.offsets)
    top = np.maximum.reduceat(details.expert_logprobs, starts)
    gaps = details.expert_logprobs - np.repeat(top, counts)
    keep = gaps >= math.log(ALPHA_FLOOR) - TIE
    sizes = np.add.reduceat(keep.astype(np.int64), starts)
    return np.concatenate([[0], np.cumsum(sizes)]), gaps[keep]


def _favourites(details: Details) -> np.ndarray:
    which = np.arange(len(details.step))
    if not len(which):
        return np.zeros((0, 2), np.int32)
    logprobs = (details.expert_logprobs, details.amateur_logprobs)
    best = [details.padded(column, which, -np.inf).argmax(1) for column in logprobs]
    return np.stack([details.ids[details.offsets[:-1] + place] for place in best], 1).astype(np.int32)


def read_imported_part(table: pa.Table, kind: Callable[[str], int]) -> Explored:
    """Rows of an imported set, each a response of one step. kind: token text → kind."""
    rows = table.to_pylist()
    likeliest = [max(range(len(row["weights"])), key=row["weights"].__getitem__) for row in rows]
    texts = tuple(row["tokens"][i] for row, i in zip(rows, likeliest, strict=True))
    responses = tuple(
        Response(
            *(row["problem_id"], row["sample"], row["question"], None, row["prefix"], None, "", place),
            _searched(row["question"], row["prefix"]),
        )
        for place, row in enumerate(rows)
    )
    count, sizes = len(rows), [len(row["weights"]) for row in rows]
    gap_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    unknown = np.full(count, np.nan, np.float32)
    return Explored(
        responses,
        np.arange(count + 1),
        dict.fromkeys(FLOAT_MEASURES, unknown) | {"kl": np.array([row["kl"] for row in rows], np.float64)},
        np.array([row["step"] for row in rows], np.int32),
        np.array([row["token_ids"][i] for row, i in zip(rows, likeliest, strict=True)], np.int32),
        np.full(count, UNKNOWN, np.int8),
        np.array([kind(text) for text in texts], np.int8),
        np.arange(count, dtype=np.int32),
        gap_starts,
        np.zeros(gap_starts[-1], np.float32),  # every token of a settled target belongs to it, whatever α
        np.full((count, 2), UNKNOWN, np.int32),
        texts,
        tuple(row["prefix"][-200:] for row in rows),
    )


def join(parts: Iterable[Explored]) -> Explored:
    """Several parts as one, in their order."""
    parts = list(parts)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def shifted(name: str) -> np.ndarray:  # bounds (n + 1,) of each part, run on
        ends = np.cumsum([0, *(getattr(part, name)[-1] for part in parts)])
        return np.concatenate([[0], *(getattr(p, name)[1:] + end for p, end in zip(parts, ends, strict=False))])

    offsets = np.cumsum([0, *(len(part.favourites) for part in parts)])
    detail = [np.where(p.detail >= 0, p.detail + offset, UNKNOWN) for p, offset in zip(parts, offsets, strict=False)]
    imported = parts[0].texts is not None
    return Explored(
        tuple(response for part in parts for response in part.responses),
        shifted("starts").astype(np.int64),
        {name: np.concatenate([part.values[name] for part in parts]) for name in FLOAT_MEASURES},
        *(joined(name) for name in ("index", "token_id", "agree", "kind")),
        np.concatenate(detail).astype(np.int32),
        shifted("gap_starts").astype(np.int64),
        joined("gaps"),
        joined("favourites"),
        tuple(text for part in parts for text in part.texts) if imported else None,
        tuple(text for part in parts for text in part.before) if imported else None,
    )


def nothing() -> Explored:
    """A dataset without a step yet."""
    none = np.zeros(0, np.int32)
    bounds = np.zeros(1, np.int64)
    values = {name: np.zeros(0, np.float32) for name in FLOAT_MEASURES}
    small = none.astype(np.int8)
    return Explored((), bounds, values, none, none, small, small, none, bounds, none, np.zeros((0, 2), np.int32))
