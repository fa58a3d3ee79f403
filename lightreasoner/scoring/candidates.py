"""The paper's mathematics on the stored candidates of many steps, without torch: numbers of a whole dataset at an α."""

import math

import numpy as np

from lightreasoner.paper import ALPHA_FLOOR, TIE


def check_alpha(alpha: float) -> None:
    """Raises ValueError where stored candidates do not hold the plausible set at this α."""
    if not ALPHA_FLOOR <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must lie between {ALPHA_FLOOR} and 1")


def teaching_signals(log_e: np.ndarray, log_a: np.ndarray, bounds: np.ndarray, alpha: float) -> np.ndarray:
    """KL(v_C ‖ π_E) of many steps at once, `divergence.teaching_signal` at each: (steps,) fp32, nats.

    log_e, log_a: the candidates of all steps, one step after the other, fp32; bounds (steps + 1,): where each begins.
    """
    check_alpha(alpha)
    if len(bounds) < 2:
        return np.zeros(0, np.float32)
    top = np.maximum.reduceat(log_e, bounds[:-1])
    keep = log_e >= np.repeat(top, np.diff(bounds)) + (math.log(alpha) - TIE)
    sizes = np.add.reduceat(keep.astype(np.int64), bounds[:-1])
    starts, log_e, log_a = np.cumsum(sizes) - sizes, log_e[keep], log_a[keep]
    ratio = log_e - log_a
    denied = ratio == math.inf
    if denied.any():  # the amateur rules a plausible token out: as in divergence.py
        among = np.repeat(np.logical_or.reduceat(denied, starts), sizes)
        ratio = np.where(among, np.where(denied, log_e, -math.inf), ratio)
    ratio -= np.repeat(np.maximum.reduceat(ratio, starts), sizes)
    log_target = ratio - np.repeat(np.log(np.add.reduceat(np.exp(ratio), starts)), sizes)
    target = np.exp(log_target)
    with np.errstate(invalid="ignore"):
        terms = np.where(target > 0, target * (log_target - log_e), 0)  # elsewhere 0·∞
    return np.add.reduceat(terms, starts).clip(0)
