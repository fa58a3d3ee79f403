"""The files of an evaluation: every model's answers, the verdicts set by hand, and results.json, which sums them up.

They can be read while the evaluation runs. Only what lists and sums need is held in memory; a whole row is read again
when a user opens it.
"""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError, first_line
from lightreasoner.evaluation.summaries import GROUPINGS, Answer, Summary, majority, summarise
from lightreasoner.grading.grading import Grade
from lightreasoner.problems.conversations import context_json
from lightreasoner.problems.rows import Problem
from lightreasoner.scoring.significance import compare
from lightreasoner.storage.atomic import atomic_file, read_json, stamp, write_json
from lightreasoner.storage.checksums import note_checksum, verify

FOLDER, RESULTS = "answers", "results.json"
VERDICTS = "verdicts.json"  # set by hand: {verdict_key: right}
SCHEMA = pa.schema(
    [
        ("model", pa.string()),  # the variant's name
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("context", pa.string()),  # JSON of the turns before it; null where there are none
        ("answer", pa.string()),
        ("response_ids", pa.list_(pa.int32())),  # null where other software wrote a text
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # "stop" or "length"; null where other software does not say
        ("extracted", pa.string()),  # the final answer found in the response; null where none was
        ("right", pa.bool_()),  # null where no answer is known: then it is so in all rows of the evaluation
        ("seconds", pa.float32()),  # of the batch, divided among its rows
        ("sample", pa.int32()),  # from 0, where a problem has several responses; null or absent in older files
        ("level", pa.string()),  # of the problem, where its source says; like the next
        ("subject", pa.string()),
        ("changed", pa.int32()),  # of a contrast: tokens that are not the writer's own choice; else null
        ("decoded", pa.int32()),  # of a contrast: tokens that no other cell of the grid had decoded; else null
    ]
)
REQUIRED = ("model", "problem_id", "answer", "response", "extracted", "right")  # in files of all versions
SHOWN = ["problem_id", "question", "answer", "response_ids", "finish_reason", "extracted", "right", "seconds"]
SHOWN += ["sample", "level", "subject", "changed", "decoded"]
QUESTION = 300  # characters of a question that a list needs


@dataclass(frozen=True)
class Variant:
    """A model that is evaluated: the base itself, the base with an adapter, or the base beside an amateur."""

    name: str
    adapter: Path | None = None
    contrast: Contrast | None = None

    @property
    def is_base(self) -> bool:
        return self.adapter is None and self.contrast is None


class ResultsReader:
    """Reads the results in an evaluation's folder; `refresh` reads new shards."""

    def __init__(self, folder: Path, variants: list[Variant]):
        self.folder, self.variants = Path(folder), variants
        #: Problem id → its answer, one dict per variant. Of several responses one that gives the majority's answer.
        self.rows: list[dict[str, Answer]] = [{} for _ in variants]
        self.responses: list[dict[str, dict[int, Answer]]] = [{} for _ in variants]  # problem id → sample → answer
        self._read: dict[str, tuple | None] = {}  # file name → its stamp
        self._version = 0  # grows with everything that is read
        self._verdicts: tuple[tuple | None, dict[str, bool]] = None, {}
        self._results: tuple[int, dict] | None = None

    @property
    def shards(self) -> int:
        return len(self._read)

    def refresh(self) -> None:
        """Raises UserError that names a damaged file."""
        written = stamp(self.folder / VERDICTS)
        if written != self._verdicts[0]:
            self._verdicts = written, read_verdicts(self.folder)
            self._read.clear()  # a verdict may be on any of them
        if any(stamp(self.folder / FOLDER / name) != written for name, written in self._read.items()):
            self.rows = [{} for _ in self.variants]  # what was deleted or replaced counts no more
            self.responses = [{} for _ in self.variants]
            self._read.clear()
            self._version += 1
        for path in sorted((self.folder / FOLDER).glob("[0-9][0-9]-[0-9]*.parquet")):
            variant, written = int(path.name[:2]), stamp(path)
            if self._read.get(path.name) == written or variant >= len(self.variants):
                continue
            table = read_shard(path, SHOWN)
            lengths = pc.list_value_length(table["response_ids"]).to_pylist()
            for row, length in zip(table.drop(["response_ids"]).to_pylist(), lengths, strict=True):
                self._add(variant, row, length, path)
            self._read[path.name] = written
            self._version += 1

    def _add(self, variant: int, row: dict, length: int, path: Path) -> None:
        sample, problem = row.get("sample") or 0, row["problem_id"]
        given = self._verdicts[1].get(verdict_key(variant, problem, sample))
        right = row["right"] if given is None else given
        shown = row["answer"], row["extracted"], right, row["finish_reason"]
        groups = tuple(row.get(name) for name in GROUPINGS)
        numbers = length, row["seconds"], path, sample, groups, row["right"], given is not None
        numbers += row.get("changed"), row.get("decoded")
        responses = self.responses[variant].setdefault(problem, {})
        responses[sample] = Answer(row["question"][:QUESTION], *shown, *numbers)
        in_order = [responses[n] for n in sorted(responses)]
        self.rows[variant][problem] = in_order[majority([answer.extracted for answer in in_order])]

    def summaries(self) -> list[Summary]:
        """One per model that has answered a problem."""
        answered = zip(self.variants, self.responses, strict=True)
        return [summarise(v.name, [list(found.values()) for found in rows.values()]) for v, rows in answered if rows]

    def results(self) -> dict[str, Any]:
        """{"models", "comparisons"} as in results.json, of the answers so far; a model without one is left out.

        Every later model is compared with the first, on the problems that both have answered; of several responses
        by the majority's answer.
        """
        if self._results is None or self._results[0] != self._version:
            models = [summary.as_json() for summary in self.summaries()]
            self._results = self._version, {"models": models, "comparisons": self._comparisons()}
        return self._results[1]

    def _comparisons(self) -> list[dict]:
        right = [{problem: row.right for problem, row in rows.items()} for rows in self.rows]
        comparisons = []
        for n, variant in enumerate(self.variants[1:], 1):
            if right[0].keys() & right[n].keys() and not {None} & {*right[0].values(), *right[n].values()}:
                found = compare(right[0], right[n])
                names = {"before": self.variants[0].name, "after": variant.name, "difference": found.difference}
                flips = {"gained": list(found.gained), "lost": list(found.lost)}
                comparisons.append(asdict(found) | names | flips)
        return comparisons

    def row(self, variant: int, problem_id: str, sample: int | None = None) -> dict[str, Any]:
        """A whole row of SCHEMA, with "judged" and "by_hand" as in Answer; by default the response that `rows` names.

        Raises UserError when there is none.
        """
        known = self.rows[variant].get(problem_id) if 0 <= variant < len(self.rows) else None
        if known is not None and sample is not None:
            known = self.responses[variant][problem_id].get(sample)
        if known is None:
            raise UserError("This evaluation has no such answer; choose one from its list.")
        at = (problem_id, known.sample)
        rows = read_shard(known.path).to_pylist()
        row = next((row for row in rows if (row["problem_id"], row.get("sample") or 0) == at), None)
        if row is None:
            raise UserError(f"{known.path.name} was changed while it was shown; reload the page.")
        return row | {"right": known.right, "judged": known.judged, "by_hand": known.by_hand}


def open_results(folder: Path, variants: list[Variant]) -> ResultsReader:
    """The results so far. Raises UserError that names a damaged file."""
    reader = ResultsReader(folder, variants)
    reader.refresh()
    return reader


def verdict_key(variant: int, problem_id: str, sample: int = 0) -> str:
    return f"{variant}/{sample}/{problem_id}"


def read_verdicts(folder: Path) -> dict[str, bool]:
    """The verdicts set by hand. Raises UserError for a damaged file."""
    try:
        found = json.loads((folder / VERDICTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, bool) for value in found.values()):
        raise UserError(
            f"{VERDICTS}, with the verdicts set by hand, is damaged; restore it, or delete it to lose them."
        )
    return found


def shard(folder: Path, variant: int, batch: int) -> Path:
    return folder / FOLDER / f"{variant:02d}-{batch:06d}.parquet"


def answer_row(model: str, problem: Problem, graded: Grade, **response: Any) -> dict[str, Any]:
    """A row of SCHEMA. response: its columns that depend on the response and not on the grade."""
    row = {
        "model": model,
        "problem_id": problem.id,
        "question": problem.question,
        "context": context_json(problem.context),
        "answer": problem.answer or None,
        "extracted": graded.extracted,
        "right": graded.right,
        "level": problem.level,
        "subject": problem.subject,
    }
    return row | response


def write_shard(path: Path, table: pa.Table) -> None:
    """Write a file of answers with its checksum. Raises UserError."""
    with atomic_file(path, before=partial(note_checksum, path)) as file:
        pq.write_table(table, file, compression="zstd")


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a file, or some of their columns. Raises UserError for a damaged file."""
    try:
        verify(path)
        schema = pq.read_schema(path)
        if wrong := next((name for name in REQUIRED if not _fits(name, schema)), None):
            raise ValueError(f"its column {wrong} is missing or of another type")
        return pq.read_table(path, columns=columns and [name for name in columns if name in schema.names])
    except FileNotFoundError:
        raise UserError(f"{path.name} was deleted; resume the evaluation to solve its problems again.") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path.name} is damaged ({first_line(error)}); delete it and resume the evaluation.") from None


def _fits(name: str, schema: pa.Schema) -> bool:
    """Whether a file of answers has a column of SCHEMA, or one of nulls in its place."""
    return name in schema.names and schema.field(name).type in (SCHEMA.field(name).type, pa.null(), pa.large_string())


def read_rows(folder: Path, variant: int) -> list[dict]:
    """A variant's rows, one per problem. Raises UserError for a damaged file."""
    paths = sorted((folder / FOLDER).glob(f"{variant:02d}-[0-9]*.parquet"))
    return [row for path in paths for row in read_shard(path).to_pylist()]


def write_results(folder: Path, variants: list[Variant]) -> list[Summary]:
    """Write results.json: the last model's numbers, and "models" and "comparisons" of `ResultsReader.results`."""
    reader = open_results(folder, variants)
    results = reader.results()
    write_json(folder / RESULTS, results["models"][-1] | results)
    return reader.summaries()


def read_results(folder: Path) -> dict | None:
    """The content of results.json; None if the evaluation has not ended, or the file cannot be read."""
    found = read_json(Path(folder) / RESULTS)
    whole = isinstance(found, dict) and all(isinstance(found.get(part), list) for part in ("models", "comparisons"))
    return found if whole and all(map(_is_summary, found["models"] + found["comparisons"])) else None


def _is_summary(part: object) -> bool:
    """Whether a model or a comparison of results.json has names and numbers where they belong."""
    names, numbers = ("name", "before", "after"), ("pass_at_1", "right", "problems")
    return (
        isinstance(part, dict)
        and all(isinstance(part.get(name), str | None) for name in names)
        and all(isinstance(part.get(name), int | float | None) for name in numbers)
    )


def variants_of(run: dict) -> list[Variant]:
    adapters = [Path(place) for place in run["config"].get("adapters") or []]
    places = [None, *adapters] if run["config"].get("base", True) else adapters
    names = run["about"].get("models") or []
    variants = [Variant(str(names[n]) if n < len(names) else str(place), place) for n, place in enumerate(places)]
    contrasts = [Contrast(**numbers) for numbers in run["config"].get("contrasts") or []]
    return variants + [Variant(contrast.title, contrast=contrast) for contrast in contrasts]
