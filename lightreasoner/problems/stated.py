"""Where a response states its final answer: boxes, the text after ####, “the answer is …” in several languages."""

import re
from dataclasses import dataclass
from itertools import pairwise

from lightreasoner.problems.rows import last_boxed

REACH = 1000  # characters after “the answer is” that are read
MOST = 50  # such statements, and boxes side by side
#: What a model writes where its turn should have ended, and the next question after it.
_ENDS = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end|user|eom_id)\|>|</s>|<end_of_turn>|<eos>|\[INST\]"
)
_NEXT = re.compile(
    r"(?:\n|(?<=[.!] ))[\s#*>-]{0,20}(?:now,?\s+)?(?:the |a |an )?(?:next|another|new)\s+(?:question|problem)\b"
    r"|\n[ \t]{0,9}(?:user|human|assistant|model)\s*(?=\n)|\n[\s#*>-]{0,20}(?:question|problem|example|exercise"
    r"|q|human|user|instruction|input|问题|问|题目|例题|用户|问题|質問|問題|문제|질문|pregunta|problema|frage|aufgabe|"
    r"exercice|вопрос|задача|سؤال|প্রশ্ন|ప్రశ్న|คำถาม|swali|प्रश्न)\s*#?\d*\s*\**\s*[:.)：]",
    re.IGNORECASE,
)
#: What comes after an answer and is none: an unstated answer is looked for before it.
_CHECK = re.compile(
    r"(?:^|(?<=[\s.]))(?:[\s*#]{0,20}(?:(?:double[- ])?check(?:ing)?|verif(?:y|ication|ying)|proof|note|hint|probe"
    r"|vérification"
    r"|comprobación|проверка)\s*\**\s*:|let(?:'s| me| us) (?:double[- ])?(?:check|verify)\b|验算|检验|驗算|検算|검산)",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\banswers?\b(?![a-z])[^.\n:=!?]{0,60}?(?:\s(?:is|are|was|would be|will be|should be|must be|could be|seems to be|"
    r"appears to be|has to be|equals|comes (?:out )?to)\b|\s*\**[:=])(?:\s*\**[:=])?\**[ \t]*"
    r"|(?:^|\n)[#*_ \t]{0,20}(?:final\s+)?answer[*_ \t]{0,20}(?=\n)"
    r"|^\s{0,20}(?:ans|a)\s*[:.]\s+(?=\S+\s*$)|\bans\s*[:=]\s*",
    re.IGNORECASE,
)
#: Languages that write 2,5 and 1.234 for 2.5 and 1,234.
_COMMA = re.compile(
    r"(?:\br[ée]ponse|\brespuesta|\bresposta|\bantwort|\blösung|\bergebnis|\brisposta|ответ|\bodpowiedź|\bantwoord|"
    r"\bcevap|\byanıt|\bjawaban|đáp án|câu trả lời|\bsvar)(?:\s+(?:finale?|correcta?|correta|richtige|est|ist"
    r"|lautet|es|"
    r"è|é|равен|là|cuối cùng|to|is|adalah|de la|está))*\s*\**[:=]?\**\s*",
    re.IGNORECASE,
)
_POINT = re.compile(
    r"(?:(?:正确|最终|最后|所以|因此)*(?:答案|答え|答|正解|解答|回答|正确的?选项|정답|답변|답)|"
    r"(?:故|应|應|所以|因此)?(?:选择|選擇|选|選)(?=\s*[A-Za-z(（])"
    r"|الجواب|الإجابة|الاجابة|उत्तर|উত্তর|คำตอบ|సమాధానం|\bjibu)"
    r"(?:应该|应为|应|就|选项|为|為|是|选|選|は|が|은|는|هو|هي|النهائية|النهائي|الصحيحة|है|হল|คือ|ที่ถูกต้อง|ni|సరైన)*\s*\**[:=]?\**\s*",
    re.IGNORECASE,
)
_LISTS = re.compile(
    r"\b(?:solutions?|roots?|zeros|values?|pairs|triples|numbers|possibilities|solve)\b[^.\n:=!?]{0,50}?"
    r"(?:\s(?:are|is)\b|:)\s*:?[ \t]*",
    re.IGNORECASE,
)
_PLURAL = re.compile(r"\b(?:solutions|roots|zeros|possible values) are:?[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """Text that begins with a stated answer. `comma`: its language writes decimals with a comma. `boxed`: it is all."""

    text: str
    comma: bool = False
    boxed: bool = False


def turns(response: str) -> list[str]:
    """The response without its thinking, cut where its turn should have ended and where the next question begins."""
    after = response.rpartition("</think>")
    response = after[2] if after[1] and after[2].strip() else response
    parts = [part for turn in _ENDS.split(response) for part in _split(turn)]
    return [part for part in parts if part.strip()]


def _split(text: str) -> list[str]:
    starts = [0, *(found.start() for found in _NEXT.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(starts)]


def before_check(turn: str) -> str:
    """The turn up to a check of its answer, if something comes before it."""
    digit = re.search(r"\d", turn)
    found = _CHECK.search(turn, digit.end()) if digit else None
    return turn[: found.start()] if found else turn


def is_cut_off(turn: str) -> bool:
    r"""Whether its last box was begun and not ended, or is empty: it states no answer then, whatever came before."""
    start = max(turn.rfind("\\boxed"), turn.rfind("\\fbox"))
    return start >= 0 and turn[start:].partition("{")[0].rstrip() in ("\\boxed", "\\fbox") and last_boxed(turn) is None


def statements(turn: str, several: bool = False) -> list[Statement]:
    """The stated answers, the one that counts first: the last box, the first text after ####, the last “answer is …”.

    several: boxes that stand side by side are one statement, and solutions, roots and values are answers, too.
    """
    found = []
    if (boxed := boxes(turn) if several else last_boxed(turn)) is not None:
        found.append(Statement(boxed, boxed=True))
    marked = [
        line for line in re.findall(r"####(?!#)[ \t]*(\S.*)", turn) if re.match(r"[-+$€£¥\\(\[\d.,]|[A-Z]\W*$", line)
    ]
    marked = [line for line in marked if not re.match(r"\d+[.)]\s+[A-Z]", line)]  # a numbered heading
    if not marked and "####" in turn and turn.rpartition("####")[2].strip():
        marked = [turn.rpartition("####")[2].strip().splitlines()[0]]
    found += [Statement(line.strip()) for line in marked[:1]]
    cues = [(cue.end(), pattern is _COMMA) for pattern in (_ENGLISH, _COMMA, _POINT) for cue in pattern.finditer(turn)]
    if not cues:
        cues = [(cue.end(), False) for cue in (_LISTS if several else _PLURAL).finditer(turn)]
    cues = sorted(cues, reverse=True)[:MOST]
    found += [Statement(turn[end : end + REACH], comma) for end, comma in cues if turn[end : end + REACH].strip()]
    return found


def boxes(turn: str) -> str | None:
    r"""The last boxes that stand side by side, joined: \boxed{3} or \boxed{5} → "3, 5". None without a box."""
    found: list[str] = []
    while len(found) < MOST and (content := last_boxed(turn)) is not None:
        found.insert(0, content)
        turn = turn[: max(turn.rfind("\\boxed"), turn.rfind("\\fbox"))]
        near = re.search(r"\}[^\w\n]*(?:and|or|和|或|\\text\{ ?(?:and|or) ?\})?[^\w\n]*(?:\w\s*=\s*)?$", turn[-60:])
        if not near:
            break
        turn = turn[: len(turn) - len(near.group()) + 1]
    return ", ".join(found) or None
