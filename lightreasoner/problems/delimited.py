"""Rows of CSV text as spreadsheets, pandas and Spark write it.

Excel writes a line "sep=;" and semicolons with decimal commas, Spark writes quotes with a backslash before them. A row
that could be read in two ways is refused with its line.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator

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
Parsed = tuple[int, list[str] | str]  # the first line of a row; its cells, or why it cannot be read


def csv_rows(text: str) -> Iterator[Row]:
    """(line, cells by column, or why not) of each row; the line counts from 1 and is the row's first.

    Raises ValueError with a sentence's end for a text whose columns cannot be told apart.
    """
    lines = list(io.StringIO(text, newline=""))
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    given = re.fullmatch(r'"?sep=(.)"?', lines[first].strip(" \r\n"), re.IGNORECASE) if lines else None
    if given or (lines and lines[first].strip(" \r\n").lower() in ("sep=\t", '"sep=\t"')):
        delimiter, first = given[1] if given else "\t", first + 1
    else:
        delimiter = _delimiter(lines[first]) if lines else ","
    parsed = _parsed(lines, first, delimiter)
    if parsed and '\\"' in text:
        parsed = _spark_or_not(lines, first, delimiter, parsed)
    if not parsed:
        return
    (_, header), *body = parsed
    if isinstance(header, str):
        raise ValueError(f"its header cannot be read: {header}")
    header = _header(header)
    if header is None:
        header, body = ["question", *"ABCD", "answer"], parsed
    header = [name.strip() for name in header]
    _check_names(header)
    yield from _named_rows(header, body, delimiter, lines)


def _delimiter(line: str) -> str:
    """The delimiter that splits the header into the most columns, those with known names first."""

    def found(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        return sum(folded(cell) in KNOWN for cell in cells), len(cells)

    return max(DELIMITERS, key=found)


def _parsed(lines: list[str], first: int, delimiter: str) -> list[Parsed]:
    """The rows from line `first` on. After an error, reading goes on in the line after the row's first."""
    rows, at = [], first
    while at < len(lines):
        reader = csv.reader(itertools.islice(lines, at, None), delimiter=delimiter, strict=True)
        start = at
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                rows.append((start + 1, f"it is not valid CSV ({error})"))
                at = start + 1
                break
            if cells is None:
                return rows
            if any(cell.strip() for cell in cells):  # spreadsheets write rows of delimiters alone
                rows.append((start + 1, cells))
            start = at + reader.line_num
    return rows


def _spark_or_not(lines: list[str], first: int, delimiter: str, parsed: list[Parsed]) -> list[Parsed]:
    r"""The rows where \" is a quote inside a cell, if that makes sense of more rows than the usual, `parsed`."""
    text = "".join(lines[first:])
    pairs = re.findall(r"\\.", "".join(QUOTED.findall(text)), re.DOTALL)
    # Spark and pandas then double every backslash in a quoted cell, so that none is left alone there.
    backslash = "\\" if all(pair[1] in '"\\' for pair in pairs) else "\\\\"

    def usual(cell: re.Match) -> str:
        return ESCAPED.sub(lambda pair: '""' if pair[1] == '"' else backslash, cell[0])

    other = _parsed([*[""] * first, *io.StringIO(QUOTED.sub(usual, text), newline="")], first, delimiter)
    width = len(parsed[0][1])
    bad, other_bad = (
        sum(isinstance(cells, str) or len(cells) != width for _, cells in rows) for rows in (parsed, other)
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


def _named_rows(header: list[str], body: list[Parsed], delimiter: str, lines: list[str]) -> Iterator[Row]:
    needed = max((n for n, name in enumerate(header) if folded(name) in KNOWN), default=0)
    commas = _decimal_commas(header, body) if delimiter in ";\t" else {}
    broken = False  # whether the row before ended early: in the middle of a cell, most likely
    for line, cells in body:
        if isinstance(cells, str):
            broken = lines[line - 1].count('"') % 2 == 1
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


def _decimal_commas(header: list[str], body: list[Parsed]) -> dict[str, bool | None]:
    """{column of answers: whether its numbers have decimal commas}; None where 1,234 could be either.

    Columns without such numbers, and those with decimal points, are left out.
    """
    found = {}
    for n, name in enumerate(header):
        if folded(name) not in ANSWER:
            continue
        values = [cells[n] for _, cells in body if isinstance(cells, list) and len(cells) > n]
        commas = [value for value in values if DECIMAL.fullmatch(value)]
        thousands = [value for value in values if THOUSANDS.fullmatch(value)]
        if commas and any(not THOUSANDS.fullmatch(value) for value in commas):
            points = [
                v for v in values if POINT.fullmatch(v) and not re.fullmatch(r"\s*[-+−]?\d{1,3}\.\d{3}\s*%?\s*", v)
            ]
            found |= {} if points else {name: True}
        elif thousands and not any(POINT.fullmatch(value) for value in values):
            found[name] = None
    return found


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
