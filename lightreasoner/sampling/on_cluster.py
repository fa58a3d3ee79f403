"""Sampling on a cluster: every worker holds both models and calls what the local path calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from lightreasoner.cluster import connect, gpus_a_worker, spread_over
from lightreasoner.decoding.generate import Decoding, Item
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.progress import Progress, SilentProgress
from lightreasoner.sampling.sampler import Spread, sampled
from lightreasoner.settings import Settings, from_environment, to_environment


def spread(
    pair: Pair, name: str | None, decoding: Decoding, rows: int, workers: int, settings: Settings, progress: Progress
) -> Spread:
    """What `sampling.sample` takes as its `spread`. rows: responses at once. Raises UserError without a cluster."""
    ray = connect(settings, workers)
    made_with = {
        "refs": (pair.expert.ref, pair.amateur.ref, name),
        "fingerprints": (pair.expert.fingerprint, pair.amateur.fingerprint),
        "decoding": decoding,
        "rows": rows,
        "env": to_environment(settings),
    }

    def everywhere(missing: Iterable[tuple[int, list[Item]]]) -> Iterator[tuple[int, pa.Table]]:
        gpus = gpus_a_worker(settings, ray)
        for batch, (table, halved) in spread_over(ray, Sampler, made_with, missing, workers, gpus):
            for rows_left in halved:
                progress.event("halved", rows=rows_left)
            yield batch, table

    return everywhere


class Sampler:
    """Both models in a worker; called with a batch's items it gives (their table, sizes that did not fit)."""

    def __init__(self, refs: tuple, fingerprints: tuple, decoding: Decoding, rows: int, env: dict[str, str]):
        from lightreasoner.models.cache import LoadedModels

        expert, amateur, name = refs
        self._decoding, self._rows = decoding, rows
        self._pair = load_pair(expert, amateur, LoadedModels(from_environment(env)), name=name)
        self._same = (self._pair.expert.fingerprint, self._pair.amateur.fingerprint) == fingerprints

    def __call__(self, items: list[Item]) -> tuple[pa.Table, list[int]]:
        if not self._same:
            raise UserError(
                "A worker has other models than the machine that started this run; give all machines the same files."
            )
        recorded = HalvedBatches()
        table, self._rows = sampled(self._pair, items, self._decoding, recorded, lambda ended: None, self._rows)
        return table, recorded.halved


class HalvedBatches(SilentProgress):
    """Remembers the batch sizes that remained after running out of memory, for the driver to report."""

    def __init__(self):
        self.halved: list[int] = []

    def event(self, kind: str, **data: Any) -> None:
        self.halved.append(data["rows"])
