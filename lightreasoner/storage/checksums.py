"""Checksums of files, kept in a file of their folder, so that a byte that has changed since is noticed.

The file has one JSON object per line and only grows. Of two lines on one file either may be right: a file is replaced
after its line is written. Files without a line, as earlier versions wrote them, are not checked.
"""

import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lightreasoner.storage.atomic import sha256, stamp

FILE = "_checksums.jsonl"  # by this beginning, readers of a folder of Parquet files leave it out


class ChangedFile(ValueError):
    """A file is not the one that was written."""


def note_checksum(path: Path, written: Path | None = None) -> None:
    """Note the checksum of a file; `written` is where its content is now, if not there yet. Raises OSError."""
    line = json.dumps({"file": path.name, "sha256": sha256(written or path)})
    handle = os.open(path.with_name(FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        data = f"\n{line}\n".encode()  # after a torn line
        if os.write(handle, data) < len(data):
            raise OSError(28, os.strerror(28))
        os.fsync(handle)
    finally:
        os.close(handle)


def noted(folder: Path) -> set[str]:
    """The names of the files of a folder whose checksums were noted, whether they are still there or not."""
    return set(_known(Path(folder) / FILE, stamp(Path(folder) / FILE)))


def verify(path: Path) -> None:
    """Compare a file with its checksum, once for each time that it was written. Raises ChangedFile, and OSError."""
    path = Path(path)
    known = _known(path.with_name(FILE), stamp(path.with_name(FILE)))
    if path.name in known and _digest(path, stamp(path)) not in known[path.name]:
        raise ChangedFile("its checksum is not the one that it was written with")


@lru_cache(maxsize=65536)
def _digest(path: Path, _stamp: tuple | None) -> str:
    return sha256(path)


@lru_cache(maxsize=256)
def _known(path: Path, _stamp: tuple | None) -> dict[str, set[str]]:
    """File name → SHA-256 of what was written to it, as a folder's file of checksums has them."""
    found: dict[str, set[str]] = {}
    with suppress(FileNotFoundError, IsADirectoryError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, RecursionError, TypeError, KeyError):
                entry = json.loads(line)
                found.setdefault(entry["file"], set()).add(entry["sha256"])
    return found
