"""Reads the rows of a user's file: JSON lines, JSON, CSV or Parquet.

A row is (number, columns). The number counts from 1: lines in JSON lines and CSV, as an editor shows them, else rows.
A row that cannot be read is (number, reason), so that one bad line does not spoil the others.
"""

import contextlib
import itertools
import json
import mmap
import re
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import psutil

from lightreasoner.errors import UserError, first_line
from lightreasoner.problems.cells import folded
from lightreasoner.problems.delimited import (
    KNOWN,
    QUESTIONS,
    Table,
    Writing,
    decimal_commas,
    named_rows,
    open_table,
    unfit_rows,
)
from lightreasoner.problems.json_list import list_items, once
from lightreasoner.problems.parquet_size import BATCH, MAX_UNPACKED, refusal
from lightreasoner.problems.text_encoding import MAX_LINE, decoded, encoding_of, json_lines, size_of, text_lines

JSON_LINES, JSON, CSV, PARQUET = (".jsonl", ".ndjson"), (".json",), (".csv", ".tsv"), (".parquet", ".pq")
KINDS = "JSON lines (.jsonl), JSON (.json), CSV (.csv) or Parquet (.parquet)"
PLENTY = 1_000_000_000  # bytes of memory that any document may take
ROW_LISTS = ("data", "rows", "examples", "problems", "questions", "items", "instances", "train", "test")

#: The first bytes of files that hold no text, and what they are.
PACKED = {
    b"PK\x03\x04": "a zip archive or an Excel workbook (save its sheet as CSV UTF-8)",
    b"\x1f\x8b": "compressed with gzip (unpack it)",
    b"\x28\xb5\x2f\xfd": "compressed with zstd (unpack it)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (save its sheet as CSV UTF-8)",
    b"ARROW1": "an Arrow file (save it as Parquet)",
}
#: Names inside the cells of a row, which are no labels of a table's rows.
PARTS = {"role", "from", "content", "value", "text", "label", "stem", "choices", "options"}

STRIDE = 64  # rows from one noted place to the next

Row = tuple[int, dict | str]
Kind = Literal["lines", "list", "document", "csv", "parquet"]


@dataclass(frozen=True)
class Places:
    """How many items a document has, and the byte where every STRIDE-th begins."""

    count: int
    starts: array


def file_rows(path: Path, *, max_bytes: int) -> tuple[str, Iterator[Row]]:
    """("line" or "row", an iterator over the rows of a file).

    Raises UserError, now or while iterating, when the whole file cannot be read.
    """
    kind = file_kind(path, max_bytes=max_bytes)
    rows = {
        "parquet": parquet_rows,
        "lines": json_line_rows,
        "list": list_rows,
        "document": _json_rows,
        "csv": _csv_rows,
    }
    return "line" if kind in ("lines", "csv") else "row", rows[kind](path)


def file_kind(path: Path, *, max_bytes: int) -> Kind:
    """The kind of a file, by its content first and its ending second. Raises UserError for a file that is none."""
    _check_is_readable(path, max_bytes)
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError as error:
        raise UserError(f"{path.name} cannot be opened ({error.strerror}); check its permissions.") from None
    ending = path.suffix.lower()
    if not head.strip():
        raise UserError(f"{path.name} is empty; it must hold at least one problem.")
    if head.startswith(b"PAR1") or ending in PARQUET:
        return "parquet"
    packed = next((name for mark, name in PACKED.items() if head.startswith(mark)), None)
    if packed:
        raise UserError(f"{path.name} is not a supported kind of file but {packed}; use {KINDS}.")
    encoding, mark = encoding_of(path)
    text = head[mark:].decode(encoding, "replace")
    if text.count("\0") > len(text) // 10:
        raise UserError(f"{path.name} contains zero bytes, so it is no UTF-8 text; save it as UTF-8 or as {KINDS}.")
    first = text.lstrip()[:1]
    if first in ("{", "[") or ending in JSON_LINES + JSON:
        if _holds_json_lines(text, ending):
            return "lines"
        return "list" if first == "[" and list_places(path.absolute(), *stamp(path)) else "document"
    if ending in CSV or (ending == ".txt" and _has_header(text)):  # Excel's "Unicode text" is .txt
        return "csv"
    raise UserError(f"{path.name} is not a supported kind of file; use {KINDS}.")


def _has_header(text: str) -> bool:
    """Whether the first line of a text has the names of columns between tabs, semicolons or commas."""
    lines = text.lstrip().splitlines()
    line = lines[1] if lines[0].lower().startswith(("sep=", '"sep=')) and len(lines) > 1 else lines[0]
    return any(len(cells := line.split(d)) > 1 and KNOWN & set(map(folded, cells)) for d in "\t;,|")


def _check_is_readable(path: Path, max_bytes: int) -> None:
    shown = path.name[:80] or str(path)
    try:
        status = path.stat()
    except (OSError, ValueError):  # also when the name is too long, or a folder on the way cannot be opened
        raise UserError(f"There is no file {shown}; check the path.") from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{shown} is a folder; give the path of one file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{shown} is not a regular file; problems are read from {KINDS}.")
    if status.st_size > max_bytes:
        raise UserError(
            f"{shown} has {status.st_size / 1e6:.1f} MB, more than the limit of {max_bytes / 1e6:.1f} MB; "
            "load a part of it, or raise LIGHTREASONER_MAX_UPLOAD_MB."
        )


def _parse(text: str) -> tuple[object, str | None]:
    """(value, None), or (None, why it is not JSON). The reason never quotes the text, because logs contain it."""
    try:
        return json.loads(text, object_pairs_hook=once), None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        return None, f"it is not valid JSON ({error.msg}, {where})"
    except RecursionError:
        return None, "it is nested too deeply"
    except KeyError as error:
        return None, f"it names {''.join(filter(str.isprintable, error.args[0]))[:30]!r} twice in one object"
    except ValueError:  # Python does not parse numbers of thousands of digits
        return None, "it contains a number that is too long"


def _object_row(number: int, value: object, reason: str | None) -> Row:
    if reason is None and not isinstance(value, dict):
        reason = "it is not an object with named columns"
    return number, (reason or value)


def _holds_json_lines(text: str, ending: str) -> bool:
    """Whether each line is one object. Some .json files are like that, and some .jsonl files hold one document."""
    lines = re.split(r"[\r\n]+", text.strip())  # str.splitlines would split within a text, at U+2028 for example
    value = None
    with contextlib.suppress(ValueError, RecursionError):  # the row's reader says what is wrong
        value = json.loads(lines[0])
    if isinstance(value, dict):
        return len(lines) > 1 or not _is_table(value)
    return ending in JSON_LINES and not lines[0].startswith("[")


def json_line_rows(path: Path, start: int = 0, first: int = 1) -> Iterator[Row]:
    """The rows from the byte `start` on, where line `first` begins."""
    lines = json_lines(path, start)
    for number, (line, _) in enumerate(lines, first):
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            for rest, _ in lines:
                if rest.endswith(b"\n"):
                    break
            yield number, f"it has more than {MAX_LINE / 1e6:.0f} MB"
            continue
        text = decoded(line, path, number)
        if text.strip():
            yield _object_row(number, *_parse(text))


@lru_cache(maxsize=16)
def list_places(path: Path, *of: int) -> Places | None:
    """Where every STRIDE-th item of a document begins that is one list; None for any other, or a damaged one."""
    starts, count = array("Q"), 0
    try:
        for count, (start, _) in enumerate(list_items(path), 1):
            if count % STRIDE == 1:
                starts.append(start)
    except (ValueError, KeyError, RecursionError):  # what is wrong is said where it is read whole
        return None
    return Places(count, starts) if count else None


def list_rows(path: Path, first: int = 0) -> Iterator[Row]:
    """The rows of a document that is one list, from the `first` on, counted from 0."""
    at = first // STRIDE
    start = list_places(path.absolute(), *stamp(path)).starts[at]
    items = itertools.islice(list_items(path, start), first % STRIDE, None)
    for number, (_, value) in enumerate(items, first + 1):
        yield _object_row(number, value, None)


class SeveralLists(ValueError):
    """A document has several lists of rows; `args[0]` has their names."""


def _row_list(document: dict) -> list | None:
    """The list of rows inside {"data": [...]} and the like."""
    lists = {k: v for k, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    asked = {k: v for k, v in lists.items() if QUESTIONS & set(map(folded, v[0]))}
    if QUESTIONS & set(map(folded, document)):  # a row of its own, whose lists are turns or choices
        lists = asked = {k: v for k, v in asked.items() if folded(k) not in QUESTIONS}
    named = [lists[key] for key in ROW_LISTS if key in lists]
    if len(named) > 1 and all(QUESTIONS & set(map(folded, rows[0])) for rows in named):
        raise SeveralLists([key for key in ROW_LISTS if key in lists])
    return named[0] if named else next(iter(asked.values())) if len(asked) == len(lists) == 1 else None


def _is_table(document: dict) -> bool:
    """Whether one object holds several rows."""
    try:
        return _row_list(document) is not None or _table_rows(document) is not None
    except ValueError:  # a damaged table
        return True


def _table_rows(document: dict) -> list | None:
    """The rows of a table in one object, as pandas and datasets write it; None for any other object.

    {"question": {"0": …}} (to_json), {"0": {"question": …}} (orient="index"), {"columns": […], "data": [[…]]}
    (orient="split") and {"question": […]} (to_dict). Raises ValueError for columns of different length.
    """
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=True)) for row in data]
    values, named = list(document.values()), bool(KNOWN & set(map(folded, document)))
    if values and all(isinstance(value, dict) for value in values):
        if not named:
            return values if KNOWN & set(map(folded, values[0])) else None
        if all(value.keys() == values[0].keys() for value in values) and not PARTS & set(map(folded, values[0])):
            return [{name: value[key] for name, value in document.items()} for key in values[0]]
    lists = named and len(values) > 1 and all(isinstance(value, list) for value in values)
    if lists and not any(isinstance(item, dict) for value in values for item in value):  # elsewhere turns of a row
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    return None


def _check_memory(path: Path, data: bytes, needed: int) -> None:
    """Raises UserError where a document that can only be read whole needs more memory than there is."""
    free = psutil.virtual_memory().available
    if needed > max(free, PLENTY):
        raise UserError(
            f"{path.name} needs some {needed / 1e9:.1f} GB of memory, since it can only be read whole, and "
            f"{free / 1e9:.1f} GB are free; save it as JSON lines or Parquet."
        )


def _json_rows(path: Path) -> Iterator[Row]:
    data = path.read_bytes()
    # an empty list takes 56 bytes and its place in another, an object 64, a text 50
    _check_memory(path, data, 3 * len(data) + 72 * (data.count(b"[") + data.count(b"{")) + 25 * data.count(b'"'))
    document, reason = _parse(decoded(data, path))
    if reason:
        raise UserError(f"{path.name} cannot be read: {reason}. Correct it and load it again.")
    if isinstance(document, dict):
        try:
            # An object without a list may be a single problem; otherwise the message shows its columns.
            document = _table_rows(document) or _row_list(document) or [document]
        except SeveralLists as found:
            names = " and ".join(found.args[0])
            raise UserError(
                f"{path.name} holds several lists of problems ({names}); save one in a file of its own."
            ) from None
        except ValueError:
            raise UserError(
                f"{path.name} holds columns of different length, so its rows cannot be told; write a list of objects."
            ) from None
    if not isinstance(document, list):
        raise UserError(f"{path.name} holds a single JSON value; it must hold a list of objects, one per problem.")
    for number, value in enumerate(document, 1):
        yield _object_row(number, value, None)


def _csv_rows(path: Path) -> Iterator[Row]:
    table, of = csv_table(path), stamp(path)
    yield from named_rows(table, file_commas(path.absolute(), *of)) if table else ()


def csv_table(path: Path) -> Table | None:
    """As `open_table`. Raises UserError."""
    try:
        return open_table(text_lines(path), csv_writing(path.absolute(), *stamp(path)))
    except ValueError as error:
        raise UserError(f"{path.name} cannot be read: {error}.") from None


@lru_cache(maxsize=64)
def csv_writing(path: Path, *of: int) -> Writing:
    r"""How CSV is written: \" is a quote within a cell, as Spark has it, if that makes sense of more rows."""
    encoding, _ = encoding_of(path)
    usual = Writing(size_of(encoding))
    if not _contains(path, '\\"'.encode(encoding)) or not (unfit := unfit_rows(text_lines(path), usual)):
        return usual
    spark = replace(usual, backslash="\\\\")
    if unfit_rows(text_lines(path), spark) >= unfit:
        return usual
    # Spark and pandas then double every backslash in a quoted cell, so that none is left alone there.
    return spark if spark.single else replace(spark, backslash="\\")


def _contains(path: Path, part: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(part) >= 0


@lru_cache(maxsize=64)
def file_commas(path: Path, *of: int) -> dict[str, bool | None]:
    """The decimal commas of a file's columns, which all its rows tell."""
    table = csv_table(path)
    return decimal_commas(table.header, table.body) if table and table.may_have_commas else {}


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file's content does."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_parquet(path: Path) -> None:
    """Raises UserError for a file that is damaged or unpacks to too much."""
    if why := refusal(path, MAX_UNPACKED):
        raise UserError(f"{path.name} {why}{'; export it again' if 'damaged' in why else ''}.")


def parquet_rows(path: Path, first: int = 0) -> Iterator[Row]:
    """The rows from the `first` on, counted from 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_parquet(path)
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if double := next((name for name in names if names.count(name) > 1), None):  # one of them would be lost
                raise UserError(f"{path.name} cannot be read: two of its columns are named {double:.60}; rename one.")
            groups, number = list(range(file.num_row_groups)), 0
            while groups and number + (rows := file.metadata.row_group(groups[0]).num_rows) <= first:
                number, groups = number + rows, groups[1:]
            for batch in file.iter_batches(batch_size=BATCH, row_groups=groups):
                if number + len(batch) > first:
                    skipped = max(first - number, 0)
                    yield from enumerate(batch.slice(skipped).to_pylist(), number + skipped + 1)
                number += len(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = first_line(error)
        raise UserError(f"{path.name} is damaged or not a Parquet file ({reason}); export it again.") from None
