"""Where jobs run. `local` is a process on this machine; nothing above this file knows which backend it is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lightreasoner.jobs.store import Job

OUTPUT_FILE = "output.log"  # in the job's folder: what every attempt printed, one after the other


class Backend(Protocol):
    """pid and mark are the backend's handle: together they mean one attempt of one job and never anything else."""

    def submit(self, job: Job, folder: Path, env: dict[str, str]) -> tuple[int, str]:
        """Start the job's command line with these variables added; its output goes to OUTPUT in `folder`. The handle.

        Raises UserError when it cannot be started.
        """

    def find(self, job: Job) -> tuple[int, str] | None:
        """The handle of an attempt that was started but never recorded, because who started it died in between."""

    def alive(self, job: Job) -> bool:
        """Whether the job's process still runs."""

    def status(self, job: Job) -> int | None:
        """The exit status of a process that has ended, where it is known; negative for a signal."""

    def interrupt(self, job: Job) -> None:
        """Ask the job's processes to end now."""

    def kill(self, job: Job) -> None:
        """End every process of the job, also those that outlived the first one."""

    def logs(self, folder: Path, size: int) -> str:
        """The last `size` bytes of a job's output."""
