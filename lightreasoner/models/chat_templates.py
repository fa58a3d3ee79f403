"""Chat templates: programs that came with a model, rendered within bounds of time, memory and length.

A template may loop for ever or ask for gigabytes. Those that can do neither, by the few things they are made of, are
rendered here, all others in a process of their own.
"""

import hashlib
import json
import random
import re
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

from jinja2 import Environment, nodes

from lightreasoner.bounded_process import Worker, serve
from lightreasoner.compat.transformers import render_chat_template, template_date
from lightreasoner.errors import first_line

SECONDS = 5  # of computing, per rendering
MEMORY = 512 << 20  # bytes
LONGEST = 4_000_000  # characters of a rendered prompt; no context is as long
USUAL = 20_000  # characters of a request whose failure condemns the template
TOO_MUCH = {
    "time": f"it computes for more than {SECONDS} seconds and may never end.",
    "memory": f"it takes more than {MEMORY >> 20} MB of memory.",
    "length": f"it writes more than {LONGEST:,} characters.",
}
#: What a template is made of that cannot grow: it reads its turns once and puts their parts together.
PLAIN = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem),
    *(nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Test),
    *(nodes.For, nodes.Add, nodes.Concat, nodes.Filter, nodes.Call),
)
_worker = Worker("lightreasoner.models.chat_templates", SECONDS)
_condemned: dict[str, str] = {}  # digest of a template → why


class TemplateError(ValueError):
    """A chat template cannot render these turns. Its text ends a sentence, and never holds a line break."""


def render_template(
    tokenizer: Any, turns: list[dict], generation: bool, arguments: dict[str, Any] | None = None, day: str | None = None
) -> str:
    """The turns as a tokenizer's chat template writes them.

    generation: with what opens the assistant's turn; arguments: of the template; day: that it takes for today,
    YYYY-MM-DD. Raises TemplateError, whatever the template does.
    """
    try:
        template = tokenizer.get_chat_template()
        names = {**tokenizer.special_tokens_map, **(arguments or {})}
        if is_plain(template):
            text = _render(template, turns, generation, names, day)
            if len(text) > LONGEST:
                raise TemplateError(TOO_MUCH["length"])
            return text
        request = {"template": template, "turns": turns, "generation": generation, "names": names, "day": day}
        size, digest = len(json.dumps(request, default=str)), hashlib.sha256(template.encode()).hexdigest()
    except Exception as error:  # a template raises what it likes
        raise TemplateError(first_line(error)) from error
    if digest in _condemned:
        raise TemplateError(_condemned[digest])
    answer = _worker.ask(request)
    if failed := answer.get("failed"):
        if size - len(template) < USUAL:
            _condemned[digest] = TOO_MUCH[failed]
        raise TemplateError(TOO_MUCH[failed])
    if "error" in answer:
        raise TemplateError(answer["error"])
    return answer["text"]


@lru_cache(maxsize=64)
def is_plain(template: str) -> bool:
    """Whether a template surely ends, and writes little more than its turns: it has no variables, calls or products,
    and loops over the turns alone, never within a loop."""
    if len(template) > USUAL:
        return False
    try:
        tree = Environment().parse(template)
        parts = [tree, *tree.find_all(nodes.Node)]
    except Exception:  # also RecursionError; rendering says what is wrong
        return False
    return all(isinstance(part, PLAIN) and _is_small(part) for part in parts)


def _is_small(part: nodes.Node) -> bool:
    if isinstance(part, nodes.For):
        over_turns = isinstance(part.iter, nodes.Name) and part.iter.name == "messages"
        inner = next(part.find_all(nodes.For), None) is not None
        return over_turns and isinstance(part.target, nodes.Name) and not part.recursive and not inner
    if isinstance(part, nodes.Name):
        return part.ctx == "load" or part.name not in ("messages", "loop")
    if isinstance(part, nodes.Filter):
        return part.name == "trim" and not part.args and not part.kwargs
    if isinstance(part, nodes.Call):
        return isinstance(part.node, nodes.Name) and part.node.name == "raise_exception"
    return True


def _render(template: str, turns: list[dict], generation: bool, names: dict[str, Any], day: str | None) -> str:
    with template_date(day) if day else nullcontext():
        text = render_chat_template(template, turns, generation, names)
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("it writes characters that are not text.")
    return text


def _answer(request: dict) -> dict:
    random.seed(0)  # a template may draw, and a prompt must be the same each time
    try:
        text = _render(request["template"], *(request[name] for name in ("turns", "generation", "names", "day")))
    except MemoryError:
        raise
    except OverflowError:  # how the sandbox refuses a long range()
        return {"failed": "time"}
    except Exception as error:  # a template raises what it likes
        return {"error": first_line(error)}
    return {"text": text} if len(text) <= LONGEST else {"failed": "length"}


if __name__ == "__main__":
    import transformers.utils.chat_template_utils  # noqa: F401

    serve(_answer, SECONDS, MEMORY)
