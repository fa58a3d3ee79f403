"""Sample on a Ray cluster: each worker loads both models and samples batches with the functions of the local path."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from lightreasoner.cluster import connect, gpus_per_worker, map_over_actors, worker_environment
from lightreasoner.decoding.forward_pass import unload
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_further, load_pair
from lightreasoner.progress import Progress, SilentProgress
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.sampler import Missing, ParallelMap, sample_batch
from lightreasoner.settings import Settings, from_environment


def cluster_map(
    job: SamplingJob, pairs: Sequence[Pair], batch_size: int, settings: Settings, progress: Progress
) -> ParallelMap:
    """A ParallelMap over the job's workers. batch_size: responses at once. Raises UserError without a cluster.

    pairs: the expert beside each of the job's amateurs. They are unloaded here as soon as it is called.
    """
    ray = connect(settings, job.num_workers)
    env = worker_environment(settings)
    arguments = {"job": job, "fingerprints": _fingerprints(pairs), "batch_size": batch_size, "env": env}

    def sample_batches(missing: Iterable[tuple[int, Missing]]) -> Iterator[tuple[int, list[pa.Table]]]:
        gpus = gpus_per_worker(settings, ray, job.num_workers)
        unload([pairs[0].expert, *(pair.amateur for pair in pairs)])  # a worker wants the GPU that they are on
        for batch, (tables, halved) in map_over_actors(ray, BatchSampler, arguments, missing, job.num_workers, gpus):
            for rows in halved:
                progress.event("halved", rows=rows)
            yield batch, tables

    return sample_batches


class BatchSampler:
    """Holds the models in a worker. Called with what a batch misses, it returns (tables, batch sizes after halving)."""

    def __init__(self, job: SamplingJob, fingerprints: list[str], batch_size: int, env: dict[str, str]):
        self._decoding, self._rows, models = job.decoding, batch_size, LoadedModels(from_environment(env))
        pair = load_pair(job.expert, job.amateur, models, name=job.pair_name)
        self._pairs = [pair, *load_further(pair, job.other_amateurs, models)]
        self._same = _fingerprints(self._pairs) == fingerprints

    def __call__(self, missing: Missing) -> tuple[list[pa.Table], list[int]]:
        if not self._same:
            raise UserError(
                "A worker has other models than the machine that started this run; copy the same model files to all "
                "machines."
            )
        progress = HalvedBatches()
        quiet = lambda ended: None  # noqa: E731
        tables, self._rows = sample_batch(self._pairs, missing, self._decoding, progress, quiet, self._rows)
        return tables, progress.halved


def _fingerprints(pairs: Sequence[Pair]) -> list[str]:
    return [pairs[0].expert.fingerprint, *(pair.amateur.fingerprint for pair in pairs)]


class HalvedBatches(SilentProgress):
    """Remembers the batch sizes that remained after running out of memory, for the driver to report."""

    def __init__(self):
        self.halved: list[int] = []

    def event(self, kind: str, **data: Any) -> None:
        self.halved.append(data["rows"])
