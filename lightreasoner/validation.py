"""Checks of numbers that users enter."""

from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA_FLOOR


def number(name: str, value: object, low: float, high: float, whole: bool = False) -> float:
    """The value, from `low` to `high`. Raises UserError naming it otherwise, also for NaN, booleans and strings."""
    kind = "a whole number" if whole else "a number"
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not ok or (whole and value != int(value)):
        raise UserError(f"{name} is {str(value)[:40]}; it must be {kind} from {low:g} to {high:g}.")
    return int(value) if whole else float(value)


def check_cap(cap: object) -> float | None:
    """The cap on the log ratio of a contrastive target as a number; None for none. Raises UserError."""
    return None if cap is None else number("The cap on the log ratio", cap, 0.01, 1000)


def check_alpha_beta(alpha: object, beta: object, names: tuple[str, str] = ("α", "β")) -> tuple[float, float]:
    """α of the plausible set and β in nats, within bounds. names: of both, in messages. Raises UserError."""
    return number(names[0], alpha, ALPHA_FLOOR, 1), number(names[1], beta, 0, 1000)
