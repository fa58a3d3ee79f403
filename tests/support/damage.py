"""What may happen to a file of a run behind the back of those who read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq


def _fewer_rows(path: Path, other: Path) -> None:
    """As a batch that was sampled again in another version, which noted no checksum."""
    table = pq.read_table(path)
    (path.parent / "_checksums.jsonl").unlink(missing_ok=True)
    pq.write_table(table.slice(len(table) - 1, 1), path)


#: name → what is done to a file; `other` is another file of the same kind
DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "deleted": lambda path, other: path.unlink(),
    "cut": lambda path, other: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, other: path.write_bytes(b""),
    "another": lambda path, other: shutil.copyfile(other, path),
    "fewer rows": _fewer_rows,
    "a folder": lambda path, other: (path.unlink(), path.mkdir()),
    "all gone": lambda path, other: shutil.rmtree(path.parent),
}
