"""The interface of the places where jobs run: processes of this machine (local.py) or a Ray cluster (ray.py)."""

from pathlib import Path
from typing import Protocol

from lightreasoner.jobs.store import Job

OUTPUT_FILE = "output.log"  # in the job's folder: the output of all attempts
HEARTBEAT = "heartbeat"  # in the job's folder: touched by its process while it lives


class Backend(Protocol):
    """A handle is (pid, mark): together they identify one attempt of one job for ever."""

    def submit(self, job: Job, folder: Path, env: dict[str, str]) -> tuple[int, str]:
        """Start the job's command with `env` added; its output goes to OUTPUT_FILE in `folder`.

        Returns the handle. Raises UserError when the job cannot be started.
        """

    def find(self, job: Job) -> tuple[int, str] | None:
        """The handle of an attempt that was started but not recorded, because its server died in between."""

    def alive(self, job: Job) -> bool:
        """Whether the job's process is running."""

    def status(self, job: Job) -> int | None:
        """The exit status of an ended process, negative for a signal; None when it is unknown."""

    def interrupt(self, job: Job) -> None:
        """Ask the job's processes to end (SIGTERM)."""

    def kill(self, job: Job) -> None:
        """Kill every process of the job, also those that outlived the first one."""

    def logs(self, folder: Path, size: int) -> str:
        """The last `size` bytes of the job's output, as text."""
