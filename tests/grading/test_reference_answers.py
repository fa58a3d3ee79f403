"""Reference answers that are neither number, option nor formula are found, counted and shown with the first of them."""

from __future__ import annotations

import pytest

from lightreasoner.grading.reference_answers import compared_as_text, words_sentence
from lightreasoner.problems.rows import Problem

USUAL = [
    *("5", "-3.5", "1/2", "1,234", "12 %", "8.7e8", "$5.00", "2 1/2", "B", "(C)", r"\frac{1}{2}", r"2\sqrt{3}"),
    *("x^2+1", "3, 5", "(1, 2)", r"[0, \infty)", "x = 3 or x = 5", "5 cm", r"10\text{ km/h}", "2 hours", "sin(x)"),
    *(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "2xy", "ab+c", r"\{1, 2\}", "pi/2", r"90^\circ", "n", "18 square feet"),
    *("no solution", r"\text{No solution}", "all real numbers", "undefined", "3:00 PM", "x = 1, y = 2", "H_2O"),
]
WORDS = [
    *("Mr. Oak", "yes", "True", "1-Feb", "Jan 2", "none of these", r"\text{even}", "Montag", "It depends on x", "圆形")
]


@pytest.mark.parametrize("answer", USUAL)
def test_numbers_options_and_formulas(answer):
    assert not compared_as_text(answer)


@pytest.mark.parametrize("answer", WORDS)
def test_words(answer):
    assert compared_as_text(answer)


def test_the_sentence_counts_the_known_answers_only():
    problems = [Problem(str(n), "q", answer) for n, answer in enumerate(["4", None, "yes", "no", "yes", "maybe"])]
    assert words_sentence(problems) == (
        "4 of 5 known answers are neither number, option nor formula (“yes”, “no”, …), so responses are compared with "
        "them as text."
    )
    assert words_sentence(problems[:2]) == ""
