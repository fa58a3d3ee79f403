"""Training samples as lessons: grouped by trajectory, a part kept aside, and mixed into updates.

An update is counted in samples, as in the paper. What one update mixes is a choice between speed and variety: with
`group` samples taken together from a trajectory, 16 samples cost 16 / group forwards. The whole order is a function of
the seed, so that a resumed run goes on with the very data that an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lightreasoner.errors import UserError
from lightreasoner.objective import Lesson, Target
from lightreasoner.samples import Sample


def gather(samples: Iterable[Sample]) -> list[Lesson]:
    """One lesson a trajectory. Samples of one trajectory must follow each other, as `supervision.samples` gives them.

    Raises UserError when there is not a single sample.
    """
    lessons: list[Lesson] = []
    last, ids, prompt, targets = None, [], 0, []

    def close() -> None:
        if targets:
            lessons.append(Lesson(ids, prompt, tuple(targets)))

    for sample in samples:
        key = (sample.problem_id, sample.sample)
        if key != last:
            close()
            last, prompt, targets = key, sample.prompt_tokens, []
        ids = sample.prefix_ids  # the longest so far: steps come in order
        targets.append(Target(sample.step, sample.token_ids, sample.weights))
    close()
    if not lessons:
        raise UserError(
            "Nothing is selected, so there is nothing to train on; lower β or choose another selector or dataset."
        )
    return lessons


def count(lessons: list[Lesson]) -> int:
    """Samples in these lessons."""
    return sum(len(lesson.targets) for lesson in lessons)


def hold_out(lessons: list[Lesson], share: float, seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """(to train on, kept aside): whole trajectories, so that nothing kept aside shares a prefix with what is learned.

    At least one is kept aside where share > 0 and there are two.
    """
    aside = round(share * len(lessons))
    if share > 0:
        aside = min(max(1, aside), len(lessons) - 1)
    order = np.random.default_rng([seed, 1]).permutation(len(lessons))
    kept = set(order[:aside].tolist())
    return (
        [lesson for n, lesson in enumerate(lessons) if n not in kept],
        [lessons[n] for n in order[:aside].tolist()],
    )


class Updates:
    """Which samples each update learns: `updates[n]` gives its lessons, `size` samples in all.

    A pass over the data (an epoch) takes every sample once: each trajectory's samples are dealt at random into groups
    of at most `group`, and the groups shuffled. Updates run on across the ends of passes. Picklable and cheap to open
    anywhere, so resuming at update n reads nothing before it.
    """

    def __init__(self, lessons: list[Lesson], updates: int, size: int, group: int, seed: int):
        self._lessons, self._updates, self._size, self._group, self._seed = lessons, updates, size, group, seed
        self._samples = count(lessons)
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._updates

    def passes(self, updates: int) -> float:
        """How often this many updates go through the data."""
        return updates * self._size / self._samples

    def __getitem__(self, update: int) -> list[Lesson]:
        if not 0 <= update < self._updates:
            raise IndexError(update)
        places = range(update * self._size, (update + 1) * self._size)
        taken: dict[tuple[int, int], list[int]] = {}  # (pass, lesson) → targets: a pass's end may fall inside
        for place in places:
            epoch, offset = divmod(place, self._samples)
            lesson, target = self._order(epoch)[offset].tolist()
            taken.setdefault((epoch, lesson), []).append(target)
        return [self._part(lesson, targets) for (_, lesson), targets in taken.items()]

    def _part(self, lesson: int, targets: list[int]) -> Lesson:
        whole = self._lessons[lesson]
        return replace(whole, targets=tuple(whole.targets[n] for n in sorted(targets)))

    def _order(self, epoch: int) -> np.ndarray:
        """(samples, 2): lesson and target, in the order of one pass."""
        if epoch not in self._orders:
            rng = np.random.default_rng([self._seed, 2, epoch])
            groups = []
            for n, lesson in enumerate(self._lessons):
                dealt = rng.permutation(len(lesson.targets))
                for start in range(0, len(dealt), self._group):
                    targets = dealt[start : start + self._group]
                    groups.append(np.stack([np.full(len(targets), n), targets], -1))
            shuffled = [groups[n] for n in rng.permutation(len(groups))]
            self._orders = {epoch - 1: self._orders.get(epoch - 1)} if epoch - 1 in self._orders else {}
            self._orders[epoch] = np.concatenate(shuffled)
        return self._orders[epoch]
