"""What an evaluation has found so far: read shard by shard while it grows, each shard once.

Summaries and comparisons are the engine's own, over the rows that are there; of the rows only what a list shows is kept
in memory, and a whole row is read again when somebody opens it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightreasoner.errors import UserError
from lightreasoner.evaluation.evaluate import FOLDER, RESULTS, Variant, as_json, summarise
from lightreasoner.scoring.significance import compare

SHOWN = ["problem_id", "question", "answer", "response_ids", "finish_reason", "extracted", "right", "seconds"]
QUESTION = 300  # characters of a question that a list needs


class Answer(NamedTuple):
    """One problem and model, as far as lists and sums need it."""

    question: str  # its beginning
    answer: str | None  # the known one
    extracted: str | None  # the model's; None where none was found
    right: bool
    finish_reason: str
    length: int  # tokens
    seconds: float
    path: Path  # the shard it stands in


class Answers:
    """The answers of one evaluation's folder; `refresh` reads what came since."""

    def __init__(self, folder: Path, variants: list[Variant]):
        self.folder, self.variants = Path(folder), variants
        self.rows: list[dict[str, Answer]] = [{} for _ in variants]  # problem id → answer, a dict a variant
        self._read: set[str] = set()
        self._results: tuple[int, dict] | None = None

    @property
    def shards(self) -> int:
        return len(self._read)

    def refresh(self) -> None:
        """Raises UserError naming a damaged shard."""
        for path in sorted((self.folder / FOLDER).glob("[0-9][0-9]-[0-9]*.parquet")):
            variant = int(path.name[:2])
            if path.name in self._read or variant >= len(self.variants):
                continue
            table = read(path, SHOWN)
            lengths = pc.list_value_length(table["response_ids"]).to_pylist()
            for row, length in zip(table.drop(["response_ids"]).to_pylist(), lengths, strict=True):
                question = row["question"][:QUESTION]
                kept = (row[name] for name in ("answer", "extracted", "right", "finish_reason"))
                self.rows[variant][row["problem_id"]] = Answer(question, *kept, length, row["seconds"], path)
            self._read.add(path.name)

    def results(self) -> dict[str, Any]:
        """{"models", "comparisons"} as in results.json, over what is there by now; a model without a row is left out.

        Every later model is compared with the first, on the problems that both have answered.
        """
        if self._results is None or self._results[0] != self.shards:
            self._results = self.shards, self._summed()
        return self._results[1]

    def _summed(self) -> dict[str, Any]:
        there = [n for n, rows in enumerate(self.rows) if rows]
        models = [as_json(summarise(self.variants[n].name, plain(self.rows[n]))) for n in there]
        right = [{problem: row.right for problem, row in rows.items()} for rows in self.rows]
        comparisons = []
        for n in there:
            if n and right[0].keys() & right[n].keys():
                found = compare(right[0], right[n])
                said = {name: getattr(found, name) for name in ("difference", "low", "high", "p", "problems")}
                flips = {"gained": list(found.gained), "lost": list(found.lost)}
                comparisons.append({"before": self.variants[0].name, "after": self.variants[n].name} | said | flips)
        return {"models": models, "comparisons": comparisons}

    def row(self, variant: int, problem_id: str) -> dict[str, Any]:
        """A whole row (evaluation.SCHEMA). Raises UserError when there is none."""
        known = self.rows[variant].get(problem_id) if 0 <= variant < len(self.rows) else None
        if known is None:
            raise UserError("This evaluation has no such answer; pick one of its list.")
        return next(row for row in read(known.path, None).to_pylist() if row["problem_id"] == problem_id)


def plain(rows: dict[str, Answer]) -> list[dict]:
    """Rows as `summarise` takes them; of the ids it wants nothing but how many there are."""
    return [row._asdict() | {"response_ids": range(row.length)} for row in rows.values()]


def read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise UserError(f"{path.name} is damaged ({reason}); delete it and resume the evaluation.") from None


def variants_of(run: dict) -> list[Variant]:
    """The models of an evaluation, from its run.json."""
    adapters = [Path(place) for place in run["config"].get("adapters") or []]
    places = [None, *adapters] if run["config"].get("base", True) else adapters
    names = run["about"].get("models") or []
    return [Variant(str(names[n]) if n < len(names) else str(place), place) for n, place in enumerate(places)]


def read_results(folder: Path) -> dict | None:
    """results.json of an evaluation that has ended; None while there is none, or if it cannot be read."""
    try:
        found = json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(part), list) for part in ("models", "comparisons"))
    return found if whole else None
