"""Multiple choice: finds the choices of a row in any published layout, and which of them is right.

Choices are a list, a dictionary, dictionaries in a list, text, or one column each. The right one is named by its label,
its text or its position. Positions count from 0 or from 1; the whole file tells which (`digit_meanings`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from lightreasoner.problems.cells import (
    ANSWER,
    UnusableRow,
    by_folded_name,
    cell_text,
    folded,
    is_blank,
    looks_written,
    row_cells,
    written_value,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LISTS = ("choices", "options", "endings", "candidates", "answer_choices", "alternatives", "mc1_targets", "answers")
TEXTS = ("text", "texts", "choices", "options", "content", "value", "option", "choice", "answer", "para", "body")
LABELS = ("label", "labels", "key", "keys", "letter", "id", "name", "option_label", "index")
FLAGS = ("correct", "is_correct", "iscorrect", "is_answer")
#: Columns that name the right choice, beside those that hold an answer of any kind.
KEYS = ("answer_key", "correct", "correct_option", "correct_choice", "correct_label", "right_answer", "cop")
INDICES = (
    *("answer_index", "answer_idx", "correct_index", "correct_idx"),
    *("correct_answer_index", "gold_index", "gold_idx"),
)
COLUMN = re.compile(r"((?:option|choice|answer|ending|alternative|sol|opt|op|candidate)?)_?([a-z]|\d{1,2})")
WRONG = re.compile(r"(?:incorrect|wrong|distractor|false)(?:_answer|_option|_choice)?s?_?\d*")
PREFIX = re.compile(r"\s*[(（]?\s*([A-Za-z]|\d{1,2})\s*(?:[)）．：、]\s*|[.:]\s+)")
TEXT, ZERO, ONE = "its text", "positions from 0", "positions from 1"
MEANINGS = frozenset((TEXT, ZERO, ONE))


@dataclass(frozen=True)
class Choices:
    """`letters` are shown; `labels` are the file's own, or None. `gold` is set where the choices themselves tell."""

    texts: list[str]
    letters: list[str]
    labels: list[str] | None
    columns: list[str]  # folded names
    in_list: bool = False  # a list without labels, whose positions count from 0 by custom
    gold: int | None = None

    def lines(self) -> str:
        return "".join(f"\n({letter}) {text}" for letter, text in zip(self.letters, self.texts, strict=True))


def find_choices(cells: dict, names: dict[str, str]) -> Choices | None:
    """The choices of a row; None unless the question is multiple choice. Raises UnusableRow.

    cells: by folded name. names: the names as in the file, by folded name.
    """
    for name in LISTS:
        value, columns = cells.get(name), [name]
        if value is None and f"{name}_text" in cells:  # pandas.json_normalize: "choices.text", "choices.label"
            value = {"text": _read(cells[f"{name}_text"], name), "label": _read(cells.get(f"{name}_label"), name)}
            columns = [f"{name}_text"]
            if is_blank(value["text"]):
                continue
        if is_blank(value) or value == [] or value == {}:
            continue
        if name == "answers":
            listed = _read_or_none(value)
            if not (isinstance(listed, list) and (_has_key(cells) or any(map(_is_flagged, listed)))):
                continue  # elsewhere a list of accepted answers
        shown = names.get(name, name)
        labels, texts, gold = _entries(_read(value, shown), shown, _has_key(cells))
        return _made(labels, [cell_text(text) for text in texts], gold, columns)
    return _columns(cells, names) or _distractors(cells)


def _has_key(cells: dict) -> bool:
    return any(not is_blank(cells.get(name)) for name in (*KEYS, *INDICES, *ANSWER))


def _is_flagged(item: object) -> bool:
    """Whether an item of a list says that it is the right choice, or that it is not."""
    return isinstance(item, dict) and any(folded(name) in FLAGS for name in item)


def _read_or_none(value: object) -> object:
    try:
        return written_value(value) if looks_written(value) else value
    except ValueError:
        return None


def _read(value: object, column: str) -> object:
    if not isinstance(value, str) or not value.strip():
        return value
    if looks_written(value):
        if "..." in value.split():
            raise UnusableRow(f"its {column} are abbreviated with “...”; save them in full, for example as JSON lines")
        with suppress(ValueError):
            return written_value(value)
    if parts := _labelled_parts(value):
        return parts
    raise UnusableRow(
        f"its {column} are text that cannot be split into choices without guessing; write them as a JSON list"
    )


def _labelled_parts(text: str) -> list[list[str]] | None:
    """[[label, choice], …] of text such as "a ) 38 , b ) 27" (MathQA) or "A. x\\nB. y"; None if it is not labelled."""
    first = re.match(r"\s*[\[(]?\s*([aA1])\s*[).:]", text)
    if not first:
        return None
    labels = {"a": LETTERS.lower(), "A": LETTERS, "1": "123456789"}[first[1]]
    found = max((_marks(text, labels, before) for before in (r"(?:^|\n)[\s(\[]*", r"(?:^|[\s,;|(\[])")), key=len)
    ends = [start for _, start, _ in found[1:]] + [len(text)]
    parts = [[label, text[begin:end].strip(" ,;|\n\r\t([")] for (label, _, begin), end in zip(found, ends, strict=True)]
    return parts if len(parts) > 1 and all(part for _, part in parts) else None


def _marks(text: str, labels: str, before: str) -> list[tuple[str, int, int]]:
    """(label, where its mark begins, where it ends) of the labels that follow one another, each after `before`."""
    found, at = [], 0
    for label in labels:
        mark = re.compile(rf"{before}{label}\s*[).:](?=\s|[^\s])").search(text, max(0, at - 1))
        if not mark:
            break
        found.append((label, mark.start(), mark.end()))
        at = mark.end()
    return found


def _entries(value: object, column: str, has_key: bool) -> tuple[list[str | None], list[object], int | None]:
    """(labels, cells with the texts, the right one where the choices tell) of a parsed cell."""
    if isinstance(value, dict):
        fields = by_folded_name(value)
        texts = next((fields[name] for name in TEXTS if isinstance(fields.get(name), list)), None)
        if texts is None:
            return list(map(str, value)), list(value.values()), None
        labels = next((fields[name] for name in LABELS if isinstance(fields.get(name), list)), None)
        if labels is not None and len(labels) != len(texts):
            raise UnusableRow(f"its {column} have {len(texts)} texts and {len(labels)} labels")
        marks = [cell_text(label) for label in labels or [None] * len(texts)]
        if not has_key and sorted(marks, key=str) == ["0"] * (len(marks) - 1) + ["1"]:  # TruthfulQA
            return [None] * len(texts), texts, marks.index("1")
        return marks, texts, None
    if not isinstance(value, list | tuple):
        raise UnusableRow(f"its {column} are neither a list nor an object")
    if value and all(isinstance(item, dict) for item in value):
        # Parquet adds nulls
        filled = [{name: cell for name, cell in item.items() if cell is not None} for item in value]
        rows = [by_folded_name(item) for item in filled]
        if all(len(row) == 1 for row in rows):  # [{"A": "x"}, {"B": "y"}]
            pairs = [next(iter(row.items())) for row in filled]
            return [str(label) for label, _ in pairs], [text for _, text in pairs], None
        texts = [next((row[name] for name in TEXTS if name in row), None) for row in rows]
        labels = [next((cell_text(row[name]) for name in LABELS if name in row), None) for row in rows]
        right = [n for n, row in enumerate(rows) if any(row.get(flag) in (True, 1, "true", "True") for flag in FLAGS)]
        return labels, texts, right[0] if len(right) == 1 else None
    if value and all(isinstance(item, list | tuple) and len(item) == 2 for item in value):  # Parquet's maps
        return [cell_text(label) for label, _ in value], [text for _, text in value], None
    return [None] * len(value), list(value), None


def _made(labels: list[str | None], texts: list[str | None], gold: int | None, columns: list[str]) -> Choices | None:
    """Choices with letters to show. Empty ones are dropped where they have labels or are the last."""
    if not any(texts):
        return None
    labelled = all(label for label in labels)
    kept = [n for n, text in enumerate(texts) if text]
    if not labelled and kept != list(range(len(kept))):
        raise UnusableRow("one of its choices is empty")
    gold = kept.index(gold) if gold in kept else None
    labels, texts = [labels[n] for n in kept], [texts[n] for n in kept]
    if len(texts) < 2:
        raise UnusableRow("it has a single choice")
    if len(texts) > len(LETTERS):
        raise UnusableRow(f"it has {len(texts)} choices; at most {len(LETTERS)} can be lettered")
    in_list = not labelled
    if in_list:
        found = [PREFIX.match(text) for text in texts]
        own = [match[1].upper() for match in found if match]  # AQuA: "A)21"
        if sorted(own) == [*LETTERS[: len(texts)]] or own == [str(n + 1) for n in range(len(texts))]:
            rest = [text[match.end() :].strip() for text, match in zip(texts, found, strict=True)]
            if all(rest):
                labels, texts, labelled, in_list = own, rest, True, False
    labels = [label.strip("(). :") for label in labels] if labelled else None
    letters = [label.upper() for label in labels or []]
    if not labelled or len(set(letters)) < len(letters) or not all(len(x) == 1 and x in LETTERS for x in letters):
        letters = [*LETTERS[: len(texts)]]
    return Choices(texts, letters, labels, columns, in_list, gold)


def _columns(cells: dict, names: dict[str, str]) -> Choices | None:
    """Choices in columns of their own: A to D (MMLU), option_a, answerA, ending0, sol1 and the like."""
    groups: dict[str, dict[str, str]] = {}
    for name in cells:
        if match := COLUMN.fullmatch(name):
            groups.setdefault(match[1], {})[match[2]] = name
    for prefix, group in groups.items():
        marks = list(group)
        first = next((series for series in (LETTERS.lower(), "0123456789", "123456789") if series[0] in marks), "")
        run = [mark for mark in first if mark in group]
        if len(run) < 2 or run != list(first[: len(run)]) or (not prefix and not run[0].isalpha()):
            continue
        columns = [group[mark] for mark in run]
        texts = [cell_text(cells[name]) for name in columns]
        keys = [cell_text(cells.get(name)) for name in (*KEYS, *ANSWER)]
        if prefix == "answer" and not _has_key(cells):  # answers of two people, perhaps
            continue
        lower = not prefix and any(names[name].strip() != names[name].strip().upper() for name in columns)
        if lower and not any(key and key.strip("().").lower() in run for key in keys):
            continue  # the numbers a, b and c of an equation
        if any(texts):
            made = _made([*run] if run[0] in "a0" else [None] * len(run), texts, None, columns)
            return made and replace(made, in_list=False)  # option1 may be named 1, or 0 by its position
    return None


def _distractors(cells: dict) -> Choices | None:
    """The right answer and the wrong ones in columns of their own (SciQ, GPQA): shown in alphabetical order."""
    wrong_names = [name for name in cells if WRONG.fullmatch(name) and not is_blank(cells[name])]
    right_name = next((n for n in ("correct_answer", "right_answer", "correct", "answer") if cells.get(n)), None)
    if not wrong_names or not right_name:
        return None
    values = [_read_or_none(cells[name]) for name in wrong_names]
    wrong = [cell_text(item) for value in values for item in (value if isinstance(value, list) else [value])]
    right = cell_text(cells[right_name])
    texts = sorted({text for text in [right, *wrong] if text}, key=lambda text: (text.casefold(), text))
    if right is None or len(texts) < 2 or right in wrong:
        return None
    return _made([None] * len(texts), texts, texts.index(right), [right_name, *wrong_names])


def right_choice(
    cells: dict, choices: Choices, final: str | None, meanings: Callable[[], frozenset]
) -> tuple[int | None, str | None]:
    """(position of the right choice, the folded name of its column); (None, None) where it is not known.

    final: an answer at the end of the solution, if there is one. meanings: how digits may be read in this file.
    Raises UnusableRow where the answer is none of the choices, or could be two of them.
    """
    given = [(name, text) for name, text in _given(cells) if text is not None]
    if final is not None:
        given.append(("solution", final))
    named = [(_named(text, choices, name), name) for name, text in given if not _counts(text, choices)]
    named = [(n, name) for n, name in named if n is not None]
    if choices.gold is not None:
        named.append((choices.gold, choices.columns[0]))
    if len({n for n, _ in named}) > 1:
        raise UnusableRow(f"its {named[0][1]} and its {named[-1][1]} name different choices")
    if named:
        return (choices.gold, None) if choices.gold is not None else named[0]
    digits = [(text, name) for name, text in given if _counts(text, choices)]
    if not given or any(int(text) == -1 for text, _ in digits):  # a test set whose answers are withheld
        return None, None
    for text, name in digits:
        readings = {meaning: n for meaning, n in digit_readings(text, choices).items() if meaning in meanings()}
        if choices.in_list and ZERO in readings and readings.get(TEXT, readings[ZERO]) == readings[ZERO]:
            readings = {ZERO: readings[ZERO]}  # the custom of MMLU and of class labels
        if len(set(readings.values())) == 1:
            return next(iter(readings.values())), name
        if readings:
            ways = " or ".join(sorted(readings))
            raise UnusableRow(f"its {name} {text} can mean {ways}; name the choice by its letter")
    raise UnusableRow(f"its {given[0][0]} is none of its {len(choices.texts)} choices")


def _given(cells: dict) -> list[tuple[str, str | None]]:
    """(column, its text) of each that may name the right choice."""
    return [(name, _single(cells[name], name)) for name in (*KEYS, *ANSWER, *INDICES) if not is_blank(cells.get(name))]


def _single(value: object, name: str) -> str | None:
    """The text of a cell that names one choice. Raises UnusableRow for several."""
    value = _read_or_none(value) if looks_written(value) and str(value).strip().startswith("[") else value
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise UnusableRow(f"its {name} names several choices")
        value = value[0] if value else None
    return cell_text(value)


def _counts(text: str, choices: Choices) -> bool:
    """Whether an answer is a whole number that is no label of the file's own."""
    own = choices.labels is not None and text.removesuffix(".0") in choices.labels
    return not own and re.fullmatch(r"-?\d{1,3}(?:\.0)?", text) is not None


def _named(text: str, choices: Choices, column: str) -> int | None:
    """The choice that a label or a text names; None for neither. Raises UnusableRow where it could be two."""
    bare, labels = text.strip("(). :"), choices.labels or choices.letters
    by_label = [n for n, label in enumerate(labels) if label.casefold() in (bare.casefold(), bare.removesuffix(".0"))]
    if by_label and choices.labels is not None:
        return by_label[0]
    by_text = [n for n, choice in enumerate(choices.texts) if choice.casefold() == text.casefold()]
    exact = [n for n in by_text if choices.texts[n] == text]
    found = {*by_label, *(exact or by_text)}
    if not found and (prefix := PREFIX.match(text)):  # "B. Paris"
        rest = text[prefix.end() :].strip().casefold()
        marks = [label.casefold() for label in labels]
        found = {
            n for n, choice in enumerate(choices.texts) if (marks[n], choice.casefold()) == (prefix[1].lower(), rest)
        }
    if not found and (match := re.fullmatch(r"(?:the )?(?:option|choice|answer)[\s_]*\(?([a-zA-Z])\)?\.?", text, re.I)):
        found = {n for n, label in enumerate(labels) if label.casefold() == match[1].lower()}
    if not found and folded(text) in choices.columns and len(choices.columns) == len(choices.texts):  # "option2"
        found = {choices.columns.index(folded(text))}
    if len(found) > 1:
        raise UnusableRow(f"its {column} fits more than one of its choices")
    if (
        not found
        and re.fullmatch(r"[A-Z]{2,}|[A-Z](?:\s*(?:,|and|&)\s*[A-Z])+", bare)
        and set(re.findall("[A-Z]", re.sub("and", "", bare))) <= set(choices.letters)
    ):
        raise UnusableRow(f"its {column} names several choices")
    return next(iter(found), None)


def digit_readings(text: str, choices: Choices) -> dict[str, int]:
    """{meaning: position of the choice} for a whole number as an answer."""
    number, readings = int(float(text)), {}
    same = [n for n, choice in enumerate(choices.texts) if choice.removesuffix(".0") == str(number)]
    if len(same) == 1:
        readings[TEXT] = same[0]
    if 0 <= number < len(choices.texts):
        readings[ZERO] = number
    if 1 <= number <= len(choices.texts):
        readings[ONE] = number - 1
    return readings


def digit_meanings(rows: Iterable[dict]) -> frozenset:
    """How a file's answers that are whole numbers can be read: the meanings that fail for the fewest of its rows.

    rows: as in the file.
    """
    failed, seen = Counter(), 0
    for row in rows:
        try:
            cells, names = row_cells(row)
            choices = find_choices(cells, names)
            if choices is None or choices.gold is not None:
                continue
            given = [text for _, text in _given(cells)]
            if any(text and not _counts(text, choices) and _named(text, choices, "") is not None for text in given):
                continue
        except UnusableRow:
            continue
        digits = [text for text in given if text and _counts(text, choices) and int(float(text)) >= 0]
        if digits:
            seen += 1
            failed.update(MEANINGS - digit_readings(digits[0], choices).keys())
    least = min(failed[meaning] for meaning in MEANINGS)
    return frozenset(meaning for meaning in MEANINGS if failed[meaning] == least) if seen else MEANINGS
