"""Grades responses: extracts the final answer and compares it with the reference answer.

The form of the reference answer decides how: a number (GSM8K, SVAMP, ASDiv), a lettered choice (MMLU-STEM), or
mathematics in LaTeX (MATH, Minerva, OlympiadBench), which the package math-verify compares. math-verify limits its time
by an alarm signal, which works only in a process's main thread. Elsewhere it has no limit, so long expressions are
refused beforehand.
"""

import logging
import math
import re
import threading
from dataclasses import dataclass
from fractions import Fraction

from lightreasoner.problems.rows import last_boxed
from lightreasoner.problems.thinking import after_thinking

_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
NUMBER = rf"[-+−]?\s*{_DIGITS}(?:\s*/\s*{_DIGITS})?"
STATED = re.compile(r"(?:final answer|answer)\b(?:\s+is|\s*[:=]|\s+would be)(?:\s*[:=])?\s*(.+)", re.IGNORECASE)
#: The end of a stated answer, before reasons or the next sentence.
BEYOND = re.compile(r"\.\s|\.$|;|\b(?:because|since|so that|which|not)\b")
CHOSEN = re.compile(r"\b(?:option|choice)\b(?:\s+is|\s*:)?[^\w\n]*([A-Z])\b")
RELATIVE = 1e-4  # tolerance for numbers that are not whole, because answers are rounded in many ways
LONGEST = 300  # characters of LaTeX that are compared as mathematics
SECONDS = 5  # per comparison
logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs every expression that it cannot parse


@dataclass(frozen=True)
class Grade:
    """`extracted` is None where the response contains no answer; then `right` is False."""

    right: bool
    extracted: str | None


def grade(response: str, answer: str) -> Grade:
    """Compare the final answer of a response with the reference answer. What it thought before is not its answer."""
    response = after_thinking(response)
    find, same = {
        "choice": (find_choice, lambda found, answer: found.strip("() ") == answer.strip("() ")),
        "number": (find_number, same_number),
        "math": (find_math, same_math),
    }[answer_form(answer)]
    found = find(response)
    return Grade(found is not None and same(found, answer), found)


def answer_form(answer: str) -> str:
    """ "choice", "number" or "math", by how the reference answer is written."""
    if re.fullmatch(r"\(?[A-Z]\)?", answer.strip()):
        return "choice"
    return "number" if to_number(answer) is not None else "math"


def stated_answer(response: str) -> str | None:
    """The answer that the response states: the last box, the text after ####, or the last “the answer is …”."""
    boxed = last_boxed(response)
    if boxed is not None:
        return boxed
    after = response.rpartition("####")
    if after[1] and after[2].strip():
        return after[2].strip().splitlines()[0]
    statements = STATED.findall(response)
    return statements[-1].strip() if statements else None


def find_number(response: str) -> str | None:
    """The stated answer if it is a number or mathematics. Otherwise the first number in it (after the last “=” of an
    equation), or the last number of the response."""
    statement = stated_answer(response)
    if statement is not None:
        whole = statement.strip().rstrip(".")
        if to_number(whole) is not None or (last_boxed(response) and not has_words(whole)):
            return whole
        result = BEYOND.split(without_units(statement), maxsplit=1)[0].rpartition("=")[2]
        if numbers := re.findall(NUMBER, result) or re.findall(NUMBER, without_units(statement)):
            return numbers[0].strip()
    numbers = re.findall(NUMBER, without_units(response))
    return numbers[-1].strip().rstrip(".") if numbers else None


def has_words(text: str) -> bool:
    """Whether it contains a word that is no LaTeX command: “16 cm” does, 2n-2 and 8.7 \\times 10^8 do not."""
    return bool(re.search("[a-zA-Z]{2}", re.sub(r"\\text\{[^{}\d]*\}|\\[a-zA-Z]+", "", text)))


def find_choice(response: str) -> str | None:
    """A letter: of the stated answer, else of the last “option X”, else the last in brackets or at the end."""
    statement = stated_answer(response)
    if statement:
        letter = re.match(r"\W*(?:\\text\{)?\W*([A-Z])\b", statement) or CHOSEN.search(statement)
        if letter:
            return letter.group(1)
    if named := CHOSEN.findall(response):
        return named[-1]
    letters = re.findall(r"\(([A-Z])\)", response) or re.findall(r"(?:^|\n)\W*([A-Z])\W*$", response.strip())
    return letters[-1] if letters else None


def find_math(response: str) -> str | None:
    """The stated answer as LaTeX or words; else the last formula between dollar signs; else the last number."""
    statement = stated_answer(response)
    if statement is not None:
        formula = re.search(r"\$+([^$]+)\$+", statement)
        return (formula.group(1) if formula else statement).strip().rstrip(".").strip() or None
    formulas = re.findall(r"\$+([^$]+)\$+", response)
    return formulas[-1].strip() if formulas else find_number(response)


def without_units(text: str) -> str:
    """The text without currency, percent and degree signs, and with plain commas for LaTeX's thousands separators."""
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|,\\!)(?=\d{3})", ",", text)
    return re.sub(r"\\[$%]|[$€£]|\^\{?\\circ\}?", "", text)


def to_number(text: str) -> Fraction | None:
    r"""A number in any usual notation, exactly: 1,234.50, -3/4, \frac{1}{2}, 8.7e8, 12 %, -1./3; else None."""
    bare = without_units(text).strip().removesuffix("%").strip().rstrip(".").replace("−", "-")
    bare = re.sub(r"^(-?)\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}$", r"\1\2/\3", bare)
    if len(bare) > 100 or not re.fullmatch(NUMBER, bare):
        return None
    top, slash, bottom = re.sub(r"[\s,]", "", bare).partition("/")
    try:
        return Fraction(top) / Fraction(bottom) if slash else Fraction(top)
    except ZeroDivisionError:
        return None


def same_number(found: str, answer: str) -> bool:
    """Equal as numbers: whole numbers exactly, others up to RELATIVE. Mathematics if `found` is no number."""
    one, other = to_number(found), to_number(answer)
    if one is None:
        return same_math(found, repr(float(other)) if "e" in answer.lower() else answer)
    if one == other or other.denominator == 1:
        return one == other
    return math.isclose(one, other, rel_tol=RELATIVE)


def same_math(found: str, answer: str) -> bool:
    """Equal as text, as a number, or as mathematics (math-verify)."""
    if re.sub(r"\s|\\left|\\right", "", found) == re.sub(r"\s|\\left|\\right", "", answer):
        return True
    if max(len(found), len(answer)) > LONGEST:
        return False
    from math_verify import LatexExtractionConfig, parse, verify

    seconds = SECONDS if threading.current_thread() is threading.main_thread() else None
    try:
        gold, candidate = (
            parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=seconds) for text in (answer, found)
        )
        return bool(verify(gold, candidate, timeout_seconds=seconds))
    except Exception:  # a response may break any parser; it is then not the reference answer
        return False
