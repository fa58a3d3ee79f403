"""Training samples as lessons: grouped by trajectory, a part kept aside, and mixed into updates.

An update is counted in samples, as in the paper. What one update mixes is a choice between speed and variety: samples
taken together from one trajectory cost one forward, from many trajectories one each. The whole order is a function of
the seed, so that a resumed run goes on with the very data that an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lightreasoner.datasets.samples import Sample
from lightreasoner.errors import UserError
from lightreasoner.training.loss import Lesson, Target


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
    """Which samples each update learns: `updates[n]` gives its lessons.

    A pass over the data (an epoch) takes every sample once: each trajectory's samples are dealt at random into groups
    of at most `group`, and the groups shuffled. Groups are never cut, since a cut costs a forward more; so an update
    has about `size` samples, and so many that after n updates as nearly n · size were seen as whole groups allow.
    Updates run on across the ends of passes.
    """

    def __init__(self, lessons: list[Lesson], updates: int, size: int, group: int, seed: int):
        self._lessons, self._group, self._seed = lessons, group, seed
        self._orders: dict[int, list[tuple[int, np.ndarray]]] = {}
        #: first group of each update, and samples before it, both counted through all passes
        self._starts, self._seen = self._cut(updates, size)

    def _cut(self, updates: int, size: int) -> tuple[list[int], list[int]]:
        starts, seen, groups, samples = [0], [0], 0, 0
        while len(starts) <= updates:
            for _, targets in self._order(groups // self._groups_a_pass()):
                before, groups, samples = samples, groups + 1, samples + len(targets)
                goal = size * len(starts)
                # The last group that came may have gone too far; then the update before ends without it, unless empty.
                if samples >= goal:
                    without = groups - 1 > starts[-1] and goal - before < samples - goal
                    starts.append(groups - 1 if without else groups)
                    seen.append(before if without else samples)
                    if len(starts) > updates:
                        break
        return starts, seen

    def __len__(self) -> int:
        return len(self._starts) - 1

    def samples(self, updates: int) -> int:
        """Samples seen after so many updates."""
        return self._seen[updates]

    def passes(self, updates: int) -> float:
        """How often so many updates go through the data."""
        return self._seen[updates] / count(self._lessons)

    def __getitem__(self, update: int) -> list[Lesson]:
        if not 0 <= update < len(self):
            raise IndexError(update)
        taken: dict[tuple[int, int], list[int]] = {}  # (pass, lesson) → targets: a pass's end may fall inside
        for place in range(self._starts[update], self._starts[update + 1]):
            epoch, offset = divmod(place, self._groups_a_pass())
            lesson, targets = self._order(epoch)[offset]
            taken.setdefault((epoch, lesson), []).extend(targets.tolist())
        return [self._part(lesson, targets) for (_, lesson), targets in taken.items()]

    def _part(self, lesson: int, targets: list[int]) -> Lesson:
        whole = self._lessons[lesson]
        return replace(whole, targets=tuple(whole.targets[n] for n in sorted(targets)))

    def _groups_a_pass(self) -> int:
        return sum(-(-len(lesson.targets) // self._group) for lesson in self._lessons)

    def _order(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The groups of one pass: (lesson, its targets)."""
        if epoch not in self._orders:
            rng = np.random.default_rng([self._seed, 2, epoch])
            groups = []
            for n, lesson in enumerate(self._lessons):
                dealt = rng.permutation(len(lesson.targets))
                groups += [(n, dealt[start : start + self._group]) for start in range(0, len(dealt), self._group)]
            if len(self._orders) > 1:  # an update touches two passes at most
                self._orders.pop(min(self._orders))
            self._orders[epoch] = [groups[n] for n in rng.permutation(len(groups))]
        return self._orders[epoch]
