"""Runs a function in a process of its own, bounded in time and memory: for input that may keep any code busy for ever.

Signals interrupt no call into C, and one allocation may take all memory. So the system itself ends the process after
some seconds of computing. It is a fork of one that has made the imports, so the next is there at once. Both end when
their parent does.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STARTING = 120  # seconds of waiting for its imports
SPARE = 10  # seconds that waiting for an answer takes at least: a busy machine computes little meanwhile
ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """The process `python -m module`, which calls `serve`. Safe for threads; started when it is first asked."""

    def __init__(self, module: str, seconds: float):
        self._module, self.patience = module, max(SPARE, 4 * seconds)  # seconds of waiting for an answer
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner: int | None = None  # the process id that started it; a fork must not share its pipes
        atexit.register(self.stop)

    def ask(self, request: dict) -> dict:
        """The answer to a request; {"failed": "time"} or {"failed": "memory"} where that did not suffice."""
        with self._lock:
            return self._ask(json.dumps(request, default=str))

    def _ask(self, request: str) -> dict:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process, self._owner = self._start(), os.getpid()
        process, late = self._process, threading.Event()
        timer = threading.Timer(self.patience, lambda: (late.set(), _kill(process)))
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):  # it was ended
            self._stop()
            return {"failed": "time" if late.is_set() else "memory"}
        return json.loads(line)

    def _start(self) -> subprocess.Popen:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # Ctrl+C in a terminal is for the job
        )
        timer = threading.Timer(STARTING, _kill, [process])
        timer.start()
        process.stdout.readline()  # it has made its imports
        timer.cancel()
        return process

    def stop(self) -> None:
        """End the process, if this process started one."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            _kill(self._process)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # what was written to it was not read
                    pipe.close()
        self._process = None


def _kill(process: subprocess.Popen) -> None:
    """End a process and its fork."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


def serve(answer: Callable[[dict], dict], seconds: float, memory: int) -> None:
    """Answer requests, one JSON object a line, until standard input ends.

    seconds: of computing, for each; memory: bytes, beyond those that are in use now.
    """
    _limit("RLIMIT_AS", _address_space() + memory)
    print("ready", flush=True)
    if not hasattr(os, "fork"):
        return _answer_all(answer, seconds)
    while True:
        if (fork := os.fork()) == 0:
            with suppress(BrokenPipeError):
                _answer_all(answer, seconds)
            os._exit(0)
        status = os.waitpid(fork, 0)[1]
        if status == 0:
            return None
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(json.dumps({"failed": "time" if ended == getattr(signal, "SIGPROF", -1) else "memory"}), flush=True)


def _answer_all(answer: Callable[[dict], dict], seconds: float) -> None:
    """Answer requests until there is no more. Too much computing ends the process; so does too much memory."""
    timed = hasattr(signal, "setitimer")
    if timed:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the system ends it, also within a call into C
    for line in sys.stdin:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            found = json.dumps(answer(json.loads(line)))
        except MemoryError:
            if hasattr(os, "fork"):
                os._exit(1)  # what is left of its memory may be in pieces
            found = '{"failed": "memory"}'
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(found, flush=True)


def _address_space() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 1 << 30


def _limit(name: str, most: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not on this system
        import resource

        resource.setrlimit(getattr(resource, name), (most, resource.RLIM_INFINITY))
