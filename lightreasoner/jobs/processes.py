"""Identifies processes: a pid together with a mark that no later process with the same pid has.

The mark consists of the machine's boot id and the process's start in clock ticks since boot, so setting the clock does
not change it. Processes also announce themselves by files in a folder; a file counts only while its process is alive.
"""

import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil


@cache
def _boot() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, start in ticks since boot) from Linux's /proc; None for an unknown pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may contain spaces and brackets
    return fields[0], int(fields[19])


def mark(pid: int) -> str | None:
    """The mark of the process with this pid, also of a zombie; None for an unknown pid."""
    if _boot() is not None:
        stat = _stat(pid)
        return f"{_boot()}-{stat[1]}" if stat else None
    try:
        return f"{psutil.Process(pid).create_time():.3f}"
    except psutil.Error:
        return None


def alive(pid: int | None, expected: str | None) -> bool:
    """Whether the process with this pid and mark is running. A zombie is not."""
    if not pid or not expected or mark(pid) != expected:
        return False
    if _boot() is not None:
        stat = _stat(pid)
        return stat is not None and stat[0] not in "ZX"
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def new_name() -> str:
    """A new unique name that contains this process's pid and mark; see `owner_alive`."""
    return f"{os.getpid()}.{secrets.token_hex(4)}.{mark(os.getpid())}"


def owner_alive(given: str | None) -> bool:
    """Whether the process that made this name is alive."""
    pid, _, rest = (given or "").partition(".")
    return pid.isdigit() and alive(int(pid), rest.partition(".")[2])


def announce(folder: Path) -> Path:
    """Create a file that announces this process, and return it; remove it when done. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / new_name()
    path.touch()
    return path


def announced(folder: Path) -> list[Path]:
    """The announcements of living processes; those of dead ones are deleted."""
    living = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if owner_alive(path.name):
                living.append(path)
            else:
                with suppress(OSError):
                    path.unlink()
    return living
