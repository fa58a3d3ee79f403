"""Files and folders: written whole or not at all, their ids, locks, hashes and sizes."""

import hashlib
import json
import os
import re
import secrets
import shutil
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from lightreasoner import processes
from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.progress import StopRequested, check_interruption
from lightreasoner.storage.working_run import check_held, make_folder

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,40}")
LEFTOVER = re.compile(r"\.(\d+-\d+-[0-9a-f]{8})-[0-9a-f]{8}\.part$")  # the end of a temporary file's name: its owner
BLOCK = 2**24  # bytes of a file that are hashed between two looks whether to stop
ADVICE = "Free some space or choose another place."


def new_id() -> str:
    """An id that cannot be guessed (131 bits): a link that contains it is a permission to read what it names.

    Letters and digits only: a command line takes a dash in front for an option; a link in a text loses one at its end.
    """
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(22))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `atomic_file` does. Half a surrogate pair becomes an escape such as \\ud800."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, a line for each entry, as `atomic_file` does."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a file; None where there is none, or it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def write_bytes(path: Path, data: bytes, advice: str = ADVICE) -> None:
    """Write a file as `atomic_file` does."""
    with atomic_file(path, advice=advice) as file:
        file.write(data)


@contextmanager
def atomic_file(
    path: Path, name: object = None, advice: str = ADVICE, before: Callable[[Path], None] | None = None
) -> Iterator[BinaryIO]:
    """A temporary file that becomes `path`, synced to the disk, when the block ends; if it raises, `path` is unchanged.

    before: called with the complete temporary file just before it becomes `path`. Raises UserError on a disk error:
    `name` (default: the path) could not be written, why, and the advice; and see `check_held`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # it would be replaced, /dev/full as well
        raise UserError(f"{name or path} is a device or a pipe, which a file cannot replace. {advice}")
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        _remove_leftovers_once(path.parent)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            before(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (UserError, StopRequested):
        raise
    except Exception as error:  # pyarrow has errors of its own for a full disk
        raise _not_written(path, name or path, error, advice) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """As `atomic_file`, for a folder: a temporary one to fill, which then replaces `path`."""
    temporary = _temporary(path)
    try:
        make_folder(temporary)
        _remove_leftovers_once(path.parent)
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
    except (UserError, StopRequested):
        raise
    except Exception as error:  # safetensors, tokenizers and torch have errors of their own for a full disk
        raise _not_written(path, path, error, advice) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Make a folder unless it exists. Raises UserError if nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "Free some space, or set LIGHTREASONER_WORKSPACE to another folder."
        raise UserError(f"The workspace {folder} cannot be written: {disk_trouble(error, advice, True)}") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name[:50]}.{processes.new_owner()}-{secrets.token_hex(4)}.part")


def remove_leftovers(folder: Path, everywhere: bool = False) -> int:
    """Delete the temporary files and folders of processes of this place that have died; the number of them.

    everywhere: also in the folders below.
    """
    count = 0
    with suppress(OSError):
        for path in list(folder.rglob(".*.part") if everywhere else folder.glob(".*.part")):
            owner = LEFTOVER.search(path.name)
            with suppress(OSError):
                if owner and processes.owner_dead(owner[1], time.time() - path.stat().st_mtime):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    count += 1
    return count


_looked: set[Path] = set()  # folders in which this process has looked for leftovers


def _remove_leftovers_once(folder: Path) -> None:
    if folder not in _looked:
        _looked.add(folder)
        remove_leftovers(folder)


def _not_written(path: Path, name: object, error: Exception, advice: str) -> Exception:
    """The sentence for a file that could not be written; the error itself if the disk is not to blame."""
    check_held(path)
    trouble = disk_trouble(error, advice, writing=True)
    if not trouble and (isinstance(error, OSError) or "I/O" in str(error)):
        trouble = f"{error}. {advice}"
    return UserError(f"{name} could not be written: {trouble}") if trouble else error


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
    """The SHA-256 hash of a file, as 64 hexadecimal digits. Raises OSError.

    And between blocks what ends the computation of this thread (progress.py), since a file of many GB takes minutes.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        view = memoryview(bytearray(min(BLOCK, os.fstat(file.fileno()).st_size + 1)))
        while count := file.readinto(view):
            digest.update(view[:count])
            if count == BLOCK:
                check_interruption()
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder, in bytes. Files that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def stamp(path: Path) -> tuple[int, int, int] | None:
    """(inode, bytes, mtime in ns) of a file, to recognise changes; None if there is no file."""
    with suppress(OSError, ValueError):  # a path with a zero byte
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
    return None
