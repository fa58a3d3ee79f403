"""Where the rows of a large file are, so that any of them is read alone: an index made in one pass, kept in memory."""

import itertools
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from lightreasoner.problems.delimited import Table, named_rows, parsed_rows
from lightreasoner.problems.files import (
    STRIDE,
    Row,
    check_parquet,
    csv_table,
    csv_writing,
    file_commas,
    file_kind,
    json_line_rows,
    list_places,
    list_rows,
    parquet_rows,
    stamp,
)
from lightreasoner.problems.text_encoding import BOM, MAX_LINE, encoding_of, json_lines, text_lines


@dataclass(frozen=True)
class RowIndex:
    """The rows of a file. `rows_from(n)` yields those from the n-th on, counted from 0."""

    count: int
    rows_from: Callable[[int], Iterator[Row]]
    cheap: bool = True  # whether `rows_from` takes the same short time for every row

    def spread(self, most: int) -> Iterator[Row]:
        """At most `most` of the rows, of which there are more, in blocks of STRIDE spread evenly over the file."""
        blocks, taken = -(-self.count // STRIDE), max(1, most // STRIDE)
        starts = (n * blocks // taken * STRIDE for n in range(taken))
        return itertools.chain.from_iterable(itertools.islice(self.rows_from(start), STRIDE) for start in starts)


def row_index(path: Path, *, max_bytes: int) -> RowIndex | None:
    """The index of a file; None where rows can only be told by reading all of it, as in a table in one object of JSON.

    It is made once for the same content, by inode, size and time. Raises UserError as `file_rows` does.
    """
    kind = file_kind(path, max_bytes=max_bytes)
    return INDEXED[kind](path.absolute(), *stamp(path)) if kind in INDEXED else None


@lru_cache(maxsize=16)
def _json_lines(path: Path, *of: int) -> RowIndex:
    """Notes the byte and the number of the line of every STRIDE-th row. Blank lines are no rows."""
    starts, lines, count, start = array("Q"), array("Q"), 0, encoding_of(path)[1]
    number, at_start = 0, True
    for line, size in json_lines(path):
        number += at_start
        if at_start and not _blank(line):
            if count % STRIDE == 0:
                starts.append(start)
                lines.append(number)
            count += 1
        start += size
        at_start = line.endswith(b"\n")

    def rows_from(n: int) -> Iterator[Row]:
        if n >= count:
            return iter(())
        rows = json_line_rows(path, starts[n // STRIDE], lines[n // STRIDE])
        return itertools.islice(rows, n % STRIDE, None)

    return RowIndex(count, rows_from)


def _blank(line: bytes) -> bool:
    """Whether a line of JSON lines holds no row, as `json_line_rows` has it."""
    if len(line) > 100:
        return line.isspace() and (len(line) < MAX_LINE or line.endswith(b"\n"))
    return not line.removeprefix(BOM).decode("utf-8", "replace").strip()


@lru_cache(maxsize=16)
def _parquet(path: Path, *of: int) -> RowIndex:
    """The file itself tells how many rows each of its groups has."""
    import pyarrow.parquet as pq

    check_parquet(path)
    return RowIndex(pq.read_metadata(path).num_rows, partial(parquet_rows, path), cheap=False)


@lru_cache(maxsize=16)
def _csv(path: Path, *of: int) -> RowIndex:
    """Notes the place of the row before every STRIDE-th, which tells whether that one is the other half of a row."""
    table, starts, lines, count, before = csv_table(path), array("Q"), array("Q"), 0, None
    writing, (_, skip) = csv_writing(path, *of), encoding_of(path)
    for row in table.body if table else ():
        if count % STRIDE == 0:
            starts.append((before or row).start + skip)
            lines.append((before or row).line)
        count, before = count + 1, row

    def rows_from(n: int) -> Iterator[Row]:
        if n >= count:
            return iter(())
        at = n // STRIDE
        body = parsed_rows(text_lines(path, starts[at]), table.delimiter, writing, lines[at] - 1)
        rows = named_rows(Table(table.header, table.delimiter, body), file_commas(path, *of))
        return itertools.islice(rows, n % STRIDE + (at > 0), None)

    return RowIndex(count, rows_from)


def _json_list(path: Path, *of: int) -> RowIndex:
    count = list_places(path, *of).count
    return RowIndex(count, lambda n: list_rows(path, n) if n < count else iter(()))


INDEXED = {"lines": _json_lines, "list": _json_list, "csv": _csv, "parquet": _parquet}
