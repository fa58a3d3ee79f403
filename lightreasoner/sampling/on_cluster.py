"""Sample on a Ray cluster: each worker loads both models and samples batches with the functions of the local path."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from lightreasoner.cluster import connect, gpus_per_worker, map_over_actors
from lightreasoner.decoding.generate import GenerationRow
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.progress import Progress, SilentProgress
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.sampler import ParallelMap, sample_batch
from lightreasoner.settings import Settings, from_environment, to_environment


def cluster_map(job: SamplingJob, pair: Pair, batch_size: int, settings: Settings, progress: Progress) -> ParallelMap:
    """A ParallelMap over the job's workers. batch_size: responses at once. Raises UserError without a cluster."""
    ray = connect(settings, job.num_workers)
    arguments = {
        "job": job,
        "fingerprints": (pair.expert.fingerprint, pair.amateur.fingerprint),
        "batch_size": batch_size,
        "env": to_environment(settings),
    }

    def sample_batches(missing: Iterable[tuple[int, list[GenerationRow]]]) -> Iterator[tuple[int, pa.Table]]:
        gpus = gpus_per_worker(settings, ray)
        for batch, (table, halved) in map_over_actors(ray, BatchSampler, arguments, missing, job.num_workers, gpus):
            for rows in halved:
                progress.event("halved", rows=rows)
            yield batch, table

    return sample_batches


class BatchSampler:
    """Holds both models in a worker. Called with a batch's items, it returns (table, batch sizes after halving)."""

    def __init__(self, job: SamplingJob, fingerprints: tuple[str, str], batch_size: int, env: dict[str, str]):
        self._decoding, self._rows = job.decoding, batch_size
        self._pair = load_pair(job.expert, job.amateur, LoadedModels(from_environment(env)), name=job.pair_name)
        self._same = (self._pair.expert.fingerprint, self._pair.amateur.fingerprint) == fingerprints

    def __call__(self, items: list[GenerationRow]) -> tuple[pa.Table, list[int]]:
        if not self._same:
            raise UserError(
                "A worker has other models than the machine that started this run; copy the same model files to all "
                "machines."
            )
        progress = HalvedBatches()
        table, self._rows = sample_batch(self._pair, items, self._decoding, progress, lambda ended: None, self._rows)
        return table, progress.halved


class HalvedBatches(SilentProgress):
    """Remembers the batch sizes that remained after running out of memory, for the driver to report."""

    def __init__(self):
        self.halved: list[int] = []

    def event(self, kind: str, **data: Any) -> None:
        self.halved.append(data["rows"])
