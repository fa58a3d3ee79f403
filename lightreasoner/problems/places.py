"""Where the rows of a large file are, so that any of them is read alone: an index made in one pass, kept in memory."""

import itertools
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from lightreasoner.problems.delimited import Table, named_rows, parsed_rows
from lightreasoner.problems.files import (
    BOM,
    MAX_LINE,
    Row,
    check_parquet,
    csv_table,
    file_commas,
    file_kind,
    json_line_rows,
    parquet_rows,
    stamp,
    text_lines,
)

STRIDE = 64  # rows from one noted place to the next


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
    """The index of a file; None where rows can only be told by reading all of it, as in one document of JSON.

    It is made once for the same content, by inode, size and time. Raises UserError as `file_rows` does.
    """
    kind, data = file_kind(path, max_bytes=max_bytes)
    return INDEXED[kind](path.absolute(), *stamp(path)) if data is None and kind in INDEXED else None


@lru_cache(maxsize=16)
def _json_lines(path: Path, *of: int) -> RowIndex:
    """Notes the byte and the number of the line of every STRIDE-th row. Blank lines are no rows."""
    starts, lines, count, start = array("Q"), array("Q"), 0, 0
    with path.open("rb") as file:
        number, at_start = 0, True
        for line in iter(partial(file.readline, MAX_LINE), b""):
            number += at_start
            if at_start and not _blank(line):
                if count % STRIDE == 0:
                    starts.append(start)
                    lines.append(number)
                count += 1
            start += len(line)
            at_start = line.endswith(b"\n")

    def rows_from(n: int) -> Iterator[Row]:
        if n >= count:
            return iter(())
        rows = json_line_rows(path, start=starts[n // STRIDE], first=lines[n // STRIDE])
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
    with path.open("rb") as file:
        skip = len(BOM) if file.read(len(BOM)) == BOM else 0
    for row in table.body if table else ():
        if count % STRIDE == 0:
            starts.append((before or row).start + skip)
            lines.append((before or row).line)
        count, before = count + 1, row

    def rows_from(n: int) -> Iterator[Row]:
        if n >= count:
            return iter(())
        at = n // STRIDE
        body = parsed_rows(text_lines(path, starts[at]), table.delimiter, lines[at] - 1)
        rows = named_rows(Table(table.header, table.delimiter, body), file_commas(path, *of))
        return itertools.islice(rows, n % STRIDE + (at > 0), None)

    return RowIndex(count, rows_from)


INDEXED = {"lines": _json_lines, "csv": _csv, "parquet": _parquet}
