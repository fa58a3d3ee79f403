"""Reference answers that are neither a number, nor an option, nor a formula: counted before an evaluation starts.

A response is compared with such an answer as text, so another wording of it counts as wrong.
"""

import re
from collections.abc import Iterable

from lightreasoner.grading.answer_kinds import NAMES, named
from lightreasoner.grading.grading import answer_form
from lightreasoner.problems.rows import Problem

#: Words that belong to formulas and lists of values.
MATHEMATICAL = re.compile(
    "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|pi|mod|max|min|gcd|lcm|inf(?:inity|ty)?|lim|det|dim|deg|rad|"
    "frac|cup|cap|or|and|pm|times|cdot"
)
QUANTITY = re.compile(
    r"[-+−$€£¥]?\s*\d[\d,.\s]*(?:/\s*\d+)?\s*(?:[a-zµΩ°][\w°/^.²³]*(?:\s+[a-z][\w/^.²³]*){0,2})?\.?", re.IGNORECASE
)
#: Letters next to a digit or a sign are a product, as in 2xy or ab+c.
PRODUCT = re.compile(r"(?<=[\d^_+*/=(])[^\W\d_]{2,3}|[^\W\d_]{2,3}(?=[\^_+*/=(])")
MONTH = re.compile(r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b", re.IGNORECASE)
SHOWN = 3


def compared_as_text(answer: str) -> bool:
    """Whether a reference answer is neither a number (with a unit, perhaps), nor an option, nor a formula."""
    if answer_form(answer) in ("choice", "number") or named(answer) in NAMES:
        return False
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}", r" \1 ", answer)
    if QUANTITY.fullmatch(text.strip()):
        return bool(MONTH.search(text))  # Excel makes 2-Jan of 2/1
    if MONTH.search(text) and re.search(r"\d", text):
        return True
    text = re.sub(r"\\(?:begin|end)\s*\{\w+\*?\}|\\[a-zA-Z]+", " ", text)
    words = {word.casefold() for word in re.findall(r"[^\W\d_]{2,}", text)}
    words -= {word.casefold() for word in PRODUCT.findall(text)}
    return any(not MATHEMATICAL.fullmatch(word) for word in words)


def words_sentence(problems: Iterable[Problem]) -> str:
    """How many of the known answers are words, with the first; "" if none is."""
    known = [problem.answer for problem in problems if problem.answer]
    found = [answer for answer in known if compared_as_text(answer)]
    if not found:
        return ""
    shown = ", ".join(f"“{' '.join(answer.split())[:40]}”" for answer in dict.fromkeys(found[:SHOWN]))
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{len(found):,} of {len(known):,} known answers {verb} neither number, option nor formula ({shown}"
        f"{', …' if len(found) > SHOWN else ''}), so responses are compared with them as text."
    )
