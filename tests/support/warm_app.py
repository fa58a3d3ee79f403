"""app.py without its four seconds of imports: a template process has made them once, and each server is a fork of it.

So are the server's jobs (see warm_jobs.py), and command lines. tests/jobs starts jobs as the server does for users. A
server with a variable that is read once and for all, during an import, is started as a person starts it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support import warm_jobs

ROOT = Path(__file__).resolve().parents[2]
#: Beginnings of the names of variables that a fork may be given: they are read when it runs (see warm_jobs.become).
FORKED = ("LIGHTREASONER_", "HF_", "NO_PROXY", "SPACE_ID", "GRADIO_ROOT_PATH", "GRADIO_SERVER_NAME")
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
    """The same, without the imports. The environment may differ from that of the first call in FORKED only."""
    return _start(_serve, env, options, log)


def command(env: dict[str, str], *argv: str, module: str = "lightreasoner") -> subprocess.CompletedProcess:
    """`python -m MODULE ARGV` in the repository's root, without the imports."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err")]
        process = _start(_run, env, (module, *argv), *files, daemon=False)  # a daemon may have no children
        process.join(500)
        texts, status = [file.read_text() for file in files], process.exitcode
        process.kill()
        assert status is not None, f"{argv} has not ended: {texts}"
        return subprocess.CompletedProcess(argv, status, *texts)


def _start(
    target, env: dict[str, str], words: Sequence[str], *files: Path, daemon: bool = True
) -> multiprocessing.Process:
    _context.set_forkserver_preload(["tests.support.warm_imports"])
    before = dict(os.environ)
    os.environ.clear()
    # the first start brings the template into being, which keeps this
    os.environ.update(env | {"GRADIO_ANALYTICS_ENABLED": "False"})
    try:
        process = _context.Process(target=target, args=(env, words, *map(str, files)), daemon=daemon)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return process


def _run(env: dict[str, str], words: Sequence[str], out: str, err: str) -> None:
    os.chdir(ROOT)
    with open(out, "w") as output, open(err, "w") as errors:
        warm_jobs.run(words[1:], env, output.fileno(), errors.fileno(), words[0])


def _serve(env: dict[str, str], options: Sequence[str], log: str) -> None:
    warm_jobs.become(env)
    os.chdir(ROOT)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    warm_jobs.use_forks()
    sys.argv = ["app.py", *options]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
