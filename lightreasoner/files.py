"""Files that are written whole or not at all, and the ids that name them."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

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
