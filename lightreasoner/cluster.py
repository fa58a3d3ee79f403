"""The Ray cluster: how to connect to it, and how to map a worker over its actors. Ray is an optional dependency.

    pip install -r requirements-ray.txt
    LIGHTREASONER_RAY_ADDRESS=head:6379 python -m lightreasoner sample … --backend ray --num-workers 8

The verb itself runs where it was started and writes the run folder. The workers load the models, receive batches and
return results, so their machines need only the models.
"""

import itertools
import logging
import os
import pickle
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lightreasoner.errors import UserError, first_line
from lightreasoner.settings import ROOT, Settings, to_environment

HERE = "local"  # an address: a cluster on this machine while the verb runs
CONNECT_SECONDS = 5.0  # time-out for reaching the head node: Ray itself waits for minutes
WAVE = 256  # batches per worker held in memory at a time; after a wave the workers load their models again


def connect(settings: Settings, workers: int) -> Any:
    """The ray module, connected to LIGHTREASONER_RAY_ADDRESS. Raises UserError when it cannot connect."""
    if not 1 <= workers <= 10_000:
        raise UserError(f"The number of workers is {workers}; it must be from 1 to 10,000.")
    try:
        import ray
    except ImportError:
        raise UserError(
            "Ray is not installed; install it with pip install -r requirements-ray.txt, or leave out --backend."
        ) from None
    address = settings.ray_address.strip()
    if not address:
        raise UserError(
            f"No Ray cluster is named; set LIGHTREASONER_RAY_ADDRESS to HOST:PORT of its head node, or to {HERE} for a "
            "cluster on this machine."
        )
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    try:
        if address != HERE:
            check_reachable(address)
        if ray.is_initialized():
            return ray
        if address == HERE:
            with _importable():
                ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except UserError:
        raise
    except Exception as error:  # anything that Ray and gRPC raise
        raise UserError(f"The Ray cluster at {address} cannot be used: {first_line(error)}") from None
    return ray


def check_reachable(address: str) -> None:
    """Raises UserError when nothing listens at the address."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"No Ray cluster answers at {address} ({reason}); start one with ray start --head, or correct "
            "LIGHTREASONER_RAY_ADDRESS."
        ) from None


def map_over_actors(
    ray: Any, worker: type, arguments: dict[str, Any], payloads: Iterable[tuple[Any, Any]], workers: int, gpus: float
) -> Iterator[tuple[Any, Any]]:
    """(key, worker(**arguments)(payload)) for each (key, payload), in the order of completion.

    worker: a class; each of the `workers` actors creates one instance and calls it. If an actor dies, it is replaced
    and its payloads are processed again. Raises the UserError that a worker raised.
    """
    from ray.data import ActorPoolStrategy, DataContext, from_items

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    payloads = iter(payloads)
    while wave := list(itertools.islice(payloads, WAVE * workers)):
        keys = [key for key, _ in wave]
        rows = [{"n": n, "payload": pickle.dumps(payload)} for n, (_, payload) in enumerate(wave)]
        results = from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_kwargs={"worker": worker, "arguments": arguments},
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        for row in results.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, UserError):
                raise result
            yield keys[row["n"]], result


class _Actor:
    """Runs in an actor and holds its worker."""

    def __init__(self, worker: type, arguments: dict[str, Any]):
        self._worker = worker(**arguments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            result = self._worker(pickle.loads(batch["payload"][0]))
        except UserError as error:  # returned, since Ray would try an exception again
            result = error
        return {"n": batch["n"], "result": [pickle.dumps(result)]}


@contextmanager
def _importable() -> Iterator[None]:
    """Processes that are started meanwhile can import this package. (A runtime environment of Ray would start each
    worker twice, and let none of those that a cluster begins with be used.)"""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def add_backend_options(parser: Any) -> None:
    """Add --backend and --num-workers."""
    parser.add_argument("--backend", choices=("here", "ray"), default="here", help="here (default) or on a Ray cluster")
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="actors of --backend ray (default 1)")


def gpus_per_worker(settings: Settings, ray: Any, workers: int) -> float:
    """1 if the cluster has GPUs and the device setting is not cpu, otherwise 0. Raises UserError for more workers than
    GPUs, of which some would wait for ever."""
    count = int(ray.cluster_resources().get("GPU", 0)) if settings.device != "cpu" else 0
    if 0 < count < workers:
        raise UserError(
            f"These are {workers} workers, but the cluster has {count} GPU(s), and each worker needs its own; use "
            f"--num-workers {count}, or LIGHTREASONER_DEVICE=cpu."
        )
    return 1.0 if count else 0.0


def worker_environment(settings: Settings) -> dict[str, str]:
    """The variables of the settings for a worker, to which Ray shows a GPU of its own: the first, whatever its number
    is where the command runs."""
    return to_environment(replace(settings, device="auto") if settings.device.startswith("cuda") else settings)
