"""Grades responses: extracts the final answer and compares it with the reference answer.

The form of the reference answer decides how: a number (GSM8K, SVAMP, ASDiv), a lettered choice (MMLU-STEM), or
mathematics in LaTeX (MATH, Minerva, OlympiadBench), which the package math-verify compares, or words. Of several
values in no brackets the order is free. The answer of the first turn counts, where a model goes on after its own.
"""

import re
from dataclasses import dataclass
from itertools import product

from lightreasoner.problems.choices import find_choice
from lightreasoner.problems.equivalence import equivalent
from lightreasoner.problems.notation import STYLES, grouped, in_ascii, split_top, without_style
from lightreasoner.problems.numbers import (
    HAN_NUMBER,
    NUMBER_WORDS,
    PART_WORDS,
    PERCENT,
    VALUE,
    Number,
    read_number,
    signed,
    to_number,
)
from lightreasoner.problems.stated import REACH, Statement, before_check, is_cut_off, statements, turns
from lightreasoner.problems.thinking import after_thinking

RELATIVE = 1e-4  # tolerance for numbers that are not whole, because answers are rounded in many ways
LONGEST = 300  # characters of LaTeX that are compared as mathematics
#: The end of a stated answer, before reasons or the next sentence.
BEYOND = re.compile(
    r"(?<!\bRs)(?<!\bMrs)(?<!\bMr)(?<!\bDr)(?<!\bNo)(?<!approx)\.\s|\.$|[!?](?:\s|$)|;|\n|\s—\s|,?\s*\b(?:because"
    r"|since|so that|which|not|where|when"
    r"|whereas|due to|therefore|thus|hence|so|as|i\.e|e\.g|that is|namely)\b|\s\((?=[^()]*(?:=|[a-z]{3}))",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$(?P<a>.{1,600}?)\$\$|\\\[(?P<b>.{1,600}?)\\\]|\\\((?P<c>.{1,600}?)\\\)|(?<![\\$])\$(?P<d>[^\s$](?:[^$\n]{0,600}?[^\s$\\])?)\$(?!\d)",
    re.DOTALL,
)
_FUNCTIONS = (
    "choose|squared|cubed|factorial|times|plus|minus|divided by|a?(?:sin|cos|tan)|arc(?:sin|cos|tan)|(?:sin|cos|tan)h"
    "|cot|sec|csc|log|ln|exp|sqrt|cbrt|pi|max|min|gcd|lcm|mod|infinity|inf"
)
_TAIL = (
    rf"(?:\s*[√π∛∜!^](?!\s*[A-Z=])|\s*\*\*|\s*\*\s*\w|\s*(?:{_FUNCTIONS})\b|[a-z](?![a-zA-Z])|\s*/\s*[\w√(]"
    rf"|(?<=\d)\()[^\s,;]*"
)
_TOKEN = re.compile(
    rf"(?<![a-zA-Z0-9_.\\])(?:(?:√|∛|sqrt|log|ln|sin|cos|tan"
    rf"|[a-zA-Z]\^)\s*\(?)?(?<![\d)\]}}])(?:{VALUE})(?:{_TAIL})?(?:\s*(?:{PERCENT}))?",
    re.I,
)
#: Two values at once, which are no answer to a question for one: “3 and 5”, “x = 3 or x = 5”.
_SEVERAL = re.compile(
    rf"\W*(?:between |from )?(?:[a-zA-Z]\s*=\s*)?(?:{VALUE})\s*,?\s*(?:and|or|to|和|或|到"
    rf"|至)\s*(?:[a-zA-Z]\s*=\s*)?(?:{VALUE})(?!\s*/|\d)\W*$",
    re.I,
)
_AND = (
    r",(?!\d{3}(?!\d))|,(?=\d{3},)|;|\s(?:and|or|und|oder|et|ou|y|o|и|или)\s|&|[和或与]|\\(?:text|mbox"
    r"|mathrm)\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\\(?:and|or|quad|qquad|vee|lor)(?![a-z])"
)


@dataclass(frozen=True)
class Grade:
    """`extracted` is None where the response contains no answer; then `right` is False."""

    right: bool
    extracted: str | None


def grade(response: str, answer: str) -> Grade:
    """Compare the final answer of a response with the reference answer. What it thought before is not its answer."""
    response = after_thinking(response)
    form = answer_form(answer)
    for turn in turns(response):
        if is_cut_off(turn):
            return Grade(False, None)
        found = {"choice": find_choice, "number": find_number, "math": lambda turn: find_math(turn, answer)}[form](turn)
        if found is not None:
            return Grade(same_choice(found, answer) if form == "choice" else same_answer(found, answer), found)
    return Grade(False, None)


def answer_key(extracted: str) -> str:
    """What equal answers have in common, for a vote: 18, 18.0 and 18 eggs are one answer."""
    number = read_number(right_side(extracted))
    if number is not None:
        return f"{number.value}{'%' if number.percent else ''}"
    return ", ".join(sorted(_packed(_value_of(part)).lower() for part in values(extracted)))


def answer_form(answer: str) -> str:
    """ "choice", "number" or "math", by how the reference answer is written."""
    if re.fullmatch(r"\(?[A-Z]\)?[.:]?", _bare_letter(answer)):
        return "choice"
    return "number" if to_number(answer) is not None and len(values(answer)) == 1 else "math"


def _bare_letter(answer: str) -> str:
    return re.sub(r"[\s$*]", "", without_style(answer))


def same_choice(found: str, answer: str) -> bool:
    return found == _bare_letter(answer).strip("().:")


# ------------------------------------------------------------------------------------------- finding the answer
def find_number(turn: str) -> str | None:
    """The first value of the stated answer (after the last “=” of an equation), else the last value of the turn.

    A formula is one value: $2\\sqrt{3}$ is never 2.
    """
    for statement in statements(turn):
        if (found := value_in(statement)) is not None:
            return found
    return last_value(before_check(turn))


def find_math(turn: str, answer: str) -> str | None:
    """The stated answer as LaTeX or words, or several values; else the last formula; else the last number."""
    several = len(values(answer)) > 1
    for statement in statements(turn, several):
        if several and (found := list_in(statement)) is not None:
            return found
        if not several and (found := expression_in(statement)) is not None:
            return found
    rest = before_check(turn)[-10 * REACH :]
    if several:
        last = next((line for line in reversed(rest.strip().splitlines()) if re.search(r"\d|\$", line)), "")
        sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", last.strip())[-1]
        return list_in(Statement(sentence)) or last_value(rest)
    if is_words(answer):
        yes_no = re.findall(r"\b(yes|no|true|false)\b", rest, re.IGNORECASE)
        if words(answer) in ("yes", "no", "true", "false") and yes_no:
            return yes_no[-1]
        return rest.strip().strip(".") if len(rest.split()) <= 5 and rest.strip() else None
    formulas = [formula.strip() for formula in map(_inner, _FORMULA.finditer(rest))]
    return formulas[-1] if formulas else last_value(rest)


def value_in(statement: Statement) -> str | None:
    """The value that a stated answer begins with, as it is written; None if it has none."""
    text = _unmarked(statement.text)
    if statement.boxed and (read_number(text) or not has_words(text)):
        return text.rstrip(".")
    sentence, formulas = _sentence(text)
    sentence = signed(grouped(in_ascii(sentence)))
    if statement.comma:
        sentence = _comma_decimals(sentence)
    if several := _SEVERAL.match(_unmask(sentence, formulas)):
        return several.group().strip()
    masked = re.search(r"⟦(\d+)⟧", sentence)
    digit = re.search(rf"\d|{NUMBER_WORDS}", sentence[: masked.start()] if masked else sentence)
    if masked and not digit:
        percent = re.match(rf"\s*(?:{PERCENT})", sentence[masked.end() :])
        formula = right_side(formulas[int(masked.group(1))])
        words_after = re.match(r"\s*((?:hundred|thousand|million|billion)s?\b)", sentence[masked.end() :])
        return formula + ("%" if percent else f" {words_after.group(1)}" if words_after else "")
    plain = re.sub(r"^[^\w√π$€£¥(\\.+-]+", "", _without_lead(sentence)).strip()
    plain = plain.rstrip(".,")
    if read_number(plain):
        return plain
    if is_formula(plain) and re.search(r"[\d√π∞\\]", plain):  # a letter alone is no number
        return right_side(plain)
    result = plain.rpartition("=")[2] if _is_chain(plain) else plain
    for part in (result, plain):
        if part and read_number(part.strip()):
            return part.strip()
        if found := _TOKEN.search(part):
            return _exact_token(part, found)
        if found := re.search(rf"{PART_WORDS}|{NUMBER_WORDS}|{HAN_NUMBER}", part, re.IGNORECASE):
            return found.group()
    return None


def _exact_token(text: str, found: re.Match) -> str:
    """A value with the words after it where they change it (3 million), without the sign of a subtraction (25 - 7)."""
    times = re.match(
        r"\s*(?:hundred|thousand|million|billion|trillion|[千万萬亿億만억])(?![a-z])", text[found.end() :], re.I
    )
    token = found.group().strip()
    if token[0] in "-+" and token[1:2] == " " and re.search(r"[\w)\]}%⟧]\s*$", text[: found.start()]):
        token = token[1:]
    return (token + (times.group() if times else "")).strip().strip("$€£¥ ").rstrip(".")


def _is_chain(text: str) -> bool:
    """Whether the text computes up to its last “=”: “5 + 6 = 11”, “x = 3”; not “18 apples, 3 * 6 = 18”."""
    start = re.match(VALUE, text)
    if "=" not in text or not start:
        return "=" in text
    after = re.sub(r"^\s*[a-zA-Z]+\b", "", text[start.end() :])
    return bool(
        re.match(r"\s*(?:[-+*/×÷=^]|x\s*\d|\\(?:times|cdot|div|frac))", after)
        or re.match(r"\s*[-+*/×÷=^]", text[start.end() :])
    )


def last_value(text: str) -> str | None:
    """The last value of a text without a stated answer: a bold one of the last paragraph, else the last of all."""
    text = text[-10 * REACH :]
    text = re.sub(r"(?m)^[ \t]*(?:[-*•]\s+|\d+[.)]\s+(?=\S))", "", text)
    last = next((part for part in reversed(re.split(r"\n[ \t]*\n", text.strip())) if re.search(r"\d", part)), "")
    bold = [mark for mark in re.findall(r"\*\*([^*\n]+)\*\*", last) if re.match(rf"\s*(?:{VALUE})", mark)]
    if bold and (found := value_in(Statement(bold[-1]))):
        return found
    found = None
    masked, formulas = _masked(text)
    masked = in_ascii(masked)
    for match in re.finditer(rf"⟦(\d+)⟧|{_TOKEN.pattern}", masked, re.IGNORECASE):
        if match.group(1) is None:
            found = _exact_token(masked, match)
        elif re.search(r"\d", formulas[int(match.group(1))]):
            found = right_side(formulas[int(match.group(1))])
    return found


def expression_in(statement: Statement) -> str | None:
    """The stated answer as a formula, or as words."""
    text = _unmarked(statement.text)
    if statement.boxed:
        return text.rstrip(".").strip() or None
    sentence, formulas = _sentence(text)
    masked = re.search(r"⟦(\d+)⟧", sentence)
    if masked and not re.search(r"\d", sentence[: masked.start()]):
        return formulas[int(masked.group(1))].strip().rstrip(".").strip() or None
    sentence = _unmask(sentence, formulas)
    if len(sentence) > LONGEST:
        return None
    return re.sub(r"^(?:that\s+)?(?:the\s+)?", "", _without_lead(sentence).strip()).rstrip(".,").strip() or None


def list_in(statement: Statement) -> str | None:
    """Several values, as they are written; None where a text has fewer than two parts with a value."""
    sentence, formulas = _sentence(_unmarked(statement.text)) if not statement.boxed else (statement.text, [])
    text = _unmask(sentence, formulas).strip().rstrip(".")
    return text or None


# ------------------------------------------------------------------------------------------- reading text
def _unmarked(text: str) -> str:
    """Without Markdown, and without a list's dash: in a new line, “- 18 eggs” is no negative number."""
    text = re.sub(r"^\s*\n\s*(?:[-*•–—‣◦]\s+|1[.)]\s+(?=\S))", "", text)
    text = grouped(text)
    text = re.sub(r"(\d)\s*\$\s*(\\[dt]?frac[^$]*)\$", r"$\1\2$", text)
    text = re.sub(r"(?<!\d)\*\*|\*\*(?!\d)|__|`|(?<![\w*\\])\*(?=\S)|(?<=[\w.%])\*(?![\w*\s(])", "", text).strip()
    return re.sub(r"^>\s*|^#+\s*", "", text)


def _inner(found: re.Match) -> str:
    return next(part for part in found.groups() if part is not None)


def _masked(text: str) -> tuple[str, list[str]]:
    """The text with ⟦n⟧ for its formulas, and the formulas. Amounts of money ($5 and $6) are none."""
    formulas: list[str] = []

    def mask(found: re.Match) -> str:
        inner = _inner(found)
        if found["d"] is not None and (
            re.search(r"[a-zA-Z]{2,} [a-zA-Z]{2,}", re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}", "", inner))
        ):
            return found.group()
        formulas.append(inner.strip())
        return f"⟦{len(formulas) - 1}⟧"

    return _FORMULA.sub(mask, text), formulas


def _unmask(text: str, formulas: list[str]) -> str:
    return re.sub(r"⟦(\d+)⟧", lambda found: formulas[int(found.group(1))], text)


def _sentence(text: str) -> tuple[str, list[str]]:
    """The first sentence, its formulas masked as ⟦n⟧, and the formulas."""
    masked, formulas = _masked(in_ascii(text))
    masked = re.sub(r"^(?:(?:so|therefore|thus|hence|then|and)\b,?\s*)+", "", masked.strip(), flags=re.IGNORECASE)
    if BEYOND.match(masked):  # it begins with a reason, or with “not”
        return "", formulas
    return next((part for part in BEYOND.split(masked) if part and re.search(r"\w|⟦|[√π∞]", part)), ""), formulas


def _without_lead(text: str) -> str:
    """Without words that lead to a value: “that we have approximately”, “I think it is”, “x =”."""
    return re.sub(
        r"^(?:(?:that|simply|just|clearly|therefore|thus|i (?:think|believe)|it(?:'s| is)|equal to|equals?|given by"
        r"|a total of"
        r"|approximately|about|around|roughly|exactly|is|be|:)\s+)+",
        "",
        text.strip(),
        flags=re.IGNORECASE,
    )


def _comma_decimals(text: str) -> str:
    """2,5 → 2.5 and 1.234 → 1,234 in a language that writes decimals with a comma."""
    return re.sub(
        r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+)(,\d+)?(?![\d.,]*\d)",
        lambda found: found[1].replace(".", "") + (found[2] or "").replace(",", "."),
        text,
    )


def has_words(text: str) -> bool:
    """Whether it contains a word that is no LaTeX command: “16 cm” does, 2n-2 and 8.7 \\times 10^8 do not."""
    bare = re.sub(rf"{STYLES}\{{[^{{}}\d]*\}}|\\[a-zA-Z]+|\b(?:{_FUNCTIONS})\b", "", text)
    return bool(re.search("[^\\W\\d_]{2}|[\u3040-\u9fff\uac00-\ud7af]", bare))


def is_formula(text: str) -> bool:
    """Whether a text is a formula and nothing else."""
    return (
        not has_words(text) and bool(re.search(r"[\w√π]", text)) and len(text) <= LONGEST and len(text.split("=")) <= 4
    )


def right_side(formula: str) -> str:
    """What follows the last “=” or “≈” outside brackets: the result of an equation."""
    parts = split_top(formula, r"(?<![<>!\\])=|≈|\\approx(?![a-z])|\\simeq(?![a-z])|\\doteq(?![a-z])")
    filled = [part.strip().rstrip(".").strip() for part in parts if part.strip(" .&")]
    return filled[-1].lstrip("&").strip() if filled else formula


def is_words(answer: str) -> bool:
    """Whether a reference answer is words and no formula: “Mrs. Hilt”, \\text{even}, “Yes”."""
    bare = without_style(answer)
    return bool(re.fullmatch(r"[^\W\d_][^\W\d_'.\s-]*(?:[\s.'-]+[^\W\d_]+)*\.?", bare)) and bool(
        re.search(r"[^\W\d_]{2}", bare)
    )


def words(text: str) -> str:
    """Words in lower case, without articles, punctuation and styling."""
    bare = re.sub(r"[^\w\s]", " ", without_style(in_ascii(text)).lower().replace("'s", ""))
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


# ------------------------------------------------------------------------------------------- comparing
def values(text: str) -> list[str]:
    r"""The values of a list in no brackets, or in \{…\}; ± stands for two. One value: a list of one."""
    text = text.strip().strip("$").strip()
    inside = re.fullmatch(r"\\?\{(.*?)\\?\}", re.sub(r"\\(?:left|right|l|r)(?=\\?[{}])", "", text), re.DOTALL)
    if inside:
        text = inside.group(1)
    if re.fullmatch(r"[-+\s]*\d{1,2}(?:,\d{2})*,\d{3}(?:\.\d+)?", text):
        return [text]
    if re.search(r"\d,\s\d|\d,\d{1,2}(?!\d)|\d{4,},\d", text):  # 69, 100 are two values; 1,000 is one
        parts = split_top(text, _AND.replace(r",(?!\d{3}(?!\d))", ","))
    else:
        parts = split_top(text, _AND)
    parts = [re.sub(r"^\s*(?:and|or)\s+", "", part.strip().strip("$.").strip()) for part in parts]
    parts = [part for part in parts if part] or [text]
    if len(parts) > 1 and all(has_words(part) and not re.search(r"\d", part) for part in parts[1:]):
        return [text]  # "Evelyn, because she ran", not values
    return [sign for part in parts for sign in _both_signs(part)]


def _both_signs(text: str) -> list[str]:
    if len(re.findall(r"\\pm(?![a-z])|±", text)) != 1:
        return [text]
    return [re.sub(r"\s*(?:\\pm(?![a-z])|±)\s*", sign, text) for sign in "+-"]


def same_answer(found: str, answer: str) -> bool:
    """Equal as text, as numbers, as lists of values, or as mathematics."""
    if _packed(found) == _packed(answer):
        return True
    if max(len(found), len(answer)) > REACH:
        return False
    if read_number(answer) and len(values(answer)) == 1:
        return same_number(found, answer)
    if is_words(answer):
        return words(found) == words(answer) or bool(
            re.match(rf"{re.escape(words(answer))}\s*[,(]", without_style(found).lower())
        )
    gold, got = values(answer), values(found)
    if len(gold) == 1 and (inner := _inside_tuple(answer)) is not None:
        return _same_tuple(found, answer, inner)
    if len(gold) == 1:
        return len(got) == 1 and same_one(got[0], gold[0])
    if len(got) == 1 and (inner := _inside_tuple(found)) is not None:  # (1, 3) for 1, 3
        got = [value for part in inner for value in _both_signs(part)]
    if len(got) != len(gold):
        return False
    return _matched([_value_of(part) for part in got], [_value_of(part) for part in gold])


def _packed(text: str) -> str:
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|^\$+|\$+$", "", without_style(in_ascii(text)).strip())


def _value_of(part: str) -> str:
    """The value in “x = 3”; a part of a list that says more stays as it is."""
    bare = part.strip().strip("$").strip()
    left, equals, right = bare.partition("=")
    return (
        right.strip()
        if equals and "=" not in right and re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?", left.strip())
        else bare
    )


def _matched(got: list[str], gold: list[str]) -> bool:
    """Whether each value has a partner of its own, in any order."""
    left = list(got)
    for value in gold:
        partner = next((other for other in left if same_one(other, value)), None)
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
        got = [_value_of(part) for part in values(found)]
    if got is None or len(got) == 1:
        return same_math(found, answer)
    return len(got) == len(gold) and all(same_one(a, b) for a, b in zip(got, gold, strict=True))


def same_one(found: str, answer: str) -> bool:
    """Two values that are no lists."""
    if _packed(found) == _packed(answer):
        return True
    if read_number(answer):
        return same_number(found, answer)
    one, other = (re.split(r"(?<![<>!\\])=", text) for text in (found, answer))
    if len(one) == len(other) == 2 and _packed(one[0]) == _packed(other[0]):  # f(x) = … twice: what is right of it
        return same_answer(one[1], other[1])
    return same_math(found, answer)


def same_number(found: str, answer: str) -> bool:
    """Equal as numbers: whole numbers and fractions exactly, decimals up to RELATIVE. Mathematics if one is no number.

    12 % is 12 and 0.12, whichever the other is. Of two units of one dimension the larger is converted.
    """
    one, other = read_number(found) or read_number(right_side(found)), read_number(answer)
    if one is None or (len(values(found)) > 1 and read_number(found) is None):
        if len(values(found)) > 1:  # 3/8 or 37.5 % is one value
            return all(same_number(value, answer) for value in values(found))
        if re.fullmatch(r"[a-zA-Z]+", found):
            return False
        gold = other.value
        exact = f"{gold.numerator}/{gold.denominator}" if gold.denominator != 1 else str(gold.numerator)
        text = (repr(float(gold)) if abs(gold) < 1e300 else exact) if other.rounded and gold.denominator != 1 else exact
        text = rf"\frac{{{gold.numerator}}}{{{gold.denominator}}}" if text == exact and gold.denominator != 1 else text
        base = re.search(r"_\{?\d+\}?$", found.strip())
        if base and (whole := read_number(found.strip()[: base.start()])):
            return whole.value == gold  # 52_8 for 52: the base is the question's
        return same_math(
            _without_unit(right_side(found)), text, RELATIVE if other.rounded and gold.denominator != 1 else None
        )
    if one.size and other.size:
        if one.size[0] != other.size[0]:
            return False
        if one.size[1] != other.size[1]:
            return _equal(one.value * one.size[1], other.value * other.size[1], one.rounded or other.rounded)
    return any(
        _equal(a, b, one.rounded or other.rounded) for a, b in product(_readings(one, other), _readings(other, one))
    )


def _readings(number: Number, beside: Number) -> list:
    return [number.value, number.value / 100] if number.percent and not beside.percent else [number.value]


def _equal(one, other, rounded: bool) -> bool:
    if one == other or other.denominator == 1 or not rounded:
        return one == other
    return abs(one - other) <= RELATIVE * max(abs(one), abs(other))


def _without_unit(text: str) -> str:
    r"""A formula without the unit after it: 4\pi \text{ cm}^2 → 4\pi."""
    styled = rf"{STYLES}\s*\{{[^{{}}]*\}}"
    unit = rf"\s*{STYLES}\s*\{{[^{{}}]*[a-zA-Z%°][^{{}}]*\}}(?:\s*/\s*{styled})?(?:\s*\^\s*\{{?-?\d\}}?)?\s*$"
    text = re.sub(unit, "", text) or text
    plain = rf"(?<=[\d}})π])\s+(?:(?!(?:and|or|{_FUNCTIONS})\b)[a-zA-Z]{{2,}}\.?(?:\^\{{?\d\}}?)?\s*)+$"
    return re.sub(plain, "", text).strip() or text


def same_math(found: str, answer: str, tolerance: float | None = None) -> bool:
    """Equal as text, or as mathematics (math-verify, in a process that is bounded in time and memory)."""
    one, other = _packed(found), _packed(answer)
    if one == other:
        return True
    if max(len(found), len(answer)) > LONGEST or not one or not other:
        return False
    clock = re.compile(r"\d+(?::\d+)+")
    if ":" in one + other:  # a time or a ratio: math-verify reads its last number alone
        times = [[list(map(int, time.split(":"))) for time in clock.findall(text)] for text in (one, other)]
        return bool(times[0]) and times[0] == times[1]
    if re.search(r"\\(?:l|c|v|d)?dots|\.\.\.|…", found + answer):
        return False
    if all(re.fullmatch(r"[0-9A-F]+_\{?\d+\}?", text) for text in (one, other)):  # numbers in a base
        return one.replace("{", "").replace("}", "") == other.replace("{", "").replace("}", "")
    one, other = (
        (re.sub(r"_\{?\d+\}?$", "", text) for text in (one, other)) if _one_has_base(one, other) else (one, other)
    )
    if one == other:
        return True
    return equivalent(_latex(found), _latex(answer), tolerance)


def _one_has_base(one: str, other: str) -> bool:
    return all(re.fullmatch(r"[0-9A-Z]+(?:_\{?\d+\}?)?", text) for text in (one, other)) and ("_" in one) != (
        "_" in other
    )


def _latex(text: str) -> str:
    """As math-verify reads it: roots and signs as commands, no unit, no thousands separators."""
    text = in_ascii(text).strip().strip("$").strip().rstrip(".")
    text = _without_unit(text)
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
    for sign, command in (("π", r"\pi "), ("∞", r"\infty "), ("·", r"\cdot "), ("×", r"\times "), ("÷", r"\div ")):
        text = text.replace(sign, command)
    for sign, command in (("≤", r"\le "), ("≥", r"\ge "), ("≠", r"\ne "), ("∪", r"\cup "), ("±", r"\pm ")):
        text = text.replace(sign, command)
    text = re.sub(r"(?<![\\\w])pi\b", r"\\pi", text)
    return re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", text)
