"""From samples to updates: no sample is lost or repeated, and the order is the same after a resume."""

from __future__ import annotations

from collections import Counter

import pytest

from lightreasoner.datasets.samples import Sample
from lightreasoner.errors import UserError
from lightreasoner.training.batches import BatchSampler, count_samples, group_by_trajectory, hold_out
from lightreasoner.training.loss import PackedExample, Target


def examples(*sizes: int) -> list[PackedExample]:
    """Examples with so many samples each; a target's only token names it: 1000 · example + step."""
    return [
        PackedExample(list(range(50)), 10, tuple(Target(step, (1000 * n + step,), (1.0,)) for step in range(size)))
        for n, size in enumerate(sizes)
    ]


def names(made: list[PackedExample]) -> list[int]:
    return [target.token_ids[0] for example in made for target in example.targets]


def sample(problem: str, step: int, prefix: list[int], number: int = 0) -> Sample:
    return Sample(problem, number, "?", step, prefix, [7], [1.0], 0.5, prompt_tokens=3)


def test_samples_of_a_trajectory_become_one_example():
    made = group_by_trajectory(
        [sample("a", 0, [1, 2, 3]), sample("a", 2, [1, 2, 3, 4, 5]), sample("a", 1, [1, 2, 3, 9], number=1)]
    )
    assert [(x.ids, x.prompt_length, [t.step for t in x.targets]) for x in made] == [
        ([1, 2, 3, 4, 5], 3, [0, 2]),
        ([1, 2, 3, 9], 3, [1]),
    ]
    assert count_samples(made) == 3


def test_an_empty_selection_says_so():
    with pytest.raises(UserError, match=r"Nothing is selected.*lower β"):
        group_by_trajectory([])


def test_what_is_held_out_is_whole_trajectories():
    made = examples(*range(1, 21))
    train, held = hold_out(made, 0.1, seed=3)
    assert len(held) == 2
    assert sorted(names(train) + names(held)) == sorted(names(made))
    assert hold_out(made, 0.1, seed=3) == (train, held)
    assert hold_out(made, 0.1, seed=4) != (train, held)
    assert hold_out(made, 0.0, seed=3) == (made, [])
    assert [len(part) for part in hold_out(examples(2, 2), 0.05, 0)] == [1, 1], "a small share is still one"
    assert [len(part) for part in hold_out(examples(2), 0.5, 0)] == [1, 0], "but never the last one"


@pytest.mark.parametrize("group", [1, 3, 16])
def test_each_pass_takes_every_sample_once(group):
    made = examples(5, 1, 9, 2, 30)
    updates = BatchSampler(made, updates=60, batch_size=4, max_per_trajectory=group, seed=1)
    stream = [name for n in range(len(updates)) for name in names(updates[n])]
    assert len(stream) == updates.samples_seen(60)
    assert updates.epochs(60) == updates.samples_seen(60) / 47
    passes = len(stream) // 47
    assert passes >= 4
    for epoch in range(passes):  # whole groups of a pass may come in any order, but none of the next before its end
        seen = Counter(stream[: 47 * (epoch + 1)])
        assert set(seen) == set(names(made))
        assert max(seen.values()) <= epoch + 2


def test_an_update_has_about_its_size_and_never_drifts_from_it():
    """11 steps per trajectory and 16 samples per update: 11, 22, 11, 22 …; no group is cut, none is empty."""
    made = examples(*[11] * 40)
    updates = BatchSampler(made, updates=100, batch_size=16, max_per_trajectory=100, seed=0)
    sizes = [count_samples(updates[n]) for n in range(100)]
    assert set(sizes) == {11, 22}
    assert all(abs(updates.samples_seen(n) - 16 * n) <= 11 for n in range(101))
    large = BatchSampler(examples(*[20] * 40), updates=50, batch_size=16, max_per_trajectory=100, seed=0)
    assert {count_samples(large[n]) for n in range(50)} == {20}, "at least one group, even if it is too much"
    exact = BatchSampler(made, updates=100, batch_size=16, max_per_trajectory=1, seed=0)
    assert {count_samples(exact[n]) for n in range(100)} == {16}, "as in the paper"


def test_any_update_can_be_opened_first():
    """Resuming opens the data in the middle: it must be the data of an undisturbed run."""
    made = examples(5, 1, 9, 2, 30)
    forward = [names(BatchSampler(made, 40, 4, 3, seed=1)[n]) for n in range(40)]
    jumping = BatchSampler(made, 40, 4, 3, seed=1)
    assert [names(jumping[n]) for n in reversed(range(40))] == forward[::-1]
    assert forward != [names(BatchSampler(made, 40, 4, 3, seed=2)[n]) for n in range(40)]
    assert forward[:20] == [names(BatchSampler(made, 20, 4, 3, seed=1)[n]) for n in range(20)], (
        "a longer run begins alike"
    )


def test_a_group_is_read_together():
    """16 samples from trajectories of 40 cost one or two forwards in groups of 16, about sixteen in groups of one."""
    made = examples(*[40] * 50)
    reads = {g: sum(len(x) for x in (BatchSampler(made, 50, 16, g, 0)[n] for n in range(50))) / 50 for g in (1, 4, 16)}
    assert reads[16] < 2.2 < 3.5 < reads[4] < 5.5 < 13 < reads[1] <= 16
