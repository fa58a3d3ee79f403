"""Grades responses: extracts the final answer and compares it with the reference answer.

The form of the reference answer decides how: a number (GSM8K, SVAMP, ASDiv), a lettered choice (MMLU-STEM), or
mathematics in LaTeX (MATH, Minerva, OlympiadBench), which the package math-verify compares, or words. The answer of
the first turn counts, where a model goes on after its own.
"""

import re
from dataclasses import dataclass

from lightreasoner.grading.answer_kinds import packed, right_side, values
from lightreasoner.grading.chosen_option import find_choice
from lightreasoner.grading.comparison import same_answer, value_of
from lightreasoner.grading.extraction import find_math, find_number
from lightreasoner.grading.markup import without_html
from lightreasoner.grading.notation import without_style
from lightreasoner.grading.numbers import read_number, to_number
from lightreasoner.grading.stated_answers import is_cut_off, turns
from lightreasoner.grading.symbolic import GivenUp
from lightreasoner.grading.thinking import after_thinking

ANY_FORM = "0"  # a reference answer that asks for one value, written in any way


@dataclass(frozen=True)
class Grade:
    """`extracted` is None where the response contains no answer; then `right` is False. None: no answer is known."""

    right: bool | None
    extracted: str | None


def grade(response: str, answer: str) -> Grade:
    """Compare the final answer of a response with the reference answer. What it thought before is not its answer."""
    response = without_html(after_thinking(response))
    form = answer_form(answer)
    for turn in turns(response):
        if is_cut_off(turn):
            return Grade(False, None)
        found = {"choice": find_choice, "number": find_number, "math": lambda turn: find_math(turn, answer)}[form](turn)
        if found is not None:
            return Grade(_same(found, answer, form), found)
    return Grade(False, None)


def _same(found: str, answer: str, form: str) -> bool:
    """Whether an extracted answer is the reference answer. What takes too long to tell is given up once for all its
    values, and is not the reference answer."""
    if form == "choice":
        return found == _bare_letter(answer).strip("().:")
    try:
        return same_answer(found, answer)
    except GivenUp:
        return False


def stated_answer(response: str) -> str | None:
    """The final answer of a response, a letter, a number, a formula or words, where no reference answer is known."""
    for turn in turns(without_html(after_thinking(response))):
        if is_cut_off(turn):
            return None
        found = find_math(turn, ANY_FORM)
        if found is not None:
            return _bare_letter(found).strip("().:") if answer_form(found) == "choice" else found
    return None


def answer_key(extracted: str) -> str:
    """What equal answers have in common, for a vote: 18, 18.0 and 18 eggs are one answer."""
    number = read_number(right_side(extracted))
    if number is not None:
        return f"{number.value}{'%' if number.percent else ''}"
    return ", ".join(sorted(packed(value_of(part)).lower() for part in values(extracted)))


def answer_form(answer: str) -> str:
    """ "choice", "number" or "math", by how the reference answer is written."""
    if re.fullmatch(r"\(?[A-Z]\)?[.:]?", _bare_letter(answer)):
        return "choice"
    return "number" if to_number(answer) is not None and len(values(answer)) == 1 else "math"


def _bare_letter(answer: str) -> str:
    return re.sub(r"[\s$*]", "", without_style(answer))
