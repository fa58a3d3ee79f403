"""A Ray cluster to work on: how to reach it, and mapping a function over actors. Ray is an extra; it is imported here.

    pip install -r requirements-ray.txt
    LIGHTREASONER_RAY_ADDRESS=head:6379 python -m lightreasoner sample … --backend ray --num-workers 8

The verb itself runs where it was started and writes the run's folder; workers hold the models, get a batch and give
back what came of it. So nothing but the models has to be where the workers are.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.settings import ROOT, Settings

HERE = "local"  # an address: a cluster of this machine, for as long as the verb runs
REACH = 5.0  # seconds to wait for a head to answer: Ray itself waits for minutes
WAVE = 256  # batches a worker gets before the next are read: held in memory; after them it loads its models anew


def connect(settings: Settings, workers: int) -> Any:
    """The module ray, connected to LIGHTREASONER_RAY_ADDRESS. Raises UserError in one sentence."""
    if not 1 <= workers <= 10_000:
        raise UserError(f"The number of workers is {workers}; give one from 1 to 10,000.")
    try:
        import ray
    except ImportError:
        raise UserError(
            "Ray is not installed here; install it with pip install -r requirements-ray.txt, or leave --backend out."
        ) from None
    address = settings.ray_address.strip()
    if not address:
        raise UserError(
            f"No Ray cluster is named; set LIGHTREASONER_RAY_ADDRESS to HOST:PORT of its head, or to {HERE} for one on "
            "this machine."
        )
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    try:
        if address != HERE:
            check_reachable(address)
        if ray.is_initialized():
            return ray
        if address == HERE:
            ray.init(num_cpus=workers, include_dashboard=False, runtime_env=on_path(), **quiet)
        else:
            ray.init(address=address, **quiet)
    except UserError:
        raise
    except Exception as error:  # whatever Ray and gRPC raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"The Ray cluster at {address} cannot be used: {reason}") from None
    return ray


def check_reachable(address: str) -> None:
    """Raises UserError when nothing listens there."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"No Ray cluster answers at {address} ({why}); start one with ray start --head, or correct "
            "LIGHTREASONER_RAY_ADDRESS."
        ) from None


def spread_over(
    ray: Any,
    worker: type,
    made_with: dict[str, Any],
    jobs: Iterable[tuple[Any, Any]],
    workers: int,
    gpus: float,
) -> Iterator[tuple[Any, Any]]:
    """(key, worker(…)(payload)) for each (key, payload), in the order in which they are done.

    worker: a class; each of `workers` actors makes one of it with `made_with` and calls it. An actor that dies is
    replaced and what it had is done again. Raises the UserError that a worker raised.
    """
    from ray.data import ActorPoolStrategy, DataContext, from_items

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    jobs = iter(jobs)
    while wave := list(itertools.islice(jobs, WAVE * workers)):
        keys = [key for key, _ in wave]
        rows = [{"n": n, "payload": pickle.dumps(payload)} for n, (_, payload) in enumerate(wave)]
        done = from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_kwargs={"worker": worker, "made_with": made_with},
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        for row in done.iter_rows():
            answer = pickle.loads(row["answer"])
            if isinstance(answer, UserError):
                raise answer
            yield keys[row["n"]], answer


class _Actor:
    """What runs in an actor: a worker, made once."""

    def __init__(self, worker: type, made_with: dict[str, Any]):
        self._worker = worker(**made_with)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._worker(pickle.loads(batch["payload"][0]))
        except UserError as error:  # nothing that trying again would mend
            answer = error
        return {"n": batch["n"], "answer": [pickle.dumps(answer)]}


def on_path() -> dict[str, Any]:
    """A runtime environment in which workers of this machine find this package."""
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}}


def add_backend_options(parser: Any) -> None:
    """--backend and --num-workers."""
    parser.add_argument("--backend", choices=("here", "ray"), default="here", help="where it computes (default: here)")
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="with --backend ray: actors")


def gpus_a_worker(settings: Settings, ray: Any) -> float:
    """One GPU a worker where the cluster has any and the settings do not say cpu."""
    return 1.0 if settings.device != "cpu" and ray.cluster_resources().get("GPU", 0) else 0.0
