"""Rows of CSV text as spreadsheets, pandas and Spark write it.

Excel writes a line "sep=;" and semicolons with decimal commas, Spark writes quotes with a backslash before them. A row
that could be read in two ways is refused with its line.
"""

import csv
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lightreasoner.formatting import plural
from lightreasoner.problems.cells import ANSWER, folded

DELIMITERS = (",", ";", "\t", "|")
QUESTIONS = {
    *("question", "problem", "prompt", "query", "input", "instruction", "question_stem", "stem", "goal", "sentence"),
    *("ctx", "messages", "conversations", "conversation", "chat", "dialog", "dialogue", "raw_prompt", "chosen"),
}
KNOWN = QUESTIONS | {*ANSWER, "answer_key", "correct", "correct_option"}
TOKEN = re.compile(r'\\.|[^"\\]+|.', re.DOTALL)
DECIMAL = re.compile(r"\s*[-+−]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+\s*%?\s*")
THOUSANDS = re.compile(r"\s*[-+−]?\d{1,3}(?:,\d{3})+\s*%?\s*")
POINT = re.compile(r"\s*[-+−]?\d*\.\d+\s*%?\s*")

Row = tuple[int, dict | str]


class Parsed(NamedTuple):
    line: int  # its first, counted from 1
    cells: list[str] | str  # or why it cannot be read
    start: int  # byte of UTF-8
    open_quote: bool = False  # whether a row that cannot be read has an odd number of quotes in its first line


@dataclass(frozen=True)
class Writing:
    r"""How a text is written. `size` tells the bytes of a part of it.

    `backslash`: what \\ is within a cell in quotes, where \" is a quote; None where a backslash is one like any
    other, as CSV has it. `single` gets a backslash that stands before something else, if there is one.
    """

    size: Callable[[str], int]
    backslash: str | None = None
    single: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """The columns of a text, and its rows, once."""

    header: list[str]
    delimiter: str
    body: Iterator[Parsed]

    @property
    def may_have_commas(self) -> bool:
        """Whether numbers may have decimal commas, which only all the rows together tell."""
        return self.delimiter in ";\t"


def open_table(lines: Iterator[str], writing: Writing) -> Table | None:
    """The header of a text and an iterator over its rows; None for a text without either.

    Raises ValueError with a sentence's end for a text whose columns cannot be told apart.
    """
    number, start, line = 0, 0, next(lines, None)
    while line is not None and not line.strip():
        number, start, line = number + 1, start + writing.size(line), next(lines, None)
    if line is None:
        return None
    given = re.fullmatch(r'"?sep=(.)"?', line.strip(" \r\n"), re.IGNORECASE)
    if given or line.strip(" \r\n").lower() in ("sep=\t", '"sep=\t"'):
        delimiter, number, start = given[1] if given else "\t", number + 1, start + writing.size(line)
    else:
        delimiter, lines = _delimiter(line), itertools.chain([line], lines)
    body = parsed_rows(lines, delimiter, writing, number, start)
    first = next(body, None)
    if first is None:
        return None
    if isinstance(first.cells, str):
        raise ValueError(f"its header cannot be read: {first.cells}")
    header = _header(first.cells)
    if header is None:
        header, body = ["question", *"ABCD", "answer"], itertools.chain([first], body)
    header = [name.strip() for name in header]
    _check_names(header)
    return Table(header, delimiter, body)


def _delimiter(line: str) -> str:
    """The delimiter that splits the header into the most columns, those with known names first."""

    def found(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        return sum(folded(cell) in KNOWN for cell in cells), len(cells)

    return max(DELIMITERS, key=found)


def parsed_rows(
    lines: Iterator[str], delimiter: str, writing: Writing, number: int = 0, start: int = 0
) -> Iterator[Parsed]:
    """The rows of the lines that follow so many lines and bytes. After an error, reading goes on in the line after the
    row's first."""
    again, held = deque(), []  # lines that are to be read once more, and those of the row that is being read
    inside = False  # whether a cell in quotes has begun

    def following() -> Iterator[str]:
        nonlocal inside
        while (line := again.popleft() if again else next(lines, None)) is not None:
            inside = bool(held) and inside  # a row begins outside
            held.append(line)
            if writing.backslash is not None:
                line, inside = _usual_quotes(line, inside, writing)
            yield line

    while True:
        reader = csv.reader(following(), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if any(map(str.strip, cells)):  # spreadsheets write rows of delimiters alone
                    yield Parsed(number + 1, cells, start)
                number += len(held)
                start += sum(map(writing.size, held))
                held.clear()
            return
        except csv.Error as error:
            first = held[0]
            yield Parsed(number + 1, f"it is not valid CSV ({error})", start, first.count('"') % 2 == 1)
            again.extendleft(reversed(held[1:]))
            number, start = number + 1, start + writing.size(first)
            held.clear()


def _usual_quotes(line: str, inside: bool, writing: Writing) -> tuple[str, bool]:
    r"""(a line with "" for \" within cells in quotes, whether such a cell goes on in the next line)."""
    if "\\" not in line:
        return line, inside ^ (line.count('"') % 2 == 1)
    parts = []
    for token in TOKEN.findall(line):
        if token == '"':
            inside = not inside
        elif inside and token[0] == "\\":
            if token not in ('\\"', "\\\\"):
                writing.single[:] = [token]
            token = '""' if token == '\\"' else writing.backslash if token == "\\\\" else token
        parts.append(token)
    return "".join(parts), inside


def unfit_rows(lines: Iterator[str], writing: Writing) -> float:
    """How many rows of a text cannot be read, or have more or fewer cells than the header."""
    try:
        table = open_table(lines, writing)
    except ValueError:
        return float("inf")
    rows = table.body if table else ()
    return sum(isinstance(row.cells, str) or len(row.cells) != len(table.header) for row in rows)


def _header(cells: list[str]) -> list[str] | None:
    """The names of the columns; None for MMLU's own files, which have none: question, four choices, letter."""
    known = any(folded(cell) in KNOWN for cell in cells)
    headless = not known and len(cells) == 6 and cells[5].strip() in ("A", "B", "C", "D")
    return None if headless else cells


def _check_names(header: list[str]) -> None:
    names = [folded(name) for name in header]
    double = next((name for name in names if name in KNOWN and names.count(name) > 1), None)
    if double:
        raise ValueError(f"two of its columns are named {double}; rename one")


def named_rows(table: Table, commas: dict[str, bool | None]) -> Iterator[Row]:
    """The rows of a table by the names of its columns. commas: see `decimal_commas`."""
    header = table.header
    needed = max((n for n, name in enumerate(header) if folded(name) in KNOWN), default=0)
    broken = False  # whether the row before ended early: in the middle of a cell, most likely
    for line, cells, _, open_quote in table.body:
        if isinstance(cells, str):
            broken = open_quote
            yield line, cells
            continue
        after_break, broken = broken, len(cells) <= needed
        if [cell.strip("\ufeff ") for cell in cells] == header:
            yield line, "it repeats the names of the columns"
            continue
        if any(cells[len(header) :]):
            # Most likely a question with a comma and without quotes; half a question is worse than none.
            yield line, "it has more cells than there are columns; put quotes around text with commas"
        elif len(cells) <= needed:
            missing = plural(len(cells), "cell")
            yield line, f"it has {missing} for {len(header)} columns; put quotes around text with line breaks"
        elif after_break:
            yield line, "the row before breaks off, so this may be its other half"
        else:
            row = dict(zip(header, cells, strict=False))
            why = next((why for name in commas if (why := _point(row, name, commas[name]))), None)
            yield line, why or row


def decimal_commas(header: list[str], body: Iterable[Parsed]) -> dict[str, bool | None]:
    """{column of answers: whether its numbers have decimal commas}; None where 1,234 could be either.

    Columns without such numbers, and those with decimal points, are left out.
    """
    columns = [(n, name) for n, name in enumerate(header) if folded(name) in ANSWER]
    seen = {name: set() for _, name in columns}
    for row in body:
        if isinstance(row.cells, list):
            for n, name in columns:
                if n < len(row.cells):
                    seen[name].update(_writing(row.cells[n]))
    found = {}
    for _, name in columns:
        if "comma" in seen[name]:
            found |= {} if "point" in seen[name] else {name: True}
        elif "thousands" in seen[name] and not seen[name] & {"point", "either point"}:
            found[name] = None
    return found


def _writing(value: str) -> Iterator[str]:
    """What a cell tells of how its column writes numbers."""
    if "," in value:
        thousands = THOUSANDS.fullmatch(value)
        if thousands:
            yield "thousands"
        elif DECIMAL.fullmatch(value):
            yield "comma"
    elif "." in value and POINT.fullmatch(value):
        yield "either point" if re.fullmatch(r"\s*[-+−]?\d{1,3}\.\d{3}\s*%?\s*", value) else "point"


def _point(row: dict, name: str, commas: bool | None) -> str | None:
    """Write the number in a cell with a decimal point; or why it cannot be read."""
    value = row[name]
    if commas and DECIMAL.fullmatch(value):
        row[name] = value.replace(".", "").replace(",", ".")
    elif commas and re.fullmatch(r"\s*[-+−]?\d{1,3}(?:\.\d{3})+\s*%?\s*", value):
        row[name] = value.replace(".", "")
    elif commas is None and THOUSANDS.fullmatch(value) and value.count(",") == 1:
        shown = value.strip()
        return (
            f"its {name} {shown} can be {shown.replace(',', '')} or {shown.replace(',', '.')}; write it without a comma"
        )
    return None
