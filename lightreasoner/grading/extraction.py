"""Finds the final answer in a response: a number, a formula, several values or words, as they are written there."""

import re

from lightreasoner.grading.answer_kinds import (
    FUNCTIONS,
    LONGEST,
    NAMES,
    find_name,
    has_words,
    is_formula,
    is_tuple,
    is_words,
    named,
    right_side,
    values,
    words,
)
from lightreasoner.grading.arithmetic import VALUE
from lightreasoner.grading.foreign_words import in_digits
from lightreasoner.grading.notation import STYLES, grouped, in_ascii, without_style
from lightreasoner.grading.number_words import HAN_NUMBER, NUMBER_WORDS, PART_WORDS, respelled
from lightreasoner.grading.numbers import COMPOUND, PERCENT, read_number
from lightreasoner.grading.sentences import (
    FORMULA,
    NOT,
    comma_decimals,
    first_sentence,
    formula_of,
    unmarked,
    unmask,
    with_masks,
    without_lead,
)
from lightreasoner.grading.stated_answers import REACH, Statement, before_check, statements
from lightreasoner.grading.times_and_ratios import find_date, read_colons, read_date

_TAIL = (
    rf"(?:\s*[√π∛∜!^](?!\s*(?:(?-i:[A-Z])|=))|\s*\*\*|\s*\*\s*\w|\s*(?:{FUNCTIONS})\b|[a-z](?![a-zA-Z])|\s*/\s*[\w√(]"
    rf"|(?<=\d)\()[^\s,;]*"
)
_TOKEN = re.compile(
    rf"(?<![a-zA-Z0-9_.\\])(?:(?:√|∛|sqrt|log|ln|sin|cos|tan"
    rf"|[a-zA-Z]\^)\s*\(?)?(?<![\d)\]}}])(?:±\s*)?(?:\d{{1,6}}(?::\d{{1,6}}){{1,4}}(?![:\d])|{VALUE})(?:{_TAIL})?(?:\s*(?:{PERCENT}))?",
    re.I,
)
#: Two values at once, which are no answer to a question for one: “3 and 5”, “x = 3 or x = 5”.
_SEVERAL = re.compile(
    rf"\W*(?:between |from )?(?:[a-zA-Z]\s*=\s*)?(?:{VALUE})\s*,?\s*(?:and|or|to|by|和|或|到"
    rf"|至)\s*(?:[a-zA-Z]\s*=\s*)?(?:{VALUE})(?!\s*/|\d)\W*$",
    re.I,
)


_OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_DENIED = re.compile(
    r"(?:(?:\bnot|n't|\bnever|\brather than|\binstead of|\bunlike)\s+(?:be\s+|equal(?:s| to)?\s+|simply\s+|just\s+)?"
    rf"|{NOT}|(?:\bdoubt|(?:\bnot|n't|\bnever) (?:think|believe|say))\s[^.,;:\n]*)[$(*]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"\W*(?:(?:is|was|are|would be|can|could)\s*(?:not\b|n't\b|incorrect\b|wrong\b|false\b)(?! only)"
    r"|(?:個|円)?(?:では|じゃ)な|[이가] 아니)",
    re.IGNORECASE,
)
_RUN = re.compile(rf"(?:{VALUE})(?:\s*,\s*(?:{VALUE}))*,?\s+(?:and|or)\s+(?:{VALUE})(?!\s*[-+*/^=\d])")
#: The model says that there is no answer; a number in such a sentence is none.
_REFUSED = re.compile(
    r"\b(?:can(?:not|'t|\s+not)|could(?:n't| not)|unable to|not able to|impossible to"
    r"|not possible to)\s+(?:\w+ly\s+)?(?:be\s+)?"
    r"(?:determine|answer|solve|help|assist|calculate|provide|compute|tell|say)|not enough information"
    r"|insufficient information",
    re.IGNORECASE,
)


def _yes_no(text: str) -> str | None:
    """The last yes, no, true or false; of “not true” its opposite."""
    found = re.findall(r"(?i)(\bnot\s+|n't\s+|\bun)?(\byes|\bno|true|\bfalse)\b", text)
    if not found:
        return None
    word = found[-1][1].lower()
    return _OPPOSITES[word] if found[-1][0] and word in ("true", "false") else found[-1][1]


def find_number(turn: str) -> str | None:
    """The first value of the stated answer (after the last “=” of an equation), else the last value of the turn.

    A formula is one value: $2\\sqrt{3}$ is never 2.
    """
    for statement in statements(turn):
        if (found := value_in(statement)) is not None:
            return found
    rest = _with_points(before_check(turn))
    last = re.split(r"(?<=[.!?])\s+|\n", rest.strip())[-1]
    if _REFUSED.search(last):
        return None
    if len(rest) < LONGEST and read_number(rest.strip()):
        return rest.strip()  # with its unit
    spelled = re.findall(NUMBER_WORDS, last, re.IGNORECASE)
    return last_value(rest) or (spelled[0] if len(spelled) == 1 else None)


def find_math(turn: str, answer: str) -> str | None:
    """The stated answer as LaTeX or words, or several values; else the last formula; else the last number."""
    several = len(values(answer)) > 1
    for statement in statements(turn, several, joined=is_tuple(answer)):
        if several and (found := list_in(statement)) is not None:
            return found
        if read_date(answer) and (found := find_date(statement.text)):
            return found
        if not several and (found := expression_in(statement)) is not None:
            return found
    rest = before_check(turn)[-10 * REACH :]
    if read_date(answer) and (found := find_date(rest)):
        return found
    if read_colons(answer) and (ratios := re.findall(r"\b\d+(?: ?: ?\d+| to \d+)+\b", in_ascii(rest))):
        return ratios[-1]
    if several:
        last = next((line for line in reversed(rest.strip().splitlines()) if re.search(r"\d|\$", line)), "")
        sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", last.strip())[-1]
        runs = _RUN.findall(sentence) if has_words(re.sub(r"\b(?:and|or)\b", "", sentence)) else []
        return runs[-1] if runs else list_in(Statement(_lines_joined(rest) or sentence)) or last_value(rest)
    if named(answer) in NAMES and (spelled := find_name(rest[-LONGEST:], named(answer))):
        return spelled
    if is_words(answer):
        if words(answer) in _OPPOSITES and (said := _yes_no(rest)):
            return said
        last = re.split(r"[.!?]\s+|\n", without_style(re.sub(r"\*\*|__", "", rest)).strip())[-1].strip().strip(".!")
        word, more = r"[^\W\d_][\w'-]*", len(words(answer).split()) - 1
        complement = re.search(
            r"(?i)\b(?:is|are|was|were|be|falls on|lands on)\s+(?:(?:an?|the|on|in)\s+)?"
            rf"((?!(?:not|no|never)\b){word}(?:\.?\s+{word}){{{more}}})$",
            last,
        )
        if complement and not re.search(r"(?i)\b(?:not|never|neither|nor|no)\b|n't\b", last):  # “It will be a Tuesday.”
            return complement.group(1)
        return rest.strip().strip(".") if len(rest.split()) <= 5 and rest.strip() else None
    formulas = [formula.strip() for formula in map(formula_of, FORMULA.finditer(rest))]
    if not formulas and is_tuple(answer):
        formulas = re.findall(r"\((?:[^()]|\([^()]*\))*,(?:[^()]|\([^()]*\))*\)", rest)  # The coordinates are (3, 4).
    if not formulas and (is_formula(bare := rest.strip().rstrip(".")) or "=" in answer):
        formulas = (
            re.findall(r"(?<![a-zA-Z\d])[a-zA-Z]\s*=\s*[^,;.\n]+(?:\.\d[^,;.\n]*)*", rest) if "=" in answer else [bare]
        )
    return formulas[-1] if formulas else last_value(rest)


def value_in(statement: Statement) -> str | None:
    """The value that a stated answer begins with, as it is written; None if it has none."""
    text = unmarked(statement.text)
    if statement.boxed:  # \text{The value is } 12
        text = re.sub(rf"^{STYLES}\s*\{{(?:(?!\b(?:{FUNCTIONS})\b)[^{{}}\d])*\}}\s*(?=[-+\\$\d.(])", "", text)
    text = in_digits(re.sub(r"(?<=\d)\.\.\.", "…", text), statement.languages)
    if statement.boxed and (read_number(text) or not has_words(text)):
        return re.sub(r"(?<!\.)\.$", "", text)
    sentence, formulas = first_sentence(text)
    sentence = respelled(grouped(in_ascii(sentence)))
    if statement.comma:
        sentence = comma_decimals(sentence)
    if several := _SEVERAL.match(unmask(sentence, formulas)):
        return several.group().strip()
    masked = re.search(r"⟦(\d+)⟧", sentence)
    digit = re.search(rf"\d|{NUMBER_WORDS}", sentence[: masked.start()] if masked else sentence)
    if masked and not digit:
        percent = re.match(rf"\s*(?:{PERCENT})", sentence[masked.end() :])
        formula = right_side(formulas[int(masked.group(1))])
        words_after = re.match(
            r"\s*((?:hundred|thousand|million|billion|trillion|dozen)s?\b)", sentence[masked.end() :]
        )
        return formula + ("%" if percent else f" {words_after.group(1)}" if words_after else "")
    plain = re.sub(r"^(?:[-=]+>|\.{2,}|[^\w√π$€£¥(\\.+±<>≤≥-])+", "", without_lead(sentence)).strip()
    plain = re.sub(r"\s*\[\d{1,2}\]$", "", plain.rstrip(".,+")) or plain  # a footnote
    closed = "" if re.search(r"[\[{«「『]", plain) else r"\]}»」』"
    plain = re.sub(rf"(?:[{closed}\U0001f300-\U0001faff✅✓✔☑\ufe0f]|\s)+$", "", plain) or plain  # [7], «7», 7 ✅
    if read_number(plain) or plain.lower() in ("none", "nothing"):
        return plain
    if is_formula(plain) and re.search(r"[\d√π∞\\]", plain):  # a letter alone is no number
        return right_side(plain)
    result = plain.rpartition("=")[2] if _is_chain(plain) else plain
    for part in (result, plain):
        if part and read_number(part.strip()):
            return part.strip()
        if found := next((m for m in _TOKEN.finditer(part) if not _DENIED_AFTER.match(part, m.end())), None):
            return _exact_token(part, found)
        words = rf"(?:{PART_WORDS}|-?{NUMBER_WORDS}|-?{HAN_NUMBER})(?:\s*(?:{PERCENT}))?"
        if found := re.search(words, part, re.IGNORECASE):
            return found.group()
    return None


def _exact_token(text: str, found: re.Match) -> str:
    """A value with the words after it where they change it (3 million), without the sign of a subtraction (25 - 7)."""
    compound = COMPOUND.match(text, found.start())
    if compound and read_number(compound.group()):
        return compound.group().strip()
    times = re.match(
        r"\s+out of\s+\d{1,9}\b(?!\.?\d)|\s*(?:hundred|thousand|million|billion|trillion|dozen|bn|mio"
        r"|lakh|crore|[千万萬亿億만억])s?(?![a-z])",
        text[found.end() :],
        re.I,
    )
    token = found.group().strip()
    if ":" in token and re.search(r"(?:^|\n)\W*[A-Z][a-z]+ $", text[: found.start()]):  # “Week 3:210 pages”
        token = token.rpartition(":")[2]
    if token[0] in "-+" and token[1:2] == " " and re.search(r"[\w)\]}%⟧]\s*$", text[: found.start()]):
        token = token[1:]
    return (token + (times.group() if times else "")).strip().strip("$€£¥ ").rstrip(".")


def _is_chain(text: str) -> bool:
    """Whether the text computes up to its last “=”: “5 + 6 = 11”, “x = 3”; not “18 apples, 3 * 6 = 18”."""
    start = re.match(VALUE, text)
    if "=" not in text or not start:
        return "=" in text
    after = re.sub(r"^\s*[a-zA-Z]+\b", "", text[start.end() :])
    return bool(
        re.match(r"\s*(?:[-+*/×÷=^]|x\s*\d|\\(?:times|cdot|div|frac))", after)
        or re.match(r"\s*[-+*/×÷=^]", text[start.end() :])
    )


def _with_points(text: str) -> str:
    """3.50 € for 3,50 €: before a unit a comma and one or two digits are no list."""
    return re.sub(
        r"(?<![\d.,])(\d+),(\d{1,2})(?=\s*(?:€|EUR\b|[Ee]uros?\b|zł|руб|%|(?:kg|km|cm|kr|m|h)\b))", r"\1.\2", text
    )


def last_value(text: str) -> str | None:
    """The last value of a text without a stated answer: a bold one of the last paragraph, else the last of all."""
    text = _with_points(text[-10 * REACH :])
    text = re.sub(r"(?m)^[ \t]*(?:[-*•]\s+|\d+[.)]\s+(?=\S))", "", text)
    last = next((part for part in reversed(re.split(r"\n[ \t]*\n", text.strip())) if re.search(r"\d", part)), "")
    bold = [mark for mark in re.findall(r"\*\*([^*\n]+)\*\*", last) if re.match(rf"\s*(?:{VALUE})", mark)]
    if bold and (found := value_in(Statement(bold[-1]))):
        return found
    found = None
    masked, formulas = with_masks(text)
    masked = in_ascii(masked)
    end = 0
    for match in re.finditer(rf"⟦(\d+)⟧|{_TOKEN.pattern}", masked, re.IGNORECASE):
        if _DENIED.search(masked[max(0, match.start() - 40) : match.start()]) or _DENIED_AFTER.match(
            masked, match.end()
        ):
            continue
        if match.start() < end:  # the minutes of 2 hours and 15 minutes
            continue
        if match.group(1) is None:
            found = _exact_token(masked, match)
            end = match.start() + len(found)
        elif re.search(r"\d", formula := formulas[int(match.group(1))]) and not re.search(
            r"[<>]|\\[lg](?:eq?|t)\b", formula
        ):
            found = right_side(formula)
    return found


def expression_in(statement: Statement) -> str | None:
    """The stated answer as a formula, or as words."""
    text = unmarked(statement.text)
    if statement.boxed:
        return text.rstrip(".").strip() or None
    sentence, formulas = first_sentence(text)
    masked = re.search(r"⟦(\d+)⟧", sentence)
    if masked and not re.search(r"\d", sentence[: masked.start()]):
        return formulas[int(masked.group(1))].strip().rstrip(".").strip() or None
    sentence = unmask(sentence, formulas)
    if len(sentence) > LONGEST:
        return None
    return re.sub(r"^(?:that\s+)?(?:the\s+)?", "", without_lead(sentence).strip()).rstrip(".,").strip() or None


def _lines_joined(text: str) -> str | None:
    """The items of a Markdown list at the start of a text, as one line; None where there is no list of two."""
    items = []
    for line in text.strip().splitlines():
        item = re.match(r"\s*(?:[-*•]|\d+[.)])\s+(\S.*)", line)
        if not item:
            break
        items.append(item[1].strip().rstrip(".,;"))
    return ", ".join(items) if len(items) > 1 else None


def list_in(statement: Statement) -> str | None:
    """Several values, as they are written; None where a text has fewer than two parts with a value."""
    listed = _lines_joined(statement.text) or statement.text
    listed = re.sub(r";(?=\s*(?:[-+$\\(\d]|[a-zA-Z]\s*=))", ",", listed)
    sentence, formulas = first_sentence(unmarked(listed)) if not statement.boxed else (statement.text, [])
    text = unmask(sentence, formulas).strip().rstrip(".")
    return text or None
