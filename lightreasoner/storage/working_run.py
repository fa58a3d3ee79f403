"""The run folder that this process works in: writers check that it was not deleted, and never make it anew."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightreasoner.errors import UserError

#: folder → a file in it, and its descriptor: while that is open, no other file has its inode
_held: dict[Path, tuple[Path, int]] = {}


@contextmanager
def holding(folder: Path, file: Path) -> Iterator[None]:
    """Inside, `folder` counts as deleted once `file`, which is in it and stays there, is gone. Raises OSError."""
    folder = Path(folder).absolute()
    _held[folder] = file, os.open(file, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(_held.pop(folder)[1])


def holder_of(path: Path) -> Path | None:
    """The held folder that a path is or lies in."""
    path = Path(path).absolute()
    return next((folder for folder in (path, *path.parents) if folder in _held), None) if _held else None


def is_deleted(folder: Path) -> bool:
    """Whether a held folder was deleted, moved or replaced."""
    file, descriptor = _held[folder]
    try:
        return not os.path.samestat(os.stat(file), os.fstat(descriptor))
    except OSError:
        return True


def check_held(path: Path) -> None:
    """Raises UserError if a path lies in a held folder that was deleted."""
    folder = holder_of(path)
    if folder and is_deleted(folder):
        raise UserError(
            f"The run folder {folder} was deleted or moved while its job worked in it, so the job has stopped. Retry "
            "starts it anew."
        )


def make_folder(path: Path) -> None:
    """Make a folder and those above it, but no held one: that was deleted. Raises OSError, and see `check_held`."""
    held = holder_of(path)
    if held is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    check_held(path)
    for folder in reversed([path, *path.parents]):
        if held in folder.absolute().parents:
            folder.mkdir(exist_ok=True)


def clear_away(folder: Path) -> None:
    """Remove the empty folders that a library made again in a folder that was deleted, and with them the folder."""
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # somebody else's
            os.rmdir(place)
