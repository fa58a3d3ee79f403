"""The results of an evaluation, from its run folder: every model's answers, summaries and comparisons.

They can be read while the evaluation runs. Only what lists and sums need is held in memory; a whole row is read again
when a user opens it.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightreasoner.errors import UserError, first_line
from lightreasoner.scoring.significance import compare, wilson
from lightreasoner.storage.atomic import write_text

FOLDER, RESULTS = "answers", "results.json"
SCHEMA = pa.schema(
    [
        ("model", pa.string()),  # the variant's name
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("context", pa.string()),  # JSON of the turns before it; null where there are none
        ("answer", pa.string()),
        ("response_ids", pa.list_(pa.int32())),
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # "stop" or "length"
        ("extracted", pa.string()),  # the final answer found in the response; null where none was
        ("right", pa.bool_()),
        ("seconds", pa.float32()),  # of the batch, divided among its rows
    ]
)
SHOWN = ["problem_id", "question", "answer", "response_ids", "finish_reason", "extracted", "right", "seconds"]
QUESTION = 300  # characters of a question that a list needs


@dataclass(frozen=True)
class Variant:
    """A model that is evaluated: the base itself, or the base with an adapter."""

    name: str
    adapter: Path | None = None


@dataclass(frozen=True)
class Summary:
    """One model's results. Shares from 0 to 1, lengths in tokens."""

    name: str
    problems: int
    right: int
    pass_at_1: float
    low: float  # 95 % interval
    high: float
    extraction_failures: int
    truncations: int
    mean_length: float
    tokens_per_second: float
    seconds: float

    def as_json(self) -> dict:
        numbers = asdict(self)
        return numbers | {"interval": [numbers.pop("low"), numbers.pop("high")]}


class Answer(NamedTuple):
    """One model's answer to one problem."""

    question: str  # its beginning
    answer: str | None  # the reference answer
    extracted: str | None  # the model's; None where none was found
    right: bool
    finish_reason: str
    length: int  # tokens
    seconds: float
    path: Path  # the file that holds the whole row


class ResultsReader:
    """Reads the results in an evaluation's folder; `refresh` reads new shards."""

    def __init__(self, folder: Path, variants: list[Variant]):
        self.folder, self.variants = Path(folder), variants
        self.rows: list[dict[str, Answer]] = [{} for _ in variants]  # problem id → answer, one dict per variant
        self._read: set[str] = set()
        self._results: tuple[int, dict] | None = None

    @property
    def shards(self) -> int:
        return len(self._read)

    def refresh(self) -> None:
        """Raises UserError that names a damaged file."""
        for path in sorted((self.folder / FOLDER).glob("[0-9][0-9]-[0-9]*.parquet")):
            variant = int(path.name[:2])
            if path.name in self._read or variant >= len(self.variants):
                continue
            table = read_shard(path, SHOWN)
            lengths = pc.list_value_length(table["response_ids"]).to_pylist()
            for row, length in zip(table.drop(["response_ids"]).to_pylist(), lengths, strict=True):
                shown = (row[name] for name in ("answer", "extracted", "right", "finish_reason"))
                answer = Answer(row["question"][:QUESTION], *shown, length, row["seconds"], path)
                self.rows[variant][row["problem_id"]] = answer
            self._read.add(path.name)

    def summaries(self) -> list[Summary]:
        """One per model that has answered a problem."""
        answered = zip(self.variants, self.rows, strict=True)
        return [summarise(variant.name, rows.values()) for variant, rows in answered if rows]

    def results(self) -> dict[str, Any]:
        """{"models", "comparisons"} as in results.json, of the answers so far; a model without one is left out.

        Every later model is compared with the first, on the problems that both have answered.
        """
        if self._results is None or self._results[0] != self.shards:
            models = [summary.as_json() for summary in self.summaries()]
            self._results = self.shards, {"models": models, "comparisons": self._comparisons()}
        return self._results[1]

    def _comparisons(self) -> list[dict]:
        right = [{problem: row.right for problem, row in rows.items()} for rows in self.rows]
        comparisons = []
        for n, variant in enumerate(self.variants[1:], 1):
            if right[0].keys() & right[n].keys():
                found = compare(right[0], right[n])
                names = {"before": self.variants[0].name, "after": variant.name, "difference": found.difference}
                flips = {"gained": list(found.gained), "lost": list(found.lost)}
                comparisons.append(asdict(found) | names | flips)
        return comparisons

    def row(self, variant: int, problem_id: str) -> dict[str, Any]:
        """A whole row of SCHEMA. Raises UserError when there is none."""
        known = self.rows[variant].get(problem_id) if 0 <= variant < len(self.rows) else None
        if known is None:
            raise UserError("This evaluation has no such answer; choose one from its list.")
        return next(row for row in read_shard(known.path).to_pylist() if row["problem_id"] == problem_id)


def summarise(name: str, answers: Collection[Answer]) -> Summary:
    n, right = len(answers), sum(answer.right for answer in answers)
    tokens, seconds = sum(answer.length for answer in answers), sum(answer.seconds for answer in answers)
    return Summary(
        name,
        n,
        right,
        right / n,
        *wilson(right, n),
        extraction_failures=sum(answer.extracted is None for answer in answers),
        truncations=sum(answer.finish_reason == "length" for answer in answers),
        mean_length=tokens / n,
        tokens_per_second=tokens / max(seconds, 1e-9),
        seconds=seconds,
    )


def shard(folder: Path, variant: int, batch: int) -> Path:
    """The file of a batch's answers."""
    return folder / FOLDER / f"{variant:02d}-{batch:06d}.parquet"


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a file, or some of their columns. Raises UserError for a damaged file."""
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path.name} is damaged ({first_line(error)}); delete it and resume the evaluation.") from None


def read_rows(folder: Path, variant: int) -> list[dict]:
    """A variant's rows, one per problem. Raises UserError for a damaged file."""
    paths = sorted((folder / FOLDER).glob(f"{variant:02d}-[0-9]*.parquet"))
    return [row for path in paths for row in read_shard(path).to_pylist()]


def write_results(folder: Path, variants: list[Variant]) -> list[Summary]:
    """Write results.json: the last model's numbers, and "models" and "comparisons" of `ResultsReader.results`."""
    reader = ResultsReader(folder, variants)
    reader.refresh()
    results = reader.results()
    write_text(folder / RESULTS, json.dumps(results["models"][-1] | results, indent=1, ensure_ascii=False) + "\n")
    return reader.summaries()


def read_results(folder: Path) -> dict | None:
    """The content of results.json; None if the evaluation has not ended, or the file cannot be read."""
    try:
        found = json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(part), list) for part in ("models", "comparisons"))
    return found if whole else None


def variants_of(run: dict) -> list[Variant]:
    """The models of an evaluation, from its run.json."""
    adapters = [Path(place) for place in run["config"].get("adapters") or []]
    places = [None, *adapters] if run["config"].get("base", True) else adapters
    names = run["about"].get("models") or []
    return [Variant(str(names[n]) if n < len(names) else str(place), place) for n, place in enumerate(places)]
