"""Runs a function in a process of its own, bounded in time and memory: for input that may keep any code busy for ever.

Signals interrupt no call into C, and one allocation may take all memory. So the process gives up by itself after some
seconds of computing, and is ended from outside after a while of waiting. It ends when its parent does.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STARTING = 120  # seconds of waiting for its imports
SPARE = 5  # seconds that waiting for an answer takes at least
ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """The process `python -m module`, which calls `serve`. Safe for threads; started when it is first asked."""

    def __init__(self, module: str, seconds: float):
        self._module, self.patience = module, max(SPARE, 2 * seconds)  # seconds of waiting for an answer
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner: int | None = None  # the process id that started it; a fork must not share its pipes
        atexit.register(self.stop)

    def ask(self, request: dict) -> dict:
        """The answer to a request; {"failed": "time"} or {"failed": "memory"} where that did not suffice."""
        with self._lock:
            answer = self._ask(json.dumps(request, default=str))
            if "failed" in answer:  # what is left of its memory may be in pieces
                self._stop()
            return answer

    def _ask(self, request: str) -> dict:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process, self._owner = self._start(), os.getpid()
        process, late = self._process, threading.Event()
        timer = threading.Timer(self.patience, lambda: (late.set(), process.kill()))
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):  # it was ended, or ended itself
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
        timer = threading.Timer(STARTING, process.kill)
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
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # what was written to it was not read
                    pipe.close()
        self._process = None


class _OutOfTime(BaseException):
    """No subclass of Exception: libraries catch those."""


def serve(answer: Callable[[dict], dict], seconds: float, memory: int) -> None:
    """Answer requests, one JSON object a line, until standard input ends.

    seconds: of computing, for each; memory: bytes, beyond those that are in use now.
    """
    _limit("RLIMIT_AS", _address_space() + memory)

    def out_of_time(*_) -> None:
        raise _OutOfTime

    timed = hasattr(signal, "setitimer")
    if timed:
        signal.signal(signal.SIGPROF, out_of_time)
    print("ready", flush=True)
    for line in sys.stdin:
        _limit("RLIMIT_CPU", int(time.process_time() + 4 * seconds) + SPARE)  # should its parent end meanwhile
        try:
            if timed:
                signal.setitimer(signal.ITIMER_PROF, seconds)
            found = json.dumps(answer(json.loads(line)))
        except _OutOfTime:
            found = '{"failed": "time"}'
        except MemoryError:
            found = '{"failed": "memory"}'
        finally:
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
