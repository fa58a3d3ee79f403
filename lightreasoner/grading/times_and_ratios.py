"""Times of day, dates and ratios: 1:30 PM, 13:30, July 4, 4 July 2020, 3:4, 3 to 4."""

import re
from fractions import Fraction

_COLONS = re.compile(r"(\d{1,9})\s*:\s*(\d{1,9})(?:\s*:\s*(\d{1,9}))?(?:\s*:\s*(\d{1,9}))?")
_HALF = re.compile(r"(?<![a-z])([ap])\.?\s?m\b", re.IGNORECASE)


_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?:the\s+)?(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = [
    re.compile(rf"(?:\w+day,?\s+)?(?:{first})(?:,?\s+(?P<year>\d{{4}}))?(?!\w)", re.IGNORECASE)
    for first in (rf"{_MONTH}\s+{_DAY}", rf"{_DAY}\s+(?:of\s+)?{_MONTH}")
] + [re.compile(r"(?<![\d-])(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>[0-3]\d)(?![\d-])")]


def read_date(text: str) -> tuple[str | None, int, int] | None:
    """(year, month, day) of July 4, 2020, 4 July 2020, the 4th of July or 2020-07-04; None for any other text."""
    text = re.sub(r"[\\{}$]|\\text", " ", text) if "\\" in text else text
    text = re.sub(r"^\W*(?:on\s+)?|\W+$", "", text)
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _DATES)), None)
    if found is None:
        return None
    month = found["month"]
    return found["year"], int(month) - 1 if month.isdigit() else _MONTHS.index(month[:3].lower()), int(found["day"])


def find_date(text: str) -> str | None:
    """The last date of a text, as it is written there."""
    found = [match for pattern in _DATES for match in pattern.finditer(text)]
    return max(found, key=lambda match: match.start()).group() if found else None


def read_colons(text: str) -> list[int] | None:
    """The numbers of a time or a ratio; None where a text has none, or two."""
    text = re.sub(r"\b(\d+) to (\d+)\b", r"\1:\2", text.replace("∶", ":").replace(r"\colon", ":"))
    text = re.sub(r"^\W*(\d{1,2})(?=\s*[ap]\.?\s?m\b)", r"\1:00", text, flags=re.IGNORECASE)  # 3 PM
    found = list(_COLONS.finditer(text))
    return [int(part) for part in found[0].groups() if part is not None] if len(found) == 1 else None


def is_time(text: str) -> bool:
    """Whether a text with colons can be a time: 2:30 can, 3:4 and 1:75 cannot."""
    later = re.findall(r"(?<=:)\s*(\d+)", text)
    return bool(_HALF.search(text)) or (bool(later) and all(len(part) == 2 and int(part) < 60 for part in later))


def same_colons(found: str, answer: str) -> bool:
    """Whether two texts with a time or a ratio mean the same. Where the answer names the half of the day, both do."""
    got, gold = read_colons(found), read_colons(answer)
    if got is None or gold is None:
        return False
    if is_time(answer):
        named, wanted = _HALF.search(found), _HALF.search(answer)
        if wanted:
            return _of_day(got, named) == _of_day(gold, wanted)
        return got == gold or (named is not None and _of_day(got, named) == gold)
    return (
        len(got) == len(gold) and got[0] > 0 and all(a * gold[0] == b * got[0] for a, b in zip(got, gold, strict=True))
    )


def as_ratio(text: str) -> Fraction | None:
    """3:4 as a number; None for times, and for ratios of three."""
    parts = read_colons(text)
    if parts is None or len(parts) != 2 or is_time(text) or parts[1] == 0 or re.search(r"[a-zA-Z]{3}|\\", text):
        return None
    return Fraction(*parts)


def _of_day(parts: list[int], half: re.Match | None) -> list[int]:
    if half is None:
        return parts
    return [parts[0] % 12 + (12 if half[1].lower() == "p" else 0), *parts[1:]]
