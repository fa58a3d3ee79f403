"""The paper's mathematics on the stored candidates of many steps, without torch: numbers of a whole dataset at an α."""

import math

import numpy as np

from lightreasoner.paper import ALPHA_FLOOR, TIE


def check_alpha(alpha: float) -> None:
    """Raises ValueError where stored candidates do not hold the plausible set at this α."""
    if not ALPHA_FLOOR <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must lie between {ALPHA_FLOOR} and 1")


def prefix_signals(log_e: np.ndarray, log_a: np.ndarray, bounds: np.ndarray, cap: float | None = None) -> np.ndarray:
    """KL(v_C ‖ π_E) for every plausible set that a step can have: (candidates,) fp32, nats.

    log_e, log_a: the candidates of all steps, one step after the other, the expert's most likely first; bounds
    (steps + 1,): where each begins. cap: the largest log ratio that counts.

    The number of a candidate is the signal of the target on it and on those before it, so that one pass serves every α.
    With the contrastive logits c of that target, it is Σ v_C (c − log π_E) − log Σ exp c. Both sums grow by a token at
    a time.
    """
    found, starts, sizes = np.zeros(len(log_e), np.float32), bounds[:-1], np.diff(bounds)
    total = np.full(len(starts), -np.inf)  # log Σ exp c so far
    mean = np.zeros(len(starts))  # Σ v_C (c − log π_E) so far
    denied = np.zeros(len(starts), bool)  # the amateur rules one of them out: as in divergence.py, only such count
    for rank in range(int(sizes.max(initial=0))):
        active = np.flatnonzero(sizes > rank)
        place = starts[active] + rank
        own, amateur = log_e[place].astype(np.float64), log_a[place].astype(np.float64)
        ruled_out = (amateur == -np.inf) & (own > -np.inf) if cap is None else np.zeros(len(active), bool)
        first = ruled_out & ~denied[active]
        total[active[first]], denied[active[first]] = -np.inf, True
        with np.errstate(invalid="ignore"):  # what the expert rules out, too, is in no plausible set
            contrast = np.where(ruled_out, own, np.where(denied[active], -np.inf, own - amateur))
            contrast = contrast if cap is None else np.minimum(contrast, cap)
            grown = np.logaddexp(total[active], contrast)
            weight = np.exp(contrast - grown)
            mean[active] += np.where(weight > 0, weight * (contrast - own - mean[active]), 0)
        total[active] = grown
        found[place] = mean[active] - grown
    return found.clip(0)


def last_plausible(gaps: np.ndarray, bounds: np.ndarray, alpha: float) -> np.ndarray:
    """(steps,) the index of each step's last plausible candidate.

    gaps: how much less likely than the expert's first each candidate is, in log-probability, descending in each step.
    """
    check_alpha(alpha)
    beyond = gaps < math.log(alpha) - TIE
    ends = np.zeros(len(gaps) + 1, bool)
    ends[bounds] = True
    last = ends[1:].copy()
    last[:-1] |= beyond[1:]
    return np.flatnonzero(last & ~beyond)


def teaching_signals(
    log_e: np.ndarray, log_a: np.ndarray, bounds: np.ndarray, alpha: float, cap: float | None = None
) -> np.ndarray:
    """KL(v_C ‖ π_E) of many steps at once, `divergence.teaching_signal` at each: (steps,) fp32, nats.

    log_e, log_a: the candidates of all steps, one step after the other, fp32; bounds (steps + 1,): where each begins.
    """
    log_e, log_a, gaps = by_expert(log_e, log_a, bounds)
    return prefix_signals(log_e, log_a, bounds, cap)[last_plausible(gaps, bounds, alpha)]


def by_expert(log_e: np.ndarray, log_a: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The candidates with the expert's most likely first in each step, and how much less likely the others are."""
    sizes = np.diff(bounds)
    rising = log_e[1:] > log_e[:-1]
    rising[bounds[1:-1] - 1] = False  # between two steps
    if rising.any():
        order = np.lexsort((-log_e, np.repeat(np.arange(len(sizes)), sizes)))
        log_e, log_a = log_e[order], log_a[order]
    return log_e, log_a, log_e - np.repeat(log_e[bounds[:-1]], sizes)
