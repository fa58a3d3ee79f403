"""Selectors of the steps to train on: the paper's rule, and others to compare with it at the same budget.

A selector reads arrays with one number per step of the whole dataset and returns the steps it selects. It does not
know whether a step was stored in detail: `select_steps` counts those that cannot become samples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.validation import check_alpha_beta, check_cap, number

LATER = ("tau", "box", "cap")  # fields that not every stored selection has
Values = Mapping[str, np.ndarray]  # measure → (steps,), NaN where it is undefined


@dataclass(frozen=True)
class Selection:
    """What to train on: one of SELECTORS, α of the targets, β in nats, and a budget.

    `budget` is the fraction of all steps to select, in (0, 1]; None selects as many as have KL > β. The selectors
    "kl" and "all" take no budget. `tau`, in nats, belongs to the selector "teaching": only steps with a larger teaching
    signal, all of them without a budget. `box` leaves only the steps inside it to be selected; see `parse_box`. `cap`
    bounds the log ratio of the targets, in nats. Raises UserError for values out of bounds.
    """

    selector: str = "kl"
    alpha: float = ALPHA
    beta: float = BETA
    budget: float | None = None
    seed: int = 0
    tau: float | None = None
    box: str | None = None
    cap: float | None = None

    def __post_init__(self):
        if self.selector not in SELECTOR_NAMES:
            raise UserError(
                f"There is no selector {str(self.selector)[:40]!r}; choose one of {', '.join(SELECTOR_NAMES)}."
            )
        check_alpha_beta(self.alpha, self.beta)
        if self.tau is not None:
            number("The threshold τ of the teaching signal", self.tau, 0, 1e6)
            if self.selector != "teaching":
                raise UserError(
                    f"The selector {self.selector} knows no τ, which bounds the teaching signal; use teaching with it."
                )
        check_cap(self.cap)
        if self.box is not None:
            object.__setattr__(self, "box", write_box(*parse_box(self.box)))
        number("The seed", self.seed, 0, 2**53)
        if self.budget is not None:
            number("The budget", self.budget, 0, 1)
            if not self.budget:
                raise UserError("The budget is 0, which selects nothing; give a fraction of the steps, such as 0.2.")
            if self.selector == "kl":
                raise UserError("The selector kl selects by β and takes no budget; use top-percent with a budget.")
            if self.selector == "all":
                raise UserError("The selector all takes every step, so no budget; use random with a budget.")

    def as_json(self) -> dict[str, Any]:
        """For run.json. What later versions added is left out where it is not set: a run of former ones goes on."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in LATER}


BOXED = ("expert_entropy", "kl")  # the measures that a box bounds
BOX_FORM = (
    "write four numbers of nats with colons between them, the expert's entropy from and to and the KL from and to, "
    "such as 0:1:0.4:inf"
)


def parse_box(text: object) -> tuple[tuple[float, float], tuple[float, float]]:
    """((lowest, highest) entropy of the expert, the same of KL), in nats, of a text such as "0:1:0.4:inf".

    A step is inside where it is at least the lowest and below the highest; inf is no bound. Raises UserError.
    """
    try:
        low, high, kl_low, kl_high = map(float, str(text).split(":"))
    except ValueError:
        raise UserError(f"The box is {str(text)!r:.40}; {BOX_FORM}.") from None
    bounds = (low, high), (kl_low, kl_high)
    if not all(0 <= least < most for least, most in bounds):  # not where one is NaN
        raise UserError(
            f"The box {str(text)!r:.40} holds no step, since its ends are below 0 or change places; {BOX_FORM}."
        )
    return bounds


def write_box(entropy: tuple[float, float], kl: tuple[float, float]) -> str:
    return ":".join(str(float(bound)).removesuffix(".0") for bound in (*entropy, *kl))


def in_box(values: Values, box: str | None) -> np.ndarray:
    """(steps,) booleans: the steps inside the box, compared in fp64; all of them for None."""
    inside = np.ones(len(values["kl"]), bool)
    for name, (low, high) in zip(BOXED, parse_box(box), strict=True) if box else ():
        measured = values[name].astype(np.float64)
        inside &= (measured >= low) & ((measured < high) | (high == math.inf))
    return inside


def needs_of(selection: Selection) -> tuple[str, ...]:
    return tuple(dict.fromkeys(["kl", *selector_named(selection.selector).needs, *(BOXED if selection.box else ())]))


@dataclass(frozen=True)
class Selector:
    """A selection rule. `pick(values, n, seed)`: the indices of n steps. `needs`: the measures it reads beside KL."""

    name: str
    title: str
    description: str
    score: str  # what it ranks by
    pick: Callable[[Values, int, int], np.ndarray]
    needs: tuple[str, ...] = ()


def top_n(score: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n highest scores, equal scores in order, never NaN."""
    order = np.argsort(-score, kind="stable")  # NaN sorts last
    return order[: min(n, int(np.count_nonzero(~np.isnan(score))))]


def thin_evenly(indices: np.ndarray, n: int) -> np.ndarray:
    """n of these indices, evenly spaced; all of them if there are no more."""
    return indices if n >= len(indices) else indices[np.arange(n) * len(indices) // max(1, n)]


def _by(name: str) -> Callable[[Values, int, int], np.ndarray]:
    return lambda values, n, seed: top_n(values[name], n)


def _random(values: Values, n: int, seed: int) -> np.ndarray:
    return top_n(np.random.default_rng(seed).random(len(values["kl"])), n)


def _every(values: Values, n: int, seed: int) -> np.ndarray:
    return thin_evenly(np.arange(len(values["kl"])), n)


def _disagreement(values: Values, n: int, seed: int) -> np.ndarray:
    differ = np.flatnonzero(values["agree"] == 0)
    same = np.flatnonzero(values["agree"] != 0)
    return np.concatenate([thin_evenly(differ, n), thin_evenly(same, max(0, n - len(differ)))])


def _entropy_and_divergence(values: Values, n: int, seed: int) -> np.ndarray:
    uncertain = top_n(values["expert_entropy"], (n + 1) // 2)
    kl = values["kl"].astype(np.float64)
    kl[uncertain] = np.nan  # never again
    return np.concatenate([uncertain, top_n(kl, n - len(uncertain))])


def _excess_loss(values: Values, n: int, seed: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # −∞ − (−∞) is NaN, hence never selected
        return top_n(values["expert_logprob"] - values["amateur_logprob"], n)


#: In the order in which they are offered.
SELECTORS = (
    Selector(
        "kl",
        "KL above β",
        "The paper's rule: every step at which the expert's prediction diverges from the amateur's by more than β.",
        "KL(expert ‖ amateur) > β",
        _by("kl"),
    ),
    Selector(
        "top-percent",
        "Highest KL",
        "The most divergent steps, as large a share of all steps as the budget allows.",
        "KL(expert ‖ amateur), highest first",
        _by("kl"),
    ),
    Selector(
        "random",
        "Random steps",
        "Random steps: the control that shows whether selection matters at all.",
        "one random number per step, from the seed",
        _random,
    ),
    Selector(
        "every-k",
        "Every k-th step",
        "Evenly spaced steps: a control that covers all responses equally.",
        "position in the dataset",
        _every,
    ),
    Selector(
        "expert-entropy",
        "Expert's entropy",
        "Steps at which the expert itself is uncertain; the amateur plays no part.",
        "entropy of the expert's prediction, highest first",
        _by("expert_entropy"),
        ("expert_entropy",),
    ),
    Selector(
        "teaching",
        "Teaching signal",
        "Steps at which the target at this α is furthest from what the expert expects already.",
        "KL(target ‖ expert), highest first; only above τ where one is given",
        _by("teaching"),
        ("teaching",),
    ),
    Selector(
        "entropy-kl",
        "Entropy and KL",
        "Half of the steps are those where the expert is most uncertain, half the most divergent of those where it is "
        "more certain (after TIP, arXiv 2604.14084).",
        "entropy of the expert's prediction for one half, KL(expert ‖ amateur) of all other steps for the other",
        _entropy_and_divergence,
        ("expert_entropy",),
    ),
    Selector(
        "js",
        "Jensen–Shannon",
        "A symmetric, bounded divergence, so tokens that one model rules out count for less.",
        "Jensen–Shannon divergence, highest first",
        _by("js"),
        ("js",),
    ),
    Selector(
        "reverse-kl",
        "Reverse KL",
        "Steps at which the amateur expects tokens that the expert rules out.",
        "KL(amateur ‖ expert), highest first",
        _by("reverse_kl"),
        ("reverse_kl",),
    ),
    Selector(
        "disagreement",
        "Top-1 disagreement",
        "Steps at which the models' top-1 tokens differ, thinned evenly or filled up with other steps to the budget.",
        "1 where the top-1 tokens differ, otherwise 0; evenly spaced among equals",
        _disagreement,
        ("agree",),
    ),
    Selector(
        "excess-loss",
        "Excess loss",
        "Steps at which the amateur's loss on the generated token exceeds the expert's most.",
        "amateur's loss − expert's loss on the generated token, highest first",
        _excess_loss,
        ("expert_logprob", "amateur_logprob"),
    ),
    Selector(
        "all",
        "Every step",
        "All steps, whatever their divergence: the paper's ablation without selection.",
        "none; takes no budget",
        lambda values, n, seed: np.arange(len(values["kl"])),
    ),
)
SELECTOR_NAMES = tuple(selector.name for selector in SELECTORS)


def selector_named(name: str) -> Selector:
    """Raises KeyError for an unknown name."""
    return {selector.name: selector for selector in SELECTORS}[name]


def above_beta(kl: np.ndarray, beta: float) -> np.ndarray:
    """KL > β as booleans (steps,), compared in fp64 as in a trace: in fp32, 0.4 is another number."""
    return kl.astype(np.float64) > beta


def select(values: Values, selection: Selection) -> np.ndarray:
    """The selected steps as booleans (steps,): the same for the same arrays and seed on every machine."""
    inside, selected = np.flatnonzero(in_box(values, selection.box)), np.zeros(len(values["kl"]), bool)
    selected[inside[_picked({name: values[name][inside] for name in needs_of(selection)}, selection)]] = True
    return selected


def _picked(values: Values, selection: Selection) -> np.ndarray:
    """The selected ones of these steps, as indices or booleans."""
    above = above_beta(values["kl"], selection.beta)
    if selection.selector == "kl":
        return above
    if selection.tau is not None:
        larger = values["teaching"].astype(np.float64) > selection.tau  # not where it is unknown
        values = {**values, "teaching": np.where(larger, values["teaching"], np.nan)}
        if selection.budget is None:
            return larger
    n = int(above.sum()) if selection.budget is None else max(1, round(selection.budget * len(above)))
    return selector_named(selection.selector).pick(values, min(n, len(above)), int(selection.seed))
