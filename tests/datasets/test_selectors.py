"""Selectors: which steps each selects at which budget, and the same again with the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from lightreasoner import paper
from lightreasoner.datasets.selectors import SELECTOR_NAMES, SELECTORS, Selection, needs_of, select
from lightreasoner.errors import UserError
from lightreasoner.scoring import divergence

KL = np.array([0.1, 0.9, 0.39, np.inf, 0.0, 0.5, 0.2, 0.3], np.float32)  # above 0.4: 1, 3, 5
BUDGETED = tuple(name for name in SELECTOR_NAMES if name not in ("kl", "all"))
VALUES = {
    "kl": KL,
    "js": np.array([0.6, 0.1, 0.6, 0.2, 0.6, 0.0, 0.6, 0.3], np.float32),
    "reverse_kl": np.array([np.inf, 0, 3, 0, 2, 0, 1, 0], np.float32),
    "expert_entropy": np.arange(8, dtype=np.float32),
    "expert_logprob": np.array([-1, -1, -1, -1, -np.inf, np.nan, -3, -2], np.float32),
    "amateur_logprob": np.array([-2, -5, -1, -np.inf, -np.inf, np.nan, -1, -4], np.float32),
    "teaching": np.array([0, 0.2, np.nan, 0.5, 0.01, 3, np.nan, 0.3], np.float32),
    "agree": np.array([1, 0, 0, 1, 1, 0, 0, 0], bool),
}


def chosen(selector, **kw):
    return np.flatnonzero(select(VALUES, Selection(selector, **kw))).tolist()


def test_each_takes_what_it_says():
    assert chosen("kl") == chosen("top-percent") == [1, 3, 5]
    assert chosen("top-percent", budget=0.5) == [1, 2, 3, 5]
    assert chosen("all") == list(range(8))
    assert chosen("expert-entropy") == [5, 6, 7]
    assert chosen("js") == [0, 2, 4]  # four equal ones: the first in order
    assert chosen("reverse-kl") == [0, 2, 4]
    assert chosen("excess-loss") == [1, 3, 7]  # 4 is denied by both, 5 unknown: never taken


def test_what_teaches_most_and_what_is_above_tau():
    """KL above β takes steps whose target is what the expert expects already; an unknown signal is never above τ."""
    assert chosen("teaching") == [3, 5, 7]
    assert chosen("teaching", budget=1) == [0, 1, 3, 4, 5, 7]
    assert chosen("teaching", tau=0.1) == [1, 3, 5, 7] and chosen("teaching", tau=0.1, budget=0.25) == [3, 5]
    assert chosen("teaching", tau=0) == [1, 3, 4, 5, 7] and chosen("teaching", tau=5) == []


def test_the_union_of_uncertain_and_of_certain_but_divergent_steps():
    assert chosen("entropy-kl", budget=0.5) == [1, 3, 6, 7]  # 6 and 7 by entropy, 1 and 3 by KL of the others
    assert chosen("entropy-kl") == [3, 6, 7] and chosen("entropy-kl", budget=1) == list(range(8))


def test_a_box_leaves_only_its_steps_to_any_selector():
    """The box of the explorer is a selection: the same steps, and budgets of what is inside."""
    inside = {"box": "1:6:0.35:inf"}  # entropy of 1 to 5, KL of 0.35 and more: steps 1, 2, 3 and 5
    assert chosen("all", **inside) == [1, 2, 3, 5] and chosen("kl", **inside) == [1, 3, 5]
    assert chosen("expert-entropy", **inside) == [2, 3, 5] and chosen("random", **inside, budget=1) == [1, 2, 3, 5]
    assert len(chosen("random", **inside)) == 3 and set(chosen("random", **inside)) <= {1, 2, 3, 5}
    assert chosen("teaching", tau=0.1, **inside) == [1, 3, 5]
    assert chosen("all", box="0:inf:0:inf") == list(range(8)), "an infinite KL is in a box without an end"
    assert chosen("all", box="0:inf:0:9") == [0, 1, 2, 4, 5, 6, 7]
    assert Selection(box="0:1.50:.4:inf") == Selection(box=" 0:1.5:0.4:inf ")


BROKEN = (5, "", "1", "0:1:2", "0:1:2:3:4", "0:1:a:2", "1:0:0:1", "0:0:0:1", "-1:1:0:1", "nan:1:0:1")


@pytest.mark.parametrize("box", BROKEN)
def test_a_box_that_is_none_says_how_one_is_written(box):
    with pytest.raises(UserError, match="colons between them, the expert's entropy from and to and the KL"):
        Selection("all", box=box)


def test_disagreements_are_thinned_evenly_and_filled_up_to_budget():
    assert chosen("disagreement") == [1, 2, 6]  # of 1, 2, 5, 6, 7
    few = VALUES | {"agree": np.array([1, 1, 1, 1, 1, 1, 1, 0], bool)}
    taken = np.flatnonzero(select(few, Selection("disagreement"))).tolist()
    assert 7 in taken and len(taken) == 3


def test_equal_budget_and_the_same_again():
    rng = np.random.default_rng(0)
    values = {name: rng.random(5000).astype(np.float32) for name in VALUES}
    values["agree"] = rng.random(5000) < 0.8
    count = int((values["kl"].astype(float) > 0.4).sum())
    for name in ("kl", *BUDGETED):
        one, other = (select(values, Selection(name, seed=3)) for _ in range(2))
        assert one.sum() == count, name
        assert (one == other).all()
    assert (select(values, Selection("random", seed=1)) != select(values, Selection("random", seed=2))).any()
    for budget in (0.1, 0.25, 1):
        assert all(select(values, Selection(name, budget=budget)).sum() == budget * 5000 for name in BUDGETED)


def test_every_k_is_evenly_spaced():
    values = {"kl": np.zeros(1000, np.float32)}
    gaps = np.diff(np.flatnonzero(select(values, Selection("every-k", budget=0.16))))
    assert set(gaps.tolist()) == {6, 7}


def test_beta_is_compared_as_the_inspector_does():
    """0.4 in fp32 is above 0.4; compared in fp32 the step of exactly that KL would go missing."""
    kl = np.array([np.float32(0.4)])
    assert float(kl[0]) > 0.4
    assert select({"kl": kl}, Selection(beta=0.4)).tolist() == [True]


def test_a_small_budget_takes_at_least_one_and_nothing_of_nothing():
    assert len(chosen("random", budget=0.001)) == 1
    empty = {name: column[:0] for name, column in VALUES.items()}
    assert all(select(empty, Selection(name)).sum() == 0 for name in SELECTOR_NAMES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"selector": "best"},
        {"selector": None},
        {"alpha": 0.001},
        {"alpha": float("nan")},
        {"beta": -1},
        {"beta": "0.4"},
        {"selector": "random", "budget": 0},
        {"selector": "random", "budget": 1.5},
        {"selector": "kl", "budget": 0.5},
        {"selector": "all", "budget": 0.5},
        {"seed": -1},
        {"tau": 0.1},
        {"selector": "teaching", "tau": -1},
        {"selector": "teaching", "tau": "0.1"},
        {"seed": True},
    ],
)
def test_senseless_values_are_refused(wrong):
    with pytest.raises(UserError):
        Selection(**wrong)


def test_a_stored_selection_says_what_was_added_later_only_where_it_is_set():
    """With τ in every record, no run of former versions could be resumed: its settings would differ."""
    assert "box" not in Selection().as_json() and Selection("teaching", tau=0.0).as_json()["tau"] == 0
    assert list(Selection().as_json()) == ["selector", "alpha", "beta", "budget", "seed"]


def test_the_table_is_complete_and_its_floor_is_the_scorers():
    assert divergence.ALPHA_FLOOR == paper.ALPHA_FLOOR == Selection(alpha=paper.ALPHA_FLOOR).alpha
    with pytest.raises(UserError):
        Selection(alpha=paper.ALPHA_FLOOR * 0.999)
    assert len(SELECTOR_NAMES) == len(set(SELECTOR_NAMES)) == 12
    assert all(
        s.title and s.description.endswith(".") and s.score and "kl" in needs_of(Selection(s.name)) for s in SELECTORS
    )
