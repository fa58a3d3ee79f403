"""Significance: intervals for a share of right answers, and the paired comparison of two models.

Two models are compared on the problems that both answered. The comparison rests on the flips, the problems that one
model got right and the other wrong, not on the two totals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightreasoner.errors import UserError

Z = 1.959963984540054  # standard normal quantile of a 95 % interval
RESAMPLES = 10_000  # of the bootstrap


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval, within 0 to 1, of a share of `right` out of `n` (Wilson, 1927); (0, 1) for n = 0."""
    if not n:
        return 0.0, 1.0
    share, z2 = right / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (middle - reach if right else 0.0), (middle + reach if right < n else 1.0)  # exact at the ends


@dataclass(frozen=True)
class Estimate:
    """A mean over problems, from 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per problem. Wilson's interval where all are 0 or 1, else a bootstrap over problems."""
    n, mean = len(values), math.fsum(values) / max(1, len(values))
    if all(value in (0, 1) for value in values):
        return Estimate(mean, *wilson(round(math.fsum(values)), n))
    if len(set(values)) == 1:  # nothing to resample
        low, high = wilson(round(n * mean), n)
        return Estimate(mean, min(low, mean), max(high, mean))
    random, array = np.random.default_rng(0), np.asarray(values)
    # Resampling with replacement, by the number of problems that have each value.
    distinct, counts = np.unique(array, return_counts=True)
    drawn = random.multinomial(n, counts / n, RESAMPLES) @ distinct / n
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Estimate(mean, low, high)


def mean_estimate(parts: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, each of the same weight, such as shares of several test sets.

    Its interval is theirs combined, which allows for their being one-sided (MOVER; Zou & Donner, 2008).
    """
    value = math.fsum(part.value for part in parts) / len(parts)
    below = math.hypot(*(part.value - part.low for part in parts)) / len(parts)
    above = math.hypot(*(part.high - part.value for part in parts)) / len(parts)
    return Estimate(value, value - below, value + above)


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate that one of k responses is right, from n of which `right` are (Chen et al., 2021)."""
    if n - right < k:
        return 1.0
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of the hypothesis that both kinds of flip are equally likely (McNemar, 1947); 1
    without a flip."""
    n, fewer = gained + lost, min(gained, lost)
    if not n:
        return 1.0
    all_ways, log = math.lgamma(n + 1) - n * math.log(2), math.lgamma  # in logarithms: n may be many thousands
    tail = sum(math.exp(all_ways - log(k + 1) - log(n - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same problems. Shares from 0 to 1; `low` and `high` bound `after − before` at 95 %."""

    problems: int
    before: float
    after: float
    gained: tuple[str, ...]  # ids of problems: wrong before, right after
    lost: tuple[str, ...]  # right before, wrong after
    low: float
    high: float
    p: float  # McNemar's

    @property
    def difference(self) -> float:
        return self.after - self.before


def compare(before: Mapping[str, bool], after: Mapping[str, bool]) -> Comparison:
    """Compare two models on the problems that both answered (id → right), with a paired bootstrap's interval.

    Raises UserError where there is no such problem.
    """
    both = [problem for problem in before if problem in after]
    if not both:
        raise UserError(
            "The two models answered no problem in common, so they cannot be compared; evaluate both on one set."
        )
    gained = tuple(problem for problem in both if after[problem] and not before[problem])
    lost = tuple(problem for problem in both if before[problem] and not after[problem])
    n = len(both)
    shares = [len(gained) / n, len(lost) / n, 1 - (len(gained) + len(lost)) / n]
    # Resampling problems with replacement is the same as drawing these three counts.
    drawn = np.random.default_rng(0).multinomial(n, shares, RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975]).tolist()
    shares_right = [sum(side[problem] for problem in both) / n for side in (before, after)]
    return Comparison(n, *shares_right, gained, lost, low, high, mcnemar(len(gained), len(lost)))
