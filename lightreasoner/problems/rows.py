"""Turns a row of any layout into a Problem: finds the columns of the question, the answer and the solution.

There is no list of layouts: the conventions of the benchmarks are recognised by column names and marks. Such are
GSM8K's ####, MATH's \\boxed{}, a body before the question, lettered choices, turns of a conversation, and units in
brackets. So a benchmark reads the same from the Hub, from the Qwen2.5-Math evaluation files or from a user's CSV file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lightreasoner.problems.cells import (
    ANSWER,
    EXCEL_ERROR,
    UnusableRow,
    cell_text,
    first_text,
    is_blank,
    is_text,
    row_cells,
    shown_columns,
)
from lightreasoner.problems.conversations import Turn, context_of_columns, find_conversation, ground_truth
from lightreasoner.problems.multiple_choice import (
    MEANINGS,
    ONE,
    ZERO,
    Choices,
    digit_readings,
    find_choices,
    right_choice,
)

QUESTION = ("question", "problem", "prompt", "query", "input", "instruction")
#: Columns that hold the question of a row with choices (OpenBookQA, PIQA, WinoGrande, HellaSwag).
STEMS = (*QUESTION, "question_stem", "stem", "goal", "sentence", "ctx", "question_text")
#: Columns with text that precedes the question, and what joins the two.
LEADS = {"body": " "} | dict.fromkeys(("context", "passage", "article", "premise", "instruction"), "\n")
SOLUTION = ("solution", "rationale", "explanation", "reasoning", "cot", "response", "output", "completion", "chosen")
ID = ("id", "unique_id", "problem_id", "question_id", "uid", "uuid", "idx", "index")
LEVEL = ("level", "difficulty")
SUBJECT = ("subject", "type", "subfield", "category", "topic")


@dataclass(frozen=True)
class Problem:
    """`answer` is the final answer alone, `solution` includes the steps; each is None if the source lacks it.

    `context` has the turns of a conversation before the question; `response` is the assistant's turn after it.
    """

    id: str
    question: str
    answer: str | None = None
    solution: str | None = None
    context: tuple[Turn, ...] = ()
    response: str | None = None
    level: str | None = None  # of difficulty, as the source names it
    subject: str | None = None


def read_row(
    row: dict, *, max_chars: int, meanings: Callable[[], frozenset] = lambda: MEANINGS
) -> tuple[Problem, dict[str, str]]:
    """The problem in a row, with the row's own id or "", and the column that each role was read from.

    meanings: called for answers that are whole numbers, where there are choices (multiple_choice.digit_meanings).

    Raises UnusableRow for a row without a usable question, or one that cannot be read without guessing.
    """
    cells, names = row_cells(row)
    if truth := ground_truth(cells):
        cells["ground_truth"], names["ground_truth"] = truth
        if all(is_blank(cells.get(name)) for name in ANSWER[: ANSWER.index("ground_truth")]):
            cells = {name: value for name, value in cells.items() if name not in ANSWER or name == "ground_truth"}
    talk = find_conversation(cells)
    choices = find_choices(cells, names)
    if talk:
        question, question_from, context = talk.question, talk.columns, talk.context
        if talk.response is not None:
            cells = {n: v for n, v in cells.items() if not (n in SOLUTION and isinstance(v, list))}
            cells.setdefault("response", talk.response)
            names.setdefault("response", names[talk.columns[0]])
    else:
        question, question_from = _question(cells, names, STEMS if choices else QUESTION)
        context, more = context_of_columns(cells)
        question_from = more + question_from
    if choices and not _shows(question, choices):
        question += choices.lines()
        question_from = question_from + choices.columns
    answer, solution, shown = _answer_and_solution(cells, names, choices, "body" in question_from, meanings)
    shown = {"question": " + ".join(names[name] for name in question_from)} | shown
    own_id, id_from = first_text(cells, ID, separator="-")
    if id_from:
        shown["id"] = names[id_from]

    length = len(question) + sum(len(turn.text) for turn in context)
    if length > max_chars:
        whose = "question and context have" if context else "question has"
        raise UnusableRow(f"its {whose} {length:,} characters, over the limit of {max_chars:,}")
    response = talk.response if talk else None
    texts = [("question", question), ("answer", answer), ("solution", solution), ("response", response)]
    for role, text in texts + [("context", turn.text) for turn in context]:
        if text and not is_text(text):
            raise UnusableRow(f"its {role} holds characters that are not text")
    level, subject = (first_text(cells, names, separator=", ")[0] for names in (LEVEL, SUBJECT))
    return Problem(own_id or "", question, answer, solution, context, response, _name(level), _name(subject)), shown


def _name(text: str | None) -> str | None:
    """The name of a level or subject; None for a text that is too long or broken for one."""
    return text if text and len(text) <= 80 and text.isprintable() else None


def _question(cells: dict, names: dict[str, str], accepted: tuple[str, ...]) -> tuple[str, list[str]]:
    """The question with the text before it, and the keys in `cells` of both."""
    found = [name for name in accepted if name in cells]
    if not found:
        columns, accepted = shown_columns(names.values()), ", ".join(QUESTION)
        raise UnusableRow(f"it has no column for the question; columns: {columns}; accepted: {accepted}")
    filled = [name for name in found if not is_blank(cells[name])]
    if not filled:
        raise UnusableRow("its question is blank")
    name = filled[0]
    if not isinstance(cells[name], str):
        kinds = {list: "a list", dict: "an object", bool: "true or false", bytes: "binary data"}
        raise UnusableRow(f"its question is {kinds.get(type(cells[name]), 'a number')}, not text")
    question = cells[name].strip().strip("\ufeff")
    if EXCEL_ERROR.fullmatch(question):
        raise UnusableRow(f"its question is {question}, a spreadsheet's error in place of the text")
    for lead, joint in LEADS.items():
        if lead == "instruction" and name != "input":  # beside another column, an instruction is a prompt template
            continue
        before = cells[lead].strip() if isinstance(cells.get(lead), str) else ""
        if before and before not in question:
            # SVAMP omits the full stop of the body.
            stop = "." if lead == "body" and before[-1].isalnum() else ""
            return f"{before}{stop}{joint}{question}", [lead, name]
    return question, [name]


def _shows(question: str, choices: Choices) -> bool:
    """Whether the question itself lists its choices with their letters."""
    lines = zip(choices.letters, choices.texts, strict=True)
    return all(re.search(rf"(?<![A-Za-z]){x}\W{{1,3}}{re.escape(text)}", question) for x, text in lines)


def _answer_and_solution(
    cells: dict, names: dict[str, str], choices: Choices | None, has_body: bool, meanings: Callable[[], frozenset]
) -> tuple[str | None, str | None, dict[str, str]]:
    """(final answer, worked solution, their columns by role). Either can be in the other's column."""
    if choices:
        return _option_and_solution(cells, names, choices, meanings)
    answer, answer_from = first_text(cells, ANSWER, separator=", ")
    solution, solution_from = first_text(cells, SOLUTION, separator="\n\n")
    if answer is not None and has_body:
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


def _option_and_solution(
    cells: dict, names: dict[str, str], choices: Choices, meanings: Callable[[], frozenset]
) -> tuple[str | None, str | None, dict[str, str]]:
    """As above for a question with choices, whose answer is the letter of one."""
    solution, solution_from = first_text(cells, SOLUTION, separator="\n\n")
    shown = {"solution": names[solution_from]} if solution_from else {}
    n, column = right_choice(cells, choices, _final_answer(solution)[1] if solution else None, meanings)
    if n is None:
        return None, solution, shown
    shown["answer"] = names.get(column) or names[choices.columns[0]]
    given = cell_text(cells.get(column)) if column in cells else None
    if given and re.fullmatch(r"\d+(?:\.0)?", given) and not choices.labels:
        ways = {meaning for meaning, at in digit_readings(given, choices).items() if at == n and meaning in meanings()}
        if ways & {ZERO, ONE}:
            shown["answer"] += f" ({'positions from 0' if ZERO in ways else ONE})"
    return choices.letters[n], solution, shown


def _without_unit(answer: str) -> str:
    """ASDiv and SVAMP: "9 (apples)" → "9", "145.0" → "145"."""
    if ";" in answer:
        raise UnusableRow("it asks for several answers at once")
    bare, found = answer, 1
    while found:
        bare, found = re.subn(r"\s*\([^()]*\)", "", bare)
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
