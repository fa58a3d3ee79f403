"""app.py without its four seconds of imports: a template process has made them once, and each server is a fork of it.

So are the server's jobs (see warm_jobs.py). tests/jobs starts jobs as the server does for users.
The libraries read HF_* and GRADIO_* while they are imported, so the template's own stand; a server that needs others is
started as a person starts it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support import warm_jobs

ROOT = Path(__file__).resolve().parents[2]
_context = multiprocessing.get_context("forkserver")


class Cold(subprocess.Popen):
    """`python app.py` with these options in this environment, with a multiprocessing.Process's names."""

    def __init__(self, env: dict[str, str], options: list[str], log: Path):
        with log.open("a") as file:
            super().__init__([sys.executable, "app.py", *options], cwd=ROOT, env=env, stdout=file, stderr=file)

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout)


def fork(env: dict[str, str], options: list[str], log: Path) -> multiprocessing.Process:
    """The same, without the imports. The environment may differ from that of the first call in LIGHTREASONER_* only."""
    _context.set_forkserver_preload(["tests.support.warm_imports"])
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)  # the first start brings the template into being, which keeps this
    try:
        process = _context.Process(target=_run, args=(env, options, str(log)), daemon=True)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return process


def _run(env: dict[str, str], options: list[str], log: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    warm_jobs.use_forks()
    sys.argv = ["app.py", *options]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
