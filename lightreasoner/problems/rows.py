"""Turns a row of any layout into a Problem: finds the columns of the question, the answer and the solution.

There is no list of layouts. The conventions of the benchmarks (GSM8K's ####, MATH's \\boxed{}, a body before the
question, lettered choices, units in brackets) are recognised by column names and marks, so a benchmark reads the same
from the Hub, from the Qwen2.5-Math evaluation files or from a user's CSV file.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

QUESTION = ("question", "problem", "prompt", "query", "input", "instruction")
#: Columns with text that precedes the question, and what joins the two.
LEADS = (("body", " "), ("context", "\n"), ("instruction", "\n"))
ANSWER = (
    *("final_answer", "answer", "expected_answer", "correct_answer", "reference_answer", "ground_truth"),
    *("gold", "gt", "target", "label", "result"),
)
SOLUTION = ("solution", "rationale", "explanation", "reasoning", "cot", "response", "output", "completion")
ID = ("id", "unique_id", "problem_id", "question_id", "uid", "idx", "index")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Problem:
    """`answer` is the final answer alone, `solution` includes the steps; each is None if the source lacks it."""

    id: str
    question: str
    answer: str | None = None
    solution: str | None = None


class UnusableRow(Exception):
    """Why a row is no problem: the text after "line 5: "."""


def read_row(row: dict, *, max_chars: int) -> tuple[Problem, dict[str, str]]:
    """The problem in a row, with the row's own id or "", and the column that each role was read from.

    Raises UnusableRow for a row without a usable question.
    """
    names = {str(name).strip().lower(): name for name in row}
    cells = {folded: row[name] for folded, name in names.items()}
    question, question_from = _question(cells)
    choices, choices_from = _choices(cells)
    if choices:
        question += "".join(f"\n({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    answer, solution, shown = _answer_and_solution(cells, names, choices, has_body="body" in question_from)
    shown = {"question": " + ".join(names[name] for name in question_from + choices_from)} | shown
    own_id, id_from = _first_text(cells, ID, separator="-")
    if id_from:
        shown["id"] = names[id_from]

    if len(question) > max_chars:
        raise UnusableRow(f"its question has {len(question):,} characters, over the limit of {max_chars:,}")
    for role, text in (("question", question), ("answer", answer), ("solution", solution)):
        # Half a surrogate pair is valid JSON, but no tokenizer and no file accepts it.
        if text and ("\0" in text or re.search("[\ud800-\udfff]", text)):
            raise UnusableRow(f"its {role} holds characters that are not text")
    return Problem(own_id or "", question, answer, solution), shown


def _question(cells: dict) -> tuple[str, list[str]]:
    """The question with the text before it, and the keys in `cells` of both."""
    found = [name for name in QUESTION if name in cells]
    if not found:
        seen = ", ".join("".join(filter(str.isprintable, name))[:30] for name in list(cells)[:12]) or "none"
        raise UnusableRow(f"it has no column for the question; columns: {seen}; accepted: {', '.join(QUESTION)}")
    filled = [name for name in found if not _is_blank(cells[name])]
    if not filled:
        raise UnusableRow("its question is blank")
    name = filled[0]
    if not isinstance(cells[name], str):
        kind = {list: "a list", dict: "an object", bool: "true or false"}.get(type(cells[name]), "a number")
        raise UnusableRow(f"its question is {kind}, not text")
    question = cells[name].strip()
    for lead, joint in LEADS:
        before = cells.get(lead)
        if lead == "instruction" and name != "input":  # beside another column, an instruction is a prompt template
            continue
        if isinstance(before, str) and before.strip():
            before = before.strip()
            # SVAMP omits the full stop of the body.
            stop = "." if lead == "body" and before[-1].isalnum() else ""
            return f"{before}{stop}{joint}{question}", [lead, name]
    return question, [name]


def _answer_and_solution(
    cells: dict, names: dict[str, str], choices: list[str], has_body: bool
) -> tuple[str | None, str | None, dict[str, str]]:
    """(final answer, worked solution, their columns by role). Either can be in the other's column."""
    answer, answer_from = _first_text(cells, ANSWER, separator=", ")
    solution, solution_from = _first_text(cells, SOLUTION, separator="\n\n")
    if answer is not None and choices:
        answer = _letter(cells[answer_from], answer, choices)
    elif answer is not None and has_body:
        answer = _without_unit(answer)
    elif answer_from == "final_answer":
        answer = re.sub(r"(?<!\\)\$", "", answer).strip()  # OlympiadBench: $2^{1009}$

    shown = {"answer": names[answer_from]} if answer_from else {}
    in_column = answer_from if answer is not None else solution_from
    worked, final, mark = _final_answer((solution if answer is None else answer) or "")
    if final is not None:
        answer, shown["answer"] = final, f"{names[in_column]} ({mark})"
        if worked and solution_from in (None, in_column):
            solution, solution_from = worked, in_column
    if solution_from:
        shown["solution"] = names[solution_from]
    return answer or None, solution, shown


def _is_blank(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _text(value: object, separator: str) -> str | None:
    """The text of a cell: 145.0 becomes "145", and a list is joined. None for empty cells, NaN and objects."""
    if isinstance(value, str):
        return None if value.strip().lower() in ("", "nan") else value.strip()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        return separator.join(filter(None, (_text(item, separator) for item in value))) or None
    return None


def _first_text(cells: dict, names: tuple[str, ...], separator: str) -> tuple[str | None, str | None]:
    """(text, column) of the first of these columns that has text."""
    texts = ((_text(cells.get(name), separator), name) for name in names)
    return next((found for found in texts if found[0] is not None), (None, None))


def _choices(cells: dict) -> tuple[list[str], list[str]]:
    """(the choices as text, [their column]); both are empty unless the question is multiple choice."""
    for name in ("choices", "options"):
        value = cells.get(name)
        if isinstance(value, dict):  # {"A": …, "B": …}
            value = list(value.values())
        if isinstance(value, list) and 2 <= len(value) <= len(LETTERS):
            texts = [_text(item, ", ") for item in value]
            if all(texts):
                return texts, [name]
    return [], []


def _letter(value: object, text: str, choices: list[str]) -> str:
    """The letter of the right choice, which MMLU gives as its position, others as a letter or as its text."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value in range(len(choices)):
        return LETTERS[int(value)]
    if text in choices:
        return LETTERS[choices.index(text)]
    bare = text.strip("().").upper()
    return bare if len(bare) == 1 and bare in LETTERS[: len(choices)] else text


def _without_unit(answer: str) -> str:
    """ASDiv and SVAMP: "9 (apples)" → "9", "145.0" → "145"."""
    if ";" in answer:
        raise UnusableRow("it asks for several answers at once")
    bare = answer
    while (shorter := re.sub(r"\s*\([^()]*\)", "", bare)) != bare:
        bare = shorter
    bare = bare.strip() or answer
    return re.sub(r"^(-?\d+)\.0+$", r"\1", bare)


def _final_answer(text: str) -> tuple[str | None, str | None, str]:
    """(worked solution, final answer, its mark) of a text that ends with an answer, as in GSM8K and MATH."""
    worked, mark, final = text.rpartition("####")
    final = final.strip()
    if mark and final and "\n" not in final:  # otherwise it is a heading
        return worked.strip() or None, re.sub(r"(?<=\d),(?=\d{3})", "", final), "after ####"
    boxed = last_boxed(text)
    only_boxed = boxed is not None and len(text) < len(boxed) + len("$$\\boxed{}$$.")
    return (None if only_boxed else text), boxed, "\\boxed"


def last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{…} (or \fbox{…}, or "\boxed 5"), braces balanced; None if there is none."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = text[start:].removeprefix("\\boxed").removeprefix("\\fbox").lstrip()
    if not rest.startswith("{"):
        bare = re.match(r"[^\s$.,]+", rest)
        return bare.group() if bare else None
    depth = 0
    for token in re.finditer(r"\\.|[{}]", rest, re.DOTALL):  # \{ and \} are no braces
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return rest[1 : token.start()].strip() or None
    return None
