"""A file of problems whose columns have names of its own: written anew with the names that problems have here."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.problems.cells import ANSWER, folded, shown_columns
from lightreasoner.problems.files import file_rows
from lightreasoner.problems.rows import QUESTION, STEMS

#: Role → names that stand for it, of which a file that is written anew has only the chosen one.
ROLES = {"question": {*QUESTION, *STEMS}, "answer": {*ANSWER}}
LOOKED_AT = 100  # rows


def column_names(path: Path, max_bytes: int) -> list[str]:
    """The columns of a file's first rows, in order. Raises UserError for a file that is none of rows."""
    _, rows = file_rows(path, max_bytes=max_bytes)
    first = (row for _, row in itertools.islice(rows, LOOKED_AT) if isinstance(row, dict))
    return list(dict.fromkeys(map(str, itertools.chain.from_iterable(first))))


def wordiest_column(path: Path, max_bytes: int) -> str | None:
    """The column with the most text in a file's first rows, which is likely to be that of the questions."""
    _, rows = file_rows(path, max_bytes=max_bytes)
    lengths: Counter[str] = Counter()
    for _, row in itertools.islice(rows, LOOKED_AT):
        for name, value in row.items() if isinstance(row, dict) else ():
            lengths[str(name)] += len(value) if isinstance(value, str) else 0
    return max(lengths, key=lengths.__getitem__, default=None)


def named_rows(path: Path, columns: Mapping[str, str | None], max_bytes: int) -> Iterator[str]:
    """A file's rows as JSON lines in which the chosen columns are called as their roles.

    columns: role of ROLES → the file's name for it, None where it has none. All other columns stay. Raises UserError
    for a column that the file lacks, and for rows that cannot be read.
    """
    chosen = {role: name for role, name in columns.items() if name}
    known = column_names(path, max_bytes)
    for role, name in chosen.items():
        if role not in ROLES or name not in known:
            there = shown_columns(known)
            raise UserError(f"{path.name} has no column {str(name)!r:.60} for the {role}; it has: {there}.")
    if "question" not in chosen:
        raise UserError("Choose the column that holds the questions; that of the answers may be missing.")
    if len(set(chosen.values())) < len(chosen):
        raise UserError("The same column is chosen for question and answer; choose two.")
    unit, rows = file_rows(path, max_bytes=max_bytes)
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path.name}, {unit} {number}: {row}. Correct the file first.")
        yield json.dumps(_renamed(row, chosen), ensure_ascii=True, default=str) + "\n"


def _renamed(row: dict, chosen: dict[str, str]) -> dict[str, Any]:
    taken = {name for role in chosen for name in ROLES[role]} | {folded(name) for name in chosen.values()}
    rest = {str(name): _value(value) for name, value in row.items() if folded(name) not in taken}
    return {role: _value(row.get(name)) for role, name in chosen.items()} | rest


def _value(value: Any) -> Any:
    """A cell for JSON, which has no NaN; arrays of Parquet become lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
