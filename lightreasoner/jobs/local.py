"""Jobs as processes of this machine, each in a session of its own, so that they outlive the server."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from lightreasoner import processes
from lightreasoner.errors import UserError
from lightreasoner.jobs.backend import HEARTBEAT, OUTPUT_FILE
from lightreasoner.jobs.store import Job
from lightreasoner.jobs.warm_worker import OUTPUT, VARIABLE, ForkedJob, WarmWorker
from lightreasoner.settings import ROOT


class LocalBackend:
    """Runs `command` followed by a job's argv."""

    warm: WarmWorker | None = None  # has made the imports of the usual command; app.py sets it

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "lightreasoner")):
        self._command = command
        self._children: dict[str, subprocess.Popen | ForkedJob] = {}  # by attempt, to be reaped

    def submit(self, job: Job, folder: Path, env: dict[str, str]) -> tuple[int, str]:
        env = os.environ | env | OUTPUT
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / HEARTBEAT).touch()
            with open(folder / OUTPUT_FILE, "ab") as output:
                when = time.strftime("%Y-%m-%d %H:%M:%S")
                output.write(f"{header(job)} · {when} · {shlex.join(job.argv)}\n".encode(errors="replace"))
                output.flush()
                forked = self.warm.start(job.argv, env, output.fileno()) if self.warm else None
                child = forked or subprocess.Popen(
                    [*self._command, *job.argv],
                    cwd=ROOT,
                    env=env,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        except (OSError, ValueError) as error:  # ValueError: a NUL among the arguments
            why = getattr(error, "strerror", None) or error
            raise UserError(f"The job could not be started: {why}. Its folder is {folder}.") from error
        self._children[job.token] = child
        return child.pid, processes.mark(child.pid)

    def find(self, job: Job) -> tuple[int, str] | None:
        for pid in _carrying(job):
            with suppress(OSError):
                if os.getsid(pid) == pid and (mark := processes.mark(pid)):
                    return pid, mark
        return None

    def alive(self, job: Job) -> bool:
        if child := self._children.get(job.token):
            child.poll()  # reaps a zombie
        return processes.alive(job.pid, job.mark)

    def status(self, job: Job) -> int | None:
        child = self._children.get(job.token)
        return child.poll() if child else None

    def interrupt(self, job: Job) -> None:
        self._signal(job, signal.SIGTERM)

    def kill(self, job: Job) -> None:
        self._signal(job, signal.SIGKILL)
        for pid in _carrying(job):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not self.alive(job):
            self._children.pop(job.token, None)

    def _signal(self, job: Job, number: int) -> None:
        """Signal the job's process group, unless its pid belongs to another process by now."""
        if processes.alive(job.pid, job.mark):
            with suppress(OSError):
                os.killpg(job.pid, number)

    def logs(self, folder: Path, size: int) -> str:
        try:
            with open(folder / OUTPUT_FILE, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def header(job: Job) -> str:
    """The first line of an attempt's output begins with this."""
    return f"=== attempt {job.attempt}"


def _carrying(job: Job) -> list[int]:
    """Pids of the living processes of this place whose environment names this attempt of the job."""
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mine = process.environ().get(VARIABLE) == job.token and process.pid != os.getpid()
            if mine and process.status() != psutil.STATUS_ZOMBIE and processes.lives_here(process.pid):
                pids.append(process.pid)
    return pids
