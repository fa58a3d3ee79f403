"""Evaluate on a Ray cluster: each worker loads the base model and its adapters, and solves whole batches."""

from collections.abc import Iterable, Iterator
from typing import Any

from lightreasoner.cluster import connect, gpus_per_worker, map_over_actors, worker_environment
from lightreasoner.decoding.forward_pass import unload
from lightreasoner.errors import UserError
from lightreasoner.evaluation.evaluate import ParallelMap, Request, Solved, Solver, Solving
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.models.references import ModelRef
from lightreasoner.progress import SilentProgress
from lightreasoner.settings import Settings, from_environment


def cluster_map(
    loaded: LoadedModel, solving: Solving, workers: int, settings: Settings, pair: Pair | None = None
) -> ParallelMap:
    """The `parallel_map` of `evaluate` that runs on a cluster. Called, it unloads the models here. Raises UserError
    without a cluster."""
    ray = connect(settings, workers)
    arguments = {
        "ref": loaded.ref,
        "fingerprint": loaded.fingerprint,
        "solving": solving,
        "env": worker_environment(settings),
        "amateur": pair and (pair.amateur.ref, pair.amateur.fingerprint),
    }
    gpus = gpus_per_worker(settings, ray, workers)

    def solve(requests: Iterable[tuple[Any, Request]]) -> Iterator[tuple[Any, Solved]]:
        unload([pair.expert, pair.amateur] if pair else [loaded])  # a worker wants the GPU that they are on
        return map_over_actors(ray, WorkerSolver, arguments, requests, workers, gpus)

    return solve


class WorkerSolver:
    """A Solver in a worker, which loads its own model."""

    def __init__(
        self,
        ref: str,
        fingerprint: str,
        solving: Solving,
        env: dict[str, str],
        amateur: tuple[ModelRef, str] | None = None,
    ):
        """amateur: its reference and fingerprint, where a variant is a contrast."""
        settings, pair = from_environment(env), None
        if amateur:
            pair = load_pair(ref, amateur[0], LoadedModels(settings))
        loaded = pair.expert if pair else load_model(ref, settings)
        self._same = loaded.fingerprint == fingerprint and (not pair or pair.amateur.fingerprint == amateur[1])
        self._solver = Solver(loaded, solving, SilentProgress(), pair)

    def __call__(self, request: Request) -> Solved:
        if not self._same:
            raise UserError(
                "A worker has another model than the machine that started this run; copy the same files to all."
            )
        return self._solver(request)
