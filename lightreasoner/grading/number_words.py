"""Numbers in words: eighteen, two and a half, three quarters, 十八, 三分之一, 1亿2千万."""

import re
from fractions import Fraction

from lightreasoner.grading.arithmetic import arithmetic
from lightreasoner.grading.units import TIMES, read_unit

_WORDS = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
_LARGE = "hundred|thousand|million|billion|trillion|dozen"
NUMBER_WORDS = rf"\b(?:{'|'.join(_WORDS)}|an?\s+(?:{_LARGE}))(?:[\s-]+(?:and\s+)?(?:{'|'.join(_WORDS)}|{_LARGE}))*\b"
PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000}
PART_WORDS = rf"(?:\b(?:a|an|{'|'.join(_WORDS)})[\s-]+)?\b(?:{'|'.join(PARTS)})s?\b"
_HAN = {char: n for n, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
HAN_NUMBER = (
    "(?:百分之|[一二三四五六七八九十百]+分之)?(?!一[共起样樣定般些直旦])[零〇一二两兩三四五六七八九十百千万萬亿億]+"
    "(?:[个個]半(?!径))?|半(?![径徑])|[壹贰貳叁參肆伍陆陸柒捌玖拾佰仟零万萬亿億]{2,}"
)
_PLAIN_HAN = str.maketrans("壹贰貳叁參肆伍陆陸柒捌玖拾佰仟萬億", "一二二三三四五六六七八九十百千万亿")
_HAN_TIMES = {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}
_RESPELLED = (
    (r"\b(?:minus|negative)\s+(?=[$\d])|[负負](?=\d)|マイナス(?=\d)", "-"),
    (rf"\b(?:minus|negative)\s+(?={NUMBER_WORDS})|[负負](?=[零〇一二两兩三四五六七八九十百千])", "-"),
    (r"(\d+)\s*又\s*(\d+)分之(\d+)", r"\1 \3/\2"),
    (r"(\d+)\s*又\s*(\d+\s*/\s*\d+)", r"\1 \2"),
    (r"百分之\s*(\d+(?:\.\d+)?)", r"\1%"),
    (r"(\d+)分之(\d+)", r"\2/\1"),
    (r"(\d+)\s+(?:[a-z]+\s+)?(?:et demie?|y medi[ao]|e mezz[ao]|e mei[ao]|с половиной)\b", r"\1 1/2"),
)
_HAN_DIGITS = re.compile(
    r"(?:\d{1,6}(?:\.\d{1,9})?\s?(?:[千천]?[亿億억万萬만]|[千천](?![克米瓦卡帕])))+\s?(?:\d{1,4}(?![\d.]))?"
)


def respelled(text: str) -> str:
    """The text with digits and signs for words that stand at digits: minus 5, 负5, 2又1/2, 4分之3, 1亿2千万."""
    for pattern, spelling in _RESPELLED:
        text = re.sub(pattern, spelling, text, flags=re.IGNORECASE)
    return _HAN_DIGITS.sub(_han_digits, text)


def _han_digits(found: re.Match) -> str:
    """2.5万 → 25000, 1亿2千万 → 120000000."""
    total = part = Fraction(0)
    for digits, unit in re.findall(r"(\d+(?:\.\d+)?)?\s?([千천万萬만亿億억])?", found.group()):
        part += Fraction(digits or 0) * (1000 if unit in ("千", "천") else 1)
        if unit and unit not in ("千", "천"):
            total, part = total + part * _HAN_TIMES[unit], Fraction(0)
    total += part
    return str(total) if total.denominator == 1 else found.group()


def in_words(text: str) -> Fraction | None:
    """eighteen, one hundred and five, three quarters, two and a half, 十八, 三分之一; a unit may follow."""
    found = re.match(HAN_NUMBER, text)
    if found and len(text) - found.end() <= 4:
        whole, half, _ = found.group().partition("半")
        if half:
            return _han(whole.rstrip("个個")) + Fraction(1, 2)
        bottom, of, top = found.group().rpartition("分之")
        return Fraction(_han(top), _han(bottom.replace("百", "一百", 1) if bottom == "百" else bottom) if of else 1)
    half = re.fullmatch(rf"(.+?) and ({PART_WORDS})(.*)|({PART_WORDS})(.*)", text, re.IGNORECASE)
    after = re.sub(rf"^\s*(?:of\s+)?an?\s+(?=(?:{_LARGE})\b)", "", (half[3] or half[5] or "") if half else "")
    if half and (unit := read_unit(" " + after.strip())) is not None:
        whole = (arithmetic(half[1]) or in_words(half[1])) if half[1] else None
        *count, part = re.findall("[a-z]+", (half[2] or half[4]).lower())
        part = part if part in PARTS else part.removesuffix("s")
        share = Fraction(_WORDS.get(count[0], 1) if count else 1, PARTS[part])
        if whole or not half[1]:
            return (share + (whole or 0)) * unit[0]
    if text.startswith("-") and (positive := in_words(text[1:])) is not None:
        return -positive
    found = re.match(NUMBER_WORDS, text, re.IGNORECASE)
    if not found or read_unit(" " + text[found.end() :].strip()) is None:
        return None
    total = part = 0
    for word in re.findall("[a-z]+", found.group().lower()):
        if word in _WORDS or word in ("a", "an"):
            part += _WORDS.get(word, 1)
        elif word in ("hundred", "dozen"):
            part *= TIMES[word]
        elif word in TIMES:
            total, part = total + part * TIMES[word], 0
    return Fraction(total + part)


def _han(text: str) -> int:
    text = text.translate(_PLAIN_HAN)
    total = part = digit = 0
    units = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
    for char in text:
        if char in _HAN:
            digit = 10 * digit + _HAN[char]
        elif char in "万亿":
            total, part, digit = (total + part + digit) * units[char], 0, 0
        else:
            part, digit = part + (digit or 1) * units[char], 0
    if 0 < digit < 10 and text[-2:-1] in ("百", "千", "万", "亿"):  # 一百八 is 180
        digit *= units[text[-2]] // 10
    return total + part + digit
