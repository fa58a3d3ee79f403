"""Reads the rows of a user's file: JSON lines, JSON, CSV or Parquet.

A row is (number, columns). The number counts from 1: lines in JSON lines and CSV, as an editor shows them, else rows.
A row that cannot be read is (number, reason), so that one bad line does not spoil the others.
"""

import csv
import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

from lightreasoner.errors import UserError, first_line

JSON_LINES, JSON, CSV, PARQUET = (".jsonl", ".ndjson"), (".json",), (".csv", ".tsv"), (".parquet", ".pq")
KINDS = "JSON lines (.jsonl), JSON (.json), CSV (.csv) or Parquet (.parquet)"
MAX_UNPACKED = 1_000_000_000  # bytes of a Parquet file after decompression; a file of 20 MB can expand to far more
ROW_LISTS = ("data", "rows", "examples", "problems", "questions", "items", "instances", "train", "test")

Row = tuple[int, dict | str]


def file_rows(path: Path, *, max_bytes: int) -> tuple[str, Iterator[Row]]:
    """("line" or "row", an iterator over the rows of a file), by its content first and its ending second.

    Raises UserError, now or while iterating, when the whole file cannot be read.
    """
    _check_is_readable(path, max_bytes)
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError as error:
        raise UserError(f"{path.name} cannot be opened ({error.strerror}); check its permissions.") from None
    ending = path.suffix.lower()
    if not head.strip():
        raise UserError(f"{path.name} is empty; it must hold at least one problem.")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path.name} is UTF-16 text; save it as UTF-8 and load it again.")
    if head.startswith(b"PAR1") or ending in PARQUET:
        return "row", _parquet_rows(path)
    if head.count(b"\0") > len(head) // 10:
        raise UserError(f"{path.name} contains zero bytes, so it is no UTF-8 text; save it as UTF-8 or as {KINDS}.")
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first in (b"{", b"[") or ending in JSON_LINES + JSON:
        return ("line", _json_line_rows(path)) if _holds_json_lines(head, ending) else ("row", _json_rows(path))
    if ending in CSV:
        return "line", _csv_rows(path)
    raise UserError(f"{path.name} is not a supported kind of file; use {KINDS}.")


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


def _decode(data: bytes, path: Path, first_line: int = 1) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises UserError that names the invalid byte."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise UserError(
            f"{path.name} is not UTF-8 text: byte {byte} of line {line} is 0x{data[error.start]:02X}; "
            "save it as UTF-8 and load it again."
        ) from None


def _parse(text: str) -> tuple[object, str | None]:
    """(value, None), or (None, why it is not JSON). The reason never quotes the text, because logs contain it."""
    try:
        return json.loads(text), None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        return None, f"it is not valid JSON ({error.msg}, {where})"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError:  # Python does not parse numbers of thousands of digits
        return None, "it contains a number that is too long"


def _object_row(number: int, value: object, reason: str | None) -> Row:
    if reason is None and not isinstance(value, dict):
        reason = "it is not an object with named columns"
    return number, (reason or value)


def _holds_json_lines(head: bytes, ending: str) -> bool:
    """Whether each line is one object. Some .json files are like that, and some .jsonl files hold one document."""
    lines = head.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()
    value, _ = _parse(lines[0].decode("utf-8", "replace"))
    if isinstance(value, dict):
        return len(lines) > 1 or _row_list(value) is None
    return ending in JSON_LINES and not lines[0].startswith(b"[")


def _json_line_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = _decode(line, path, number)
            if text.strip():
                yield _object_row(number, *_parse(text))


def _row_list(document: dict) -> list | None:
    """The list of rows inside {"data": [...]} and the like."""
    lists = {k: v for k, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    named = [lists[key] for key in ROW_LISTS if key in lists]
    return named[0] if named else next(iter(lists.values())) if len(lists) == 1 else None


def _json_rows(path: Path) -> Iterator[Row]:
    document, reason = _parse(_decode(path.read_bytes(), path))
    if reason:
        raise UserError(f"{path.name} cannot be read: {reason}. Correct it and load it again.")
    if isinstance(document, dict):
        # An object without a list may be a single problem; otherwise the message shows its columns.
        document = _row_list(document) or [document]
    if not isinstance(document, list):
        raise UserError(f"{path.name} holds a single JSON value; it must hold a list of objects, one per problem.")
    for number, value in enumerate(document, 1):
        yield _object_row(number, value, None)


def _csv_rows(path: Path) -> Iterator[Row]:
    text = _decode(path.read_bytes(), path)
    body = text.lstrip("\r\n ")
    blank_lines = text.count("\n") - body.count("\n")
    try:  # spreadsheets write semicolons in languages with decimal commas
        delimiter = csv.Sniffer().sniff(body.partition("\n")[0][:1000], ",;\t").delimiter
    except csv.Error:  # a single column
        delimiter = ","
    reader = csv.DictReader(io.StringIO(body, newline=""), delimiter=delimiter)
    while True:
        try:
            if (row := next(reader, None)) is None:
                return
        except csv.Error as error:
            yield blank_lines + reader.line_num, f"it is not valid CSV ({error})"
            continue
        beyond = row.pop(None, [])
        # Most likely a question with a comma and without quotes; half a question is worse than none.
        reason = "it has more cells than there are columns; put quotes around text with commas" if any(beyond) else None
        yield blank_lines + reader.line_num, reason or row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            if unpacked > MAX_UNPACKED:
                raise UserError(f"{path.name} unpacks to {unpacked / 1e9:.1f} GB, over the limit of 1 GB; load a part.")
            batches = file.iter_batches(batch_size=64)  # small batches, because repeated values expand here
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = first_line(error)
        raise UserError(f"{path.name} is damaged or not a Parquet file ({reason}); export it again.") from None
