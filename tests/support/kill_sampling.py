"""Run the verb `sample` again and again, each time killed with -9 at a random moment, until it gets through.

    python -m tests.support.kill_sampling SEED KILLS RUN_DIR -- sample …

A program of its own, to be run by warm_app.command: each attempt is a fork, so it costs what it does and no imports.
Prints how many attempts were killed, and the shards that each left.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from lightreasoner.cli.main import main
from lightreasoner.datasets.trajectories import shards


def attempt(argv: list[str]) -> int:
    """Fork; the child never comes back from here."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os._exit(main(argv))
    return child


def wait_for(child: int, seconds: float, until) -> int | None:
    """The exit status if it ends first; None when the time is over or `until` says so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if until():
            return None
        time.sleep(0.002)
    return None


def run(seed: int, kills: int, run_dir: Path, argv: list[str]) -> None:
    dice, left = random.Random(seed), []
    while True:
        child, before = attempt(argv), len(shards(run_dir))
        if len(left) >= kills:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *left)
            return
        more = dice.choice((0, 0, 1, 1, 2))
        if more:  # just about when a shard is written
            status = wait_for(child, 60, lambda wanted=before + more: len(shards(run_dir)) >= wanted)
            status = wait_for(child, dice.uniform(0, 0.03), lambda: False) if status is None else status
        else:  # anywhere, while loading too
            status = wait_for(child, dice.uniform(0, 0.4), lambda: False)
        if status is not None:
            print(status, *left)
            return
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left.append(len(shards(run_dir)))


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[5:])
