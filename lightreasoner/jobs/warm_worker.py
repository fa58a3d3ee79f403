"""Starts jobs as forks of a process that has made their imports, which are most of the time until a job does anything.

That process is `python -m MODULE FILE`, which imports, starts no thread, and calls `serve`. A job is its fork, in a
session of its own, with its own environment and output. The mark of its attempt stands where the system shows a
process's environment, so that it is found, signalled and outlives the server like any other job. Where anything would
differ from an ordinary start, `start` returns None and the job is started the ordinary way. Linux only.

The server and the process talk over a socket that keeps messages apart; FILE is the number of the process's end:

    process → server   ready                    once, after the imports
    server → process   [words, environment]     fork a job; with two files, its output and the pipe that lets it begin
    process → server   pid                      of the fork
    server → process   pid                      how has this job ended?
    process → server   exit status, or unknown
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from lightreasoner.jobs.accelerator import NVIDIA
from lightreasoner.settings import PREFIX, ROOT, Settings

VARIABLE = f"{PREFIX}JOB"  # set in every process of a job, to recognise them later
OUTPUT = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}  # of every job
ACCELERATORS = (NVIDIA, Path("/dev/kfd"))
SPARE = 4e9  # bytes of free memory from which on the process may take its share (docs/deploy.md says how much)
ROOM = 200  # characters for a job's mark, and for its command line where the system shows it
LARGEST = 1 << 17  # bytes of a request; longer command lines are started the ordinary way
PATIENCE = 5.0  # seconds of waiting for a fork, which takes some milliseconds


def worth_it(settings: Settings) -> bool:
    """Whether jobs of this machine are to be forked: they compute on the CPU, and memory is there.

    A driver of an accelerator must not be opened before a fork. None was there to try it.
    """
    return (
        settings.warm_jobs
        and not settings.no_jobs
        and sys.platform == "linux"
        and settings.device in ("auto", "cpu")
        and not any(path.exists() for path in ACCELERATORS)
        and psutil.virtual_memory().available >= SPARE
    )


class WarmWorker:
    """The server's side: the process `python -m module FILE`, ready after some seconds. Safe for threads."""

    def __init__(self, module: str):
        self._module, self._lock, self._ready = module, threading.Lock(), False
        self._env, self._code = _of_libraries(dict(os.environ)) | OUTPUT, _code()
        self._asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.settimeout(PATIENCE)
        with asked:
            self.process = self._launch(asked)

    def _launch(self, asked: socket.socket) -> subprocess.Popen:
        """asked: the process's end. A test's server puts a fork of itself in its place (tests/support/warm_jobs.py)."""
        return subprocess.Popen(
            [sys.executable, "-m", self._module, str(asked.fileno()), " " * ROOM],
            cwd=ROOT,
            env=self._env | {VARIABLE: " " * ROOM},
            pass_fds=[asked.fileno()],
            start_new_session=True,  # Ctrl+C in a terminal is for the server
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self, argv: Sequence[str], env: dict[str, str], output: int) -> ForkedJob | None:
        """A new job with these words after the command, this environment, and its output in an open file.

        None where it cannot be a fork: while the imports are made, after the process has died or the code on disk has
        changed, and where libraries would read something else in this environment.
        """
        request = json.dumps([list(argv), env]).encode()
        with self._lock:
            if not self._fits(env) or len(request) > LARGEST or "\0" in "".join(argv):
                return None
            waits, go = os.pipe()
            try:
                socket.send_fds(self._asking, [request], [output, waits])
                pid = int(self._asking.recv(64))
                os.write(go, b"1")  # a fork that never reads this ends: a job runs once, whichever process dies
                return ForkedJob(self, pid)
            except (OSError, ValueError):
                self._stop()
                return None
            finally:
                os.close(waits)
                os.close(go)

    def _fits(self, env: dict[str, str]) -> bool:
        """Whether a fork would be what an ordinary start is. Libraries read their variables when they are imported."""
        with suppress(OSError, ValueError):  # ValueError: it was stopped
            if not self._ready and select.select([self._asking], [], [], 0)[0]:
                self._ready = self._asking.recv(64) == b"ready"
        if self._ready and _code() != self._code:  # the fork would run what is no longer there
            self._stop()
        return self._ready and self._same_libraries(env)

    def _same_libraries(self, env: dict[str, str]) -> bool:
        return _of_libraries(env) == self._env

    def status(self, pid: int) -> int | None:
        """The exit status of an ended job, negative for a signal; None while it runs, and when it is unknown."""
        with self._lock, suppress(OSError, ValueError):  # int() of "unknown"
            self._asking.send(str(pid).encode())
            return int(self._asking.recv(64))
        return None

    def stop(self) -> None:
        """End the process. Its jobs go on."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        self._ready = False
        self._asking.close()
        self.process.kill()
        self.process.wait()


class ForkedJob:
    """What LocalBackend needs of a subprocess.Popen."""

    def __init__(self, worker: WarmWorker, pid: int):
        self.pid, self._worker, self._status = pid, worker, None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._worker.status(self.pid)
        return self._status


def _of_libraries(env: dict[str, str]) -> dict[str, str]:
    """The variables that are not ours. Ours are read when a command runs."""
    return {name: value for name, value in env.items() if not name.startswith(PREFIX)}


def _code() -> frozenset[tuple[str, int]]:
    """(path, time of change) of all code on disk."""
    return frozenset((str(path), path.stat().st_mtime_ns) for path in (ROOT / "lightreasoner").rglob("*.py"))


def serve(number: int) -> list[str]:
    """The process's side: fork jobs until the server is gone. Returns in every fork, with the words of its job.

    number: of the file by which the server asks. Exits when this process has threads, which no fork would have.
    """
    asked, mark_address = socket.socket(fileno=number), _mark_address()
    if threading.active_count() > 1:
        raise SystemExit("a thread was started by an import")
    gc.collect()
    gc.freeze()  # no fork walks through what was imported, or gets copies of its pages
    try:
        asked.send(b"ready")
        return _serve(asked, mark_address)
    except ConnectionError:  # the server went before it read an answer
        os._exit(0)


def _serve(asked: socket.socket, mark_address: int | None) -> list[str]:
    while True:
        request, files, _, _ = socket.recv_fds(asked, LARGEST, 2)
        if not request:
            os._exit(0)  # the server is gone; jobs go on
        wanted = json.loads(request)
        if isinstance(wanted, int):
            asked.send(_exit_status(wanted).encode())
            continue
        if (pid := os.fork()) == 0:
            asked.close()
            return _become_job(*wanted, *files, mark_address)
        for file in files:
            os.close(file)
        asked.send(str(pid).encode())


def _exit_status(pid: int) -> str:
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return str(os.waitstatus_to_exitcode(status))
    return "unknown"


def _become_job(argv: list[str], env: dict[str, str], output: int, waits: int, mark_address: int | None) -> list[str]:
    """Let this fork be what subprocess.Popen would have started, once the server knows of it."""
    os.setsid()
    _show_as_job(argv, env.get(VARIABLE, ""), mark_address)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    if not os.read(waits, 1):
        os._exit(0)
    os.close(waits)
    return argv


def _mark_address() -> int | None:
    """Where in memory the value of VARIABLE is that this process was started with: ROOM blanks. None without it."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    found = getenv(VARIABLE.encode())
    return found if found and ctypes.string_at(found) == b" " * ROOM else None


def _show_as_job(argv: list[str], mark: str, mark_address: int | None) -> None:
    """Let /proc, and thus ps, say what this fork is.

    The system shows the memory in which a process got its words and its environment; a fork inherits its parent's.
    """
    if mark_address is None:
        return
    ctypes.memmove(mark_address, mark.encode()[:ROOM].ljust(ROOM, b"\0"), ROOM)
    with suppress(OSError, IndexError, ValueError):
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
        words = "\0".join([sys.executable, "-m", "lightreasoner", *argv]).encode(errors="replace")
        if start:
            ctypes.memmove(start, words[: end - start].ljust(end - start, b"\0"), end - start)
