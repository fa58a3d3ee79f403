"""The exact value of digits, fractions and whole powers; and the patterns of numbers as they are written."""

import ast
import operator
import re
from fractions import Fraction

#: 1.234,56 and 1 234,5 and 1.234.567: thousands and decimals as most of Europe writes them.
EUROPEAN = r"\d{1,3}(?:[. ]\d{3}){1,9},\d{1,9}(?![\d,])|\d{1,3}(?:\.\d{3}){2,9}(?!\.?\d)"
GROUPED = (
    r"\d{1,3}(?:,\d{3}){1,9}(?!,?\d)|\d{1,3}(?: \d{3}){1,9}(?! ?\d)|\d{1,3}(?:['_]\d{3}){1,9}(?!['_]?\d)"
    r"|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)"
)
DIGITS = rf"(?:{EUROPEAN}|(?:{GROUPED}|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\d))?"
_FRACTION = r"\\frac\s*\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}"
_POWER = r"\s*(?:\\times|\\cdot|×|·|⋅|\*|[xX]|times)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*[-+]?\d+\s*\}|\([-+]?\d+\)|[-+]?\d+)"
#: A number at the start of a text, with its sign and currency: -$2 1/2, 2\frac{1}{2}, 3/4, 4.5 \times 10^{33}.
VALUE = (
    rf"[-+]?\s*(?:[$€£¥₹₽₩]\s*)?[-+]?(?:{_FRACTION}|(?:{DIGITS})"
    rf"(?:\s+(?:and\s+)?\d+\s*/\s*\d+(?![\d.]*\d)|\s*{_FRACTION}|\s*/\s*(?:{DIGITS}))?)(?:{_POWER})?"
)
#: 2024-10-12 is no difference, and 12/10/2024 no quotient.
DATE = re.compile(r"[12]\d{3}-\d\d-\d\d|\d{1,2}([/.-])\d{1,2}\1[12]\d{3}")
_MOST_BITS = 20_000  # of a power's numerator or denominator


def arithmetic(text: str) -> Fraction | None:
    r"""The exact value of digits, fractions, + - * / and whole powers: \frac{1}{2^{98}}, 4.5 \times 10^{33}."""
    if len(text) > 300 or not re.search(r"\d", text) or DATE.fullmatch(text.strip()):
        return None
    text = re.sub(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\{?(\d+)\}?", _repeating, text)
    text = re.sub(r"(\d*)\.(\d*?)(\d{1,6}?)\3{2,}(?:\.\.\.|…|\\[lc]?dots)", _repeating, text)
    text = re.sub(EUROPEAN, lambda found: re.sub("[. ]", "", found.group()).replace(",", "."), text)
    text = re.sub(GROUPED, lambda found: re.sub("[, '_]", "", found.group()), text)
    for pattern in (r"\s+(?:and\s+)?(\d+)\s*/\s*(\d+)(?![\d.]*\d)", r"\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}"):
        text = re.sub(rf"(?<![\d.)}}^/])(\d+){pattern}", _mixed, text)
    for _ in range(20):
        shorter = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\^\s*\{([^{}]*)\}", _written_out, text)
        if shorter == text:
            break
        text = shorter
    text = re.sub(
        r"\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\ast(?![a-zA-Z])|[×·⋅]|(?<=\d)\s*(?:[xX]|times)\s*(?=\d)", "*", text
    )
    text = re.sub(r"\\div(?![a-zA-Z])|÷", "/", text).replace("^", "**")
    values: list[Fraction] = []

    def name(found: re.Match) -> str:
        values.append(Fraction(found.group()))
        return f" v{len(values) - 1} "

    named = re.sub(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?", name, text)
    if not re.fullmatch(r"(?:v\d+|[\s+\-*/()])+", named) or "//" in named:
        return None
    try:
        return _value(ast.parse(named.strip(), mode="eval").body, values)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, ZeroDivisionError):
        return None


def _repeating(found: re.Match) -> str:
    whole, fixed, period = found.groups()
    all_digits, before = int((whole or "0") + fixed + period), int((whole or "0") + fixed)
    return f"(({all_digits}-{before})/{(10 ** len(period) - 1) * 10 ** len(fixed)})"


def _mixed(found: re.Match) -> str:
    whole, top, bottom = found.groups()
    return f"({whole}+{top}/{bottom})" if int(top) < int(bottom) else found.group()


def _written_out(found: re.Match) -> str:
    top, bottom, power = found.groups()
    return f"**({power})" if power is not None else f"(({top})/({bottom}))"


def _value(node: ast.AST, values: list[Fraction]) -> Fraction:
    if isinstance(node, ast.Name):
        return values[int(node.id[1:])]
    if isinstance(node, ast.UnaryOp):
        return {ast.USub: operator.neg, ast.UAdd: operator.pos}[type(node.op)](_value(node.operand, values))
    if not isinstance(node, ast.BinOp):
        raise ValueError
    left, right = _value(node.left, values), _value(node.right, values)
    if isinstance(node.op, ast.Pow):
        bits = max(left.numerator.bit_length(), left.denominator.bit_length())
        if right.denominator != 1 or abs(right) * bits > _MOST_BITS:
            raise ValueError
        return left ** int(right)
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    return operators[type(node.op)](left, right)
