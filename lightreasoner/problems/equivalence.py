"""Compares two answers as mathematics (math-verify), in a process of its own that is bounded in time and memory.

A short answer such as 5^{5^{5^{5}}} keeps symbolic evaluation busy for ever, in code that no signal interrupts, and may
take all memory. So the process gives up by itself after SECONDS of computing, and is ended from outside after
PATIENCE; the two answers are then not equal. It works from every thread, and ends when its parent does.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache

SECONDS = 5  # of computing, per comparison
PATIENCE = 10  # seconds of waiting, per comparison
STARTING = 120  # seconds of waiting for its imports
MEMORY = 2 << 30  # bytes of its address space
DIGITS = 60  # that two irrational numbers are computed to
_lock = threading.Lock()
_process: subprocess.Popen | None = None
_owner: int | None = None  # the process id that started it; a fork must not share its pipes


@lru_cache(maxsize=4096)
def equivalent(found: str, gold: str, tolerance: float | None = None) -> bool:
    """Whether two texts in LaTeX mean the same. False where that cannot be told in the time and memory allowed.

    tolerance: relative, of numbers where one is rounded; None: math-verify's six decimals.
    """
    with _lock:
        answer = _ask({"found": found, "gold": gold, "tolerance": tolerance})
    return bool(answer and answer["same"])


def _ask(request: dict) -> dict | None:
    global _process, _owner
    if _process is None or _owner != os.getpid() or _process.poll() is not None:
        _process, _owner = _start(), os.getpid()
    process = _process
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except OSError:
        line = ""
    finally:
        timer.cancel()
    if not line:  # it was ended, or its memory did not suffice
        stop()
        return None
    return json.loads(line)


def _start() -> subprocess.Popen:
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "lightreasoner.problems.equivalence"],
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


def stop() -> None:
    """End the process, if this process started one."""
    global _process
    if _process is not None and _owner == os.getpid():
        _process.kill()
        _process.wait()
        for pipe in (_process.stdin, _process.stdout):
            with suppress(OSError):  # what was written to it was not read
                pipe.close()
    _process = None


atexit.register(stop)


class _OutOfTime(BaseException):
    """No subclass of Exception: the libraries catch those."""


def _serve() -> None:
    """Answer requests, one JSON object a line, until standard input ends."""
    import logging

    logging.disable(logging.CRITICAL)  # math-verify logs every expression that it cannot parse
    import math_verify  # noqa: F401

    _limit("RLIMIT_AS", MEMORY)

    def out_of_time(*_) -> None:
        raise _OutOfTime

    timed = hasattr(signal, "setitimer")
    if timed:
        signal.signal(signal.SIGPROF, out_of_time)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _limit("RLIMIT_CPU", int(time.process_time()) + 2 * PATIENCE)  # should its parent end meanwhile
        try:
            if timed:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
            same = _same(request["found"], request["gold"], request["tolerance"])
        except (Exception, _OutOfTime):  # an answer may break any parser; it is then not the reference answer
            same = False
        finally:
            if timed:
                signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"same": same}), flush=True)


def _limit(name: str, most: int) -> None:
    try:
        import resource

        resource.setrlimit(getattr(resource, name), (most, resource.RLIM_INFINITY))
    except (ImportError, ValueError, OSError):
        pass  # not on this system


def _same(found: str, gold: str, tolerance: float | None) -> bool:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    # units: their list holds letters that are variables as well (2t would be 2). They are removed before.
    style = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    config = [LatexExtractionConfig(normalization_config=style)]
    one, other = (parse(f"${text}$", config, parsing_timeout=None) for text in (found, gold))
    if one and other and _is_constant(one[0]) and _is_constant(other[0]):
        return _same_constants(one[0], other[0], tolerance)
    return bool(verify(other, one, timeout_seconds=None, allow_set_relation_comp=True))


def _is_constant(value: object) -> bool:
    from sympy import Expr

    return isinstance(value, Expr) and not value.free_symbols and value.is_number is not False


def _same_constants(one, other, tolerance: float | None) -> bool:
    """math-verify takes a small difference for none: 1/2^98 and 1/2^99 are equal to it. Here it is relative."""
    from sympy import Abs, Float, Max, Rational, nan, simplify, zoo

    rounded = bool(one.atoms(Float) or other.atoms(Float))
    one, other = one.doit(), other.doit()
    if nan in (one, other) or zoo in (one, other):
        return False
    if one == other:
        return True
    if isinstance(one, Rational) and isinstance(other, Rational) and not rounded:
        return False
    difference, size = Abs((one - other).evalf(DIGITS)), Max(*(Abs(value.evalf(DIGITS)) for value in (one, other)))
    if not rounded:
        small = difference < size * Rational(1, 10 ** (DIGITS - 10))
        return bool(small) or simplify(one - other) == 0
    if tolerance is None:  # as math-verify, which knows no relative difference
        return bool(difference < size * Rational(1, 10**4)) and bool(difference <= Rational(1, 2 * 10**6))
    return bool(difference <= size * Rational(str(tolerance)))


if __name__ == "__main__":
    _serve()
