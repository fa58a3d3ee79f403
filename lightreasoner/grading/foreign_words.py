"""Whole numbers in words of languages other than English: dieciocho, dix-huit, achtzehn, восемнадцать, 십팔.

The package num2words writes numbers in words; its words for 0 to 999 and for round thousands are looked up here.
"""

import itertools
import re
import unicodedata
from functools import lru_cache

from lightreasoner.grading.notation import without_style

#: Which languages the words of an answer may be in, by what announces it; see stated.py.
ANNOUNCED = {
    "r[ée]ponse|r[ée]sultat": ("fr", "fr_BE", "fr_CH"),
    "respuesta|soluci[óo]n|opci[óo]n|resultado": ("es", "ca"),
    "resposta|solu[çc]|resultado|op[çc]": ("pt", "pt_BR"),
    "antwort|lösung|ergebnis": ("de",),
    "rispost|soluzion": ("it",),
    "ответ|решени": ("ru", "uk"),
    "odpowied": ("pl",),
    "antwoord": ("nl",),
    "cevap|yanıt": ("tr",),
    "jawaban": ("id",),
    "đáp|câu": ("vi",),
    r"\bsvar": ("sv", "da", "no"),
    "답": ("ko",),
    "جواب|جابة": ("ar", "fa"),
    "উত্তর": ("bn",),
    "คำตอบ": ("th",),
}
ALL = tuple(dict.fromkeys(name for names in ANNOUNCED.values() for name in names))
#: Other endings of the words: before a noun, or of another gender.
ENDINGS = {
    "es": (("uno", "una"), ("uno", "un"), ("cientos", "cientas")),
    "fr": (("un", "une"), ("cents", "cent"), ("vingts", "vingt")),
    "de": (("eins", "ein"), ("eins", "eine"), ("zwei", "zwo")),
    "pt": (("um", "uma"), ("dois", "duas"), ("centos", "centas")),
    "it": (("uno", "una"), ("uno", "un")),
    "ru": (("один", "одна"), ("один", "одно"), ("два", "две")),
    "uk": (("один", "одна"), ("один", "одне"), ("два", "дві")),
}
#: Korean's own words, with which things are counted.
KOREAN = ("열 스물 서른 마흔 쉰 예순 일흔 여든 아흔", "하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉", "한 두 세 네")
#: Words that are articles, too. They are numbers only with at most one word after them.
ARTICLES = {"un", "una", "uno", "une", "ein", "eine", "um", "uma", "een", "en", "et", "ett", "bir", "mot", "on"}
MINUS = re.compile(r"(?:menos|moins|minus|meno|минус|min|eksi)\s+", re.IGNORECASE)
LETTERS = r"[^\W\d_][\w\u0300-\u036f\u0e31-\u0e4e\u0981-\u09e3]*"
#: What may stand between thousands and the rest.
JOINTS = ("", "y", "e", "et", "und", "og", "och", "и", "و")
OR = ("o", "u", "ou", "oder", "или", "або", "lub", "of", "eller", "atau", "hoac")
MOST = 12  # words of one number
SENTENCE = 300  # characters


def announced_by(cue: str) -> tuple[str, ...]:
    """The languages of the words that announce an answer."""
    return tuple(name for part, names in ANNOUNCED.items() if re.search(part, cue, re.IGNORECASE) for name in names)


def in_digits(text: str, languages: tuple[str, ...]) -> str:
    """The text with its first number in words as digits; as it is where it has digits, or no such number.

    languages: of its words; ALL: only of a text that is a number, with a unit at most.
    """
    if not languages or len(text) > SENTENCE or re.search(r"\d", text):
        return text
    bare = without_style(text)
    if languages is ALL and not re.fullmatch(rf"\s*{LETTERS}(?:[\s'’-]+{LETTERS})*\s*\.?", bare):
        return text
    for word in re.finditer(LETTERS, bare):
        start = word.start()
        for name in languages:
            if found := _longest(bare[start:], name, languages is not ALL):
                minus = next((sign for sign in MINUS.finditer(bare[:start]) if sign.end() == start), None)
                after, start = bare[start + found[0] :], minus.start() if minus else start
                following = [_key(part) for part in re.findall(LETTERS, after)]
                joined = bool(following) and following[0] in JOINTS + OR
                if any(part in {**_below(name), **_large(name)} for part in following[joined : joined + 1]):
                    return text  # a part of a number that is not known here, or one of two numbers
                if len(following) < 2 or (languages is not ALL and _key(word.group()) not in ARTICLES):
                    return f"{bare[:start]}{'-' if minus else ''}{found[1]}{after}"
        if languages is ALL and not MINUS.match(bare):
            break
    return text


def _longest(text: str, language: str, thousands: bool) -> tuple[int, int] | None:
    """(characters, value) of the longest number that a text begins with. thousands: it may have some."""
    ends = [word.end() for word in re.finditer(LETTERS, text)][:MOST]
    if re.match("[\u0e00-\u0e7f\uac00-\ud7af]", text):  # Thai, Korean: a unit may follow without a blank
        ends = range(1, len(text[:40]) + 1)
    found = ((end, _value(_key(text[:end]), language, thousands)) for end in reversed(ends))
    return next(((end, value) for end, value in found if value is not None), None)


def _value(key: str, language: str, thousands: bool) -> int | None:
    below = _below(language)
    if key in below or not thousands:
        return below.get(key)
    large = _large(language)
    for cut in range(len(key), 0, -1):
        if (start := large.get(key[:cut])) is not None:
            rest = key[cut:]
            ends = (_value(rest.removeprefix(joint), language, True) for joint in JOINTS if rest.startswith(joint))
            most = 10**6 if start % 10**6 == 0 else 1000
            return start if not rest else next((start + end for end in ends if end is not None and end < most), None)
    return None


@lru_cache(maxsize=len(ALL))
def _below(language: str) -> dict[str, int]:
    """The numbers below 1,000 by their words without blanks, hyphens and accents."""
    found = _words(language, range(1000))
    if language == "de":  # hundertfünf for einhundertfünf
        found |= {key.removeprefix("ein"): n for key, n in found.items() if key.startswith("einhundert")}
    if language == "ko":
        tens, ones, short = (map(_key, words.split()) for words in KOREAN)
        ones = {**{word: n for n, word in enumerate(ones, 1)}, **{word: n for n, word in enumerate(short, 1)}}
        tens = {"": 0, **{word: 10 * n for n, word in enumerate(tens, 1)}, _key("스무"): 20}
        for ten, one in list(itertools.product(tens, ("", *ones)))[1:]:
            found.setdefault(ten + one, tens[ten] + ones.get(one, 0))
    return found


@lru_cache(maxsize=len(ALL))
def _large(language: str) -> dict[str, int | None]:
    """Round thousands and millions below a hundred million likewise; None for single words of larger numbers."""
    from num2words import num2words

    found: dict[str, int | None] = dict(_words(language, range(1000, 1_000_000, 1000)))
    found |= _words(language, range(10**6, 10**8, 10**6))
    if language == "de":
        found |= {"tausend": 1000}
    for n in (2000, 5000, 10**6, 2 * 10**6, 5 * 10**6, 10**9):
        for part in re.findall(LETTERS, num2words(n, lang=language)):
            found.setdefault(_key(part), None)
    return found


def _words(language: str, numbers: range) -> dict[str, int]:
    from num2words import num2words  # takes 0.1 s to import, and few answers need it

    found: dict[str, int] = {}
    endings = [(_key(one), _key(other)) for one, other in ENDINGS.get(language.partition("_")[0], ())]
    for n in numbers:
        key = _key(num2words(n, lang=language))
        found.setdefault(key, n)
        for one, other in endings:
            found.setdefault(key.replace(one, other), n)
    return found


def _key(text: str) -> str:
    kept = ((char, unicodedata.category(char)[0]) for char in unicodedata.normalize("NFD", text.casefold()))
    return "".join(char for char, kind in kept if not ("\u0300" <= char <= "\u036f" or kind in "ZPC"))
