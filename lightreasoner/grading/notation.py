"""One notation for answers: digits, blanks and punctuation of any script become ASCII, and LaTeX loses its styling."""

import re
import unicodedata

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_PUNCTUATION = str.maketrans(
    {
        **{"。": ". ", "，": ", ", "、": ", ", "：": ": ", "；": "; ", "！": "! ", "？": "? ", "।": ". ", "．": "."},
        **{"（": "(", "）": ")", "％": "%", "﹪": "%", "٪": "%", "＋": "+", "－": "-", "＝": "=", "／": "/", "＊": "*"},
        **{"−": "-", "–": "-", "‑": "-", "‐": "-", "⁄": "/", "∕": "/", "＄": "$", "￥": "¥", "٫": ".", "٬": ","},
        **{"’": "'", "‘": "'", "“": '"', "”": '"', "【": "[", "】": "]", "∶": ":"},
        **dict.fromkeys("\u200b\u2060\ufeff", ""),
    }
)
STYLES = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal)|mbox|boldsymbol|bm|operatorname\*?|emph"
    r"|underline)"
)

_UNIT_FRACTION = re.compile(
    rf"\\frac\s*\{{\s*({STYLES}\s*\{{[^{{}}]*\}}[^{{}}]*)\}}\s*\{{\s*({STYLES}\s*\{{[^{{}}]*\}}(?:\^\{{?\d\}}?)?)\s*\}}"
)


_DEGREE = r"\^\s*\{?\s*(?:\\circ|°)\s*\}?|\\degree\b|°"


def in_ascii(text: str) -> str:
    """The text with ASCII digits, blanks and punctuation: １８。 → 18. , 2½ → 2 1/2, 10⁸ → 10^{8}, Ｂ → B."""
    text = re.sub(
        "([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄∕/]([₀₁₂₃₄₅₆₇₈₉]+)",
        lambda found: f" {found[1].translate(_RAISED)}/{found[2].translate(_LOWERED)}",
        text,
    )
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda found: "^{" + found.group().translate(_RAISED) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda found: "_{" + found.group().translate(_LOWERED) + "}", text)
    return "".join(map(_character, text.translate(_PUNCTUATION))).translate(_PUNCTUATION)


def _character(char: str) -> str:
    if char.isascii():
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    kind = unicodedata.category(char)
    if "Ａ" <= char <= "ｚ" or "𝐀" <= char <= "𝟿" or "Ⓐ" <= char <= "ⓩ":  # of full width, mathematical, in circles
        return unicodedata.normalize("NFKC", char)
    if kind == "No" and "VULGAR FRACTION" in unicodedata.name(char, ""):
        return " " + unicodedata.normalize("NFKC", char)
    return " " if kind == "Zs" else char


def grouped(text: str) -> str:
    r"""Thousands that LaTeX separates by a blank (1\,234) or an unspaced comma (1{,}234), with commas; 2{,}5 is 2.5."""
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|,\\!|\\[;: ]|~)(?=\d{3}(?!\d))", ",", text)
    return re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)


def without_style(text: str) -> str:
    r"""LaTeX without what changes only its look: \dfrac{1}{2}\text{ cm} → \frac{1}{2} cm, 1{,}000 → 1,000, \$ → $."""
    text = grouped(text)
    text = re.sub(
        r"\\(?:left|right|displaystyle|textstyle|large|Large|LARGE|huge|Huge|bigg?[lr]?|Bigg?[lr]?|limits|!)(?![a-zA-Z])",
        "",
        text,
    )
    text = re.sub(r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![a-zA-Z])|\\space(?![a-zA-Z])", " ", text)
    text = re.sub(r"\\(?:[dtcsx]|nice)frac(?![a-zA-Z])", r"\\frac", text)
    text = _UNIT_FRACTION.sub(r" \1/\2", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}", text)
    scales = rf"(?:{_DEGREE})\s*(?:\\text\w*\s*\{{|\\mathrm\s*\{{)?\s*([CF])(?![a-zA-Z])\}}?"
    text = re.sub(scales, lambda found: " celsius" if found[1] == "C" else " fahrenheit", text)
    text = re.sub(_DEGREE, " ", text)
    for _ in range(3):  # \textbf{\text{C}}
        text = re.sub(STYLES + r"\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"\{\s*\\(?:bf|rm|it|sf)\s+([^{}]*)\}", r" \1", text)
    text = re.sub(r"(?<!\\)\\$", "", text)  # what is left of "\\ " at the end
    return re.sub(r"\\([$%#&])", r"\1", text).strip()


def split_top(text: str, separator: str) -> list[str]:
    """The parts between the matches of a pattern outside all brackets, of which \\{ and \\begin{…} are some, too."""
    parts, depth, start = [], 0, 0
    for token in re.finditer(
        rf"\\(?P<environment>begin|end)\s*\{{[^{{}}]*\}}|\\[{{}}]|(?P<open>[(\[{{])|(?P<close>[)\]}}])|(?P<split>{separator})",
        text,
    ):
        if token["open"] or token.group() == "\\{" or token["environment"] == "begin":
            depth += 1
        elif token["close"] or token.group() == "\\}" or token["environment"] == "end":
            depth -= 1
        elif token["split"] is not None and depth <= 0:
            parts.append(text[start : token.start()])
            start = token.end()
    return [*parts, text[start:]]
