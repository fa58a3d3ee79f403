"""Fine-tuning on a cluster: Ray Train starts the processes, and each runs the verb itself (see parallel.py).

The run's folder and the dataset must be where the workers can read and write them: shared storage, or one machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightreasoner.cluster import connect, gpus_a_worker
from lightreasoner.errors import UserError
from lightreasoner.jobs.events import NAME, last_event
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings, to_environment

TRIES = 3  # a group that lost a worker begins again from the last checkpoint, so often at most
PATIENCE = 10.0  # seconds in which processes that fail for one reason fail


def train_on_cluster(argv: list[str], run_dir: Path, workers: int, settings: Settings) -> None:
    """Run the verb finetune with these words in `workers` processes. Raises UserError, StopRequested."""
    ray = connect(settings, workers)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run_dir = Path(run_dir).absolute()
    trainer = TorchTrainer(
        _process,
        train_loop_config={"argv": [*argv, "--backend", "here"], "run_dir": run_dir, "env": to_environment(settings)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus_a_worker(settings, ray))),
        run_config=RunConfig(
            name=run_dir.name,
            storage_path=str(settings.workspace.absolute() / "ray"),
            failure_config=FailureConfig(max_failures=TRIES - 1),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # whatever Ray makes of what went wrong in a process
        why = how_it_ended(run_dir).get("message") or (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise UserError(f"Training broke off on the cluster: {why} The same command goes on from there.") from error
    ended = how_it_ended(run_dir)
    if not ended:
        raise UserError(
            f"The workers left no word in {run_dir}; its folder and the dataset must be on storage that they share."
        )
    if ended.get("state") == "failed":
        raise UserError(ended["message"])
    if ended.get("state") == "cancelled" or ended.get("kept"):
        raise StopRequested(keep=bool(ended.get("kept")))


def _process(config: dict[str, Any]) -> None:
    """One process of the group. What a person has to mend ends in the run's log, and is not tried again."""
    from lightreasoner.cli.main import main
    from lightreasoner.training.distributed import rank

    os.environ.update(config["env"])
    try:
        status = main(config["argv"])
    except Exception:
        # the others lose the first one in the middle of a message when it ends in order: its words count
        if rank() == 0 or how_it_ended(config["run_dir"]).get("state") not in ("failed", "cancelled"):
            raise
        return
    if status == 2 and rank() > 0 and not _first_gave_up(config["run_dir"]):
        raise RuntimeError("a process gave up, and the first one waits for it; its sentence is in its own output")
    if status not in (0, 2, 130):
        raise RuntimeError(f"the process ended with {status}")


def _first_gave_up(run_dir: Path) -> bool:
    """Whether the first process fails for the same reason: it takes a moment to say so."""
    until = time.monotonic() + PATIENCE
    while how_it_ended(run_dir).get("state") not in ("failed", "cancelled"):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def how_it_ended(run_dir: Path) -> dict[str, Any]:
    """What the run's log says last of an end; empty where it says nothing."""
    return last_event(run_dir / NAME, "end") or {}
