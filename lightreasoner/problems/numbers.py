"""Reads numbers exactly in any usual notation: fractions, mixed numbers, powers of ten, per cent, words, units."""

import ast
import operator
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from lightreasoner.problems.notation import in_ascii, without_style

GROUPED = (
    r"\d{1,3}(?:,\d{3}){1,9}(?!,?\d)|\d{1,3}(?: \d{3}){1,9}(?! ?\d)|\d{1,3}(?:'\d{3}){1,9}(?!\d)"
    r"|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)"
)
DIGITS = rf"(?:(?:{GROUPED}|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\d))?"
_FRACTION = r"\\frac\s*\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}"
_POWER = r"\s*(?:\\times|\\cdot|×|·|⋅|\*|[xX]|times)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*[-+]?\d+\s*\}|\([-+]?\d+\)|[-+]?\d+)"
#: A number at the start of a text, with its sign and currency: -$2 1/2, 2\frac{1}{2}, 3/4, 4.5 \times 10^{33}.
VALUE = (
    rf"[-+]?\s*(?:[$€£¥₹₽₩]\s*)?[-+]?(?:{_FRACTION}|(?:{DIGITS})"
    rf"(?:\s+(?:and\s+)?\d+\s*/\s*\d+(?![\d.]*\d)|\s*{_FRACTION}|\s*/\s*(?:{DIGITS}))?)(?:{_POWER})?"
)
PERCENT = r"%|\b(?:percent(?:age)?(?: points?)?|per cent|pct|prozent|pour ?cent|por ?ciento|por cento)\b"
_ABOUT = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|nearly|exactly|only|just|≈|\\approx|\\sim|~|=|Rs\.?|USD"
    r"|US)\s*)+",
    re.I,
)
_LETTER_UNITS = frozenset("mgshLlJNWVAKCF")  # units of one letter; any other single letter is a variable
_NO_UNITS = re.compile(
    r"\b(?:a?(?:sin|cos|tan)|arc\w+|cot|sec(?!s?\b|onds?)|csc|log|ln|exp|sqrt|cbrt|pi|inf|infinity|mod|choose"
    r"|squared|cubed"
    r"|factorial|plus|minus|times|divided|over|and|or|to)\b|\\(?!circ)[a-zA-Z]|[α-λν-ωΓ-Λ√∞]"
)
_TIMES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12} | {
    **{"千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "만": 10**4, "억": 10**8},
    **{"millones": 10**6, "millionen": 10**6, "millions": 10**6, "mil": 10**3, "tausend": 10**3, "mille": 10**3},
}
#: Unit → (dimension, size). Where both answers name one of these, 5 m is 500 cm and not 5 cm.
_SIZES = {
    **dict.fromkeys(("mm", "millimeters", "millimetres"), ("length", Fraction(1, 1000))),
    **dict.fromkeys(("cm", "centimeters", "centimetres", "centimeter"), ("length", Fraction(1, 100))),
    **dict.fromkeys(("m", "meters", "metres", "meter", "metre", "米"), ("length", Fraction(1))),
    **dict.fromkeys(("km", "kilometers", "kilometres", "kilometer", "千米", "公里"), ("length", Fraction(1000))),
    **dict.fromkeys(("inches", "inch"), ("feet", Fraction(1))),
    **dict.fromkeys(("feet", "foot", "ft"), ("feet", Fraction(12))),
    **dict.fromkeys(("yards", "yard", "yd"), ("feet", Fraction(36))),
    **dict.fromkeys(("mg", "milligrams"), ("mass", Fraction(1, 1000))),
    **dict.fromkeys(("g", "grams", "gram", "克"), ("mass", Fraction(1))),
    **dict.fromkeys(("kg", "kilograms", "kilogram", "千克", "公斤"), ("mass", Fraction(1000))),
    **dict.fromkeys(("s", "sec", "secs", "seconds", "second", "秒"), ("time", Fraction(1))),
    **dict.fromkeys(("min", "mins", "minutes", "minute", "分钟"), ("time", Fraction(60))),
    **dict.fromkeys(("h", "hr", "hrs", "hours", "hour", "小时"), ("time", Fraction(3600))),
    **dict.fromkeys(("days", "day", "天"), ("time", Fraction(86400))),
    **dict.fromkeys(("weeks", "week"), ("time", Fraction(604800))),
    **dict.fromkeys(("ml", "mL", "milliliters"), ("volume", Fraction(1, 1000))),
    **dict.fromkeys(("l", "L", "liters", "litres", "liter", "升"), ("volume", Fraction(1))),
    **dict.fromkeys(("cents", "cent", "¢"), ("money", Fraction(1, 100))),
    **dict.fromkeys(("dollars", "dollar", "$"), ("money", Fraction(1))),
}
_WORDS = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
NUMBER_WORDS = rf"\b(?:{'|'.join(_WORDS)})(?:[\s-]+(?:and\s+)?(?:{'|'.join(_WORDS)}|hundred|thousand|million))*\b"
_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
PART_WORDS = rf"(?:\b(?:a|an|{'|'.join(_WORDS)})[\s-]+)?\b(?:{'|'.join(_PARTS)})s?\b"
_HAN = {char: n for n, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
HAN_NUMBER = "(?:百分之|[一二三四五六七八九十百]+分之)?[零〇一二两兩三四五六七八九十百千万]+"
_MOST_BITS = 20_000  # of a power's numerator or denominator


@dataclass(frozen=True)
class Number:
    """`percent`: it was written with a per cent sign, which `value` leaves out: 12 % is 12.

    `rounded`: it was written with a decimal point, so it may stand for another number nearby.
    """

    value: Fraction
    percent: bool
    rounded: bool
    size: tuple[str, Fraction] | None = None  # of its unit: the dimension, and how many base units it is


def read_number(text: str) -> Number | None:
    """The number that a text consists of, with or without a unit, or None. Formulas with roots or letters are none."""
    bare = without_style(in_ascii(text)).strip().strip("$* ").rstrip(".")
    bare = signed(_ABOUT.sub("", bare).strip())
    if not bare or len(bare) > 100:
        return None
    percent = re.search(rf"\s*(?:{PERCENT})$", bare, re.IGNORECASE)
    if percent:
        bare = bare[: percent.start()]
    money = re.match(r"[-+]?\s*\$", text.replace("\\$", "$").strip()) and text.count("$") == 1
    bare = re.sub(r"(?<![\w.])([-+]?)\s*[$€£¥₹₽₩]\s*(?=[-+.\d])|[€£¥₹₽₩]$", r"\1", bare)
    size = _SIZES["$"] if money else None
    value = arithmetic(bare)
    if value is None and not percent:
        value = _in_words(bare)
    if value is None and not percent:
        found = re.match(VALUE, bare)
        unit = _unit(bare[found.end() :]) if found else None
        if unit is not None:
            value = arithmetic(bare[: found.end()])
            value, size = (None if value is None else value * unit[0]), unit[1] or size
            bare = bare[: found.end()]
    if value is None:
        return None
    return Number(value, bool(percent), bool(re.search(r"\d?\.\d|\d[eE]", bare)), size)


def signed(text: str) -> str:
    """The text with a minus sign for “minus”, “negative” and 负 before a number."""
    return re.sub(r"\b(?:minus|negative)\s+(?=[$\d])|[负負](?=\d)", "-", text, flags=re.IGNORECASE)


def to_number(text: str) -> Fraction | None:
    r"""A number in any usual notation, exactly: 1,234.50, -3/4, \frac{1}{2}, 8.7e8, 12 %, 2 1/2, 16 cm; else None."""
    number = read_number(text)
    return number and number.value


def _unit(text: str) -> tuple[int, tuple[str, Fraction] | None] | None:
    """(factor, size) of the words after a number: " million dollars" → (10**6, …). None if they are no unit."""
    words = text.strip().strip(".,")
    factor = 1
    times = re.match("|".join(rf"{word}(?![a-z])" for word in _TIMES), words, re.IGNORECASE)
    if times:
        factor, words = _TIMES[times.group().lower()], words[times.end() :].strip()
    if not words:
        return factor, None
    bare = re.sub(r"\^\s*\{?[23]\}?|(?<=[a-z])[23]\b", "", words)  # cm^2, m3
    bare = "".join(char for char in bare if not unicodedata.category(char).startswith("M"))  # vowel signs
    if words in _SIZES:
        return (factor, _SIZES[words]) if words not in _LETTER_UNITS or text[0] == " " or times else (factor, None)
    if (
        len(words.split()) > 8
        or not re.fullmatch(r"[^\W\d_](?:[^\W\d_]|[\s./'\"()¢-])*|[¢\"']+", bare)
        or _NO_UNITS.search(bare)
    ):
        return None
    letters = [word for word in re.findall(r"[^\W\d_]+", bare) if len(word) == 1 and word.isascii()]
    return None if set(letters) - _LETTER_UNITS - {"a"} else (factor, None)


def arithmetic(text: str) -> Fraction | None:
    r"""The exact value of digits, fractions, + - * / and whole powers: \frac{1}{2^{98}}, 4.5 \times 10^{33}."""
    if len(text) > 300 or not re.search(r"\d", text):
        return None
    text = re.sub(r"(\d*)\.(\d*)\\overline\{(\d+)\}", _repeating, text)
    text = re.sub(GROUPED, lambda found: re.sub("[, ']", "", found.group()), text)
    for pattern in (r"\s+(?:and\s+)?(\d+)\s*/\s*(\d+)(?![\d.]*\d)", r"\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}"):
        text = re.sub(rf"(?<![\d.)}}^/])(\d+){pattern}", _mixed, text)
    for _ in range(20):
        shorter = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\^\s*\{([^{}]*)\}", _written_out, text)
        if shorter == text:
            break
        text = shorter
    text = re.sub(
        r"\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\ast(?![a-zA-Z])|[×·⋅]|(?<=\d)\s*(?:[xX]|times)\s*(?=\d)", "*", text
    )
    text = re.sub(r"\\div(?![a-zA-Z])|÷", "/", text).replace("^", "**")
    values: list[Fraction] = []

    def name(found: re.Match) -> str:
        values.append(Fraction(found.group()))
        return f" v{len(values) - 1} "

    named = re.sub(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?", name, text)
    if not re.fullmatch(r"(?:v\d+|[\s+\-*/()])+", named) or "//" in named:
        return None
    try:
        return _value(ast.parse(named.strip(), mode="eval").body, values)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, ZeroDivisionError):
        return None


def _repeating(found: re.Match) -> str:
    whole, fixed, period = found.groups()
    all_digits, before = int((whole or "0") + fixed + period), int((whole or "0") + fixed)
    return f"(({all_digits}-{before})/{(10 ** len(period) - 1) * 10 ** len(fixed)})"


def _mixed(found: re.Match) -> str:
    whole, top, bottom = found.groups()
    return f"({whole}+{top}/{bottom})" if int(top) < int(bottom) else found.group()


def _written_out(found: re.Match) -> str:
    top, bottom, power = found.groups()
    return f"**({power})" if power is not None else f"(({top})/({bottom}))"


def _value(node: ast.AST, values: list[Fraction]) -> Fraction:
    if isinstance(node, ast.Name):
        return values[int(node.id[1:])]
    if isinstance(node, ast.UnaryOp):
        return {ast.USub: operator.neg, ast.UAdd: operator.pos}[type(node.op)](_value(node.operand, values))
    if not isinstance(node, ast.BinOp):
        raise ValueError
    left, right = _value(node.left, values), _value(node.right, values)
    if isinstance(node.op, ast.Pow):
        bits = max(left.numerator.bit_length(), left.denominator.bit_length())
        if right.denominator != 1 or abs(right) * bits > _MOST_BITS:
            raise ValueError
        return left ** int(right)
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    return operators[type(node.op)](left, right)


def _in_words(text: str) -> Fraction | None:
    """eighteen, one hundred and five, three quarters, two and a half, 十八, 三分之一; a unit may follow."""
    found = re.match(HAN_NUMBER, text)
    if found and len(text) - found.end() <= 4:
        bottom, of, top = found.group().rpartition("分之")
        return Fraction(_han(top), _han(bottom.replace("百", "一百", 1) if bottom == "百" else bottom) if of else 1)
    half = re.fullmatch(rf"(.+?) and ({PART_WORDS})(.*)|({PART_WORDS})(.*)", text, re.IGNORECASE)
    if half and _unit(" " + (half[3] or half[5] or "").strip()) is not None:
        whole = read_number(half[1]) if half[1] else None
        *count, part = re.findall("[a-z]+", (half[2] or half[4]).lower())
        share = Fraction(
            _WORDS.get(count[0], 1) if count else 1, _PARTS[part.removesuffix("s") if part not in _PARTS else part]
        )
        if whole or not half[1]:
            return share + (whole.value if whole else 0)
    found = re.match(NUMBER_WORDS, text, re.IGNORECASE)
    if not found or _unit(" " + text[found.end() :].strip()) is None:
        return None
    total = part = 0
    for word in re.findall("[a-z]+", found.group().lower()):
        if word in _WORDS:
            part += _WORDS[word]
        elif word == "hundred":
            part *= 100
        elif word in _TIMES:
            total, part = total + part * _TIMES[word], 0
    return Fraction(total + part)


def _han(text: str) -> int:
    total = part = digit = 0
    for char in text:
        if char in _HAN:
            digit = 10 * digit + _HAN[char]
        elif char == "万":
            total, part, digit = (total + part + digit) * 10**4, 0, 0
        else:
            part, digit = part + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char], 0
    return total + part + digit
