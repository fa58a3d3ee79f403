"""Rows of CSV text as spreadsheets, pandas and Spark write it.

Excel writes a line "sep=;" and semicolons with decimal commas, Spark writes quotes with a backslash before them. A row
that could be read in two ways is refused with its line.
"""

import csv
import io
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lightreasoner.problems.cells import ANSWER, folded

DELIMITERS = (",", ";", "\t", "|")
QUESTIONS = {
    *("question", "problem", "prompt", "query", "input", "instruction", "question_stem", "stem", "goal", "sentence"),
    *("ctx", "messages", "conversations", "conversation", "chat", "dialog", "dialogue", "raw_prompt", "chosen"),
}
KNOWN = QUESTIONS | {*ANSWER, "answer_key", "correct", "correct_option"}
ESCAPED = re.compile(r'\\(["\\])')
QUOTED = re.compile(r'"(?:[^"\\]|\\.|"")*"', re.DOTALL)
DECIMAL = re.compile(r"\s*[-+−]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+\s*%?\s*")
THOUSANDS = re.compile(r"\s*[-+−]?\d{1,3}(?:,\d{3})+\s*%?\s*")
POINT = re.compile(r"\s*[-+−]?\d*\.\d+\s*%?\s*")

Row = tuple[int, dict | str]


class Parsed(NamedTuple):
    """A row of a text."""

    line: int  # its first, counted from 1
    cells: list[str] | str  # or why it cannot be read
    start: int  # byte of UTF-8
    open_quote: bool = False  # whether a row that cannot be read has an odd number of quotes in its first line


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


def csv_rows(text: str) -> Iterator[Row]:
    """(line, cells by column, or why not) of each row; the line counts from 1 and is the row's first.

    Raises ValueError with a sentence's end for a text whose columns cannot be told apart.
    """
    table = open_table(io.StringIO(text, newline=""), _spark_or_not)
    if table is not None:
        body = list(table.body)
        commas = decimal_commas(table.header, body) if table.may_have_commas else {}
        yield from named_rows(replace(table, body=iter(body)), commas)


def open_table(lines: Iterator[str], parse: Callable[..., Iterable[Parsed]] | None = None) -> Table | None:
    """The header of a text and an iterator over its rows; None for a text without either.

    parse: instead of `parsed_rows`. Raises ValueError as `csv_rows` does.
    """
    number, start, line = 0, 0, next(lines, None)
    while line is not None and not line.strip():
        number, start, line = number + 1, start + _size(line), next(lines, None)
    if line is None:
        return None
    given = re.fullmatch(r'"?sep=(.)"?', line.strip(" \r\n"), re.IGNORECASE)
    if given or line.strip(" \r\n").lower() in ("sep=\t", '"sep=\t"'):
        delimiter, number, start = given[1] if given else "\t", number + 1, start + _size(line)
    else:
        delimiter, lines = _delimiter(line), itertools.chain([line], lines)
    body = iter((parse or parsed_rows)(lines, delimiter, number, start))
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


def _size(line: str) -> int:
    """Bytes of UTF-8."""
    return len(line) if line.isascii() else len(line.encode())


def parsed_rows(lines: Iterator[str], delimiter: str, number: int = 0, start: int = 0) -> Iterator[Parsed]:
    """The rows of the lines that follow so many lines and bytes. After an error, reading goes on in the line after the
    row's first."""
    again, held = deque(), []  # lines that are to be read once more, and those of the row that is being read

    def following() -> Iterator[str]:
        while (line := again.popleft() if again else next(lines, None)) is not None:
            held.append(line)
            yield line

    while True:
        reader = csv.reader(following(), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if any(map(str.strip, cells)):  # spreadsheets write rows of delimiters alone
                    yield Parsed(number + 1, cells, start)
                number += len(held)
                start += sum(map(_size, held))
                held.clear()
            return
        except csv.Error as error:
            first = held[0]
            yield Parsed(number + 1, f"it is not valid CSV ({error})", start, first.count('"') % 2 == 1)
            again.extendleft(reversed(held[1:]))
            number, start = number + 1, start + _size(first)
            held.clear()


def _spark_or_not(lines: Iterator[str], delimiter: str, number: int, start: int) -> list[Parsed]:
    r"""The rows, where \" is a quote inside a cell if that makes sense of more rows than the usual way."""
    lines = list(lines)
    parsed, text = list(parsed_rows(iter(lines), delimiter, number, start)), "".join(lines)
    if not parsed or '\\"' not in text:
        return parsed
    pairs = re.findall(r"\\.", "".join(QUOTED.findall(text)), re.DOTALL)
    # Spark and pandas then double every backslash in a quoted cell, so that none is left alone there.
    backslash = "\\" if all(pair[1] in '"\\' for pair in pairs) else "\\\\"

    def usual(cell: re.Match) -> str:
        return ESCAPED.sub(lambda pair: '""' if pair[1] == '"' else backslash, cell[0])

    other = list(parsed_rows(io.StringIO(QUOTED.sub(usual, text), newline=""), delimiter, number, start))
    width = len(parsed[0].cells)
    bad, other_bad = (
        sum(isinstance(row.cells, str) or len(row.cells) != width for row in rows) for rows in (parsed, other)
    )
    return other if other_bad < bad else parsed


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
        if any(cells[len(header) :]):
            # Most likely a question with a comma and without quotes; half a question is worse than none.
            yield line, "it has more cells than there are columns; put quotes around text with commas"
        elif len(cells) <= needed:
            missing = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
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
