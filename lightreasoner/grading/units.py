"""Units after a number: what they multiply it by (million, dozen), and their dimension and size (km/h, square feet)."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

_LETTER_UNITS = frozenset("mgshLlJNWVAKCF")  # units of one letter; any other single letter is a variable
_NO_UNITS = re.compile(
    r"\b(?:a?(?:sin|cos|tan)|arc\w+|cot|sec(?!s?\b|onds?)|csc|log|ln|exp|sqrt|cbrt|pi|inf|infinity|mod|choose"
    r"|squared|cubed"
    r"|factorial|plus|minus|times(?!$)|divided|over|and|or|to|not|n't|wrong|incorrect)\b|\\(?!circ)[a-zA-Z]|[α-λν-ωΓ-Λ√∞]"
)
TIMES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12} | {
    **{"千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "만": 10**4, "억": 10**8},
    **{"millones": 10**6, "millionen": 10**6, "millions": 10**6, "mil": 10**3, "tausend": 10**3, "mille": 10**3},
    **{"bn": 10**9, "mln": 10**6, "mio": 10**6, "mrd": 10**9, "mn": 10**6, "lakh": 10**5, "crore": 10**7, "dozen": 12},
    **{"milliards": 10**9, "milliarden": 10**9, "тысяч": 10**3, "миллионов": 10**6, "миллиардов": 10**9},
}
_TIMES = re.compile(
    "|".join(rf"{word}s?(?![a-z克米瓦卡帕])" for word in sorted(TIMES, key=len, reverse=True)), re.IGNORECASE
)
#: Dimension, size in its base unit, names. A plural s is taken off first.
_TABLE = """
length 1/1000 mm millimeter millimetre 毫米
length 1/100 cm centimeter centimetre 厘米
length 1 m meter metre 米
length 1000 km kilometer kilometre 千米 公里
length 127/5000 inch inche in ″
length 381/1250 foot feet ft 英尺
length 1143/1250 yard yd
length 201168/125 mile mi
mass 1/1000 mg milligram
mass 1 g gram gramme gm 克
mass 1000 kg kilogram kilogramme kilo 千克 公斤
mass 1000000 tonne 吨
mass 45359237/1600000 oz ounce
mass 45359237/100000 lb pound
time 1 s sec second 秒
time 60 min minute 分钟
time 3600 h hr hour heure hora stunde stunden 小时
time 86400 day 天
time 604800 week 周
month 1 month
month 12 year yr
length^2 10000 ha hectare
length^2 316160658/78125 acre
length^3 1/1000000 ml mL milliliter millilitre 毫升
length^3 1/1000 l L liter litre 升
gallon 1/16 cup
gallon 1/8 pint
gallon 1/4 quart
gallon 1 gallon
celsius 1 celsius °C
fahrenheit 1 fahrenheit °F
money 1/100 cent ¢
money 1 dollar $
euro 1 euro eur
data 1 byte
data 1000 kB KB kilobyte
data 1000000 MB megabyte
data 1000000000 GB gigabyte
data 1000000000000 TB terabyte
"""
#: Units that take the prefixes of the SI.
_SYMBOLS = ("J", "W", "N", "Pa", "Hz", "V", "A", "mol", "eV", "m", "g", "s", "L")
_PREFIXES = {"n": Fraction(1, 10**9), "µ": Fraction(1, 10**6), "μ": Fraction(1, 10**6), "m": Fraction(1, 1000)} | {
    **{"c": Fraction(1, 100), "d": Fraction(1, 10), "k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9)}
}
_LENGTHY = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "sqm": "square meter", "sqft": "square foot"}


@dataclass(frozen=True)
class Size:
    """What one unit is: its dimension (“length^2”), and how many of the dimension's base unit."""

    dimension: str
    base: Fraction


def _read_table() -> dict[str, tuple[str, int, Fraction]]:
    """Name → (dimension, its power, size)."""
    names = {}
    for line in _TABLE.strip().splitlines():
        dimension, size, *units = line.split()
        dimension, _, power = dimension.partition("^")
        names |= dict.fromkeys(units, (dimension, int(power or 1), Fraction(size)))
    for symbol in _SYMBOLS:
        dimension, power, base = names.setdefault(symbol, (symbol, 1, Fraction(1)))
        names |= {f"{prefix}{symbol}": (dimension, power, base * size) for prefix, size in _PREFIXES.items()}
    return names


_NAMES = _read_table()
DOLLAR = Size("money^1", Fraction(1))


def read_unit(text: str) -> tuple[int, Size | None] | None:
    """(factor, size) of the words after a number: " million dollars" → (10**6, $). None if they are no unit.

    The size is None where a word is in no table: apples, students per class.
    """
    words = text.strip().strip(".,")
    factor = 1
    if per := re.match(r"/\s*(?=[a-zA-Z]{2}|[hs]\b)", words):  # 18/hour
        words = words[per.end() :]
    if _size(words) is None and (times := _TIMES.match(words)):
        factor = TIMES.get(times.group().lower()) or TIMES[times.group().lower().removesuffix("s")]
        words = words[times.end() :].strip()
    elif re.match(r"k(?![\w/^])", text):  # 250k
        factor, words = 1000, words[1:].strip()
    if not words:
        return factor, None
    bare = re.sub(r"\^\s*\{?-?\d\}?|(?<=[a-z])[23]\b", "", words)  # cm^2, m3
    bare = "".join(char for char in bare if not unicodedata.category(char).startswith("M"))  # vowel signs
    if (
        len(words.split()) > 8
        or not re.fullmatch(r"[^\W\d_](?:[^\W\d_]|[\s./'\"()¢·-])*|[¢\"'″]+", bare)
        or _NO_UNITS.search(bare)
    ):
        return None
    size = _size(words)
    if size is not None:
        return factor, None if per or (words in _LETTER_UNITS and text[0] != " " and factor == 1) else size
    letters = [word for word in re.findall(r"[^\W\d_]+", bare) if len(word) == 1 and word.isascii()]
    return None if set(letters) - _LETTER_UNITS - {"a"} else (factor, None)


def _size(words: str) -> Size | None:
    """The size of a unit, of its powers, and of products and quotients of units. None where a part is unknown."""
    words = _LENGTHY.get(words.lower(), words)
    top, *bottom = re.split(r"\s*/\s*|\s+per\s+", words)
    powers: dict[str, int] = {}
    base = Fraction(1)
    for part, sign in [(top, 1), *((part, -1) for part in bottom)]:
        for name, power in _powers(part):
            if (known := _known(name)) is None:
                return None
            powers[known[0]] = powers.get(known[0], 0) + sign * power * known[1]
            base *= known[2] ** (sign * power)
    return Size(" ".join(f"{name}^{power}" for name, power in sorted(powers.items()) if power), base)


def _powers(part: str) -> list[tuple[str, int]]:
    """(name, power) of each factor: “square feet”, “m^2”, “cm3”, “m s^{-1}”."""
    spelled = re.fullmatch(r"(square|sq\.?|cubic|cu\.?)\s+(.+)|(.+)\s+(squared|cubed)", part.strip(), re.IGNORECASE)
    if spelled:
        word, name = (spelled[1], spelled[2]) if spelled[1] else (spelled[4], spelled[3])
        return [(name, 2 if word.lower().startswith("sq") else 3)]
    factors = re.findall(r"([^\W\d_]+|[$¢\"'″])\.?\s*(?:\^\s*\{?\s*(-?\d)\s*\}?|([23])\b)?", part)
    return [(name, int(power or digit or 1)) for name, power, digit in factors]


def _known(name: str) -> tuple[str, int, Fraction] | None:
    """(dimension, power, size) of a unit, in the plural, too."""
    spellings = (name, name.lower(), name.lower().removesuffix("s")) if len(name) > 2 else (name,)
    return next((_NAMES[spelling] for spelling in spellings if spelling in _NAMES), None)
