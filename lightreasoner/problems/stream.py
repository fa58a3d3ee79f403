"""Reads problems from a source: a bundled set, a benchmark on the Hugging Face Hub, or a user's file."""

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.formatting import plural
from lightreasoner.problems.cells import UnusableRow
from lightreasoner.problems.files import STRIDE, Row, file_kind, file_rows, stamp
from lightreasoner.problems.multiple_choice import MEANINGS, digit_meanings
from lightreasoner.problems.row_index import INDEXED, row_index
from lightreasoner.problems.rows import Problem, read_row
from lightreasoner.problems.sources import SOURCES, hub_rows
from lightreasoner.settings import ASSETS, Settings

MAX_ROWS = 2_000_000  # at 0.4 kB of memory each
MAX_WHOLE = 200_000  # rows of a source that can only be read whole
FIRST = 10_000  # rows of a large file that the page reads, in half a second; it indexes the others
MAX_BYTES = 1_000_000_000  # of a file named in a terminal; uploads have a limit of their own
MAX_CHARS = Settings.max_problem_chars
SHOWN = 3  # rows that cannot be read, in a sentence


@dataclass(frozen=True)
class Unread:
    """The rows of a large file after the first, each of which can be read alone. `count` of them are left."""

    path: Path
    after: int  # rows that were read
    count: int
    limits: dict  # max_bytes and max_chars

    def problem(self, n: int) -> Problem:
        """The n-th unread row, from 0. Its id may not be the one that reading all rows before it would give.

        Raises UserError with the row's number where it cannot be read, or the file has changed.
        """
        limits = dict(self.limits)
        index = row_index(self.path, max_bytes=limits.pop("max_bytes"))
        rows = index and itertools.islice(index.rows_from(self.after + n), 1)
        return next(iter(_file_stream(self.path, self.limits["max_bytes"], limits, rows or ())))


@dataclass(frozen=True)
class ProblemSet:
    """All problems of a source, or of its first rows where `unread` says so, and how they were read.

    `columns` maps question, answer, solution and id to their columns. `skipped` has (number, reason) for each row that
    is no problem; the number is the line of the file, or the row counted from 1.
    """

    title: str
    problems: list[Problem]
    columns: dict[str, str]
    skipped: list[tuple[int, str]]
    unit: str = "row"  # what the numbers count: "line" or "row"
    unread: Unread | None = None

    @property
    def rows(self) -> int:
        """The rows of the source, with those that are no problem."""
        return len(self.problems) + len(self.skipped) + (self.unread.count if self.unread else 0)

    def unreadable(self) -> str:
        """A sentence on the skipped rows with the first reasons; "" if none was skipped."""
        title = f"the first {self.unread.after:,} rows of {self.title}" if self.unread else self.title
        return unreadable_rows(title, self.skipped, self.unit)


class ProblemStream:
    """Problems one at a time, in constant memory. It can be iterated once.

    `count` problems were read so far; `columns` and `skipped` are as in ProblemSet. With `distinct`, repeated questions
    are left out and counted in `duplicates`.

    Iterating raises UserError for too many rows, and at the end if no row was a problem, or if a row could not be read
    and `skip_unreadable` is False.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        meanings: Callable[[], frozenset] = lambda: MEANINGS,  # how the file counts its choices
        title: str,
        unit: str = "row",
        limit: int | None = None,
        max_rows: int = MAX_ROWS,
        max_chars: int = MAX_CHARS,
        distinct: bool = False,
        skip_unreadable: bool = True,
        first: int | None = None,  # read no more rows than these
    ):
        if limit is not None and limit < 1:
            raise UserError(f"The number of problems is {limit}; it must be at least 1.")
        self.title, self.columns, self.skipped, self.count, self.duplicates = title, {}, [], 0, 0
        self._rows, self.unit, self._limit, self._distinct = rows, unit, limit, distinct
        self._max_rows, self._max_chars = max_rows, max_chars
        self._meanings, self._skip_unreadable = functools.cache(meanings), skip_unreadable
        self._first = first
        self.row = -1  # of the problem that was yielded last, from 0
        self.reader: Callable[[], Callable[[int], Problem] | None] = lambda: None  # see _row_reader

    def __iter__(self) -> Iterator[Problem]:
        """Ids depend only on the rows before, never on the limit, so a larger limit keeps the first problems' ids."""
        taken: set[str] = set()
        asked: set[bytes] = set()
        for count, (number, row) in enumerate(itertools.islice(self._rows, self._first), 1):
            if count > self._max_rows:
                raise too_many_rows(self.title, self._max_rows)
            try:
                if isinstance(row, str):
                    raise UnusableRow(row)
                problem, used = read_row(row, max_chars=self._max_chars, meanings=self._meanings)
            except UnusableRow as reason:
                self.skipped.append((number, str(reason)))
                continue
            problem = replace(problem, id=unused_id(problem, taken))
            taken.add(problem.id)
            if self._distinct:
                if (key := digest(asked_text(problem))) in asked:
                    self.duplicates += 1
                    continue
                asked.add(key)
            for role, name in used.items():
                self.columns.setdefault(role, name)  # the first row that has it
            self.count, self.row = self.count + 1, count - 1
            yield problem
            if self.count == self._limit:
                break
        if not self.count:
            if not self.skipped:
                raise UserError(f"{self.title} holds no rows; it must hold at least one problem.")
            (number, reason), count = self.skipped[0], len(self.skipped)
            which = f"first {count:,} rows" if count == self._first else f"{count:,} rows"
            sentence = f"None of the {which} of {self.title} is a problem; {self.unit} {number}: {reason}."
            naming = " Say which column it is: on the page below the file, or by the command name-columns."
            raise UserError(sentence + (naming if "no column for the question" in reason else ""))
        if self.skipped and not self._skip_unreadable:
            read = self.count + self.duplicates + len(self.skipped)
            part = f"the first {read:,} rows of {self.title}" if read == self._first else self.title
            sentence = unreadable_rows(part, self.skipped, self.unit)
            raise UserError(
                f"{sentence} Correct the file, or say that the other {self.count:,} rows are to be used: "
                "--skip-unreadable, on the page the box under the file."
            )

    def read_all(self) -> ProblemSet:
        return ProblemSet(self.title, list(self), self.columns, self.skipped, self.unit)


def too_many_rows(title: str, most: int) -> UserError:
    return UserError(f"{title} has more than {most:,} rows; set a limit or load a part of it.")


def unreadable_rows(title: str, skipped: list[tuple[int, str]], unit: str) -> str:
    """A sentence on the rows of a file that cannot be read, with the first reasons; "" if there are none."""
    return left_out(title, len(skipped), "read without guessing", skipped, unit) if skipped else ""


def left_out(title: str, count: int, purpose: str, reasons: list[tuple[int, str]], unit: str) -> str:
    """A sentence on `count` rows that cannot be used for a purpose. reasons: (number, reason) of the first of them."""
    shown = "; ".join(f"{unit} {number}: {reason}" for number, reason in reasons[:SHOWN])
    rows = plural(count, "row")
    return f"{rows} of {title} cannot be {purpose}: {shown}{'; …' if count > SHOWN else ''}."


def open_problems(source: str, *, split: str | None = None, max_bytes: int = MAX_BYTES, **limits: Any) -> ProblemStream:
    """The problems of a key of SOURCES, or of the file at a path.

    split: of a benchmark ("train+test" joins two; None: the first of Source.splits). limits: limit, max_rows,
    max_chars, distinct and, for files, skip_unreadable of ProblemStream. A path is opened as given, so text from
    visitors must be checked first to be a key or an uploaded file. Raises UserError.
    """
    source = str(source).strip()
    known = SOURCES.get(source)
    if known is None:
        path = _existing(source)
        if split is not None:
            raise UserError(f"{path.name[:80]} is a file and has no split {split!r}; leave the split out.")
        return _file_stream(path, max_bytes, limits)
    limits.pop("skip_unreadable", None)  # what a benchmark has that cannot be graded is known
    split = split or known.splits[0]
    if not set(split.split("+")) <= set(known.splits):
        raise UserError(f"{known.title} has no split {split!r}; it has {' and '.join(known.splits)}.")
    if known.repo is None:
        _, rows = file_rows(ASSETS / "problems" / f"{split}.jsonl", max_bytes=MAX_BYTES)
        return ProblemStream(rows, title=known.title, **limits)
    return ProblemStream(hub_rows(known, split), title=f"{known.title}, {split}", **limits)


def training_split(source: str) -> str | None:
    """The split for building datasets: "train" if there is one, else the first. None for a file."""
    known = SOURCES.get(str(source).strip())
    return None if known is None else "train" if "train" in known.splits else known.splits[0]


def source_fingerprint(source: str) -> str | None:
    """A hash of the content of a user's file; None for a key of SOURCES."""
    source = str(source).strip()
    return None if source in SOURCES else file_fingerprint(_existing(source))


def file_fingerprint(path: Path) -> str:
    """A hash of a file's content. Raises UserError."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{str(path)[:80]} is not a regular file; name a file.")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is invalid"
        raise UserError(f"{str(path)[:80]} cannot be read: {reason}. Check the path and its permissions.") from None


def _existing(source: str) -> Path:
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(source).expanduser()
        if source and path.exists():
            return path
    keys = ", ".join(SOURCES)
    raise UserError(f"{source[:80]!r} is neither a problem source ({keys}) nor an existing file; name one of them.")


def load_problems(source: str, **options: Any) -> ProblemSet:
    """All problems of a source, or the first `limit`. Arguments and errors are those of `open_problems`."""
    return open_problems(source, **options).read_all()


def load_file(path: Path, *, max_bytes: int = MAX_BYTES, **limits: Any) -> ProblemSet:
    """The problems of a JSON lines, JSON, CSV or Parquet file. Raises UserError when it contains none."""
    return _file_stream(Path(path), max_bytes, limits).read_all()


def load_first(path: Path, *, max_bytes: int = MAX_BYTES, first: int = FIRST, **limits: Any) -> ProblemSet:
    """As `load_file`, but only the first rows of a file of which the others can be read one at a time."""
    index = row_index(path, max_bytes=max_bytes)
    if index is None or index.count <= first:
        return load_file(path, max_bytes=max_bytes, **limits)
    found = load_file(path, max_bytes=max_bytes, first=first, **limits)
    kept = {"max_bytes": max_bytes} | {name: limits[name] for name in ("max_chars",) if name in limits}
    return replace(found, unread=Unread(path, first, index.count - first, kept))


def _file_stream(path: Path, max_bytes: int, limits: dict, rows: Iterable[Row] | None = None) -> ProblemStream:
    unit, all_rows = file_rows(path, max_bytes=max_bytes)
    most, limit = limits.get("max_rows", MAX_ROWS), limits.get("limit") or MAX_ROWS + 1
    if rows is None and limit > most and not limits.get("first"):
        index = row_index(path, max_bytes=max_bytes)
        if index and index.count > most:  # said at once, not after the rows that are allowed
            raise too_many_rows(path.name, most)
    if file_kind(path, max_bytes=max_bytes) not in INDEXED:
        limits = limits | {"max_rows": min(most, MAX_WHOLE)}
    rows = all_rows if rows is None else rows
    meanings = functools.partial(_meanings, path.absolute(), max_bytes, *stamp(path))
    stream = ProblemStream(rows, meanings=meanings, title=path.name, unit=unit, **limits)
    stream.reader = functools.partial(_row_reader, path, max_bytes, limits.get("max_chars", MAX_CHARS), meanings)
    return stream


def _row_reader(
    path: Path, max_bytes: int, max_chars: int, meanings: Callable[[], frozenset]
) -> Callable[[int], Problem] | None:
    """Reads the problem of a file's n-th row, from 0, alone, but for its id; None where that would read many others.

    What it returns raises UserError where the file has changed since.
    """
    index, of = row_index(path, max_bytes=max_bytes), stamp(path)
    if index is None or not index.cheap:
        return None

    after, rows = 0, index.rows_from(0)  # so that rows that are asked for in order are read once

    def read(n: int) -> Problem:
        nonlocal after, rows
        with suppress(UnusableRow, OSError, StopIteration):
            if stamp(path) == of:
                if not after <= n < after + STRIDE:
                    after, rows = n, index.rows_from(n)
                row = next(itertools.islice(rows, n - after, None))[1]
                after = n + 1
                return read_row(row, max_chars=max_chars, meanings=meanings)[0]
        raise UserError(f"{path.name} has changed while it was read; start again.")

    return read


@functools.lru_cache(maxsize=64)
def _meanings(path: Path, max_bytes: int, *of: int) -> frozenset:
    """How the file's answers that are whole numbers name their choices.

    All rows tell; where there are more than MAX_WHOLE, FIRST of them from all over the file.
    """
    index = row_index(path, max_bytes=max_bytes)
    with suppress(UserError):  # a later line that is no text; it is named when it is reached
        if index and index.cheap and index.count > MAX_WHOLE:
            rows = index.spread(FIRST)
        else:
            rows = itertools.islice(file_rows(path, max_bytes=max_bytes)[1], MAX_WHOLE)
        return digit_meanings(row for _, row in rows if isinstance(row, dict))
    return MEANINGS


def unused_id(problem: Problem, taken: set[str]) -> str:
    """The row's own id, else a hash of the question. Never the question itself, which is unfit for files and URLs."""
    own = clean_id(problem.id)
    if own and own not in taken and len(own) <= 64 and problem.id != problem.question:
        return own
    short = hashlib.sha256(problem.question.encode()).hexdigest()[:12]
    candidates = (f"{short}-{n}" if n > 1 else short for n in itertools.count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def clean_id(id: str) -> str:
    """An id without what is unfit for a file's name."""
    return re.sub(r"[^\w.-]+", "-", id).strip("-.")


def asked_text(problem: Problem) -> str:
    """The turns and the question, by which problems are told apart."""
    return "".join(f"{turn.role}\0{turn.text}\0" for turn in problem.context) + problem.question


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
