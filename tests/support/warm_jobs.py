"""Jobs of a test's server without their seconds of imports: forks of a process that has made them.

`use_forks` is called in a server's process while it has a single thread. It leaves a forker behind, which starts each
job as subprocess.Popen would: in a session of its own, with its environment, its output in a file.
"""

from __future__ import annotations

import importlib
import os
import pickle
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from types import SimpleNamespace

from huggingface_hub import constants

from lightreasoner.jobs import local

COMMAND = [sys.executable, "-m", "lightreasoner"]
MOST = 1 << 20  # bytes of a request


def become(env: dict[str, str]) -> None:
    """Let this process have an environment, and the Hub's library, which reads its part at its import, read it anew."""
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(constants)


def use_forks() -> None:
    """From now on the jobs of this process are forks."""
    asked, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        asking.close()
        serve(asked)
    asked.close()

    class ForkedJob:
        """What LocalBackend needs of a subprocess.Popen."""

        def __init__(self, command: list[str], *, env: dict[str, str], stdout, **_options):
            assert command[: len(COMMAND)] == COMMAND and all("\0" not in word for word in command)
            socket.send_fds(asking, [pickle.dumps((command[len(COMMAND) :], env))], [stdout.fileno()])
            self.pid, self._status = pickle.loads(asking.recv(MOST)), None

        def poll(self) -> int | None:
            if self._status is None:
                asking.send(pickle.dumps(self.pid))
                self._status = pickle.loads(asking.recv(MOST))
            return self._status

    local.subprocess = SimpleNamespace(Popen=ForkedJob, DEVNULL=None)


def serve(asked: socket.socket) -> None:
    """Fork jobs and tell how they ended, until the server is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, MOST, 1)
        if not request:
            os._exit(0)
        wanted = pickle.loads(request)
        if isinstance(wanted, int):
            pid, status = os.waitpid(wanted, os.WNOHANG)
            asked.send(pickle.dumps(os.waitstatus_to_exitcode(status) if pid else None))
            continue
        pid = os.fork()
        if pid == 0:
            asked.close()
            run(*wanted, descriptors[0])
        os.close(descriptors[0])
        asked.send(pickle.dumps(pid))


def run(
    argv: Sequence[str], env: dict[str, str], output: int, errors: int | None = None, module: str = "lightreasoner"
) -> None:
    """`python -m MODULE ARGV` in this process, which ends with it. errors: without it they go into output."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output if errors is None else errors, 2)
    become(env)
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
