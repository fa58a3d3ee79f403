"""Run as jobs by the job tests: `job_context` around a few behaviours. python -m tests.support.job_script VERB …"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.jobs.context import job_context
from lightreasoner.progress import StopRequested
from lightreasoner.settings import from_environment

CHILD = "import signal, time; signal.signal(15, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"


def steps(options, work) -> None:
    """Count to --steps, one a tenth of a second; asked to keep, say how far it came. Each count is on record."""
    record = Path(options.run_dir) / "counted.txt"
    begun = len(record.read_text().split()) if record.exists() else 0
    work.status("Counting")
    try:
        for done in range(begun, options.steps):
            work.update(done, options.steps, square=done * done)
            work.checkpoint()
            time.sleep(options.pause)
            with open(record, "a") as file:
                file.write(f"{done}\n")
        work.update(options.steps, options.steps)
    except StopRequested as stopping:
        if stopping.keep:
            work.checkpoint()  # asked once is enough: this may be called while finishing
            work.result(counted=len(record.read_text().split()))
        raise
    work.result(counted=options.steps)


def stubborn(options, work) -> None:
    """Never looks up, ignores TERM, and has a child that does the same."""
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work.event("child", pid=child.pid)
    while True:
        time.sleep(1)


def deaf(options, work) -> None:
    """Never comes to a checkpoint, but ends in order when it gets a TERM."""
    work.status("Deaf")
    while True:
        time.sleep(0.05)


def orphan(options, work) -> None:
    """Leaves a child behind and dies."""
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    work.event("child", pid=child.pid)
    if options.steps:
        signal.raise_signal(signal.SIGKILL)


def mistake(options, work) -> None:
    raise UserError("The file problems.jsonl is empty; name another.")


def bug(options, work) -> None:
    raise ZeroDivisionError("a bug")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.1)
    options = parser.parse_args()
    if options.verb == "early":  # before any work began
        print("lightreasoner: There is no file nowhere.jsonl; check the path.", file=sys.stderr)
        return 2
    if options.verb == "crash":
        raise ValueError("before any work began")
    if options.verb == "log":  # for "each job runs exactly once": one line a run, all in one file
        Path(options.run_dir).mkdir(parents=True, exist_ok=True)
        with open(Path(options.run_dir).parent / "ran.txt", "a") as file:
            file.write(f"{Path(options.run_dir).name}\n")
    settings = from_environment()
    work = {"log": lambda options, work: None}.get(options.verb) or globals()[options.verb]
    try:
        with job_context(Path(options.run_dir), options.verb, settings, title=f"Test {options.verb}") as begun:
            work(options, begun)
    except UserError as error:
        print(f"lightreasoner: {error}", file=sys.stderr)
        return 2
    except StopRequested as stopping:
        return 0 if stopping.keep else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
