"""Finds the responses in a row of any layout: texts, token ids, messages, or the last turn of a conversation.

Known are this software's own columns and the fields of vLLM, SGLang, llama.cpp, TRL and OpenAI's API with its batches.
A row that could be read in two ways is refused.
"""

from dataclasses import dataclass, replace

from lightreasoner.problems.cells import UnusableRow, is_blank, is_text, row_cells, shown_columns
from lightreasoner.problems.conversations import COLUMNS, ROLE_KEYS, ROLE_OF, TEXT_KEYS

IDS = (
    *("response_ids", "token_ids", "response_token_ids", "output_token_ids", "output_ids", "completion_token_ids"),
    *("completion_ids", "generated_ids", "tokens"),
)
PROMPT_IDS = ("prompt_ids", "prompt_token_ids", "input_token_ids")
TEXTS = ("response", "completion", "generated_text", "output_text", "generation", "prediction", "model_output")
VAGUE = ("output", "text", "content")  # names of a response only where no other column holds one
LISTS = ("outputs", "choices", "responses", "completions", "generations")
TURNS = COLUMNS[:8]  # columns of whole conversations, whose last turn may be the response
NUMBERS = ("sample", "sample_index")  # in a row; an item of a list has its index
STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "word")
CUT_OFF = ("length", "max_tokens", "max_length", "limit", "max_output_tokens")


@dataclass(frozen=True)
class FoundResponse:
    where: str
    text: str | None
    ids: list[int] | None
    prompt_ids: list[int] | None = None
    finish_reason: str | None = None
    number: int | None = None
    apart: str | None = None


def find_responses(cells: dict, names: dict[str, str]) -> tuple[list[FoundResponse], dict]:
    """(the responses in a row, its other cells). Raises UnusableRow."""
    cells = dict(cells)
    body = cells.get("response")
    if isinstance(body, dict) and isinstance(body.get("body"), dict):  # a line of OpenAI's and vLLM's batches
        status = body.get("status_code", 200)
        if not is_blank(cells.get("error")) or status != 200:
            raise UnusableRow(f"its request failed (status {str(status)[:20]}), so it holds no response")
        del cells["response"]
        cells |= {name: value for name, value in body["body"].items() if name != "id"}
    elif isinstance(cells.get("error"), dict | str) and not is_blank(cells["error"]):
        raise UnusableRow("it holds an error in place of a response")
    prompt_ids = _ids(cells, PROMPT_IDS)
    lists = [name for name in (*LISTS, *TEXTS) if isinstance(cells.get(name), list) and _is_response_list(name, cells)]
    single = _single(cells)
    turn = _last_turn(cells)
    found = [f"its {name}" for name in lists]
    found += [f"its {single.where}"] if single else []
    found += [f"its {turn.where}"] if turn and not (single and single.text == turn.text) else []
    if len(found) > 1:
        raise UnusableRow(f"both {found[0]} and {found[1]} hold a response; keep one of them")
    if lists:
        items = [replace(_item(value, f"{lists[0]}[{n}]"), number=n) for n, value in enumerate(cells[lists[0]])]
    elif single or turn:
        items = [single or turn]
    else:
        columns = shown_columns(names.values())
        raise UnusableRow(f"it has neither the text of a response nor its token ids; columns: {columns}")
    for item in items:
        if not item.ids and is_blank(item.text):
            raise UnusableRow(
                "its response is empty" if len(items) == 1 else f"the response in its {item.where} is empty"
            )
        if item.text and not is_text(item.text):
            raise UnusableRow("its response holds characters that are not text (half of a character, or a zero)")
    items = [replace(item, prompt_ids=item.prompt_ids or prompt_ids) for item in items]
    used = {*IDS, *PROMPT_IDS, *TEXTS, *VAGUE, *lists, "message", "meta_info", "finish_reason", "steps"}
    rest = {name: value for name, value in cells.items() if name not in used}
    if turn and turn.where in rest:
        rest[turn.where] = rest[turn.where][:-1]
    return items, rest


def _is_response_list(name: str, cells: dict) -> bool:
    """Whether a list holds responses; `choices` may be the options of a multiple-choice problem, and `completion` the
    turns of a conversation."""
    if not cells[name]:
        return False
    first = cells[name][0]
    if name in TEXTS:
        return isinstance(first, str)
    if name == "choices":
        return isinstance(first, dict) and bool({"message", "finish_reason", "token_ids", "logprobs"} & set(first))
    return isinstance(first, str | dict | list)


def _single(cells: dict) -> FoundResponse | None:
    """The response that a row, or an item of a list, holds in columns of its own; None where there is none."""
    ids, id_names = _ids(cells, IDS), [name for name in IDS if _is_ids(cells.get(name))]
    texts, apart = {}, None
    for name in (*TEXTS, "message"):
        value = cells.get(name)
        if isinstance(value, list) and value and isinstance(value[0], str):  # several responses
            continue
        if isinstance(value, dict | list) and value:
            texts[name], apart = _message(value, name)
        elif isinstance(value, str):
            texts[name] = value
    if not texts:
        texts = {name: text for name in VAGUE if isinstance(text := cells.get(name), str)}
    if len(set(texts.values())) > 1:
        first, second = list(texts)[:2]
        raise UnusableRow(f"its {first} and its {second} are two different texts; keep one of them")
    if ids is None and not texts:
        return None
    meta = cells.get("meta_info") if isinstance(cells.get("meta_info"), dict) else {}
    reason = cells.get("finish_reason") or meta.get("finish_reason") or cells.get("stop_type")
    reason = reason.get("type") if isinstance(reason, dict) else reason
    numbers = [cells[name] for name in NUMBERS if isinstance(cells.get(name), int)]
    return FoundResponse(
        next(iter(texts), None) or id_names[0],
        *(next(iter(texts.values()), None), ids, _ids(cells, PROMPT_IDS)),
        finish_reason="stop" if reason in STOPPED else "length" if reason in CUT_OFF else None,
        number=numbers[0] if numbers else None,
        apart=apart or ("reasoning_content" if not is_blank(cells.get("reasoning_content")) else None),
    )


def _item(value: object, where: str) -> FoundResponse:
    if isinstance(value, str):
        return FoundResponse(where, value, None)
    if isinstance(value, list) and _is_ids(value):
        return FoundResponse(where, None, value)
    if isinstance(value, list) and len(value) == 1:  # turns, of which there is one
        value = value[0]
    if not isinstance(value, dict):
        raise UnusableRow(f"its {where} is neither text nor an object")
    cells, _ = row_cells(value)
    found = _single(cells)
    if found is None:
        raise UnusableRow(f"its {where} has neither a text nor token ids")
    return replace(found, where=where)


def _message(value: object, name: str) -> tuple[str | None, str | None]:
    """(text, the field with a part of the model's text that it lacks) of an assistant's message."""
    message = value[0] if isinstance(value, list) and len(value) == 1 else value
    text = message if isinstance(message, str) else None
    if isinstance(message, dict):
        role = next((message[key] for key in ROLE_KEYS if key in message), "assistant")
        if ROLE_OF.get(str(role).lower()) != "assistant":
            raise UnusableRow(f"its {name} is no turn of the assistant")
        if message.get("tool_calls"):
            raise UnusableRow(f"its {name} calls a tool, which is no text")
        content = next((message[key] for key in TEXT_KEYS if message.get(key) is not None), "")
        parts = content if isinstance(content, list) else [content]
        texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
        text = "".join(texts) if all(isinstance(part, str) for part in texts) else None
        thought = next((key for key in ("reasoning_content", "reasoning") if not is_blank(message.get(key))), None)
        if text is not None:
            return text, thought
    if text is None:
        raise UnusableRow(f"its {name} is not text")
    return text, None


def _last_turn(cells: dict) -> FoundResponse | None:
    """The response at the end of a conversation."""
    for name in TURNS:
        turns = cells.get(name)
        if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
            continue
        role = next((turns[-1][key] for key in ROLE_KEYS if key in turns[-1]), None)
        if ROLE_OF.get(str(role).lower()) == "assistant":
            text, apart = _message(turns[-1], name)
            return FoundResponse(name, text, None, apart=apart)
    return None


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(id, int | float) for id in value)


def _ids(cells: dict, accepted: tuple[str, ...]) -> list[int] | None:
    """The token ids in the one of these columns that holds some. Raises UnusableRow."""
    found: dict[str, list[int]] = {}
    for name in accepted:
        value = cells.get(name)
        if is_blank(value) or (name == "tokens" and not _is_ids(value)):
            continue
        if not isinstance(value, list) or not all(type(id) is int and id >= 0 for id in value):
            raise UnusableRow(f"its {name} is no list of whole numbers from 0")
        if value:
            found[name] = value
    if len({tuple(ids) for ids in found.values()}) > 1:
        raise UnusableRow(f"its {' and its '.join(list(found)[:2])} are different token ids; keep one of them")
    return next(iter(found.values()), None)
