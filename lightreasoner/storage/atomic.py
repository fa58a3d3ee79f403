"""Files and folders: written whole or not at all, their ids, locks, hashes and sizes."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from lightreasoner.errors import UserError

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,40}")
ADVICE = "Free some space or choose another place."


def new_id() -> str:
    """An id that cannot be guessed: a link that contains it is a permission to read what it names."""
    while (made := secrets.token_urlsafe(16)).startswith("-"):  # a command line would take it for an option
        pass
    return made


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `atomic_file` does. Half a surrogate pair becomes an escape such as \\ud800."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes, name: object = None, advice: str = ADVICE) -> None:
    """Write a file as `atomic_file` does."""
    with atomic_file(path, name, advice) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, name: object = None, advice: str = ADVICE) -> Iterator[BinaryIO]:
    """A temporary file that becomes `path`, synced to the disk, when the block ends; if it raises, `path` is unchanged.

    Raises UserError on a disk error: `name` (default: the path) could not be written, why, and the advice.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _not_written(name or path, error, advice) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """As `atomic_file`, for a folder: a temporary one to fill, which then replaces `path`."""
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
        if path.exists():
            path.rename(old := _temporary(path))
            shutil.rmtree(old, ignore_errors=True)
        temporary.rename(path)
        sync_folder(path.parent)
    except UserError:
        raise
    except Exception as error:  # safetensors and torch raise exceptions of their own on a full disk
        if isinstance(error, OSError) or "space" in str(error).lower() or "I/O" in str(error):
            raise _not_written(path, error, advice) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _not_written(name: object, error: Exception, advice: str) -> UserError:
    number = getattr(error, "errno", None)
    return UserError(f"{name} could not be written: {os.strerror(number) if number else error}. {advice}")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut, on systems that can."""
    if os.name == "nt":
        return
    with suppress(OSError):  # some network file systems refuse it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Locks a file inside. Raises UserError: `refusal` if another process holds it, or why it cannot be locked."""
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(refusal) from None
    except OSError as error:
        raise UserError(f"{path.parent} cannot be locked: {error.strerror}. Check its permissions.") from None
    try:
        yield
    finally:
        lock.release()


def in_use(path: Path) -> bool:
    """Whether a process holds this lock now. False for a lock that does not exist, or cannot be read."""
    if not path.is_file():
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def sha256(path: Path) -> str:
    """The SHA-256 hash of a file, as 64 hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder, in bytes. Files that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
