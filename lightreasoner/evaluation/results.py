"""Results of an evaluation, read shard by shard while it runs.

Memory holds only the columns of the list; a whole row is read again when the user opens it.
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
QUESTION = 300  # characters of a question in the list


class Answer(NamedTuple):
    """The columns of a row that lists and summaries need."""

    question: str  # the first QUESTION characters
    answer: str | None  # known
    extracted: str | None  # from the response; None without one
    right: bool
    finish_reason: str
    length: int  # tokens
    seconds: float
    path: Path  # shard that holds the row


class ResultsReader:
    """Reads the results in one evaluation's folder; `refresh` reads new shards."""

    def __init__(self, folder: Path, variants: list[Variant]):
        self.folder, self.variants = Path(folder), variants
        self.rows: list[dict[str, Answer]] = [{} for _ in variants]  # per variant: problem id → answer
        self._read: set[str] = set()
        self._results: tuple[int, dict] | None = None

    @property
    def shards(self) -> int:
        return len(self._read)

    def refresh(self) -> None:
        """Read new shards. Raises UserError that names a damaged one."""
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
        """{"models", "comparisons"} as in results.json, of the rows read so far. Variants without a row are left out.

        Each later variant is compared with the first on the problems that both have answered.
        """
        if self._results is None or self._results[0] != self.shards:
            self._results = self.shards, self._summed()
        return self._results[1]

    def _summed(self) -> dict[str, Any]:
        started = [n for n, rows in enumerate(self.rows) if rows]
        models = [as_json(summarise(self.variants[n].name, summary_rows(self.rows[n]))) for n in started]
        right = [{problem: row.right for problem, row in rows.items()} for rows in self.rows]
        comparisons = []
        for n in started:
            if n and right[0].keys() & right[n].keys():
                found = compare(right[0], right[n])
                numbers = {name: getattr(found, name) for name in ("difference", "low", "high", "p", "problems")}
                flips = {"gained": list(found.gained), "lost": list(found.lost)}
                comparisons.append({"before": self.variants[0].name, "after": self.variants[n].name} | numbers | flips)
        return {"models": models, "comparisons": comparisons}

    def row(self, variant: int, problem_id: str) -> dict[str, Any]:
        """A whole row, as in evaluate.SCHEMA. Raises UserError when there is none."""
        known = self.rows[variant].get(problem_id) if 0 <= variant < len(self.rows) else None
        if known is None:
            raise UserError("This evaluation has no such answer; choose one from its list.")
        return next(row for row in read(known.path, None).to_pylist() if row["problem_id"] == problem_id)


def summary_rows(rows: dict[str, Answer]) -> list[dict]:
    """Rows for `summarise`, with as many placeholder ids as the response has tokens."""
    return [row._asdict() | {"response_ids": range(row.length)} for row in rows.values()]


def read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise UserError(f"{path.name} is damaged ({reason}); delete it and resume the evaluation.") from None


def variants_of(run: dict) -> list[Variant]:
    """The variants of an evaluation, from its record."""
    adapters = [Path(place) for place in run["config"].get("adapters") or []]
    places = [None, *adapters] if run["config"].get("base", True) else adapters
    names = run["about"].get("models") or []
    return [Variant(str(names[n]) if n < len(names) else str(place), place) for n, place in enumerate(places)]


def read_results(folder: Path) -> dict | None:
    """results.json of a finished evaluation; None when it does not exist or cannot be read."""
    try:
        found = json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(part), list) for part in ("models", "comparisons"))
    return found if whole else None
