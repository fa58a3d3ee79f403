"""What kind of token a token is, by its text: numbers, operators and words diverge very differently."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str
    title: str
    says: str


KINDS = (
    Kind("number", "Numbers", "Digits and numbers, decimal points and thousands' commas inside them included."),
    Kind("operator", "Operators", "Signs of arithmetic and comparison: + − × ÷ = < > % ^ and the like."),
    Kind("word", "Words", "Words and parts of words, with or without the space before them."),
    Kind("space", "Spaces and newlines", "Nothing but white space."),
    Kind("punctuation", "Punctuation", "Points, commas, brackets, quotation marks, backslashes, dollar signs."),
    Kind("end", "End of turn", "Control tokens: the one that ends the response, and others like it."),
    Kind("other", "Other", "Mixtures of these, symbols, and tokens that are only a part of a character."),
)
NAMES = tuple(kind.name for kind in KINDS)
_OPERATORS = set("+-−–*/=<>^%±×÷·≤≥≠≈√")  # a hyphen and an en dash are minus signs in a mathematical text


def kind_of(text: str, special: bool = False) -> str:
    """The name of the kind of a token with this text. special: a control token."""
    if special:
        return "end"
    bare = text.strip()
    if not bare:
        return "space" if text else "other"
    digits = bare.replace(".", "").replace(",", "")
    if digits and all(unicodedata.category(c)[0] == "N" for c in digits):
        return "number"
    if all(c in _OPERATORS for c in bare):
        return "operator"
    if any(c.isalpha() for c in bare):
        word = all(c.isalpha() or unicodedata.category(c)[0] == "M" or c in "'’-" for c in bare)
        return "word" if word else "other"
    if all(unicodedata.category(c)[0] == "P" or c in "$`~|" for c in bare):
        return "punctuation"
    return "other"
