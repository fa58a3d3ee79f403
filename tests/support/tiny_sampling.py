"""Shared by the sampling tests: questions of many lengths, a recording progress, a dataset from a tiny pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.problems.stream import ProblemStream
from lightreasoner.sampling.plan import Prompts
from lightreasoner.sampling.sampler import SamplingCounts, sample_dataset
from lightreasoner.settings import Settings

QUESTIONS = [
    "Tom has 3 apples and buys 4. How many?",
    "2 + 2?",
    "She sold 12 of the 20 cakes. How many are left? " * 3,
    "A box holds 6 caps, and there are 7 boxes. How many caps are there in all?",
    "1?",
    "Ann is 9. Bob is twice as old. How old are they together, and how old will they be in 3 years?",
    "Is 91 prime?",
]


class RecordingProgress:
    """A Progress that records its events and raises `stop` at the `stop_at`-th checkpoint."""

    def __init__(self, stop_at: int | None = None, stop: BaseException | None = None):
        self.events, self.checkpoints, self._stop_at, self._stop = [], 0, stop_at, stop

    def status(self, text):
        self.events.append(("status", {"text": text}))

    def update(self, done, total, **numbers):
        self.events.append(("progress", {"done": done, "total": total} | numbers))

    def event(self, kind, **data):
        self.events.append((kind, data))

    def result(self, **numbers):
        self.events.append(("result", numbers))

    def checkpoint(self):
        self.checkpoints += 1
        if self.checkpoints == self._stop_at:
            raise self._stop

    def of(self, kind):
        return [data for name, data in self.events if name == kind]


def ending(pair, *ids):
    """The pair with these ids as the ends of a turn, so that a random model's responses end apart."""
    return replace(pair, expert=replace(pair.expert, end_ids=frozenset(ids)))


def build(
    pair, folder: Path, rows=None, *, batch_size=3, samples=1, progress=None, settings=None, **decoding
) -> SamplingCounts:
    """Sample a dataset from rows (default: QUESTIONS) into a folder."""
    rows = [{"question": q, "answer": str(n)} for n, q in enumerate(QUESTIONS)] if rows is None else rows
    decoding = DecodingConfig(**{"max_new_tokens": 24} | decoding)
    stream = ProblemStream(enumerate(rows, 1), title="rows", distinct=True)
    counts = SamplingCounts(samples)
    sample_dataset(
        pair,
        Prompts(pair, stream, decoding, settings or Settings(workspace=folder / "workspace", device="cpu")),
        folder,
        decoding,
        batch_size=batch_size,
        total=len(rows),
        progress=progress or RecordingProgress(),
        counts=counts,
    )
    return counts
