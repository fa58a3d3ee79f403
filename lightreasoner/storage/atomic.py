"""Files that are written whole or not at all, and the ids that name them."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lightreasoner.errors import UserError

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,40}")


def new_id() -> str:
    """An id that nobody can guess: who has the link may read what it names."""
    while (made := secrets.token_urlsafe(16)).startswith("-"):  # a command line would take it for an option
        pass
    return made


def write_atomically(path: Path, text: str) -> None:
    """The whole file or none of it, whenever the process dies. Raises UserError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        why = error.strerror or error
        raise UserError(f"{path} could not be written: {why}. Free some space or pick another place.") from error


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in it; what vanishes while it is counted counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` once everything went well, and is gone otherwise.

    Raises UserError when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        why = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{path} could not be written: {why}. Free some space or pick another place.") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
