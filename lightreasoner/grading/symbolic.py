"""Compares two answers as mathematics (math-verify), in a process of its own that is bounded in time and memory.

A short answer such as 5^{5^{5^{5}}} keeps symbolic evaluation busy for ever, in code that no signal interrupts, and may
take all memory. It works from every thread.
"""

from functools import lru_cache

from lightreasoner.bounded_process import Worker, serve

SECONDS = 1  # of computing, per comparison; the longest of the tests takes half of it, most some hundredths
MEMORY = 2 << 30  # bytes
DIGITS = 60  # that two irrational numbers are computed to
_worker = Worker("lightreasoner.grading.symbolic", SECONDS)


class GivenUp(Exception):
    """Whether two answers mean the same cannot be told in the time and memory allowed."""


def equivalent(found: str, gold: str, tolerance: float | None = None) -> bool:
    """Whether two texts in LaTeX mean the same. Raises GivenUp.

    tolerance: relative, of numbers where one is rounded; None: math-verify's six decimals.
    """
    same = _compared(found, gold, tolerance)
    if same is None:
        raise GivenUp
    return same


@lru_cache(maxsize=4096)
def _compared(found: str, gold: str, tolerance: float | None) -> bool | None:
    return _worker.ask({"found": found, "gold": gold, "tolerance": tolerance}).get("same")


def _answer(request: dict) -> dict:
    try:
        return {"same": _same(request["found"], request["gold"], request["tolerance"])}
    except Exception:  # an answer may break any parser; it is then not the reference answer
        return {"same": False}


def _same(found: str, gold: str, tolerance: float | None) -> bool:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    # units: their list holds letters that are variables as well (2t would be 2). They are removed before.
    style = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    config = [LatexExtractionConfig(normalization_config=style)]
    one, other = (parse(f"${text}$", config, parsing_timeout=None) for text in (found, gold))
    one, other = (_with_imaginary(part) for part in (one, other))
    if one and other and _is_constant(one[0]) and _is_constant(other[0]):
        return _same_constants(one[0], other[0], tolerance)
    return bool(verify(other, one, timeout_seconds=None, allow_set_relation_comp=True))


def _with_imaginary(parsed: list) -> list:
    """math-verify takes i for a variable, real or not, so that \\sqrt{-1} was none."""
    from sympy import Basic, I

    return [
        part.subs({name: I for name in part.free_symbols if name.name == "i"}) if isinstance(part, Basic) else part
        for part in parsed
    ]


def _is_constant(value: object) -> bool:
    from sympy import Expr

    return isinstance(value, Expr) and not value.free_symbols and value.is_number is not False


def _same_constants(one, other, tolerance: float | None) -> bool:
    """math-verify takes a small difference for none: 1/2^98 and 1/2^99 are equal to it. Here it is relative."""
    from sympy import Abs, Float, Max, Rational, nan, simplify, zoo

    rounded = bool(one.atoms(Float) or other.atoms(Float))
    one, other = one.doit(), other.doit()
    if nan in (one, other) or zoo in (one, other):
        return False
    if one == other:
        return True
    if isinstance(one, Rational) and isinstance(other, Rational) and not rounded:
        return False
    difference, size = Abs((one - other).evalf(DIGITS)), Max(*(Abs(value.evalf(DIGITS)) for value in (one, other)))
    if not rounded:
        small = difference < size * Rational(1, 10 ** (DIGITS - 10))
        return bool(small) or simplify(one - other) == 0
    if tolerance is None:  # as math-verify, which knows no relative difference
        return bool(difference < size * Rational(1, 10**4)) and bool(difference <= Rational(1, 2 * 10**6))
    return bool(difference <= size * Rational(str(tolerance)))


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)  # math-verify logs every expression that it cannot parse
    import math_verify  # noqa: F401

    serve(_answer, SECONDS, MEMORY)
