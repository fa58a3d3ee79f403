"""Fine-tuning on a cluster: Ray Train starts the processes, and each of them runs the same job (see distributed.py).

The workers must be able to read the dataset and to write the run folder: on shared storage, or on one machine.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightreasoner.cluster import connect, gpus_per_worker, worker_environment
from lightreasoner.errors import UserError, first_line
from lightreasoner.jobs.events import EVENTS_FILE, last_event
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings, from_environment
from lightreasoner.training.distributed import rank
from lightreasoner.training.job import FinetuneJob
from lightreasoner.training.run import run_as_job

MAX_ATTEMPTS = 3  # a group that loses a worker restarts from the last checkpoint
PATIENCE = 10.0  # seconds within which all processes fail that fail for the same reason


def train_on_cluster(job: FinetuneJob, workers: int, settings: Settings) -> None:
    """Run this job in `workers` processes of the cluster. Raises UserError, StopRequested."""
    ray = connect(settings, workers)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run_dir = job.run_dir.absolute()
    dataset = replace(job.dataset, local=job.dataset.local.absolute())
    job = replace(job, run_dir=run_dir, dataset=dataset)
    trainer = TorchTrainer(
        _process,
        train_loop_config={"job": job, "env": worker_environment(settings)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus_per_worker(settings, ray, workers))),
        run_config=RunConfig(
            name=run_dir.name,
            storage_path=str(settings.workspace.absolute() / "ray"),
            failure_config=FailureConfig(max_failures=MAX_ATTEMPTS - 1),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray wraps an error of a process in several types
        why = end_event(run_dir).get("message") or first_line(error)
        raise UserError(f"Training on the cluster failed: {why} Run the same command again to resume.") from error
    end = end_event(run_dir)
    if not end:
        raise UserError(
            f"The workers wrote no log in {run_dir}; this folder and the dataset must be on storage that they share."
        )
    if end.get("state") == "failed":
        raise UserError(end["message"])
    if end.get("state") == "cancelled" or end.get("kept"):
        raise StopRequested(keep=bool(end.get("kept")))


def _process(config: dict[str, Any]) -> None:
    """One process of the group. A mistake that the user must correct ends in the run's log and is not tried again."""
    os.environ.update(config["env"])
    run_dir = config["job"].run_dir
    try:
        run_as_job(config["job"], from_environment())
    except (StopRequested, KeyboardInterrupt):
        return  # the run's log says how it ended
    except UserError as error:
        print(f"lightreasoner: {error}", file=sys.stderr)
        if rank() > 0 and not _first_process_failed(run_dir):
            raise RuntimeError(
                "a process gave up while the first one waits for it; see this process's output"
            ) from None
    except Exception:
        # when the first process ends in order, the others lose it in the middle of a message: its log counts
        if rank() == 0 or end_event(run_dir).get("state") not in ("failed", "cancelled"):
            raise


def _first_process_failed(run_dir: Path) -> bool:
    """Whether the first process fails too, within PATIENCE seconds."""
    until = time.monotonic() + PATIENCE
    while end_event(run_dir).get("state") not in ("failed", "cancelled"):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def end_event(run_dir: Path) -> dict[str, Any]:
    """The last end event in the run's log; empty without one."""
    return last_event(run_dir / EVENTS_FILE, "end") or {}
