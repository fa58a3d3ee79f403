"""Conversations: finds the turns of a row in any published layout, and cuts them into context, question and response.

Known are OpenAI's `messages`, ShareGPT's `conversations`, prompt lists with a reward model's ground truth (verl, DAPO),
pairs of a user's and an assistant's text, and a question with `history` and `system` columns (Alpaca, OpenOrca).
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

from lightreasoner.problems.cells import UnusableRow, by_folded_name, cell_text, is_blank, looks_written, written_value

COLUMNS = (
    *("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "raw_prompt"),
    *("prompt", "question", "problem", "input", "query", "chosen"),
)
REPLIES = ("completion", "response", "output", "chosen", "answer")  # lists of the turns after a prompt
ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "question"),
    "assistant": ("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bard", "bing", "claude", "llm", "answer"),
}
ROLE_OF = {alias: role for role, aliases in ROLES.items() for alias in aliases}
ROLE_KEYS, TEXT_KEYS = ("role", "from", "speaker", "author"), ("content", "value", "text", "message")
PAIRS = (("system",), ("human", "user", "input", "prompt", "question"), ("assistant", "gpt", "output", "bot", "answer"))
REWARDS = ("reward_model", "verification_info", "reward_spec", "reward_info", "extra_info")
TRUTHS = ("ground_truth", "answer", "label", "gold", "solution")


class Turn(NamedTuple):
    role: str  # system, user or assistant
    text: str


class Conversation(NamedTuple):
    context: tuple[Turn, ...]  # before the question
    question: str
    response: str | None  # the assistant's turn after it
    columns: list[str]  # folded names


def context_json(context: Iterable[Turn]) -> str | None:
    """The turns before a question as JSON, for a column of a table; None where there are none."""
    turns = [list(turn) for turn in context]
    return json.dumps(turns, ensure_ascii=False) if turns else None


def stored_context(value: object) -> tuple[Turn, ...]:
    """The turns of `context_json`, or of a record's list of pairs."""
    pairs = json.loads(value) if isinstance(value, str) else value
    return tuple(Turn(*map(str, pair)) for pair in pairs or ())


def context_text(context: Iterable[Turn]) -> str:
    """The turns as text, one paragraph each."""
    return "\n\n".join(f"{turn.role}: {turn.text}" for turn in context)


def find_conversation(cells: dict) -> Conversation | None:
    """The conversation of a row; None where its question is plain text. Raises UnusableRow."""
    for name in COLUMNS:
        turns = _turns(cells.get(name), name)
        if turns:
            break
    else:
        return None
    if name != "chosen" and turns[-1].role == "user":
        turns += next(filter(None, (_turns(cells.get(reply), reply) for reply in REPLIES if reply != name)), [])
    _, system = _system(cells)
    if system and turns[0].role == "system":
        if turns[0].text != system:
            raise UnusableRow(f"its {name} and its column for the system turn have different system turns")
    elif system:
        turns = [Turn("system", system), *turns]
    if not is_blank(cells.get("tools")) and str(cells["tools"]).strip() not in ("[]", "{}"):
        raise UnusableRow("it offers tools, which this software cannot run")
    return _cut(turns, name, cells)


def _cut(turns: list[Turn], name: str, cells: dict) -> Conversation:
    users = [n for n, turn in enumerate(turns) if turn.role == "user"]
    if not users:
        raise UnusableRow(f"its {name} hold no turn of the user")
    if any(turn.role == "system" for turn in turns[1:]):
        raise UnusableRow(f"its {name} hold a system turn after the first turn, which chat templates refuse or drop")
    last = users[-1]
    if len(turns) > last + 2:
        raise UnusableRow(f"its {name} end in {len(turns) - last - 1} turns of the assistant in a row")
    asked = [" ".join(turns[n].text.split()) for n in users]
    for own in ("question", "problem", "prompt", "query"):
        text = cells.get(own)
        if own == name or not isinstance(text, str) or not text.strip() or looks_written(text):
            continue
        if not any(" ".join(text.split()) in turn or turn in " ".join(text.split()) for turn in asked):
            raise UnusableRow(f"its {own} and its {name} ask different questions; remove one of the columns")
    response = turns[last + 1].text if len(turns) > last + 1 else None
    return Conversation(tuple(turns[:last]), turns[last].text, response, [name])


def _turns(value: object, name: str) -> list[Turn]:
    """The turns in a cell; [] where it holds none."""
    if looks_written(value):
        if name not in COLUMNS[:8] and not re.search(
            r"['\"](?:role|from|content|value|human|user|assistant|speaker)['\"]", value
        ):
            return []
        try:
            value = written_value(value)
        except ValueError:
            if not re.match(r"\s*\[\s*\{", cell := str(value)) or name not in COLUMNS[:8]:
                return []
            short = " and abbreviated" if "..." in cell.split() else ""
            raise UnusableRow(f"its {name} are neither JSON nor a Python literal{short}") from None
    if isinstance(value, dict):  # a table of turns: {"role": […], "content": […]}
        keys = by_folded_name(value)
        roles = next((keys[key] for key in ROLE_KEYS if isinstance(keys.get(key), list)), None)
        texts = next((keys[key] for key in TEXT_KEYS if isinstance(keys.get(key), list)), None)
        if not roles or not texts or len(roles) != len(texts):
            return []
        value = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        if name in COLUMNS[:5] and isinstance(value, list) and value:
            raise UnusableRow(f"its {name} do not say who speaks; write objects with role and content")
        return []
    turns = (_turn(by_folded_name(item), f"turn {number} of its {name}") for number, item in enumerate(value, 1))
    return list(chain.from_iterable(turns))


def _turn(item: dict, where: str) -> list[Turn]:
    role_key = next((key for key in ROLE_KEYS if not is_blank(item.get(key))), None)
    if role_key is None:
        pair = [(keys, next((item[key] for key in keys if not is_blank(item.get(key))), None)) for keys in PAIRS]
        turns = [Turn(role, str(text).strip()) for role, (_, text) in zip(ROLES, pair, strict=True) if text is not None]
        if not turns:
            raise UnusableRow(f"{where} does not say who speaks")
        return turns
    role = item[role_key].get("role") if isinstance(item[role_key], dict) else item[role_key]
    known = ROLE_OF.get(str(role).strip().lower())
    if known is None or not (is_blank(item.get("tool_calls")) or item["tool_calls"] == []):
        shown = "".join(filter(str.isprintable, str(role)))[:20]
        what = "calls a tool" if known else f"has the role {shown!r}"
        raise UnusableRow(f"{where} {what}; roles are system, user and assistant")
    text = _text(next((item[key] for key in TEXT_KEYS if item.get(key) is not None), None), where)
    if not text and known == "system":
        return []
    if not text:
        raise UnusableRow(f"{where} is empty")
    return [Turn(known, text)]


def _text(content: object, where: str) -> str:
    """The text of a turn; of OpenAI's content parts, joined."""
    if isinstance(content, dict) and isinstance(content.get("parts"), list):  # ChatGPT's export
        content = content["parts"]
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str | None):
            raise UnusableRow(f"{where} holds something other than text")
        texts.append(text or "")
    return "".join(texts).strip()


def _system(cells: dict) -> tuple[str | None, str | None]:
    """(its column, the text of the system turn)."""
    texts = ((name, cells.get(name)) for name in ("system", "system_prompt", "system_message"))
    return next(((name, text.strip()) for name, text in texts if isinstance(text, str) and text.strip()), (None, None))


def context_of_columns(cells: dict) -> tuple[tuple[Turn, ...], list[str]]:
    """(the turns before a question in plain text, the folded names of their columns). Raises UnusableRow."""
    turns, columns = [], []
    column, system = _system(cells)
    if column:
        columns.append(column)
        turns.append(Turn("system", system))
    history = cells.get("history")
    if looks_written(history):
        try:
            history = written_value(history)
        except ValueError:
            raise UnusableRow("its history is neither JSON nor a Python literal") from None
    if isinstance(history, list) and history:
        spoken = _turns(history, "history") if all(isinstance(item, dict) for item in history) else []
        if not spoken:
            if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
                raise UnusableRow("its history is no list of pairs of a question and a response")
            texts = [(cell_text(user), cell_text(reply)) for user, reply in history]
            if not all(user and reply for user, reply in texts):
                raise UnusableRow("its history has an empty turn")
            spoken = [turn for user, reply in texts for turn in (Turn("user", user), Turn("assistant", reply))]
        turns, columns = turns + spoken, [*columns, "history"]
    return tuple(turns), columns


def ground_truth(cells: dict) -> tuple[object, str] | None:
    """(a reward model's ground truth, "reward_model.ground_truth"); None where the row has none.

    Raises UnusableRow for tests of programs and other objects.
    """
    for name in REWARDS:
        value = cells.get(name)
        if looks_written(value):
            with suppress(ValueError):
                value = written_value(value)
        fields = by_folded_name(value) if isinstance(value, dict) else {}
        fields |= {key: cells[f"{name}_{key}"] for key in TRUTHS if f"{name}_{key}" in cells}  # json_normalize
        for key in TRUTHS[: 1 if name == "extra_info" else None]:
            if is_blank(fields.get(key)):
                continue
            truth = fields[key]
            if isinstance(truth, dict) or (isinstance(truth, str) and re.match(r"\s*\{\s*['\"]", truth)):
                raise UnusableRow(f"its {name}.{key} is an object, not an answer")
            return truth, f"{name}.{key}"
    return None
