"""Token categories: sorts tokens by their text, since numbers, operators and words diverge very differently."""

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenCategory:
    name: str
    title: str
    description: str


CATEGORIES = (
    TokenCategory("number", "Numbers", "Digits and numbers, with decimal points and thousands separators inside them."),
    TokenCategory("operator", "Operators", "Signs of arithmetic and comparison: + − × ÷ = < > % ^ and the like."),
    TokenCategory("word", "Words", "Words and parts of words, with or without the space before them."),
    TokenCategory("space", "Spaces and newlines", "White space only."),
    TokenCategory(
        "punctuation", "Punctuation", "Periods, commas, brackets, quotation marks, backslashes, dollar signs."
    ),
    TokenCategory("end", "End of turn", "Control tokens: the one that ends the response, and others like it."),
    TokenCategory("other", "Other", "Mixtures of these, symbols, and tokens that are only part of a character."),
)
CATEGORY_NAMES = tuple(category.name for category in CATEGORIES)
_OPERATORS = set("+-−–*/=<>^%±×÷·≤≥≠≈√")  # a hyphen and an en dash are minus signs in a mathematical text


def token_category(text: str, special: bool = False) -> str:
    """The name of the category of a token with this text. special: a control token."""
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
