"""Reads numbers exactly in any usual notation: fractions, mixed numbers, powers of ten, per cent, words, units."""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from lightreasoner.grading.arithmetic import VALUE, arithmetic
from lightreasoner.grading.notation import in_ascii, without_style
from lightreasoner.grading.number_words import PARTS, in_words, respelled
from lightreasoner.grading.units import DOLLAR, Size, read_unit

PERCENT = r"%|\b(?:percent(?:age)?(?: points?)?|per cent|pct|prozent|pour ?cent|por ?ciento|por cento)\b"
_ABOUT = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|nearly|exactly|only|just|≈|\\approx|\\sim|~|=|Rs\.?|USD"
    r"|US)\s*)+",
    re.I,
)


#: Several values with units after one another: 1 hour, 5 minutes and 20 seconds.
COMPOUND = re.compile(
    rf"(?:{VALUE})\s*[a-z]{{1,12}}\.?(?:\s*,?\s*(?:and\s+)?(?:{VALUE})\s*[a-z]{{1,12}}\b\.?){{1,3}}", re.IGNORECASE
)


_SHORT = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}


@dataclass(frozen=True)
class Number:
    """`percent`: it was written with a per cent sign, which `value` leaves out: 12 % is 12.

    `rounded`: it was written with a decimal point, so it may stand for another number nearby.
    """

    value: Fraction
    percent: bool
    rounded: bool
    size: Size | None = None  # of its unit
    also: Fraction | None = None  # another reading: 5 dozen are 60 and 5, 3 quarters 3 and 3/4, 1 h 30 min 1.5 and 90


def read_number(text: str) -> Number | None:
    """The number that a text consists of, with or without a unit, or None. Formulas with roots or letters are none."""
    bare = without_style(in_ascii(text)).strip().strip("$* ")
    bare = re.sub(r"(?<!\.)\.$", "", bare)
    bare = respelled(_ABOUT.sub("", bare).strip())
    bare = re.sub(r"\b(?:US|R|A|CA?|AU|NZ|HK|MX|S)\$", "$", bare)
    if re.fullmatch(r"0[xX][\da-fA-F]{1,30}|0[bB][01]{1,100}|0[oO][0-7]{1,40}", bare):
        return Number(Fraction(int(bare, 0)), False, False)
    if not bare or len(bare) > 100:
        return None
    bare = re.sub(r"(?<=\d)\s*[eE]\s*\{([-+]?\d+)\}", r"e\1", bare)  # 6.4\mathrm{e}{-5}
    bare = re.sub(r"^([-+]?\d+)-(\d+/\d+)(?=\s*[a-zA-Z%\"'])", r"\1 \2", bare)  # 2-1/2 hours
    percent = re.search(rf"\s*(?:{PERCENT})$", bare, re.IGNORECASE)
    if percent:
        bare = bare[: percent.start()]
    money = re.match(r"[-+]?\s*\$", text.replace("\\$", "$").strip()) and text.count("$") == 1
    amount = bare
    bare = re.sub(r"(?<![\w.])([-+]?)\s*[$€£¥₹₽₩]\s*(?=[-+.\d])|[€£¥₹₽₩]$", r"\1", bare)
    size, also = DOLLAR if money else None, None
    if share := re.fullmatch(r"(\d+) (?:out of|in) (\d*[1-9]\d*)", bare):
        return Number(Fraction(int(share[1]), int(share[2])), False, False, None, Fraction(int(share[1])))
    value = arithmetic(bare)
    if value is None:
        value = in_words(bare)
    if value is None and not percent:
        found = re.match(VALUE, bare)
        rest = bare[found.end() :] if found else ""
        short = re.match(r"[mMbBkKtT]\b(?![/^])" if money else r"[MBK](?![\w/^])", rest)  # $2.5m, 1.2M people
        rest = f" {_SHORT[short.group().lower()]}{rest[1:]}" if short else rest
        unit = read_unit(rest) if found else None
        if unit is not None and (count := arithmetic(bare[: found.end()])) is not None:
            value, size = count * unit[0], unit[1] or size
            also = count if re.match(r"\s*dozen", rest) or (short and not money) else _parts(count, rest)  # 1.2 molar
            if size and size.dimension == DOLLAR.dimension:  # 99 cents are 99, or 0.99
                also = count * size.base
            bare = bare[: found.end()]
    if value is None:
        return None if percent else _compound(amount)
    return Number(value, bool(percent), bool(re.search(r"\d?[.,]\d|\d[eE]", bare)), size, also)


def _parts(count: Fraction, unit: str) -> Fraction | None:
    """3 quarters are three coins, or 3/4."""
    part = unit.strip().lower().removesuffix("s")
    return count / PARTS[part] if part in PARTS else None


def _compound(text: str) -> Number | None:
    """1 hour and 30 minutes, 6 ft 2 in, 5'11", $5 and 50 cents: the value in the first unit, and in the last."""
    text = re.sub(r"^(\d+)\s?[hH]\s?(\d\d|\d\d?(?=\s?m))(?:\s?m)?$", r"\1 h \2 min", text.strip())  # 1h30, 1h30m
    text = re.sub(r"^\$\s*(\d[\d,.]*)(?=\D+\d+\s*(?:cents?|¢)$)", r"\1 dollars", text)
    text = re.sub(r"^(\d+)\s*['′]\s*(\d+)\s*(?:\"|″|'')?$", r"\1 ft \2 in", text)
    if not COMPOUND.fullmatch(text):
        return None
    values, sizes = [], []
    for amount, name in re.findall(rf"({VALUE})\s*([a-z]+)", text, re.IGNORECASE):
        unit, value = read_unit(f" {name}"), arithmetic(amount)
        if unit is None or unit[1] is None or unit[0] != 1 or value is None:
            return None
        values.append(value)
        sizes.append(unit[1])
    if len({size.dimension for size in sizes}) > 1 or any(a.base <= b.base for a, b in pairwise(sizes)):
        return None
    total = sum(value * size.base for value, size in zip(values, sizes, strict=True))
    return Number(total / sizes[0].base, False, "." in text, sizes[0], total / sizes[-1].base)


def to_number(text: str) -> Fraction | None:
    r"""A number in any usual notation, exactly: 1,234.50, -3/4, \frac{1}{2}, 8.7e8, 12 %, 2 1/2, 16 cm; else None."""
    number = read_number(text)
    return number and number.value
