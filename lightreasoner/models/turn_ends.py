"""Where a response ends: the tokens and texts that end an assistant's turn, and stop strings of the user's own.

Models disagree with themselves: the chat template of Qwen2.5's base models ends a turn with <|im_end|>, while config,
generation config and tokenizer name <|endoftext|>. Whatever any of them names ends a response here. Tracer, sampler,
evaluator and grader use ResponseEnds and finished_text, so they agree.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lightreasoner.compat.transformers import gguf_metadata
from lightreasoner.errors import UserError
from lightreasoner.models.chat_templates import TemplateError, render_template
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.models.weights import Files, read_json

MAX_STOPS, MAX_STOP_CHARS = 16, 200
#: What a template is tried with; no template has a reason to change such words.
QUESTION, CONTENT, NEXT = "Question1a", "Answer2b", "Question3c"
GGUF_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


@dataclass(frozen=True)
class TurnEnd:
    """One end of a turn. `id` is None for a text that is no single token of the tokenizer."""

    text: str
    id: int | None
    sources: tuple[str, ...]  # who names it: "chat template", "generation config", "config", "tokenizer", "GGUF file"


def turn_ends(files: Files, tokenizer: Any) -> tuple[TurnEnd, ...]:
    """All ends that chat template, generation config, config and tokenizer name, the template's first.

    Reads small files only. Raises UserError for a damaged one.
    """
    named = {"chat template": template_ends(tokenizer)} | _stated(files) | {"tokenizer": [tokenizer.eos_token_id]}
    added, sources = tokenizer.added_tokens_decoder, {}
    for source, ends in named.items():
        for end in ends:
            if end if isinstance(end, str) else _is_id(end) and 0 <= end < len(tokenizer):
                sources.setdefault(end, []).append(source)
    if any(end in added for end in sources):  # config.json often repeats the default of another tokenizer
        sources = {end: by for end, by in sources.items() if by != ["config"] or isinstance(end, str) or end in added}
    texts = TokenTexts(tokenizer)
    return tuple(
        TurnEnd(end, None, tuple(by)) if isinstance(end, str) else TurnEnd(texts.text(end), end, tuple(by))
        for end, by in sources.items()
    )


def describe_ends(ends: Iterable[TurnEnd]) -> str:
    """For example "<|im_end|> (chat template), <|endoftext|> (config, tokenizer)"."""
    return ", ".join(f"{end.text.strip() or repr(end.text)} ({', '.join(end.sources)})" for end in ends)


def _stated(files: Files) -> dict[str, list]:
    """What the model's files name: source → ids and texts."""
    if files.gguf:
        metadata = gguf_metadata(files.gguf)
        return {"GGUF file": [metadata.get(name) for name in GGUF_ENDS]}
    found: dict[str, list] = {}
    for source, name in (("generation config", "generation_config.json"), ("config", "config.json")):
        if not (files.folder / name).is_file():
            continue
        raw = read_json(files.folder / name)
        inner = raw.get("text_config")  # of models that also see or hear
        for part in (raw, inner if isinstance(inner, dict) else {}):
            for key in ("eos_token_id", "stop_strings"):
                value = part.get(key)
                found.setdefault(source, []).extend(value if isinstance(value, list) else [value])
    return found


def template_ends(tokenizer: Any) -> list[int | str]:
    """What the chat template writes after an assistant's turn: [token id], [text], or [] where it writes nothing.

    Where nothing follows the last turn, what opens the user's next turn ends it: "<|user|>", or "\\n\\nHuman:".
    """
    if not getattr(tokenizer, "chat_template", None):
        return []
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": CONTENT}]
    last = _after_content(tokenizer, turns)
    if last.strip():
        return _end_in(tokenizer, last, anywhere=True)
    between = _after_content(tokenizer, [*turns, {"role": "user", "content": NEXT}])
    return _end_in(tokenizer, between, anywhere=False)


def _after_content(tokenizer: Any, turns: list[dict]) -> str:
    """What follows the assistant's content in the rendered turns, up to the next turn's content."""
    try:
        text = render_template(tokenizer, turns, generation=False)
    except TemplateError:  # it may refuse these turns, or anything else; it then names no end
        return ""
    _, found, tail = text.rpartition(CONTENT)
    return tail.partition(NEXT)[0] if found else ""


def _end_in(tokenizer: Any, tail: str, anywhere: bool) -> list[int | str]:
    """The first control token in a rendered tail, else its first line as text.

    anywhere: a control token counts even if text comes before it.
    """
    if not tail.strip():
        return []
    added = {token.content: (id, token.special) for id, token in tokenizer.added_tokens_decoder.items()}
    names = sorted((name for name in added if name.strip()), key=len, reverse=True)
    found = [match.group() for match in re.finditer("|".join(map(re.escape, names)), tail)] if names else []
    if found and tail.lstrip().startswith(found[0].lstrip()):
        return [added[found[0]][0]]
    special = next((name for name in found if added[name][1]), None)
    if special and anywhere:
        return [added[special][0]]
    line = re.match(r"\s*[^\n]*", tail).group()
    return [line.rstrip().lstrip(" ")]


def turn_end_id(tokenizer: Any) -> int | None:
    """The token with which a tokenizer's chat template ends a turn, else its end-of-sequence token."""
    return next((end for end in template_ends(tokenizer) if isinstance(end, int)), tokenizer.eos_token_id)


class ResponseEnds:
    """Watches responses for their ends, token by token. A text may begin and end anywhere inside tokens."""

    def __init__(self, loaded: Any, stop: Iterable[str] = ()):
        """loaded: a LoadedModel; stop: the user's stop strings."""
        self._ids = loaded.end_ids
        self._stops = [text.encode("utf-8", "surrogatepass") for text in (*loaded.end_texts, *stop)]
        self._kept = max(map(len, self._stops), default=1) - 1  # bytes in which a stop may have begun
        self._texts = TokenTexts(loaded.tokenizer) if self._stops else None
        self._tails: dict[int, bytes] = {}  # row → the last bytes of its response

    def ended(self, token: int, row: int = 0) -> bool:
        """Whether the response of this row ends with its next token, this one. To be called once per token."""
        if token in self._ids:
            return True
        if not self._stops:
            return False
        text = self._tails.get(row, b"") + self._texts.bytes(token)
        self._tails[row] = text[len(text) - self._kept :] if len(text) > self._kept else text
        return any(stop in text for stop in self._stops)

    def copy(self, row: int, onto: int) -> None:
        """Another row's response begins as this row's does."""
        if row in self._tails:
            self._tails[onto] = self._tails[row]


def finished_text(loaded: Any, ids: list[int], stop: Iterable[str] = ()) -> tuple[str, str]:
    """(text of a response without its end, finish reason) from its token ids; loaded: a LoadedModel.

    The reason is "stop" where the last token ended the turn, else "length".
    """
    decode, stop = loaded.tokenizer.decode, tuple(stop)
    if ids and ids[-1] in loaded.end_ids:
        return decode(ids[:-1]), "stop"
    stops = (*loaded.end_texts, *stop)
    text, ends = decode(ids), ResponseEnds(loaded, stop)
    if not stops or [n for n, id in enumerate(ids, 1) if ends.ended(id)][-1:] != [len(ids)]:
        return text, "length"
    starts = [place for place in map(text.find, stops) if place >= 0]
    return text[: min(starts, default=len(text))], "stop"


def parse_stops(texts: Iterable[str]) -> tuple[str, ...]:
    r"""The user's stop strings, with \n, \t, \r and \\ as the characters they stand for. Raises UserError."""
    characters = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    stops = [re.sub(r"\\([ntr\\])", lambda match: characters[match[1]], text) for text in texts]
    stops = tuple(dict.fromkeys(text for text in stops if text))
    if len(stops) > MAX_STOPS:
        raise UserError(f"These are {len(stops)} stop strings; at most {MAX_STOPS} are watched for. Remove some.")
    for text in stops:
        if len(text) > MAX_STOP_CHARS:
            raise UserError(
                f"A stop string has {len(text):,} characters; at most {MAX_STOP_CHARS} are compared. Shorten it."
            )
        if re.search("[\ud800-\udfff]", text):
            raise UserError("A stop string holds half of a character (a lone surrogate), so it never occurs; fix it.")
    return stops


def written_stop(text: str) -> str:
    """A stop string as parse_stops reads it, on one line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
