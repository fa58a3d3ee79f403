"""The results of an evaluation, from its run folder: every model's answers, summaries and comparisons.

They can be read while the evaluation runs. Only what lists and sums need is held in memory; a whole row is read again
when a user opens it.
"""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError, first_line
from lightreasoner.grading.grading import answer_key
from lightreasoner.scoring.significance import Estimate, compare, estimate, pass_at_k
from lightreasoner.storage.atomic import atomic_file, write_text
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
GROUPINGS = ("level", "subject")
UNGRADED = dict.fromkeys(("right", "pass_at_1", "low", "high"))  # of a Summary where no answers are known
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


@dataclass(frozen=True)
class Summary:
    """One model's results. Shares from 0 to 1, lengths in tokens."""

    name: str
    problems: int
    right: int | None  # None where no answers are known, like the next three
    pass_at_1: float | None
    low: float | None  # 95 % interval
    high: float | None
    extraction_failures: int
    truncations: int
    mean_length: float | None  # None for texts of which no tokens are known
    tokens_per_second: float | None  # None where other cells of a contrast's grid, or other software, wrote a part
    seconds: float
    by_hand: int = 0  # verdicts set by hand
    samples: int = 1  # responses per problem; with several, pass_at_1 is avg@k, and `right` counts problems by maj@k
    responses: int = 0  # of all problems, where they have several; extraction_failures and truncations are of these
    pass_at: dict[int, Estimate] = field(default_factory=dict)  # k → pass@k
    majority: Estimate | None = None  # maj@k
    groups: dict[str, list[dict]] = field(default_factory=dict)  # "level" and "subject" → results of each
    changed: float | None = None  # of a contrast: the share of tokens that are not the writer's own choice

    def as_json(self) -> dict:
        """As in results.json; what an evaluation lacks is left out."""
        numbers = asdict(self)
        optional = {"by_hand": 0, "samples": 1, "responses": 0, "pass_at": {}, "majority": None, "groups": {}}
        optional |= {"changed": None}
        numbers = {name: value for name, value in numbers.items() if optional.get(name, self) != value}
        if self.pass_at:
            numbers["pass_at"] = {str(k): asdict(found) for k, found in self.pass_at.items()}
        return numbers | {"interval": [numbers.pop("low"), numbers.pop("high")]}


class Answer(NamedTuple):
    """One model's answer to one problem."""

    question: str  # its beginning
    answer: str | None  # the reference answer
    extracted: str | None  # the model's; None where none was found
    right: bool | None  # None where no answer is known
    finish_reason: str | None
    length: int | None  # tokens
    seconds: float
    path: Path  # the file that holds the whole row
    sample: int = 0
    groups: tuple[str | None, ...] = (None, None)  # of GROUPINGS
    judged: bool | None = False  # the grader's verdict; `right` is another where it was set by hand
    by_hand: bool = False
    changed: int | None = None  # tokens, see SCHEMA
    decoded: int | None = None


class ResultsReader:
    """Reads the results in an evaluation's folder; `refresh` reads new shards."""

    def __init__(self, folder: Path, variants: list[Variant]):
        self.folder, self.variants = Path(folder), variants
        #: Problem id → its answer, one dict per variant. Of several responses one that gives the majority's answer.
        self.rows: list[dict[str, Answer]] = [{} for _ in variants]
        self.responses: list[dict[str, dict[int, Answer]]] = [{} for _ in variants]  # problem id → sample → answer
        self._read: dict[str, int] = {}  # file name → when it was written, in ns
        self._version = 0  # grows with everything that is read
        self._verdicts: tuple[int, dict[str, bool]] = 0, {}
        self._results: tuple[int, dict] | None = None

    @property
    def shards(self) -> int:
        return len(self._read)

    def refresh(self) -> None:
        """Raises UserError that names a damaged file."""
        written = _written(self.folder / VERDICTS)
        if written != self._verdicts[0]:
            self._verdicts = written, read_verdicts(self.folder)
            self._read.clear()  # a verdict may be on any of them
        if any(_written(self.folder / FOLDER / name) != written for name, written in self._read.items()):
            self.rows = [{} for _ in self.variants]  # what was deleted or replaced counts no more
            self.responses = [{} for _ in self.variants]
            self._read.clear()
            self._version += 1
        for path in sorted((self.folder / FOLDER).glob("[0-9][0-9]-[0-9]*.parquet")):
            variant, written = int(path.name[:2]), _written(path)
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


def summarise(name: str, problems: list[list[Answer]]) -> Summary:
    """problems: the responses to each, at least one."""
    answers = [answer for responses in problems for answer in responses]
    n, samples = len(answers), max(map(len, problems))
    tokens, seconds = sum(answer.length or 0 for answer in answers), sum(answer.seconds for answer in answers)
    decoded = sum((answer.length or 0) if answer.decoded is None else answer.decoded for answer in answers)
    changed = [answer.changed for answer in answers if answer.changed is not None]
    return Summary(
        name,
        len(problems),
        **_accuracy(problems) if all(answer.right is not None for answer in answers) else UNGRADED,
        by_hand=sum(answer.by_hand for answer in answers),
        samples=samples,
        responses=n if samples > 1 else 0,
        extraction_failures=sum(answer.extracted is None for answer in answers),
        truncations=sum(answer.finish_reason == "length" for answer in answers),
        mean_length=tokens / n if all(answer.length is not None for answer in answers) else None,
        tokens_per_second=tokens / seconds if decoded == tokens and seconds else None,
        seconds=seconds,
        changed=sum(changed) / max(1, tokens) if changed else None,
    )


def _accuracy(problems: list[list[Answer]]) -> dict[str, Any]:
    """The fields of a Summary that need known answers."""
    shares = [sum(answer.right for answer in responses) / len(responses) for responses in problems]
    voted = [responses[majority([answer.extracted for answer in responses])].right for responses in problems]
    average, found = estimate(shares), {"right": sum(voted), "groups": _groups(problems, shares)}
    found |= {"pass_at_1": average.value, "low": average.low, "high": average.high}
    if max(map(len, problems)) > 1:
        found |= {"pass_at": _pass_at(problems), "majority": estimate([float(right) for right in voted])}
    return found


def _pass_at(problems: list[list[Answer]]) -> dict[int, Estimate]:
    """pass@k for k = 1, 2, 4, … up to the responses that every problem has."""
    fewest = min(map(len, problems))
    sizes = sorted({fewest, *(2**n for n in range(fewest.bit_length()) if 2**n <= fewest)})
    right = [(len(responses), sum(answer.right for answer in responses)) for responses in problems]
    return {k: estimate([pass_at_k(n, c, k) for n, c in right]) for k in sizes}


def _groups(problems: list[list[Answer]], shares: list[float]) -> dict[str, list[dict]]:
    """Results by level and by subject, where at least two are named."""
    found: dict[str, list[dict]] = {}
    for place, grouping in enumerate(GROUPINGS):
        by_name: dict[str, list[float]] = {}
        for responses, share in zip(problems, shares, strict=True):
            if name := responses[0].groups[place]:
                by_name.setdefault(name, []).append(share)
        if len(by_name) > 1:
            found[grouping] = [
                {"name": name, "problems": len(of), "pass_at_1": (average := estimate(of)).value}
                | {"interval": [average.low, average.high]}
                for name, of in sorted(by_name.items(), key=lambda item: _in_order(item[0]))
            ]
    return found


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names with numbers by these: level 2 before level 10."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def majority(extracted: list[str | None]) -> int:
    """The place of the first response that gives the most frequent answer; of equally frequent ones the first.

    A response without an answer has no vote.
    """
    keys = [None if answer is None else answer_key(answer) for answer in extracted]
    votes = Counter(key for key in keys if key is not None)
    return keys.index(votes.most_common(1)[0][0]) if votes else 0


def verdict_key(variant: int, problem_id: str, sample: int = 0) -> str:
    """The name of a response in verdicts.json."""
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


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 without it."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def shard(folder: Path, variant: int, batch: int) -> Path:
    """The file of a batch's answers."""
    return folder / FOLDER / f"{variant:02d}-{batch:06d}.parquet"


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
    reader = ResultsReader(folder, variants)
    reader.refresh()
    results = reader.results()
    write_text(folder / RESULTS, json.dumps(results["models"][-1] | results, indent=1, ensure_ascii=False) + "\n")
    return reader.summaries()


def read_results(folder: Path) -> dict | None:
    """The content of results.json; None if the evaluation has not ended, or the file cannot be read."""
    try:
        found = json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
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
    """The models of an evaluation, from its run.json."""
    adapters = [Path(place) for place in run["config"].get("adapters") or []]
    places = [None, *adapters] if run["config"].get("base", True) else adapters
    names = run["about"].get("models") or []
    variants = [Variant(str(names[n]) if n < len(names) else str(place), place) for n, place in enumerate(places)]
    contrasts = [Contrast(**numbers) for numbers in run["config"].get("contrasts") or []]
    return variants + [Variant(contrast.title, contrast=contrast) for contrast in contrasts]
