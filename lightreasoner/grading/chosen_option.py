"""Finds the option that a response chooses: a letter in upper or lower case, in brackets or words; never a pronoun."""

import re

from lightreasoner.grading.notation import in_ascii, without_style
from lightreasoner.grading.stated_answers import statements

_PLACES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_COUNTS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
#: A lone capital letter. "A" before a word in lower case is an article, and "I" before a word a pronoun.
_CONNECT = (
    r"(?:is|was|are|because|since|as|and|or|but|nor|seems|would|must|should|best|correctly|from|by|with|not|for"
    r"|given|due|so)\b"
)
_LETTER = re.compile(
    r"(?<![a-zA-Z0-9_'.-])(?:\(?(?P<upper>[A-Z])(?![a-zA-Z0-9_'])(?!\s*[=+*/^_<>](?!\*))|\((?P<lower>[a-z])\)"
    r"|(?<!\()(?P<closed>[a-z])\)|(?:(?<=option )|(?<=choice )|(?<=answer )|(?<=选项)|(?<=选))"
    r"(?P<named>[a-zA-Z])(?![a-zA-Z0-9_']))"
)
_NEGATED = re.compile(
    r"(?:\b(?:not|isn't|isnt|aren't|cannot be|can't be|neither|nor|rul(?:es?|ed|ing) out|except|rather than"
    r"|instead of|than|unlike"
    r"|eliminat\w+|exclud\w+|reject\w*|discard\w*|never|incorrect\w*|wrong|(?:don't|doesn't|do not) (?:think"
    r"|believe)(?: that)?(?: it'?s| it is| the answer is)?|(?:not|n't|never) (?:say|choose|pick|select|go with)"
    r"|doubt\w*[^.;\n]{0,40}"
    r"|(?:any|every|no)thing but)"
    r"|\b(?:nicht|no es|n'est pas|n'est|não é|non è|не|нет)|不是|不选|排除|而非|n't)\s*:?\s*"
    r"(?:(?:the|be|answers?|options?|choices?|either|both|选项)\s*)*[(\"'*]*$",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:[).:]|\s*[-–—])?\s*[✗✘❌]|(?:[).:]|\s+[-–—])\s*(?:incorrect|wrong|false|no)\b|[)\"'*.]*\s*(?:(?:is|are"
    r"|was|seems)\s+(?:definitely |clearly |also )?(?:not\b|incorrect|wrong|false|n't)"
    r"|isn't|fails?\b|[^.;,\n]{0,40}, but (?:it(?:'s| is)|is)\s+(?:not\b|incorrect|wrong|false)|不对|错|錯|不正确|是错"
    r"|ではな|じゃな"
    r"|[가이]\s?아니|(?:est|ist|es|é|è)\s+(?:nicht|falsch|faux|fausse|incorrect\w*|errad[ao]|sbagliat[ao])|неверн|неправильн|गलत)",
    re.I,
)
_CHOOSES = re.compile(
    r"\b(?:choose|chose|chosen|pick|picked|select|selected|go with|going with|leav(?:es|ing)|must be|it(?:'s| is)"
    r"|settle on"
    r"|answer is|my (?:final )?(?:choice|answer) is|选择?|選擇?)\s*"
    r"(?:(?:the|option|choice|answer|letter)\s*)*[:\s(\"'*]*$",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"\b(?:option|choice|选项|選項|letra|lettera|lettre|буква|вариант|विकल्प|(?:my|final) (?:pick|guess|choice"
    r"|selection|vote))\b"
    r"(?:\s+is\s*:\s*|\s+is|\s*:)?[^\w\n]*([A-Za-z])(?![\w'])",
    re.IGNORECASE,
)
_PLACED = re.compile(
    rf"\b(?:the\s+)?(?P<place>{'|'.join(_PLACES)})\s+(?:option|choice|answer|one|alternative|statement)\b"
    rf"|\b(?:option|choice)\s+(?:number\s+)?(?P<count>{'|'.join(_COUNTS)}|\d)\b|第(?P<han>[一二三四五六七八九十])(?:个|個|项|項)",
    re.IGNORECASE,
)
#: What says that an option is right, with a verb before it or without one.
_RIGHT = (
    r"(?:correct\w*|right|true|best|(?:the )?answer|richtig|(?:la )?correct[ae]|(?:la )?bonne|corret[ao]"
    r"|cert[ao]|верен|верно|верный"
    r"|правильн\w+)\b"
)
_CORRECT = re.compile(
    r"\(?(?<![a-zA-Z0-9_'])([A-Z])(?:[)*\"]*\s*(?:项|項|选项|選項)?(?:是?正确|是?对的?|が正しい|が正解|이 정답|\s?सही)"
    r"|(?![a-zA-Z0-9_'])[)*\"]*\s+"
    r"(?:is|must be|would be|should be|seems(?: to be)?|looks|appears(?: to be)?|est|ist|es|é|è)\s+"
    rf"(?:therefore |thus |the |indeed |clearly )*{_RIGHT}"
    rf"|(?![a-zA-Z0-9_'])[)*\"]*(?:[.:]|\s*[-–—])?\s*(?:[✓✔✅☑]|(?<=[):.–—-]\s)(?i:yes\b|{_RIGHT})|(?:верен|верна|верно)\b)"
    r"|(?![a-zA-Z0-9_'])[)*\"]*\s+(?:remains|is left|is the only (?:one|option|choice)|is(?=\s*(?:[.!]|$)))"
    r"|(?<=[Oo]nly \w)(?![a-zA-Z0-9_'])\s+(?:works|fits|holds)\b)"
    r"|(?:\b(?:[Ii](?:'d| would| will)? (?:choose|pick|select|go with)"
    r"|[Ii]t(?:'s| is| must be| has to be)"
    r"|(?:[Ss]o|[Tt]herefore|[Tt]hus|[Hh]ence|leaving|leaves),?)|(?:故|应)?(?:选|選)(?:择|擇)?)"
    r"\s*(?:option |choice |the |answer |it is |it's )*[(*\"]*([A-Za-z])(?![a-zA-Z0-9_'])(?!\s+[a-z])"
)
#: A last sentence that ends with an option: “I'd say C.”, “Correct: B”, “not A but C”.
_LAST = re.compile(
    r"(?:\b(?:is|be|say|choose|select|pick|with|for|towards?|only|have|get|left|answer|correct|letter|final|solution|choice|but|answer's"
    r"|sondern|mais|sino|mas|réponse)\b|[:=→⇒]|なく|아니라)\s*[-:→(*\"'\s]*([A-J])[)*\"']*(?:입니다|です)?\W*$",
    re.IGNORECASE,
)
_END = re.compile(r"[.。!]\s|;|\n|\b(?:because|since|so that|whereas|while|although|though)\b")


def find_choice(turn: str) -> str | None:
    """A letter of the stated answer; else of the last “option X” or “X is correct”; else in brackets, or alone."""
    turn = in_ascii(turn)
    for statement in statements(turn):
        if letter := letter_in(statement.text):
            return letter
    bare = re.sub(r"\*\*|`", "", without_style(turn))
    whole = re.match(
        r"\s*[\"'$]*[(\[]?([A-Ja-j])(?:[)\]]|[.:](?=\s|$)|(?<=[A-J])(?:,| -)\s(?![A-J]\b)|(?<=[A-J])\s+(?=\()"
        r"|[\"'$]*\s*$)",
        bare,
    )
    listed = whole and whole.group(1) in "Aa" and re.search(r"\n\W*[Bb]\s*[).:-]|[.;,] B\s*[).:]", bare)  # all options
    if whole and not listed and not _REFUSED.match(bare[whole.end(1) :]):
        return _with_others(whole.group(1).upper(), bare[whole.end(1) :], bare)
    for pattern in (_CORRECT, _NAMED, _PLACED):
        found = [match for match in pattern.finditer(bare) if not _denied(bare, match.start(), match.end())]
        if found:
            last = found[-1]
            return _place(last) if pattern is _PLACED else next(filter(None, last.groups())).upper()
    sentences = re.split(r"[.!]\s+|\n", bare.strip())
    if re.fullmatch(r"\W*[A-Z]\W*", sentences[-1]):
        return re.search("[A-Z]", sentences[-1]).group()
    if (last := _LAST.search(sentences[-1])) and not _denied(sentences[-1], last.start(1), last.end(1)):
        return last.group(1).upper()
    letters = [m for m in re.finditer(r"\(([A-Z])\)", bare) if not _denied(bare, m.start(), m.end())]
    letters = letters or list(re.finditer(r"(?:^|\n)\W*([A-Z])\W*$", bare.strip()))
    return letters[-1].group(1) if letters else None


def letter_in(text: str) -> str | None:
    """The option that a stated answer names: “option C, because …”, “not B but (d)”; “A, C” where it names two."""
    bare = re.sub(r"[*_`$]+|\\[()\[\]]", " ", without_style(text)).strip()
    bare = re.sub(r"^(?:[-•]\s+|[:\s])+", "", bare)
    sentence = next((part.strip() for part in _END.split(bare) if part and part.strip()), "")
    alone = re.fullmatch(r"[\"'(\[{\s]*(?:(?:option|choice|letter|选项)\s*)?[(\[]?([A-Za-z])[)\]}\"'\s.,:!]*", sentence)
    if alone:
        return alone.group(1).upper()
    leading = re.match(r"[\"'(\[{]*([A-Za-z])(?:[)\]:]|\.(?=\s|$)|,(?=\s)|\s+-\s)", bare)  # "b. 4", "(c) 7", "D, not B"
    if leading and not (leading.group(1) in "aI" and leading.group().endswith(",")):
        end = leading.end() - leading.group().endswith(",")
        return _with_others(leading.group(1).upper(), bare[end:], sentence)
    found = [m for m in _LETTER.finditer(sentence) if _is_letter(sentence, m)]
    found = [m for m in found if not _denied(sentence, m.start(), m.end())]
    if not found:
        placed = [m for m in _PLACED.finditer(sentence) if not _denied(sentence, m.start(), m.end())]
        return _place(placed[0]) if placed else None
    chosen = next((m for m in reversed(found) if _CHOOSES.search(sentence[: m.start()])), found[0])
    return _with_others(_of(chosen), sentence[chosen.end() :], sentence)


def _with_others(letter: str, after: str, sentence: str) -> str:
    """The letter, and those that the answer names beside it (“A and C”, “B or D”): two options are no choice of one."""
    joined = re.match(
        r"[)\]\"']*\s*(?:,\s*(?:and|or)?|and|or|&|/|或|和|与)\s*(?:option\s+|choice\s+)?\(?([A-Z])(?![\w'])\)?", after
    )
    if joined and joined.group(1) not in (letter, "A", "I") and not _REFUSED.match(after[joined.end() :]):
        return f"{letter}, {joined.group(1)}"
    return letter


def _of(match: re.Match) -> str:
    return next(filter(None, match.groupdict().values())).upper()


def _is_letter(sentence: str, match: re.Match) -> bool:
    if match["upper"] not in ("A", "I") or match.group().startswith("("):
        return True
    after = sentence[match.end() :]
    return not re.match(r"\s+[a-z]", after) or (match["upper"] == "A" and bool(re.match(rf"\s+{_CONNECT}", after)))


def _denied(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 60) : start].rpartition("\n")[2]
    return bool(_NEGATED.search(before) or _REFUSED.match(text[end:]))


def _place(match: re.Match) -> str:
    if match["place"]:
        return "ABCDEFGHIJ"[_PLACES.index(match["place"].lower())]
    if match["han"]:
        return "ABCDEFGHIJ"["一二三四五六七八九十".index(match["han"])]
    count = match["count"].lower()
    return "ABCDEFGHIJ"[max(0, (int(count) if count.isdigit() else _COUNTS.index(count) + 1) - 1)]
