"""Jobs on a Ray cluster, through Ray Jobs. All machines must share the workspace.

A run's state is in its folder, so a lost cluster loses no history and the job can be resumed.
"""

import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightreasoner.cluster import HERE, check_reachable
from lightreasoner.errors import UserError, first_line
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.local import LocalBackend, header
from lightreasoner.jobs.store import Job
from lightreasoner.settings import PREFIX, ROOT, Settings

PATIENCE = 60.0  # seconds without an answer before a cluster's jobs count as lost
PID = 0  # not a process of this machine: the mark alone is the handle


class RayBackend:
    """address: of the cluster's head, HOST:PORT or http://HOST:8265, or "auto"."""

    def __init__(self, address: str):
        self._address = address
        self._client: Any = None
        self._silent: float | None = None  # start of the current silence, monotonic clock

    def _jobs(self) -> Any:
        """Ray's client. Raises UserError without Ray or without a reachable cluster."""
        if self._client is None:
            try:
                from ray.job_submission import JobSubmissionClient
            except ImportError:
                raise UserError(
                    "Ray is not installed; run pip install -r requirements-ray.txt, or unset LIGHTREASONER_RAY_ADDRESS."
                ) from None
            check_reachable(self._address.removeprefix("http://"))
            try:
                self._client = JobSubmissionClient(self._address)
            except Exception as error:  # whatever Ray and requests raise
                raise UserError(f"Ray Jobs cannot be used at {self._address}: {first_line(error)}") from None
        return self._client

    def submit(self, job: Job, folder: Path, env: dict[str, str]) -> tuple[int, str]:
        folder.mkdir(parents=True, exist_ok=True)
        output = shlex.quote(str(folder.absolute() / OUTPUT_FILE))
        first = shlex.quote(f"{header(job)} · {shlex.join(job.argv)}")
        command = shlex.join(["-m", "lightreasoner", *job.argv])
        python = f'P={shlex.quote(sys.executable)}; [ -x "$P" ] || P=python'  # other machines may have it elsewhere
        # the machine that runs the job has its own accelerator, hence its own lock
        lock = f"/tmp/{PREFIX.lower()}lock"
        env = env | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", f"{PREFIX}LOCK_FOLDER": lock}
        name = submission(job)
        try:
            self._jobs().submit_job(
                entrypoint=f'echo {first} >> {output}; {python}; exec "$P" {command} >> {output} 2>&1',
                submission_id=name,
                runtime_env={"env_vars": env},
                metadata={"job": job.id, "title": job.title},
                entrypoint_num_gpus=gpus_of_a_job(env.get(f"{PREFIX}DEVICE", "auto"), self._jobs()),
            )
        except (RuntimeError, ConnectionError, OSError) as error:
            raise UserError(f"The cluster at {self._address} did not take the job: {first_line(error)}") from error
        return PID, name

    def find(self, job: Job) -> tuple[int, str] | None:
        return (PID, submission(job)) if self._details(submission(job)) else None

    def alive(self, job: Job) -> bool:
        details = self._details(job.mark)
        if details is None and self._silent is not None:
            return time.monotonic() - self._silent < PATIENCE
        return details is not None and not details.status.is_terminal()

    def status(self, job: Job) -> int | None:
        details = self._details(job.mark)
        if details is None or not details.status.is_terminal():
            return None
        return {"SUCCEEDED": 0, "STOPPED": -15}.get(details.status.value, details.driver_exit_code)

    def interrupt(self, job: Job) -> None:
        with suppress(Exception):  # unreachable or ended: `alive` finds out
            self._jobs().stop_job(job.mark)

    def kill(self, job: Job) -> None:
        if self.alive(job):
            self.interrupt(job)  # Ray kills the job three seconds later

    def logs(self, folder: Path, size: int) -> str:
        return LocalBackend().logs(folder, size)

    def _details(self, name: str) -> Any:
        """Ray's record of a submission; None when it is unknown or Ray does not answer."""
        try:
            details = self._jobs().get_job_info(name)
        except UserError:
            self._silent = self._silent or time.monotonic()
            return None
        except RuntimeError as error:  # an HTTP status
            if "404" not in str(error) and "does not exist" not in str(error):
                self._silent = self._silent or time.monotonic()
            else:
                self._silent = None
            return None
        except OSError:  # requests' ConnectionError is one
            self._client, self._silent = None, self._silent or time.monotonic()
            return None
        self._silent = None
        return details


def gpus_of_a_job(device: str, client: Any) -> int | None:
    """1 where the cluster has GPUs and the device setting is not cpu: Ray then shows the job a GPU of its own, and
    waits for one. None elsewhere, since a job that asked for one would wait for ever. client: Ray's."""
    if device == "cpu":
        return None
    from ray.util.state import list_nodes

    try:
        nodes = list_nodes(address=client.get_address(), timeout=10)
    except Exception:  # an older Ray, or a cluster without its state API
        return 1 if device.startswith("cuda") else None
    return 1 if any((node.resources_total or {}).get("GPU", 0) >= 1 for node in nodes) else None


def submission(job: Job) -> str:
    """The name of an attempt on the cluster."""
    return f"{job.id}-{job.attempt}"


def backends(settings: Settings) -> dict[str, Any]:
    """The backends by name. New jobs go to the last one: the cluster, if LIGHTREASONER_RAY_ADDRESS names one."""
    by_name: dict[str, Any] = {"local": LocalBackend()}
    if settings.ray_address and settings.ray_address != HERE:
        by_name["ray"] = RayBackend(settings.ray_address)
    return by_name
