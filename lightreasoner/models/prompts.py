"""A problem's prompt, as text and as token ids; and the ids of a response that is given as text."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from lightreasoner.errors import UserError, first_line
from lightreasoner.grading.thinking import after_thinking, open_block
from lightreasoner.models.chat_templates import TemplateError, render_template
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.prompt_settings import PAPER, PromptSettings

SWITCHES = ("enable_thinking", "thinking")  # names of templates' switches for thinking
PROBE = "How many apples are 2 apples and 3 apples?"  # a question that stands for all where a prompt is described
Context = Sequence[tuple[str, str]]  # (role, text) of the turns before a question
FOLDED = "The chat template drops the system turn, so the system prompt is at the beginning of the user's turn."


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt."""

    text: str
    ids: list[int]
    opening: str  # the beginning of the answer that the prompt holds: an open thinking block, the prefix
    notes: tuple[str, ...]  # what is not as asked, in sentences


def prompt_ids(
    loaded: LoadedModel, question: str, settings: PromptSettings = PAPER, context: Context = ()
) -> list[int]:
    """The ids of a problem's prompt. Raises UserError, see `render`."""
    return render(loaded.tokenizer, str(loaded.ref), question, settings, context).ids


def pair_prompts(
    pair: Any, question: str, settings: PromptSettings = PAPER, context: Context = ()
) -> tuple[list[int], list[int]]:
    """The prompts of a pair's expert and amateur. They are the same unless the amateur lacks control tokens."""
    prompt = prompt_ids(pair.expert, question, settings, context)
    return prompt, prompt if pair.same_special_tokens else prompt_ids(pair.amateur, question, settings, context)


def render(tokenizer: Any, name: str, question: str, settings: PromptSettings = PAPER, context: Context = ()) -> Prompt:
    """The prompt of a problem for a model, up to where its response begins.

    context: (role, text) of the turns before the question; a system turn among them takes the place of the settings'.
    It holds one beginning token where the model was trained with one, and ends in no end token. Raises UserError when
    the question is blank, when a text contains a control token, which could end its turn, and when the template cannot
    render the prompt or drops a part of it.
    """
    question = question.strip()
    if not question:
        raise UserError("The problem is empty; write or choose one.")
    if context and context[0][0] == "system":
        settings, context = replace(settings, system=context[0][1]), context[1:]
    chat = settings.template and tokenizer.chat_template
    parts = {"problem": "\n".join([*(text for _, text in context), question])}
    parts |= {f"example {n}": "\n".join(example) for n, example in enumerate(settings.examples, 1)}
    parts |= {"system prompt": settings.system, "wrapping": settings.wrapping} if chat else {}
    for part, text in parts.items():
        if present := [token for token in control_tokens(tokenizer) if token in text]:
            raise UserError(
                f"The {part} contains {present[0]!r}, a control token of {name} that would break the prompt; remove it."
            )
    if chat:
        text, generation, notes = _chat(tokenizer, name, question, settings, context)
    else:
        text, generation, notes = _plain(settings, question, context), "", ()
        if settings.template and (settings.arguments or settings.thinking is not None):
            raise UserError(f"{name} has no chat template, so it has no thinking to switch and takes no arguments.")
    text += settings.prefix
    ids = _encode(tokenizer, text)
    return Prompt(text, ids, open_block(generation) + settings.prefix, notes)


def settle_date(
    settings: PromptSettings, tokenizers: Iterable[Any], stored: dict[str, Any] | None = None
) -> PromptSettings:
    """The settings with one date for all prompts of a run, if a template names today; else unchanged.

    stored: the settings in the record of the run's first start, whose date a resumed run keeps.
    """
    templates = [str(tokenizer.chat_template) for tokenizer in tokenizers if tokenizer.chat_template]
    if settings.date or not settings.template or not any("strftime_now" in template for template in templates):
        return settings
    return replace(settings, date=(stored or {}).get("date") or date.today().isoformat())


def prompt_marks(models: dict[str, LoadedModel], settings: PromptSettings) -> dict[str, str]:
    """A mark of each model's prompt for run.json, by role, so that a resumed run asks as the first start did."""
    marks = {}
    for role, loaded in models.items():
        prompt = render(loaded.tokenizer, str(loaded.ref), PROBE, settings)
        asked = json.dumps([prompt.text, prompt.ids]).encode()
        marks[f"{role}'s prompt"] = hashlib.sha256(asked).hexdigest()[:32]
    return marks


def describe_prompt(loaded: LoadedModel, settings: PromptSettings) -> dict[str, Any]:
    """What a record keeps of a run's prompt beside its settings: an example, the opening of answers, and notes."""
    prompt = render(loaded.tokenizer, str(loaded.ref), PROBE, settings)
    return {"example": prompt.text, "opening": prompt.opening, "notes": list(prompt.notes)}


def thinking_switch(tokenizer: Any) -> str | None:
    """The argument by which a chat template turns thinking on and off; None for a template without such a switch."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": PROBE}]
    for name in SWITCHES:
        try:
            texts = {render_template(tokenizer, turns, True, {name: on}, PAPER.date) for on in (True, False)}
        except TemplateError:  # `render` reports what is wrong with it
            return None
        if len(texts) > 1:
            return name
    return None


def control_tokens(tokenizer: Any) -> list[str]:
    """The texts of a tokenizer's special tokens."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special and token.content.strip()]


def begins_with(tokenizer: Any) -> int | None:
    """The beginning token that the model was trained with: the one that its tokenizer puts before plain text."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return None
    added = getattr(tokenizer, "add_bos_token", False) or list(tokenizer("a")["input_ids"])[:1] == [bos]
    return bos if added else None


def response_ids(loaded: LoadedModel, text: str) -> list[int]:
    """The expert's ids of a response. A control token in the text is one token, and may end the turn.

    Raises UserError for a text without tokens.
    """
    ids = list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise UserError("The response is empty, so there is nothing to score; write some text.")
    return ids


def _plain(settings: PromptSettings, question: str, context: Context) -> str:
    """The prompt without a chat template: system prompt, solved examples, context and question as paragraphs."""
    parts = [settings.system] if settings.system.strip() else []
    for asked, answer in settings.examples:
        parts.append(_open_ended(settings, asked.strip(), "\n\n", " ") + answer.strip())
    parts += [text for _, text in context]
    return "\n\n".join([*parts, _open_ended(settings, question, "\n\n", "")])


def _open_ended(settings: PromptSettings, question: str, paragraph: str, joint: str) -> str:
    """The user's turn up to its answer. A wrapping that goes on after the question says itself how it ends."""
    turn = settings.user_turn(question)
    return turn + (paragraph if settings.wrapping.rstrip().endswith("{question}") else joint)


def _chat(
    tokenizer: Any, name: str, question: str, settings: PromptSettings, context: Context
) -> tuple[str, str, tuple[str, ...]]:
    """(text, its part that opens the assistant's turn, notes) of the rendered chat template."""
    arguments, notes = _template_arguments(tokenizer, name, settings)

    def apply(turns: list[dict], generation: bool = True) -> str:
        return render_template(tokenizer, turns, generation, arguments, settings.date)

    shots = [(settings.user_turn(asked.strip()), answer.strip()) for asked, answer in settings.examples]
    spoken = [turn for asked, answer in shots for turn in (("user", asked), ("assistant", answer))]
    spoken += [*context, ("user", settings.user_turn(question))]
    turns, system = [{"role": role, "content": text} for role, text in spoken], settings.system.strip()
    text, turns, folded = _with_system(apply, name, system, turns, bool(context))
    notes += [FOLDED] if folded else []
    for role, part in [("system", system), *spoken]:
        if not _holds(text, after_thinking(part) if role == "assistant" else part):  # it may drop earlier thoughts
            raise UserError(
                f"The chat template of {name} leaves out a part of the prompt ({part[:60]!r}), so the model would "
                "never see it; use a prompt without a chat template."
            )
    try:
        before = apply(turns, generation=False)
    except TemplateError as found:
        raise UserError(
            f"The chat template of {name} cannot render a conversation that has ended ({found}), so where its answers "
            "begin is unknown; use a prompt without a chat template."
        ) from found
    return text, text[len(before) :] if text.startswith(before) else "", tuple(notes)


def _template_arguments(tokenizer: Any, name: str, settings: PromptSettings) -> tuple[dict[str, Any], list[str]]:
    """(arguments of the chat template, notes on those that it does not have). Raises UserError."""
    arguments, notes = dict(settings.arguments), []
    if settings.thinking is not None:
        switch = thinking_switch(tokenizer)
        if switch is None:
            raise UserError(f"The chat template of {name} has no switch for thinking; leave it as the template has it.")
        arguments[switch] = settings.thinking
    known = set(re.findall(r"\w+", str(tokenizer.chat_template)))
    if unused := [each for each in settings.arguments if each not in known]:
        notes.append(f"The chat template has no argument {', '.join(unused)}; it changes nothing.")
    return arguments, notes


def _with_system(
    apply: Callable[[list[dict]], str], name: str, system: str, turns: list[dict], conversation: bool
) -> tuple[str, list[dict], bool]:
    """(the rendered turns, the turns, whether the system prompt has no turn of its own but begins the first user's).

    conversation: turns came with the problem. Raises UserError where the template can render neither.
    """
    refusal = None
    if system:
        whole = [{"role": "system", "content": system}, *turns]
        try:
            text = apply(whole)
            if _holds(text, system, [turn["content"] for turn in turns]):
                return text, whole, False
        except TemplateError as error:  # some templates (Gemma's) refuse a system turn
            refusal = error
        first = next(n for n, turn in enumerate(turns) if turn["role"] == "user")
        folded = {"role": "user", "content": f"{system}\n\n{turns[first]['content']}"}
        turns = [*turns[:first], folded, *turns[first + 1 :]]
    try:
        return apply(turns), turns, bool(system)
    except TemplateError as error:
        why = first_line(refusal or error, 200)
        if conversation:
            raise UserError(
                f"The chat template of {name} cannot render this conversation ({why}); leave out the turns that it "
                "does not know."
            ) from error
        raise UserError(
            f"The chat template of {name} cannot render this prompt: {why.rstrip('.')}. Change the prompt, or use "
            "one without a chat template."
        ) from error


def _holds(text: str, part: str, others: Iterable[str] = ()) -> bool:
    """Whether a rendered text contains a part of the prompt besides these others, which may contain it, too."""
    part, found = "".join(part.split()), "".join(text.split())
    beyond = sum("".join(other.split()).count(part) for other in others) if part else 0
    return not part or found.count(part) > beyond


def _encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a prompt: one beginning token where the model has one, and no end token at the end."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    begin, end = begins_with(tokenizer), tokenizer.eos_token_id
    bos = tokenizer.bos_token_id
    if begin is not None and not text.lstrip().startswith(tokenizer.bos_token):  # a template may begin with a new line
        ids = [begin, *ids]
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    while len(ids) > 1 and ids[-1] == end:
        ids = ids[:-1]
    return ids
