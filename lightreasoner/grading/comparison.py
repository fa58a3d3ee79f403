"""Compares an answer with the reference answer: as text, as numbers, as lists of values, or as mathematics.

Of several values in no brackets the order is free.
"""

import re
from itertools import product

from lightreasoner.grading.answer_kinds import (
    FUNCTIONS,
    LONGEST,
    both_signs,
    is_words,
    labelled,
    named,
    packed,
    right_side,
    values,
    words,
)
from lightreasoner.grading.arithmetic import DATE
from lightreasoner.grading.chemistry import same_chemical
from lightreasoner.grading.foreign_words import ALL, in_digits
from lightreasoner.grading.interval_notation import same_intervals
from lightreasoner.grading.notation import STYLES, in_ascii, split_top, without_style
from lightreasoner.grading.numbers import Number, read_number
from lightreasoner.grading.stated_answers import REACH
from lightreasoner.grading.symbolic import equivalent
from lightreasoner.grading.times_and_ratios import as_ratio, read_colons, read_date, same_colons

_NAME_OF = r"\\frac\s*\{d\s*[a-zA-Z]?\}\s*\{d\s*[a-zA-Z]\}|[a-zA-Z]'{1,3}(?:\([a-z]\))?"
_COMMANDS = {"π": r"\pi ", "∞": r"\infty ", "·": r"\cdot ", "×": r"\times ", "÷": r"\div "}
_COMMANDS = str.maketrans(_COMMANDS | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "±": r"\pm "})
RELATIVE = 1e-4  # tolerance for numbers that are not whole, because answers are rounded in many ways


def same_answer(found: str, answer: str) -> bool:
    """Equal as text, as numbers, as lists of values, or as mathematics."""
    if packed(found) == packed(answer):
        return True
    if max(len(found), len(answer)) > REACH:
        return False
    if date := read_date(answer):
        other = read_date(found)
        return other is not None and date[1:] == other[1:] and date[0] in (None, other[0])
    if DATE.fullmatch(answer.strip()):
        return bool(DATE.fullmatch(found.strip())) and _integers(found) == _integers(answer)
    found, answer = _in_radians(found, answer)
    if read_number(answer) and len(values(answer)) == 1:
        return same_number(found, answer)
    found, answer = _alike(named(found), named(answer))
    if packed(found) == packed(answer):
        return True
    if is_words(answer):
        digits = in_digits(answer, ALL)  # dieciocho
        return (
            _truth(words(found)) == _truth(words(answer))
            or (digits != answer and same_number(found, digits))
            or _same_words(words(found), words(answer))
            or bool(re.match(rf"{re.escape(words(answer))}\s*[,(]", without_style(found).lower()))
        )
    if (same := same_chemical(found, answer)) is not None:
        return same
    if read_colons(answer):
        return same_colons(found, answer) or _is_ratio(found, answer)
    if (same := same_intervals(found, answer, same_one)) is not None:
        return same
    if re.fullmatch(r"\d{3}(?:,\d{3}){2,}", answer.strip()) and same_number(found, answer.replace(",", "")):
        return True  # 100,200,300 may be one number, too
    gold, got = values(answer), values(found)
    if (wanted := labelled(answer)) is not None:
        return _same_labelled(found, got, wanted)
    if len(gold) == 1 and (inner := _inside_tuple(answer)) is not None:
        return _same_tuple(found, answer, inner)
    if len(gold) == 1:
        return len(got) == 1 and same_one(got[0], gold[0])
    if len(got) == 1 and r"\cup" in found:
        return same_math(found, answer)
    if len(got) == 1 and (inner := _inside_tuple(found)) is not None:  # (1, 3) for 1, 3
        got = [value for part in inner for value in both_signs(part)]
    if len(got) != len(gold):
        return False
    return _matched([value_of(part) for part in got], [value_of(part) for part in gold])


def _integers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _in_radians(found: str, answer: str) -> tuple[str, str]:
    """30° as π/6, where one has degrees and the other π."""
    degrees = r"(-?\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*(?:\\circ|°)\s*\}?|°|\\degree|degrees\b)"
    has_pi = [bool(re.search(r"π|\\pi(?![a-z])", text)) for text in (found, answer)]
    if has_pi[0] == has_pi[1] or re.search(r"sin|cos|tan", found + answer):
        return found, answer
    return tuple(re.sub(degrees, r"\\frac{\1\\pi}{180}", text) for text in (found, answer))


def _alike(found: str, answer: str) -> tuple[str, str]:
    """A column as a tuple where only one of the two is a column; [[1, 0], [0, 1]] as a matrix beside one."""
    rows = re.findall(r"\[([^\[\]]+)\]", found) if re.fullmatch(r"\[\s*\[.*\]\s*\]", found, re.DOTALL) else []
    if "matrix}" in answer and rows:
        found = r"\begin{pmatrix}" + r" \\ ".join(row.replace(",", " & ") for row in rows) + r"\end{pmatrix}"
    columns = [_column(text) for text in (found, answer)]
    if (columns[0] is None) != (columns[1] is None):
        return columns[0] or found, columns[1] or answer
    return found, answer


def _column(text: str) -> str | None:
    r"""(1, 2) for \begin{pmatrix} 1 \\ 2 \end{pmatrix}; None for any other text."""
    inside = re.fullmatch(r"\\begin\{([pb]matrix|array)\}(?:\{[clr]\})?([^&]*)\\end\{\1\}", text.strip())
    rows = [row.strip() for row in re.split(r"\\\\(?:\[[^\]]*\])?", inside[2]) if row.strip()] if inside else []
    return f"({', '.join(rows)})" if len(rows) > 1 else None


def _truth(text: str) -> str:
    """BoolQ's answers are true and false, and models say yes and no."""
    return {"yes": "true", "no": "false"}.get(text, text)


def _same_words(found: str, answer: str) -> bool:
    """Words joined by “and” in any order: blue and red."""
    parts = [sorted(re.split(r"\s+and\s+", text)) for text in (found, answer)]
    return len(parts[1]) > 1 and parts[0] == parts[1]


def _same_labelled(found: str, got: list[str], gold: dict[str, str]) -> bool:
    """By name where the found values have names, else in their order."""
    if (by_name := labelled(found)) is not None:
        return by_name.keys() == gold.keys() and all(same_one(by_name[name], gold[name]) for name in gold)
    inner = _inside_tuple(right_side(found)) or got
    return len(inner) == len(gold) and all(same_one(a, b) for a, b in zip(inner, gold.values(), strict=True))


def _is_ratio(found: str, answer: str) -> bool:
    """Whether a number is the reference answer's ratio: 3/4 for 3:4."""
    ratio, number = as_ratio(answer), read_number(found)
    return ratio is not None and number is not None and _equal(number.value, ratio, number.rounded)


def value_of(part: str) -> str:
    """The value in “x = 3”; a part of a list that says more stays as it is."""
    bare = part.strip().strip("$").strip()
    left, equals, right = bare.partition("=")
    variable = equals and "=" not in right and re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?", left.strip())
    return right.strip() if variable else bare


def _matched(got: list[str], gold: list[str]) -> bool:
    """Whether each value has a partner of its own, in any order."""
    left = list(got)
    for value in gold:
        same_text = (other for other in left if packed(other) == packed(value))  # first: it costs nothing
        partner = next(same_text, None) or next((other for other in left if same_one(other, value)), None)
        if partner is None:
            return False
        left.remove(partner)
    return not left


def _inside_tuple(text: str) -> list[str] | None:
    """The parts of a tuple or an interval: of “(1, 2]” 1 and 2. None for any other text."""
    bare = without_style(text.strip().strip("$"))
    inner = re.fullmatch(r"[(\[](.*)[)\]]", bare, re.DOTALL)
    if not inner or len(split_top(bare, r"\\cup|,")) > 1:
        return None
    parts = [part.strip() for part in split_top(inner.group(1), r",(?!\d{3}(?!\d))|,(?=\s)|;")]
    depth = [inner.group(1)[:n].count("(") - inner.group(1)[:n].count(")") for n in range(len(inner.group(1)))]
    return parts if len(parts) > 1 and min(depth, default=0) >= 0 else None


def _same_tuple(found: str, answer: str, gold: list[str]) -> bool:
    """Tuples in their order, with the same brackets; without brackets also as (x, y) = …, or x = …, y = …"""
    bare, wanted = (without_style(text.strip().strip("$").strip()) for text in (right_side(found), answer))
    got = _inside_tuple(bare)
    if got is not None and (bare[0], bare[-1]) != (wanted[0], wanted[-1]):
        return False
    if (
        got is None
        and (wanted[0], wanted[-1]) == ("(", ")")
        and not re.search(r"[<>]|\\[lg]e|\\cup|\\in(?![a-z])", found)
    ):
        got = [value_of(part) for part in values(found)]
    if got is None or len(got) == 1:
        return same_math(found, answer)
    return len(got) == len(gold) and all(same_one(a, b) for a, b in zip(got, gold, strict=True))


def same_one(found: str, answer: str) -> bool:
    if packed(found) == packed(answer):
        return True
    if read_number(answer):
        return same_number(found, answer)
    one, other = (re.split(r"(?<![<>!\\])=", text) for text in (found, answer))
    if len(one) == len(other) == 2 and packed(one[0]) == packed(other[0]):  # f(x) = … twice: what is right of it
        return same_answer(one[1], other[1])
    if {len(one), len(other)} == {1, 2} and re.fullmatch(_NAME_OF, (one if len(one) == 2 else other)[0].strip()):
        return same_answer(one[-1], other[-1])  # \frac{dy}{dx} = 2x for 2x
    return same_math(found, answer)


def same_number(found: str, answer: str) -> bool:
    """Equal as numbers: whole numbers and fractions exactly, decimals up to RELATIVE. Mathematics if one is no number.

    12 % is 12 and 0.12, whichever the other is. Of two units of one dimension the larger is converted.
    """
    found = re.sub(r"(?<![\d.,])(\d+,\d{1,2}|0,\d+)(?![\d.,])", lambda part: part.group().replace(",", "."), found)
    if len(sides := re.split(r"≈|\\approx(?![a-z])", found)) == 2 and all(map(read_number, sides)):
        return any(same_number(side, answer) for side in sides)  # \frac{1}{3} \approx 0.333
    one, other = read_number(found) or read_number(right_side(found)), read_number(answer)
    if one is None or (len(values(found)) > 1 and read_number(found) is None):
        if len(values(found)) > 1:  # 3/8 or 37.5 % is one value
            return all(same_number(value, answer) for value in values(found))
        gold = other.value
        if re.fullmatch(r"[a-zA-Z]+", found):
            return gold == 0 and found.lower() in ("none", "nothing", "nil")
        if (ratio := as_ratio(found)) is not None:
            return ratio == gold
        exact = f"{gold.numerator}/{gold.denominator}" if gold.denominator != 1 else str(gold.numerator)
        text = (repr(float(gold)) if abs(gold) < 1e300 else exact) if other.rounded and gold.denominator != 1 else exact
        text = rf"\frac{{{gold.numerator}}}{{{gold.denominator}}}" if text == exact and gold.denominator != 1 else text
        base = re.fullmatch(r"\(?([\da-fA-F]+)\)?_\{?(\d{1,2})\}?", found.strip())
        if base and (whole := read_number(base[1])) and whole.value == gold:
            return True  # 52_8 for 52: the base is the question's
        if base and 2 <= int(base[2]) <= 36:
            try:
                return int(base[1], int(base[2])) == gold
            except ValueError:
                return False
        tolerance = RELATIVE if other.rounded and gold.denominator != 1 else None
        return same_math(_without_unit(right_side(found)), text, tolerance)
    if one.size and other.size:
        if one.size.dimension != other.size.dimension:
            return False
        if one.size.base != other.size.base:
            return _equal(one.value * one.size.base, other.value * other.size.base, one.rounded or other.rounded)
    pairs = product(_readings(one, other), _readings(other, one))
    return any(_equal(a, b, one.rounded or other.rounded) for a, b in pairs)


def _readings(number: Number, beside: Number) -> list:
    also = [number.also] if number.also is not None and not (number.size and beside.size) else []
    return [number.value, *also, *([number.value / 100] if number.percent and not beside.percent else [])]


def _equal(one, other, rounded: bool) -> bool:
    if one == other or other.denominator == 1 or not rounded:
        return one == other
    return abs(one - other) <= RELATIVE * max(abs(one), abs(other))


def _without_unit(text: str) -> str:
    r"""A formula without the unit after it: 4\pi \text{ cm}^2 → 4\pi."""
    styled = rf"{STYLES}\s*\{{[^{{}}]*\}}"
    text = re.sub(r"(?<=\d)(?:\\[ ,;:]|~|\s)+[kMm]?\\Omega$", "", text)
    unit = rf"(?:\\[ ,;:]|~|\s)*(?:\\mu\s*)?{STYLES}\s*\{{[^{{}}]*[a-zA-Z%°](?:[^{{}}]|\{{[^{{}}]*\}})*\}}"
    unit += rf"(?:\s*/\s*{styled})?(?:\s*\^\s*\{{?-?\d\}}?)?\s*$"
    text = re.sub(unit, "", text) or text
    plain = rf"(?<=[\d}})π])\s+(?:(?!(?:and|or|{FUNCTIONS})\b)[a-zA-Z]{{2,}}\.?(?:\^\{{?\d\}}?)?\s*)+$"
    return re.sub(plain, "", text).strip() or text


def same_math(found: str, answer: str, tolerance: float | None = None) -> bool:
    """Equal as text, or as mathematics (math-verify, in a process that is bounded in time and memory)."""
    one, other = packed(found), packed(answer)
    if one == other:
        return True
    if max(len(found), len(answer)) > LONGEST or not one or not other:
        return False
    if ":" in one + other:  # a time or a ratio: math-verify reads its last number alone
        return same_colons(found, answer)
    if re.search(r"\\(?:l|c|v|d)?dots|\.\.\.|…", found + answer):
        return False
    one, other = (re.sub(r"^\(([0-9A-F]+)\)(?=_)", r"\1", text) for text in (one, other))
    if all(re.fullmatch(r"[0-9A-F]+_\{?\d+\}?", text) for text in (one, other)):  # numbers in a base
        return one.replace("{", "").replace("}", "") == other.replace("{", "").replace("}", "")
    if _one_has_base(one, other):
        one, other = (re.sub(r"_\{?\d+\}?$", "", text) for text in (one, other))
    if one == other:
        return True
    return equivalent(_latex(found), _latex(answer), tolerance)


def _one_has_base(one: str, other: str) -> bool:
    """Whether one is a number with its base, as in 1101_2, and the other has none."""
    digits = [re.fullmatch(r"([0-9A-F]+)(?:_\{?(\d{1,2})\}?)?", text) for text in (one, other)]
    if not all(digits) or bool(digits[0][2]) == bool(digits[1][2]):
        return False
    base = int(digits[0][2] or digits[1][2])
    return all(int(digit, 16) < base for found in digits for digit in found[1])


def _latex(text: str) -> str:
    """As math-verify reads it: roots and signs as commands, no unit, no thousands separators."""
    text = in_ascii(text).strip().strip("$").strip().rstrip(".")
    text = _without_unit(text)
    text = re.sub(r"\\(?:[sx]|nice)frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\log_\{?e\}?", r"\\ln ", text)
    text = re.sub(r"\\(?:vec|hat|mathbf|overrightarrow)\s*\{?\s*([ijk])(?![a-z])\s*\}?", r" \1 ", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|,\\!)(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(\S+) squared\b", r"{\1}^2", re.sub(r"(\S+) cubed\b", r"{\1}^3", text))
    text = re.sub(r"(\d+) choose (\d+)", r"\\binom{\1}{\2}", text)
    if re.search(r"\\?(?:sin|cos|tan|cot|sec|csc)", text):
        text = re.sub(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°)", r"{(\\frac{\1\\pi}{180})}", text)
    text = re.sub(r"\b(?:np|math|numpy)\.", "", text).replace("**", "^")
    text = re.sub(r"(?<!\\)\b(arc(?:sin|cos|tan)|sin|cos|tan|log|ln|exp)\b", r"\\\1", text)
    text = re.sub(r"√\s*\(", r"\\sqrt(", text)
    text = re.sub(r"√\s*(\d+|\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\?\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = text.translate(_COMMANDS)
    text = re.sub(r"(?<![\\\w])pi\b", r"\\pi", text)
    return re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", text)
