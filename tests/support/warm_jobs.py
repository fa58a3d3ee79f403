"""Jobs of a test's server without their seconds of imports: the process that they are forks of is a fork of the server.

`use_forks` is called in a server's process while it has a single thread, and has made the imports.
"""

from __future__ import annotations

import importlib
import os
import runpy
import socket
import sys
import traceback
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NoReturn

from huggingface_hub import constants

from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.warm_worker import WarmWorker, serve


def become(env: dict[str, str]) -> None:
    """Let this process have an environment, and the Hub's library, which reads its part at its import, read it anew."""
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(constants)


def use_forks() -> None:
    """From now on the jobs of this process are forks."""
    LocalBackend.warm = ForkOfTheServer("")


class ForkOfTheServer(WarmWorker):
    def _launch(self, asked: socket.socket) -> SimpleNamespace:
        if (pid := os.fork()) == 0:
            self._asking.close()
            words = serve(asked.detach())
            become(dict(os.environ))
            finish("lightreasoner", words)
        return SimpleNamespace(kill=lambda: os.kill(pid, 9), wait=lambda: os.waitpid(pid, 0))

    def _same_libraries(self, env: dict[str, str]) -> bool:
        return True  # of those that differ, the Hub's library reads its part anew


def run(
    argv: Sequence[str], env: dict[str, str], output: int, errors: int | None = None, module: str = "lightreasoner"
) -> NoReturn:
    """`python -m MODULE ARGV` in this process, which ends with it. errors: without it they go into output."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output if errors is None else errors, 2)
    become(env)
    finish(module, argv)


def finish(module: str, argv: Sequence[str]) -> NoReturn:
    """The rest of the same."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [module, *argv]
    status = 1
    try:
        runpy.run_module(module, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
