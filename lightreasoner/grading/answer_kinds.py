"""What an answer is: a formula, words, or several values; and the result of an equation."""

import re

from lightreasoner.grading.notation import STYLES, grouped, in_ascii, split_top, without_style

LONGEST = 300  # characters of LaTeX that are compared as mathematics
FUNCTIONS = (
    "choose|squared|cubed|factorial|times|plus|minus|divided by|a?(?:sin|cos|tan)|arc(?:sin|cos|tan)|(?:sin|cos|tan)h"
    "|cot|sec|csc|log|ln|exp|sqrt|cbrt|pi|max|min|gcd|lcm|mod|infinity|inf"
)
_AND = (
    r",(?!\d{3}(?!\d))|,(?=\d{3},)|;|\s(?:and|or|und|oder|et|ou|и|или)\s|(?<![-+*/=^<>])\s[yo]\s(?![+*/=^<>]|-\s)|&|[和或与]|\\(?:text|mbox"
    r"|mathrm)\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\\(?:and|or|quad|qquad|vee|lor)(?![a-z])"
)


#: 1,000,000 is one value.
_MILLIONS = r"(?<![\d,.])(?:\d{1,2}(?:,\d{3}){2,}|\d{3}(?:,\d{3})*,0\d\d(?:,\d{3})*)(?!,?\d)"


def has_words(text: str) -> bool:
    """Whether it contains a word that is no LaTeX command: “16 cm” does, 2n-2 and 8.7 \\times 10^8 do not."""
    bare = re.sub(rf"{STYLES}\{{[^{{}}\d]*\}}|\\[a-zA-Z]+|\b(?:{FUNCTIONS})\b", "", text)
    return bool(re.search("[^\\W\\d_]{2}|[\u3040-\u9fff\uac00-\ud7af]", bare))


def is_formula(text: str) -> bool:
    """Whether a text is a formula and nothing else."""
    short = len(text) <= LONGEST and len(text.split("=")) <= 4
    return short and not has_words(text) and bool(re.search(r"[\w√π]", text))


def right_side(formula: str) -> str:
    """What follows the last “=” or “≈” outside brackets: the result of an equation."""
    formula = re.sub(rf"^\s*{STYLES}\s*\{{([^{{}}]*=[^{{}}]*)\}}\s*$", r"\1", formula)  # \mathbf{x = 7}
    formula = re.sub(
        r"\\(?:begin|end)\s*\{(?:align(?:ed)?|gather(?:ed)?|split|equation)\*?\}|(?<=[\s\d])\\\\(?=\s)", " ", formula
    )
    parts = split_top(formula, r"(?<![<>!\\])=|≈|\\approx(?![a-z])|\\simeq(?![a-z])|\\doteq(?![a-z])")
    filled = [part.strip().rstrip(".").strip() for part in parts if part.strip(" .&")]
    if (
        len(filled) > 1
        and re.fullmatch(r"[a-zA-Z]", filled[-1])
        and re.fullmatch(r"[-+\d.,/]+|-?\\frac\{\d+\}\{\d+\}", filled[-2])
    ):
        return filled[-2]  # 18 = N
    return filled[-1].lstrip("&").strip() if filled else formula


def is_words(answer: str) -> bool:
    """Whether a reference answer is words and no formula: “Mrs. Hilt”, \\text{even}, “Yes”."""
    bare = without_style(answer)
    alone = re.fullmatch(r"[^\W\d_][^\W\d_'.\s-]*(?:[\s.'-]+[^\W\d_]+)*\.?", bare)
    return bool(alone and re.search(r"[^\W\d_]{2}", bare))


def words(text: str) -> str:
    """Words in lower case, without articles, punctuation and styling."""
    bare = re.sub(r"[^\w\s]", " ", without_style(in_ascii(text)).lower().replace("'s", ""))
    bare = re.sub(r"^\s*(?:on|in|at|by)\s+(?=\w)", "", re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", bare))
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


def values(text: str) -> list[str]:
    r"""The values of a list in no brackets, or in \{…\}; ± stands for two. One value: a list of one."""
    text = re.sub(r"(?<!\\)\\[,;:!]", " ", grouped(text.strip().strip("$").strip()))  # 12\;\Omega is one value
    inside = re.fullmatch(
        r"\\?\{((?:(?!\\\}\s*\S).)*?)\\?\}", re.sub(r"\\(?:left|right|l|r)(?=\\?[{}])", "", text), re.DOTALL
    )
    if inside:
        text = inside.group(1)
    if re.fullmatch(r"[-+\s]*\d{1,2}(?:,\d{2})*,\d{3}(?:\.\d+)?", text):
        return [text]
    if re.fullmatch(r"\d{3}(?:,\d{3}){2,}", text) and not re.search(",0", text):
        return text.split(",")  # 100,200,300
    text = re.sub(_MILLIONS, lambda found: found.group().replace(",", ""), text)
    if re.search(r"\d,\d{3}(?!\d)", text) and re.search(r",\s", text) and not re.search(r"\d{4},|,\d{1,2}(?!\d)", text):
        parts = split_top(text, _AND.replace(r",(?!\d{3}(?!\d))|,(?=\d{3},)", r",\s"))  # 1,000, 2,000
    elif re.search(r"\d,\s\d|\d,\d{1,2}(?!\d)|\d{4,},\d", text):  # 69, 100 are two values; 1,000 is one
        parts = split_top(text, _AND.replace(r",(?!\d{3}(?!\d))", ","))
    else:
        parts = split_top(text, _AND)
    parts = [re.sub(r"^\s*(?:and|or)\s+", "", part.strip().strip("$.").strip()) for part in parts]
    parts = [part for part in parts if part] or [text]
    if len(parts) > 1 and all(has_words(part) and not re.search(r"\d", part) for part in parts[1:]):
        return [text]  # "Evelyn, because she ran", not values
    return [sign for part in parts for sign in both_signs(part)]


def both_signs(text: str) -> list[str]:
    if len(re.findall(r"\\pm(?![a-z])|±", text)) != 1:
        return [text]
    return [re.sub(r"\s*(?:\\pm(?![a-z])|±)\s*", sign, text) for sign in "+-"]


def packed(text: str) -> str:
    text = re.sub(r"(?<=\d)\s?(?:st|nd|rd|th)\b", "", without_style(in_ascii(text)).strip())
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|^\$+|\$+$", "", text)


#: What has several names, by one of them.
NAMES = {
    r"\emptyset": r"\\emptyset|\\varnothing|∅|\\?\{\s*\\?\}|(?:there (?:is|are) )?no (?:real )?solutions?"
    "|none|(?:the )?empty set"
    "|无解|無解|解なし|无实数解|空集",
    r"(-\infty,\infty)": r"(?:the set of )?all (?:the )?real(?:s| numbers)|ℝ|\\mathbb\s*\{?\s*R\s*\}?|\\R|全体实数",
    r"\infty": r"infinity|∞|\+?\\infty|inf",
    "undefined": "undefined|does not exist|dne|not defined|doesn't exist|不存在",
    "infinitely many": "infinitely many(?: solutions)?|an infinite number(?: of solutions)?|无穷多个?解?|无数个",
}
_BRACKETS = {r"\langle": "(", r"\rangle": ")", "⟨": "(", "⟩": ")", r"\lbrack": "[", r"\rbrack": "]"}
_BRACKETS |= {r"\lbrace": r"\{", r"\rbrace": r"\}"}
_BUILDER = (
    r"(?:\\left)?\\?\{\s*[a-zA-Z]\s*(?:\\mid(?![a-z])|\\vert(?![a-z])|\||:)\s*((?:(?!\\[{}])[^{}])*)(?:\\right)?\\?\}"
)


def named(text: str) -> str:
    """An answer without “x ∈”, with usual brackets, and with one name for what has several: no solution, ∅."""
    bare = text.strip().strip("$").strip()
    bare = re.sub(r"^[a-zA-Z]\s*(?:\\in(?![a-z])|∈)\s*", "", bare)
    if (found := re.fullmatch(_BUILDER, bare)) and re.search(r"[<>≤≥≠]|\\[lgn]e", found[1]):
        bare = found[1].strip()  # the set of all x with a condition
    for sign, bracket in _BRACKETS.items():
        bare = bare.replace(sign, bracket)
    plain = without_style(bare.replace(r"\mathbb{R}", "ℝ")).strip().strip(".").strip()
    for name, spellings in NAMES.items():
        if re.fullmatch(spellings, plain, re.IGNORECASE):
            return name
    return bare


def find_name(text: str, name: str) -> str | None:
    """Where a text says what has this name: “There is no solution.”"""
    found = re.search(rf"(?<![a-zA-Z\\])(?:{NAMES[name]})(?![a-zA-Z])", text, re.IGNORECASE)
    return found.group() if found else None


def labelled(text: str) -> dict[str, str] | None:
    """The values by their names in “x = 1, y = 2”; None where names are missing, or are one: x_1 = 1, x_2 = 2."""
    pairs = [part.strip().strip("$").partition("=") for part in values(text)]
    names = [name.strip() for name, _, _ in pairs]
    if len(pairs) < 2 or not all(
        re.fullmatch(r"[a-zA-Z]\w{0,20}(?:_\{\w+\})?", name.strip()) and value for name, _, value in pairs
    ):
        return None
    if len({name.partition("_")[0].rstrip("0123456789") for name in names}) < len(names):
        return None
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def is_tuple(text: str) -> bool:
    """Whether an answer is one pair or more values in round brackets."""
    inside = re.fullmatch(r"\(.*,.*\)", without_style(text.strip().strip("$")), re.DOTALL)
    return bool(inside) and len(values(text)) == 1
