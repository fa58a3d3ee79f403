"""Problem, and where problems come from: bundled ones, benchmarks on the Hugging Face Hub, files of one's own."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.problem_files import Row, file_rows
from lightreasoner.problem_rows import Problem, UnusableRow, read_row
from lightreasoner.problem_sources import SOURCES, Source, hub_rows
from lightreasoner.settings import ASSETS, Settings

__all__ = ["SOURCES", "Problem", "ProblemSet", "Source", "load_file", "load_problems", "problems_from_rows"]

MAX_ROWS = 200_000
MAX_BYTES = Settings.max_upload_mb * 1_000_000
MAX_CHARS = Settings.max_problem_chars


@dataclass(frozen=True)
class ProblemSet:
    """Problems and how they were read.

    `columns` maps question, answer, solution and id to the column each was taken from. `skipped` holds (row, why),
    with the line of the file, or the position counted from 1, for each row that is no problem.
    """

    title: str
    problems: list[Problem]
    columns: dict[str, str]
    skipped: list[tuple[int, str]]


def load_problems(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
    max_chars: int = MAX_CHARS,
) -> ProblemSet:
    """Problems from a key of SOURCES or from the path of a file; at most `limit`, all of them if None.

    `split` is for benchmarks ("train+test" joins two; None is the first of Source.splits). A path is opened as given:
    whoever passes on text from a stranger must check first that it is a key or an uploaded file. Raises UserError.
    """
    source = str(source).strip()
    known = SOURCES.get(source)
    limits = {"limit": limit, "max_rows": max_rows, "max_chars": max_chars}
    if known is None:
        try:
            path = Path(source).expanduser()
            exists = bool(source) and path.exists()
        except (OSError, ValueError, RuntimeError):
            exists = False
        if not exists:
            keys = ", ".join(SOURCES)
            raise UserError(f"{source[:80]!r} is neither a problem source ({keys}) nor a file that exists; give one.")
        if split is not None:
            raise UserError(f"{path.name[:80]} is a file and has no split {split!r}; leave the split out.")
        return load_file(path, max_bytes=max_bytes, **limits)
    split = split or known.splits[0]
    if not set(split.split("+")) <= set(known.splits):
        raise UserError(f"{known.title} has no split {split!r}; it has {' and '.join(known.splits)}.")
    if known.repo is None:
        _, rows = file_rows(ASSETS / "problems" / f"{split}.jsonl", max_bytes=MAX_BYTES)
        return problems_from_rows(rows, title=known.title, **limits)
    return problems_from_rows(hub_rows(known, split), title=f"{known.title}, {split}", **limits)


def load_file(
    path: Path,
    *,
    limit: int | None = None,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
    max_chars: int = MAX_CHARS,
) -> ProblemSet:
    """Problems from a file of JSON lines, JSON, CSV or Parquet. Raises UserError when nothing in it can be used."""
    path = Path(path)
    unit, rows = file_rows(path, max_bytes=max_bytes)
    return problems_from_rows(rows, title=path.name, unit=unit, limit=limit, max_rows=max_rows, max_chars=max_chars)


def problems_from_rows(
    rows: Iterable[Row],
    *,
    title: str,
    unit: str = "row",
    limit: int | None = None,
    max_rows: int = MAX_ROWS,
    max_chars: int = MAX_CHARS,
) -> ProblemSet:
    """Read rows as problems until `limit` problems are there; rows that are none go to `skipped`.

    At most `max_rows` rows are read and a question has at most `max_chars` characters. `unit` says what a row's number
    counts, in the message when no row at all is a problem. Raises UserError then, and when there are too many rows.

    Ids depend only on the rows before, never on the limit: raising it later leaves the first problems' ids alone.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The number of problems is {limit}; it must be at least 1.")
    problems: list[Problem] = []
    columns: dict[str, str] = {}
    skipped: list[tuple[int, str]] = []
    taken: set[str] = set()
    for count, (number, row) in enumerate(rows, 1):
        if count > max_rows:
            raise UserError(f"{title} has more than {max_rows:,} rows; set a limit or load a part of it.")
        if isinstance(row, str):
            skipped.append((number, row))
            continue
        try:
            problem, used = read_row(row, max_chars=max_chars)
        except UnusableRow as reason:
            skipped.append((number, str(reason)))
            continue
        problem = replace(problem, id=_unused_id(problem, taken))
        taken.add(problem.id)
        problems.append(problem)
        columns |= {role: name for role, name in used.items() if role not in columns}  # the first row that has it
        if limit is not None and len(problems) >= limit:
            break
    if not problems and not skipped:
        raise UserError(f"{title} holds no rows; it must hold at least one problem.")
    if not problems:
        number, reason = skipped[0]
        raise UserError(f"None of the {len(skipped):,} rows of {title} is a problem; {unit} {number}: {reason}.")
    return ProblemSet(title, problems, columns, skipped)


def _unused_id(problem: Problem, taken: set[str]) -> str:
    """The row's own id, else a hash of the question; never the question, which is no fit name for a file or a URL."""
    own = re.sub(r"[^\w.-]+", "-", problem.id).strip("-.")
    if own and own not in taken and len(own) <= 64 and problem.id != problem.question:
        return own
    digest = hashlib.sha256(problem.question.encode()).hexdigest()[:12]
    candidates = itertools.chain([digest], (f"{digest}-{n}" for n in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
