"""Which steps of a dataset to train on: the paper's rule, and others to compare it with at the same budget.

A selector sees compact arrays with one number a step, over the whole dataset, and says which steps it takes. It never
sees whether a step's details were stored: what cannot become a sample is counted by `supervision`, not chosen around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA

Values = Mapping[str, np.ndarray]  # measure → (steps,), NaN where it is undefined


@dataclass(frozen=True)
class Selection:
    """What to train on: a selector of SELECTORS, α of the targets, β in nats, and how much.

    `budget` is the fraction of all steps to select, in (0, 1]; None means as many as have KL > β. The selectors "kl",
    whose budget is β, and "all" take none. Raises UserError for values that make no sense.
    """

    selector: str = "kl"
    alpha: float = ALPHA
    beta: float = BETA
    budget: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.selector not in NAMES:
            raise UserError(f"There is no selector {str(self.selector)[:40]!r}; choose one of {', '.join(NAMES)}.")
        _bounded("α", self.alpha, ALPHA_FLOOR, 1)
        _bounded("β", self.beta, 0, 1000)
        _bounded("The seed", self.seed, 0, 2**53)
        if self.budget is not None:
            _bounded("The budget", self.budget, 0, 1)
            if not self.budget:
                raise UserError("The budget is 0, which selects nothing; give a fraction of the steps, such as 0.2.")
            if self.selector == "kl":
                raise UserError("The selector kl is ruled by β and takes no budget; use top-percent with a budget.")
            if self.selector == "all":
                raise UserError("The selector all takes every step, so no budget; use random with a budget.")


def _bounded(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:  # NaN fails too
        raise UserError(f"{name} is {str(value)[:40]}; it must be a number from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Selector:
    """One way to select. `needs` are the measures it reads; `pick(values, n, seed)` gives the indices of n steps."""

    name: str
    title: str
    says: str  # one sentence for people
    scores: str  # how, in a few words or symbols
    needs: tuple[str, ...]
    pick: Callable[[Values, int, int], np.ndarray]


def best(score: np.ndarray, n: int) -> np.ndarray:
    """The n highest scores; equal ones in order, those that are NaN never."""
    order = np.argsort(-score, kind="stable")  # NaN sorts last
    return order[: min(n, int(np.count_nonzero(~np.isnan(score))))]


def spread(among: np.ndarray, n: int) -> np.ndarray:
    """n of these, evenly spaced along their order; all of them where there are no more."""
    return among if n >= len(among) else among[np.arange(n) * len(among) // max(1, n)]


def _by(name: str) -> Callable[[Values, int, int], np.ndarray]:
    return lambda values, n, seed: best(values[name], n)


def _random(values: Values, n: int, seed: int) -> np.ndarray:
    return best(np.random.default_rng(seed).random(len(values["kl"])), n)


def _every(values: Values, n: int, seed: int) -> np.ndarray:
    return spread(np.arange(len(values["kl"])), n)


def _disagreement(values: Values, n: int, seed: int) -> np.ndarray:
    differ = np.flatnonzero(values["agree"] == 0)
    same = np.flatnonzero(values["agree"] != 0)
    return np.concatenate([spread(differ, n), spread(same, max(0, n - len(differ)))])


def _excess_loss(values: Values, n: int, seed: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a token that both deny: −∞ − (−∞) is NaN, hence never selected
        return best(values["expert_logprob"] - values["amateur_logprob"], n)


#: The choices, in the order in which to offer them.
SELECTORS = (
    Selector(
        "kl",
        "KL above β",
        "The paper's rule: every step at which the expert's prediction diverges from the amateur's by more than β.",
        "KL(expert ‖ amateur) > β",
        ("kl",),
        _by("kl"),
    ),
    Selector(
        "top-percent",
        "Highest KL",
        "The most divergent steps, as large a share of all steps as you like.",
        "KL(expert ‖ amateur), highest first",
        ("kl",),
        _by("kl"),
    ),
    Selector(
        "random",
        "Random steps",
        "Steps drawn at random: the control that tells whether selecting matters at all.",
        "a random number a step, from the seed",
        ("kl",),
        _random,
    ),
    Selector(
        "every-k",
        "Every k-th step",
        "Evenly spaced steps: a control that covers every response alike.",
        "position in the dataset",
        ("kl",),
        _every,
    ),
    Selector(
        "expert-entropy",
        "Expert's entropy",
        "Steps at which the expert itself is undecided; the amateur is not asked.",
        "entropy of the expert's prediction, highest first",
        ("kl", "expert_entropy"),
        _by("expert_entropy"),
    ),
    Selector(
        "js",
        "Jensen–Shannon",
        "Divergence that treats both models alike and is bounded, so that rare denials count for less.",
        "Jensen–Shannon divergence, highest first",
        ("kl", "js"),
        _by("js"),
    ),
    Selector(
        "reverse-kl",
        "Reverse KL",
        "Steps at which the amateur expects what the expert rules out.",
        "KL(amateur ‖ expert), highest first",
        ("kl", "reverse_kl"),
        _by("reverse_kl"),
    ),
    Selector(
        "disagreement",
        "Top-1 disagreement",
        "Steps at which the two models prefer different tokens; evenly thinned, or filled up with others, to budget.",
        "1 where the most likely tokens differ, else 0; evenly spaced among equals",
        ("kl", "agree"),
        _disagreement,
    ),
    Selector(
        "excess-loss",
        "Excess loss",
        "Steps at which the amateur would pay more than the expert for the token that was taken.",
        "amateur's loss − expert's loss on the taken token, highest first",
        ("kl", "expert_logprob", "amateur_logprob"),
        _excess_loss,
    ),
    Selector(
        "all",
        "Every step",
        "All steps, whatever their divergence: what the paper's ablation without selection trains on.",
        "none; takes no budget",
        ("kl",),
        lambda values, n, seed: np.arange(len(values["kl"])),
    ),
)
NAMES = tuple(selector.name for selector in SELECTORS)


def selector_named(name: str) -> Selector:
    """Raises KeyError for a name that Selection would refuse."""
    return {selector.name: selector for selector in SELECTORS}[name]


def above(kl: np.ndarray, beta: float) -> np.ndarray:
    """KL > β as booleans, compared in fp64 as the inspector does: in fp32, 0.4 itself would be another number."""
    return kl.astype(np.float64) > beta


def select(values: Values, selection: Selection) -> np.ndarray:
    """The selected steps as booleans (steps,). The same for the same arrays and seed, on every machine."""
    over = above(values["kl"], selection.beta)
    if selection.selector == "kl":
        return over
    n = int(over.sum()) if selection.budget is None else max(1, round(selection.budget * len(over)))
    chosen = np.zeros(len(over), bool)
    chosen[selector_named(selection.selector).pick(values, min(n, len(over)), int(selection.seed))] = True
    return chosen
