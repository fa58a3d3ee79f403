"""Answers that are intervals: [0, 1), unions of them, and inequalities, which say the same: x < -1 or x > 1."""

import re
from collections.abc import Callable
from typing import NamedTuple

from lightreasoner.grading.notation import in_ascii, split_top, without_style


class Interval(NamedTuple):
    """Its brackets and its ends, as LaTeX."""

    opens: str
    low: str
    high: str
    closes: str


_SIGNS = {"≤": "<=", "≥": ">=", "≠": "!=", "⩽": "<=", "⩾": ">=", r"\leqslant": "<=", r"\geqslant": ">="} | {
    **{r"\leq": "<=", r"\geq": ">=", r"\neq": "!=", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\lt": "<", r"\gt": ">"}
}
_LOW, _HIGH = r"-\infty", r"\infty"


def read_intervals(text: str) -> tuple[list[Interval], str | None] | None:
    """(intervals, variable) of a union or of inequalities joined by “or”; None for any other text.

    The variable is None for intervals. (1, 2) alone is read as an interval, too: it may be meant as a pair.
    """
    bare = re.sub(r"\\(?:text|mathrm)\s*\{\s*,?\s*or\s*\}|\\lor\b|\\vee\b|,\s*or\b|\bor\b", " or ", in_ascii(text))
    bare = without_style(bare.strip().strip("$").strip().rstrip("."))
    for sign, plain in _SIGNS.items():
        bare = re.sub(re.escape(sign) + ("(?![a-z])" if sign[0] == "\\" else ""), f" {plain} ", bare)
    bare = re.sub(r"∪|\\bigcup(?![a-z])", r"\\cup ", bare).replace("∞", r"\infty ")
    found, variables = [], set()
    for part in split_top(bare, r"\\cup(?![a-z])|\bor\b"):
        interval = _interval(re.sub(r"^[a-zA-Z]\s*(?:\\in(?![a-z])|∈)\s*", "", part.strip()))
        if interval is not None:
            found.append(interval)
        elif (inequality := _inequality(part)) is not None:
            found += inequality[0]
            variables.add(inequality[1])
        else:
            return None
    return (found, next(iter(variables), None)) if len(variables) <= 1 else None


def _interval(text: str) -> Interval | None:
    inside = re.fullmatch(r"([(\[\]])(.*)([)\]\[])", text, re.DOTALL)
    ends = split_top(inside[2], ",|;") if inside else []
    if len(ends) != 2 or not all(end.strip() for end in ends):
        return None
    low, high = (end.strip().removeprefix("+") for end in ends)
    return Interval(inside[1].replace("]", "("), low, high, inside[3].replace("[", ")"))


def _inequality(text: str) -> tuple[list[Interval], str] | None:
    """(its intervals, its variable) of a < x <= b, x > a or x != a."""
    parts = re.split(r"(<=|>=|!=|<|>)", text)
    terms, signs = [part.strip() for part in parts[::2]], parts[1::2]
    if not signs or not all(terms) or len(signs) > 2:
        return None
    if signs[0][0] == ">" and len(signs) == 2:
        terms, signs = terms[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if len(signs) == 2:
        if not _is_variable(terms[1]) or any(sign[0] != "<" for sign in signs):
            return None
        opens, closes = "[" if "=" in signs[0] else "(", "]" if "=" in signs[1] else ")"
        return [Interval(opens, terms[0], terms[2], closes)], terms[1]
    (left, right), sign = terms, signs[0]
    if _is_variable(right) and not _is_variable(left):
        left, right, sign = right, left, sign.translate(str.maketrans("<>", "><"))
    if (size := re.fullmatch(r"(?:\\left)?\|\s*([a-zA-Z])\s*(?:\\right)?\|", left)) and sign != "!=":  # |x| < 1
        low, high = (f"-({right})" if re.search(r"(?<!^)[-+]", right) else f"-{right}"), right
        if sign[0] == "<":
            return [Interval("[" if "=" in sign else "(", low, high, "]" if "=" in sign else ")")], size[1]
        ends = ("]", "[") if "=" in sign else (")", "(")
        return [Interval("(", _LOW, low, ends[0]), Interval(ends[1], high, _HIGH, ")")], size[1]
    if not _is_variable(left):
        return None
    if sign == "!=":
        return [Interval("(", _LOW, right, ")"), Interval("(", right, _HIGH, ")")], left
    if sign[0] == "<":
        return [Interval("(", _LOW, right, "]" if "=" in sign else ")")], left
    return [Interval("[" if "=" in sign else "(", right, _HIGH, ")")], left


def _is_variable(text: str) -> bool:
    return bool(re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?|\\(?:theta|alpha|lambda|mu)", text.strip()))


def same_intervals(found: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """Whether two texts mean the same intervals; None where one means none, or neither says more than (a, b).

    same: compares two ends.
    """
    got, gold = read_intervals(found), read_intervals(answer)
    if got is None or gold is None:
        return None
    one_each = all(variable is None and len(intervals) == 1 for intervals, variable in (got, gold))
    if one_each and not re.match(r"\s*\]|.*\[\s*$", found):  # ]2, 5[ is no pair
        return None
    if None not in (got[1], gold[1]) and got[1] != gold[1]:
        return False
    left = list(got[0])
    for one in gold[0]:
        partner = next((other for other in left if _equal(one, other, same)), None)
        if partner is None:
            return False
        left.remove(partner)
    return not left


def _equal(one: Interval, other: Interval, same: Callable[[str, str], bool]) -> bool:
    ends = (one.low, other.low), (one.high, other.high)
    alike = all("".join(a.split()) == "".join(b.split()) or same(b, a) for a, b in ends)
    return alike and (one.opens, one.closes) == (other.opens, other.closes)
