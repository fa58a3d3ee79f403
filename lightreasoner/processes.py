"""Identifies processes: a pid together with a mark that no other process has, on this machine or elsewhere.

The mark names the host, the place (boot and PID namespace) in which the pid means something, and the process's start in
clock ticks since boot, so setting the clock does not change it. A process of another place, a container's or another
machine's, cannot be looked up here: it is known by its heartbeat, a file that it touches while it lives. Processes also
announce themselves by files in a folder; a file counts only while its process is alive.
"""

import hashlib
import os
import re
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

BEAT = 5.0  # seconds between two heartbeats
IDLE = 86_400.0  # seconds after which a half-written file of a process elsewhere counts as left behind
STALE = 30.0  # seconds without a heartbeat after which a process elsewhere counts as dead


@cache
def _boot() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def place() -> str:
    """Where this process's pids mean something: the boot and the PID namespace; without Linux's /proc, the machine."""
    if _boot() is None:
        return f"{uuid.getnode():x}"
    with suppress(OSError):
        return f"{_boot()}.{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{_boot()}.0"


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, start in ticks since boot) from Linux's /proc; None for an unknown pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may contain spaces and brackets
    return fields[0], int(fields[19])


def _start(pid: int) -> str | None:
    """When the process with this pid started, also of a zombie; None for an unknown pid."""
    if _boot() is not None:
        stat = _stat(pid)
        return str(stat[1]) if stat else None
    try:
        return f"{psutil.Process(pid).create_time():.3f}"
    except psutil.Error:
        return None


def mark(pid: int) -> str | None:
    """The mark of the process with this pid in this place, HOST@PLACE@START; None for an unknown pid."""
    start = _start(pid)
    return start and f"{_host()}@{place()}@{start}"


def _host() -> str:
    """This machine's name, as it may be part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64] or "localhost"


def elsewhere(other: str | None) -> str | None:
    """Where a process of another place runs, in words: its host. None for a mark of this place.

    Marks of versions until 0.4 name no place, and those of other backends are no marks: both count as of this place.
    """
    host, _, rest = (other or "").partition("@")
    if not rest or rest.partition("@")[0] == place():
        return None
    return f"{host} (in another container)" if host == _host() else host


def alive(pid: int | None, expected: str | None) -> bool:
    """Whether the process with this pid and mark is running in this place. A zombie is not."""
    if not pid or not expected or (start := _start(pid)) is None:
        return False
    # until version 0.4: BOOT-START, and START alone without /proc
    former = start if _boot() is None else f"{_boot()}-{start}"
    if expected.partition("@")[2] != f"{place()}@{start}" and expected != former:
        return False
    return _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process that is there is no zombie."""
    if _boot() is not None:
        stat = _stat(pid)
        return stat is not None and stat[0] not in "ZX"
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def lives_here(pid: int) -> bool:
    """Whether a pid that is seen here is of this place; a host also sees the processes of its containers."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # gone, or another user's, or without /proc
        return _boot() is None


@contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Inside, the file exists and a thread touches it every BEAT seconds. Raises OSError when it cannot be created."""
    path.touch()
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(BEAT):
            beat(path)

    threading.Thread(target=run, daemon=True, name="heartbeat").start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            path.unlink(missing_ok=True)


def beat(path: Path) -> None:
    """Touch a heartbeat's file, if it is still there."""
    with suppress(OSError):
        os.utime(path)


def fresh(path: Path) -> bool:
    """Whether a heartbeat is less than STALE seconds old, by the clock of its file system: machines' clocks differ."""
    try:
        beaten, probe = path.stat().st_mtime, path.with_name(f".now.{secrets.token_hex(4)}")
    except OSError:
        return False
    now = time.time()
    with suppress(OSError):
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    return abs(now - beaten) < STALE


def new_name() -> str:
    """A new unique name that contains this process's pid and mark; see `owner_alive`."""
    return f"{os.getpid()}.{secrets.token_hex(4)}.{mark(os.getpid())}"


def new_owner() -> str:
    """This process in the name of a temporary file, PID-START-PLACE; see `owner_dead`."""
    start = re.sub(r"\D", "", _start(os.getpid()) or "0")
    return f"{os.getpid()}-{start}-{hashlib.sha256(place().encode()).hexdigest()[:8]}"


def owner_dead(owner: str, idle: float) -> bool:
    """Whether the process of `new_owner` has ended. idle: seconds since it wrote, by which one elsewhere is judged."""
    pid, start, where = owner.split("-")
    if where != new_owner().rpartition("-")[2]:
        return idle > IDLE
    now = _start(int(pid))
    return now is None or re.sub(r"\D", "", now) != start or not _runs(int(pid))


def owner_mark(given: str | None) -> str:
    """The mark of the process that made a name."""
    return (given or "").partition(".")[2].partition(".")[2]


def owner_alive(given: str | None, folder: Path) -> bool:
    """Whether the process that made this name is alive; elsewhere, whether it announced the name here and beats."""
    pid, owner = (given or "").partition(".")[0], owner_mark(given)
    if elsewhere(owner):
        return fresh(folder / given)
    return pid.isdigit() and alive(int(pid), owner)


def announce(folder: Path, name: str | None = None) -> Path:
    """Create a file that announces this process, and return it: `beat` it, and remove it when done. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or new_name())
    path.touch()
    return path


def announced(folder: Path) -> list[Path]:
    """The announcements of living processes; those of dead ones are deleted."""
    living = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if owner_alive(path.name, folder):
                living.append(path)
            else:
                with suppress(OSError):
                    path.unlink()
    return living
