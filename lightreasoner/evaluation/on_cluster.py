"""Evaluate on a Ray cluster: each worker loads the base model and its adapters, and solves whole batches."""

from lightreasoner.cluster import connect, gpus_per_worker, map_over_actors
from lightreasoner.errors import UserError
from lightreasoner.evaluation.evaluate import GREEDY, ParallelMap, Sampling, Solver
from lightreasoner.evaluation.results import Variant
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.progress import SilentProgress
from lightreasoner.settings import Settings, from_environment, to_environment


def cluster_map(
    loaded: LoadedModel,
    variants: list[Variant],
    max_new_tokens: int,
    stop: tuple[str, ...],
    workers: int,
    settings: Settings,
    sampling: Sampling = GREEDY,
) -> ParallelMap:
    """The `parallel_map` of `evaluate` that runs on a cluster. Raises UserError without a cluster."""
    ray = connect(settings, workers)
    arguments = {
        "ref": loaded.ref,
        "fingerprint": loaded.fingerprint,
        "variants": variants,
        "max_new_tokens": max_new_tokens,
        "stop": stop,
        "env": to_environment(settings),
        "sampling": sampling,
    }
    gpus = gpus_per_worker(settings, ray)
    return lambda requests: map_over_actors(ray, WorkerSolver, arguments, requests, workers, gpus)


class WorkerSolver:
    """A Solver in a worker, which loads its own model."""

    def __init__(
        self,
        ref: str,
        fingerprint: str,
        variants: list[Variant],
        max_new_tokens: int,
        stop: tuple[str, ...],
        env: dict[str, str],
        sampling: Sampling = GREEDY,
    ):
        loaded = load_model(ref, from_environment(env))
        self._same = loaded.fingerprint == fingerprint
        self._solver = Solver(loaded, variants, max_new_tokens, SilentProgress(), stop, sampling)

    def __call__(self, request: tuple[int, list[list[int]], list[tuple[str, int]]]) -> tuple[list[list[int]], float]:
        if not self._same:
            raise UserError(
                "A worker has another model than the machine that started this run; copy the same files to all."
            )
        return self._solver(request)
