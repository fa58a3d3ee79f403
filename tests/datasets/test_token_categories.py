"""Token categories, by the texts of tokens."""

from __future__ import annotations

import pytest

from lightreasoner.datasets.token_categories import CATEGORIES, CATEGORY_NAMES, token_category

TEXTS = {
    "number": ["7", " 12", "3.5", "1,000", ".5", "½", "٣"],
    "operator": ["+", " -", "−", "=", "×", "/", "<=", " % ", "**"],
    "word": ["the", " Answer", "don't", "ü", "数", "-step", "n"],
    "space": [" ", "\n", "\n\n", "\t "],
    "punctuation": [".", ",", " (", "?", '"', "\\", "$", ":\n", "..."],
    "other": ["", "x2", "\\frac", "\\xe2\\x80", "😀", "€5", "2nd"],
}


@pytest.mark.parametrize("kind", TEXTS)
def test_each_kind(kind):
    assert {text: token_category(text) for text in TEXTS[kind]} == dict.fromkeys(TEXTS[kind], kind)


def test_control_tokens_end_a_turn_whatever_their_text():
    assert token_category("<|im_end|>", special=True) == token_category(".", special=True) == "end"


def test_the_table_names_each_once():
    assert (
        len(set(CATEGORY_NAMES)) == 7
        and {*TEXTS, "end"} == set(CATEGORY_NAMES)
        and all(k.title and k.description for k in CATEGORIES)
    )
