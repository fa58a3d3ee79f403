"""The cells of a row: names of columns, folded; cells as text; and the values that a cell writes down as text."""

import ast
import contextlib
import datetime
import io
import json
import math
import re
import string
import tokenize
from collections.abc import Iterable
from decimal import Decimal

ANSWER = (
    *("final_answer", "answer", "expected_answer", "correct_answer", "reference_answer", "ground_truth"),
    *("gold", "gt", "target", "label", "result", "ideal", "best_answer"),
)
#: Blanks, and what cannot be seen: a file that another was appended to has its mark in the middle.
INVISIBLE = string.whitespace + "\u00a0\u3000\ufeff\u200b\u2060"
#: What spreadsheets and data frames write where there is no value.
MISSING = ("", "nan", "<na>", "null", "\\n")
EXCEL_ERROR = re.compile(r"#(?:NAME\?|REF!|VALUE!|DIV/0!|NUM!|NULL!|N/A)")
#: Calls in the repr of numpy, pandas and Python whose value is their first argument.
WRAPPERS = (
    *("array", "str_", "bool_", "int32", "int64", "float32", "float64"),
    *("Decimal", "OrderedDict", "list", "Series"),
)
NAMES = dict.fromkeys(("None", "null", "nan", "NaN")) | {"True": True, "true": True, "False": False, "false": False}
_OPENERS, _CLOSERS = ("[", "{", "("), ("]", "}", ")")


class UnusableRow(Exception):
    """Why a row is no problem: the text after "line 5: "."""


def folded(name: object) -> str:
    """The name of a column for comparison: "Correct Answer", "correctAnswer" and "correct_answer" are the same."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name).strip())
    return re.sub(r"[\s.\-]+", "_", snake).lower()


def by_folded_name(row: dict) -> dict:
    return {folded(name): value for name, value in row.items()}


def shown_columns(names: Iterable[str]) -> str:
    """The first names of columns, for a sentence."""
    return ", ".join("".join(filter(str.isprintable, name))[:30] for name in list(names)[:12]) or "none"


def is_text(value: str) -> bool:
    """Whether it holds no zero and no half of a surrogate pair: valid JSON, but no tokenizer and no file accepts it."""
    return "\0" not in value and not re.search("[\ud800-\udfff]", value)


def row_cells(row: dict) -> tuple[dict, dict[str, str]]:
    """(cells by folded name, the file's names by folded name) of a row; an object with the question is opened.

    Raises UnusableRow where two columns have the same folded name and different values.
    """
    cells, names = {}, {}
    for name, value in row.items():
        key = "answer" if folded(name) == "answers" and isinstance(value, dict) else folded(name)  # SQuAD
        value = _plain(value, key)
        if key in cells and not is_blank(cells[key]) and not is_blank(value):
            if cells[key] != value and key:
                raise UnusableRow(f"it has two columns named {names[key]} and {name}; rename one")
            continue
        if key not in cells or is_blank(cells[key]):
            cells[key], names[key] = value, str(name)
    question = cells.get("question")
    if looks_written(question) and question.strip().startswith("{"):
        with contextlib.suppress(ValueError):
            question = written_value(question)
    # ARC and CommonsenseQA: {"question": {"stem": …, "choices": […]}, "answerKey": …}
    inner = by_folded_name(question) if isinstance(question, dict) else {}
    if any(name in inner for name in ("choices", "options")):
        stem = next((inner.pop(name) for name in ("stem", "question_stem", "question", "text") if name in inner), None)
        cells |= {"question": stem} | {name: value for name, value in inner.items() if name not in cells}
        names |= {name: f"{names['question']}.{name}" for name in inner if name not in names}
    return cells, names


def _plain(value: object, name: str) -> object:
    """Bytes and dates of Parquet as text; of an answer that comes with others that are right, too, the first."""
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, datetime.date | datetime.time):
        midnight = isinstance(value, datetime.datetime) and value.time() == datetime.time()
        return (value.date() if midnight else value).isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and name in ANSWER:
        value = value[0]
    if isinstance(value, dict) and name in ANSWER:  # TriviaQA, SQuAD
        first = value.get("value", value.get("text"))
        return first[0] if isinstance(first, list) and first else value if first is None else first
    return value


def is_blank(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip(INVISIBLE))


def cell_text(value: object, separator: str = ", ") -> str | None:
    """The text of a cell: 145.0 becomes "145", and a list is joined. None for empty cells, NaN and objects.

    Raises UnusableRow for a formula's error that a spreadsheet saved in place of the value.
    """
    if isinstance(value, str):
        if EXCEL_ERROR.fullmatch(value.strip()):
            raise UnusableRow(f"one of its cells is {value.strip()}, a spreadsheet's error in place of the value")
        if re.match(r"\s*\[\s*['\"]", value):  # a list, as pandas writes one into a CSV cell; [1, 2] is an answer
            with contextlib.suppress(ValueError):
                return cell_text(written_value(value), separator)
        return None if value.strip().lower() in MISSING else value.strip()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        return separator.join(filter(None, (cell_text(item, separator) for item in value))) or None
    return None


def first_text(cells: dict, names: tuple[str, ...], separator: str) -> tuple[str | None, str | None]:
    """(text, column) of the first of these columns that has text."""
    for name in names:
        value = cells.get(name)
        is_flag = name == "label" and isinstance(value, bool)  # of KTO: whether a response is good
        if not is_flag and (text := cell_text(value, separator)) is not None:
            return text, name
    return None, None


def looks_written(value: object) -> bool:
    """Whether a cell is text that writes down a list or an object."""
    return isinstance(value, str) and bool(re.match(r"\s*(?:[\[{(]|array\(|OrderedDict\()", value))


def written_value(text: str) -> object:
    """The value that a text writes down: JSON, a Python literal, or a repr of numpy and pandas.

    numpy separates the elements of an array by blanks alone, which Python would join to one string. Raises ValueError.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    try:
        return _evaluated(ast.parse(_with_commas(text.strip()), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError, IndentationError) as error:
        raise ValueError("it is neither JSON nor a Python literal") from error


def _with_commas(text: str) -> str:
    """The text with a comma between any two values that only blanks separate, as in numpy's ['4' '6']."""
    lines = [line + "\n" for line in text.split("\n")]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    pieces, before, last = [], None, 0
    skipped = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
        if token.type in skipped:
            continue
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if before is not None and _ends_value(before) and _begins_value(token, text, start, last):
            pieces.append(", ")
        pieces += [text[last:start], text[start:end]]
        before, last = token, end
    return "".join(pieces)


def _ends_value(token: tokenize.TokenInfo) -> bool:
    values = (tokenize.STRING, tokenize.NUMBER)
    return token.type in values or token.string in _CLOSERS or (token.type == tokenize.NAME and token.string in NAMES)


def _begins_value(token: tokenize.TokenInfo, text: str, start: int, last: int) -> bool:
    if token.string == "-":  # [1 -2] has two values, 1 - 2 and 1-2 have one
        return start > last and text[start + 1 : start + 2].strip() != ""
    return token.type in (tokenize.STRING, tokenize.NUMBER, tokenize.NAME) or token.string in _OPENERS


def _evaluated(node: ast.AST) -> object:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, str | int | float):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_evaluated(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {str(_evaluated(key)): _evaluated(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Name(id=name) if name in NAMES:
            return NAMES[name]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]) if name in WRAPPERS:
            value = _evaluated(first)
            pairs = isinstance(value, list) and name == "OrderedDict"
            return {str(key): item for key, item in value} if pairs else value
    raise ValueError("not a literal")
