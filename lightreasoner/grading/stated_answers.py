"""Where a response states its final answer: boxes, the text after ####, “the answer is …” in several languages."""

import re
from dataclasses import dataclass
from itertools import pairwise

from lightreasoner.grading.foreign_words import ALL, announced_by
from lightreasoner.problems.rows import last_boxed

REACH = 1000  # characters after “the answer is” that are read
MOST = 50  # such statements, and boxes side by side
#: What a model writes where its turn should have ended, and the next question after it.
_ENDS = re.compile(
    r"<[|｜][ \t]?(?:im_end|im_start|im_sep|endoftext|eot_id|start_header_id|end_of_text|end|end_of_turn|user|assistant"
    r"|system|eom_id|eos|end▁of▁sentence|User|Assistant|return|END_OF_TURN_TOKEN|START_OF_TURN_TOKEN)[ \t]?[|｜]>"
    r"|</s>|<(?:end|start)_of_turn>|<eos>|\[/?INST\]|<</?SYS>>"
)
_QUESTION = (
    r"question|problem|example|exercise|task|puzzle|q|instruction|input|prompt|问题|问|题目|例题|题|質問|問題|問|문제|질문"
    r"|pregunta|problema|ejercicio|pergunta|exercício|domanda|esercizio|frage|aufgabe|exercice|problème|вопрос|задача"
    r"|سؤال|প্রশ্ন|ప్రశ్న|คำถาม|swali|प्रश्न"
)
_LINE = r"\n[ \t\n#*>-]{0,20}"
_NEXT = re.compile(
    r"(?:\n|(?<=[.!] ))[\s#*>-]{0,20}(?:now,?\s+)?(?:the |a |an )?(?:next|another|new)\s+(?:question|problem)\b"
    r"|(?:\n|(?<=[.!] ))[\s#*>-]{0,20}here(?:'s| is) (?:a|another)(?: new| similar| related)* (?:question"
    r"|problem|example)\b"
    r"|\n[ \t]{0,9}(?:user|human|assistant|model)\s*(?=\n)"
    rf"|{_LINE}(?:{_QUESTION}|human|user|用户)[ \t]*(?:no\.?[ \t]*|\#)?\d*[ \t]*\**[ \t]*[:.)：]"
    rf"|{_LINE}(?:{_QUESTION})[ \t]*(?:no\.?[ \t]*|\#)?\d+[ \t]*\**[ \t]*(?=\n)"
    rf"|{_LINE}第[一二三四五六七八九十\d]+[题題问問道][^\n]?"
    r"|\n[ \t]{0,9}You are an? [^\n.]{0,60}\b(?:assistant|expert|tutor|teacher|model|AI)\b",
    re.IGNORECASE,
)
#: The next question where an answer stands before it: a heading, a line between, or a numbered question.
_AFTER_ANSWER = re.compile(
    rf"\n[ \t]{{0,9}}\#{{1,6}}[ \t*]{{0,9}}(?:(?:{_QUESTION}|follow-?up|bonus|extension|variation|challenge)\b)"
    r"|\n[ \t]{0,9}(?:-{3,20}|\*{3,20}|_{3,20}|={3,20})[ \t]*\n(?P<between>[^?？]{0,600}[?？])"
    r"|\n[ \t]{0,9}\**(?P<number>\d{1,3})[.)][ \t]+(?P<numbered>[^\n?？]{1,400}[?？])[ \t*]*(?=\n)",
    re.IGNORECASE,
)
#: How a model begins that goes on with its own problem.
_SAME = re.compile(
    r"[\s#*>]{0,20}(?:wait|but|hmm|however|actually|no\b|oh|let(?:'s| me)|is (?:this|that|it)|did|does|correct|final"
    r"|answer|therefore|thus|so\b|check|verif|explanation|solution|step|等|但|不对|最终|答案)",
    re.IGNORECASE,
)
#: What comes after an answer and is none: an unstated answer is looked for before it.
_CHECK = re.compile(
    r"(?:^|(?<=[\s.(]))[\s*#(]{0,20}(?:(?:(?:double[- ]?|sanity[- ]?)?check(?:ing)?|verif(?:y|ication|ying)|proof|note"
    r"|hint|confidence(?: level| score)?|certainty|references?|sources?|probe|kontrolle|vérification|remarque"
    r"|comprobación|verificación|verificação|nota|verifica|проверка"
    r"|примечание)\s*\**\s*[:：]|let(?:'s| me| us) (?:double[- ]?)?(?:check|verify|confirm)\b)"
    r"|(?:^|\n|[.!]\s)[\s*#(]{0,20}(?:(?:to|we can|we could|you can|i can|i will|i'll) (?:double[- ]?|also )?"
    r"(?:check|verify|confirm)\b|(?:verify|check)(?:ing)? (?:by|that|this|with|it)\b)"
    r"|\s\((?:because|since)\s|验算|检验|驗算|檢驗|检查[:：]|验证|驗證|(?:\n|。)\s{0,9}注意?[:：]|検算|검산",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\banswers?\b(?![a-z])[^.\n:=!?]{0,60}?(?:\s(?:is|are|was|would be|will be|should be|must be|could be|seems to be|"
    r"appears to be|has to be|equals|comes (?:out )?to)\b|\s*\**[:=])(?:\s*\**[:=])?\**[ \t]*"
    r"|\bfinal (?:result|value)\s*\**\s*(?:is|:|=)\**[ \t]*|\bans(?:wer)?\s+[-–—]\s+(?=\S)"
    r"|(?:^|\n)[#*_ \t]{0,20}(?:final\s+)?answer[*_ \t]{0,20}(?=\n)"
    r"|^\s{0,20}(?:ans|a)\s*[:.]\s+(?=\S+\s*$)|\bans\s*[:=]\s*",
    re.IGNORECASE,
)
#: Languages that write 2,5 and 1.234 for 2.5 and 1,234.
_COMMA = re.compile(
    r"(?:\br[ée]ponses?|\brespuestas?|\brespostas?|\bantwort(?:en)?|\blösung(?:en)?|\bergebnis|\brispost[ae]|ответы?"
    r"|\b(?:opci[óo]n|op[çc][ãa]o|opzione|alternativa)(?=\s+(?:corr[ei]|certa))|\bsoluci[óo]n(?:es)?|\bsolu[çc](?:ão|ões)"
    r"|\bsoluzion[ei]|\bsolutions?(?=\s+(?:est|sont)\b)|\br[ée]sultat final|\bresultado final|решения?|\bodpowiedź"
    r"|\bantwoord|\bcevap|\byanıt|\bjawaban|đáp án|câu trả lời|\bsvar)"
    r"(?:\s+(?:l'|(?:finale?|correct[ao]s?|corret[ao]s?|certa|richtige|est|ist|sind|sont|lautet|lauten|es|son|são|sono"
    r"|è|é|равен|равна|là|cuối cùng|to|is|adalah|de|la|está|also|daher|somit|folglich|donc|alors|entonces|então|quindi)"
    r"(?![^\W\d_])))*"
    r"\s*\**[:=]?\**\s*",
    re.IGNORECASE,
)
_POINT = re.compile(
    r"(?:(?:正确|最终|最后|所以|因此)*(?:答案|答え|答|正解|解答|回答|正确的?选项|정답|답변|답)|(?:最终|最后)的?结果|正确的(?=是)|해답"
    r"|(?:故|应|應|所以|因此)?(?:选择|選擇|选|選)(?=\s*[:：]?\s*[A-Za-z(（])"
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
#: An answer between marks: <answer>18</answer>, {"answer": "18"}.
_MARKED = re.compile(
    r"<(?P<tag>(?:final[_-]?)?answer)>(?P<inside>.{1,1000}?)</(?P=tag)>"
    r"|[\"'](?:final[_ ]?|correct[_ ]?)?(?:answer|choice|option)[\"']\s*:\s*"
    r"(?:\"(?P<text>(?:[^\"\\\n]|\\.){1,1000})\"|'(?P<single>[^'\n]{1,1000})'|(?P<bare>[^\"',}\]\n][^,}\]\n]{0,100}))"
    r"|\[\[(?P<double>[^\[\],\n]{1,60})\]\]",
    re.IGNORECASE | re.DOTALL,
)
#: A model that takes its answer back at once: “The answer is 5. Wait, no, 7.”
_CORRECTED = re.compile(
    r"\?\s+no\b[^\w\n]{1,3}|(?:\b(?:no|oh|hmm),?\s+)?\b(?:wait|sorry|correction|actually|i mean|scratch that"
    r"|my mistake|rather)\b"
    r"(?:[,.:;!\s…—–]|-\s|\b(?:no|sorry|i mean[t]?|actually|it is|it's|make that|that's|should be"
    r"|it should be|the answer is)\b)*"
    r"(?=\(?[-+$\\]?\d|[(*]*[A-J](?![\w']))",
    re.IGNORECASE,
)
#: “I doubt that the answer is 5”, “you might think the answer is 5”: no answer is stated.
_DOUBTED = re.compile(
    r"(?:\bdoubt|(?:\bnot|n't|\bnever) (?:think|believe|say)|\b(?:might|may|could|(?:many|some|most|one"
    r"|people) would) (?:think|say|guess|assume|expect)"
    r"|tempt\w+ to (?:think|say))\s+(?:that\s+)?(?:the |my |its )?(?:correct |right |final )?$",
    re.IGNORECASE,
)
_NEAR = 80  # characters between an answer and its correction
_STATED = (re.compile(r"\\boxed|####"), _MARKED, _ENGLISH, _COMMA, _POINT)


@dataclass(frozen=True)
class Statement:
    """Text that begins with a stated answer. `comma`: its language writes decimals with a comma. `boxed`: it is all.

    `languages`: of the words that announce it, see foreign_words.py.
    """

    text: str
    comma: bool = False
    boxed: bool = False
    languages: tuple[str, ...] = ()


def turns(response: str) -> list[str]:
    """The response without its thinking, cut where its turn should have ended and where the next question begins."""
    after = response.rpartition("</think>")
    response = after[2] if after[1] and after[2].strip() else response
    response = re.sub(r"\b(?:with)?in(?:side)? (?:a )?\$?\\boxed\{\s*\}\$?", "", response)  # the instruction, repeated
    parts = [part for turn in _ENDS.split(response) for part in _split(turn)]
    return [part for part in parts if part.strip()]


def _split(text: str) -> list[str]:
    starts = {0, len(text), *(found.start() for found in _NEXT.finditer(text))}
    stated = min((cue.start() for pattern in _STATED if (cue := pattern.search(text))), default=len(text))
    starts |= {found.start() for found in _AFTER_ANSWER.finditer(text, stated) if _is_next(text, found)}
    return [text[a:b] for a, b in pairwise(sorted(starts))]


def _is_next(text: str, found: re.Match) -> bool:
    """Whether it is another question, and not one that the model asks itself, or a step of its own list."""
    question = found["between"] or found["numbered"]
    if question is None:
        return True
    if _SAME.match(question):
        return False
    before = found["number"] and rf"(?m)^[ \t*]*{int(found['number']) - 1}[.)]"
    return not (before and re.search(before, text[: found.start()]))


#: Why an answer is right, after it in the last sentence.
_REASON = re.compile(
    r",\s*(?:because|since|as|given that|ya que|porque|pues|puesto que|car|parce que|puisque|weil|denn|da|poiché|perché"
    r"|pois|já que|потому что|так как|поскольку)\s|[,.]\s*(?:因为|因為|由于)|なぜなら",
    re.IGNORECASE,
)


def before_check(turn: str) -> str:
    """The turn up to a check of its answer or the reason for it, if something comes before it."""
    digit = re.search(r"\d", turn)
    found = _CHECK.search(turn, digit.end()) if digit else None
    turn = turn[: found.start()] if found else turn
    last = max(turn.rstrip().rfind(end) for end in ("\n", ". ", "。", "! "))
    reason = _REASON.search(turn, last + 1)
    return turn[: reason.start()] if reason and re.search(r"\d", turn[last + 1 : reason.start()]) else turn


def is_cut_off(turn: str) -> bool:
    r"""Whether its last box was begun and not ended, or is empty: it states no answer then, whatever came before."""
    start = max(turn.rfind("\\boxed"), turn.rfind("\\fbox"))
    return start >= 0 and turn[start:].partition("{")[0].rstrip() in ("\\boxed", "\\fbox") and last_boxed(turn) is None


def statements(turn: str, several: bool = False, joined: bool = False) -> list[Statement]:
    """The stated answers, the one that counts first: the last box, the first text after ####, the last “answer is …”.

    several: solutions, roots and values are answers, too. several or joined: boxes that stand side by side are one
    statement.
    """
    marks = [mark for mark in _MARKED.finditer(turn) if _inside(mark).strip()]
    if marks:
        content = _inside(marks[-1]).strip()
        return statements(content, several, joined) or [Statement(content, languages=ALL)]
    found = []
    if (boxed := boxes(turn) if several or joined else last_boxed(turn)) is not None:
        found.append(Statement(boxed, boxed=True, languages=ALL))
    marked = [
        line for line in re.findall(r"####(?!#)[ \t]*(\S.*)", turn) if re.match(r"[-+$€£¥\\(\[\d.,]|[A-Z]\W*$", line)
    ]
    marked = [line for line in marked if not re.match(r"\d+[.)]\s+[A-Z]", line)]  # a numbered heading
    if not marked and "####" in turn and turn.rpartition("####")[2].strip():
        marked = [turn.rpartition("####")[2].strip().splitlines()[0]]
    found += [Statement(line.strip(), languages=ALL) for line in marked[:1]]
    cues = [
        (cue.end(), pattern is _COMMA, () if pattern is _ENGLISH else announced_by(cue.group()))
        for pattern in (_ENGLISH, _COMMA, _POINT)
        for cue in pattern.finditer(turn)
        if not _DOUBTED.search(turn[max(0, cue.start() - 80) : cue.start()])
    ]
    if not cues:
        cues = [(cue.end(), False, ()) for cue in (_LISTS if several else _PLURAL).finditer(turn)]
    cues += [
        (again.end(), False, ())
        for again in _CORRECTED.finditer(turn)
        if any(0 < again.start() - end <= _NEAR for end, *_ in cues)
    ]
    for end, comma, languages in sorted(cues, reverse=True)[:MOST]:
        if (text := turn[end : end + REACH]).strip():
            found.append(Statement(text, comma, languages=languages))
    return found


def _inside(mark: re.Match) -> str:
    """What stands between the marks; the text of JSON without its escapes."""
    text = next(mark[name] for name in ("inside", "text", "single", "bare", "double") if mark[name] is not None)
    return re.sub(r"\\([\\\"/])", r"\1", text) if mark["text"] is not None else text


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
