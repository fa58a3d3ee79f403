"""Packs samples into training examples, holds some out, and deals the rest into updates of a given batch size.

As in the paper, the batch size counts samples. All samples of one trajectory in an update share one forward pass, so
packing more of them is faster and packing fewer mixes trajectories better. The order depends on the seed alone, so that
a resumed run continues with the same data.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lightreasoner.datasets.samples import Sample
from lightreasoner.errors import UserError
from lightreasoner.training.loss import PackedExample, Target


def group_by_trajectory(samples: Iterable[Sample]) -> list[PackedExample]:
    """One example per trajectory. Samples of one trajectory must be consecutive, as `select_steps.samples` yields them.

    Raises UserError when there is no sample.
    """
    examples: list[PackedExample] = []
    last, ids, prompt, targets = None, [], 0, []

    def close() -> None:
        if targets:
            examples.append(PackedExample(ids, prompt, tuple(targets)))

    for sample in samples:
        key = (sample.problem_id, sample.sample)
        if key != last:
            close()
            last, prompt, targets = key, sample.prompt_tokens, []
        ids = sample.prefix_ids  # the longest so far: steps come in order
        targets.append(Target(sample.step, sample.token_ids, sample.weights))
    close()
    if not examples:
        raise UserError(
            "Nothing is selected, so there is nothing to train on; lower β or choose another selector or dataset."
        )
    return examples


def count_samples(examples: list[PackedExample]) -> int:
    return sum(len(example.targets) for example in examples)


def hold_out(
    examples: list[PackedExample], fraction: float, seed: int
) -> tuple[list[PackedExample], list[PackedExample]]:
    """(training examples, held-out examples). Whole trajectories are held out, so that the two share no prefix.

    At least one is held out where fraction > 0 and there are two or more.
    """
    n_held_out = round(fraction * len(examples))
    if fraction > 0:
        n_held_out = min(max(1, n_held_out), len(examples) - 1)
    held_out = np.random.default_rng([seed, 1]).permutation(len(examples))[:n_held_out].tolist()
    train = sorted(set(range(len(examples))) - set(held_out))
    return [examples[n] for n in train], [examples[n] for n in held_out]


class BatchSampler:
    """Which samples each update trains on: `sampler[n]` gives the packed examples of update n.

    An epoch takes every sample once. It deals each trajectory's samples at random into groups of at most
    `max_per_trajectory` and shuffles the groups. A group is never cut, since that would cost another forward pass. So
    an update has about `batch_size` samples, and after n updates the number of samples seen is as close to
    n · batch_size as whole groups allow. An update may span two epochs.
    """

    def __init__(
        self, examples: list[PackedExample], updates: int, batch_size: int, max_per_trajectory: int, seed: int
    ):
        self._examples, self._max_per_trajectory, self._seed = examples, max_per_trajectory, seed
        self._groups: dict[int, list[tuple[int, np.ndarray]]] = {}  # epoch → its groups
        #: first group of each update, and samples before it, both counted through all epochs
        self._starts, self._seen = self._cut(updates, batch_size)

    def _cut(self, updates: int, batch_size: int) -> tuple[list[int], list[int]]:
        starts, seen, groups, samples = [0], [0], 0, 0
        while len(starts) <= updates:
            for _, targets in self._groups_of(groups // self._groups_per_epoch()):
                before, groups, samples = samples, groups + 1, samples + len(targets)
                goal = batch_size * len(starts)
                # If the last group overshoots by more than it fills, the update ends before it, unless that is empty.
                if samples >= goal:
                    without = groups - 1 > starts[-1] and goal - before < samples - goal
                    starts.append(groups - 1 if without else groups)
                    seen.append(before if without else samples)
                    if len(starts) > updates:
                        break
        return starts, seen

    def __len__(self) -> int:
        return len(self._starts) - 1

    def samples_seen(self, updates: int) -> int:
        """Samples seen after this many updates, repeats counted."""
        return self._seen[updates]

    def epochs(self, updates: int) -> float:
        """Passes over the data after this many updates."""
        return self._seen[updates] / count_samples(self._examples)

    def __getitem__(self, update: int) -> list[PackedExample]:
        if not 0 <= update < len(self):
            raise IndexError(update)
        taken: dict[tuple[int, int], list[int]] = {}  # (epoch, example) → targets
        for place in range(self._starts[update], self._starts[update + 1]):
            epoch, offset = divmod(place, self._groups_per_epoch())
            example, targets = self._groups_of(epoch)[offset]
            taken.setdefault((epoch, example), []).extend(targets.tolist())
        return [self._part(example, targets) for (_, example), targets in taken.items()]

    def _part(self, example: int, targets: list[int]) -> PackedExample:
        whole = self._examples[example]
        return replace(whole, targets=tuple(whole.targets[n] for n in sorted(targets)))

    def _groups_per_epoch(self) -> int:
        return sum(-(-len(example.targets) // self._max_per_trajectory) for example in self._examples)

    def _groups_of(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The groups of one epoch: (index of an example, indices of its targets)."""
        if epoch not in self._groups:
            rng, size = np.random.default_rng([self._seed, 2, epoch]), self._max_per_trajectory
            groups = []
            for n, example in enumerate(self._examples):
                dealt = rng.permutation(len(example.targets))
                groups += [(n, dealt[start : start + size]) for start in range(0, len(dealt), size)]
            if len(self._groups) > 1:  # an update spans two epochs at most
                self._groups.pop(min(self._groups))
            self._groups[epoch] = [groups[n] for n in rng.permutation(len(groups))]
        return self._groups[epoch]
