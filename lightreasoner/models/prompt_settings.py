"""The user's settings of a prompt: system prompt, wrapping, template arguments, thinking, prefix, examples, date."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from typing import Any

from lightreasoner.errors import UserError

SYSTEM_PROMPT = "Please reason step by step."  # the paper's
QUESTION = "{question}"  # stands for the question in a wrapping
MAX_CHARS = 20_000  # of each text
MAX_EXAMPLES = 64
#: Names that belong to transformers or to this software, and cannot be arguments of a template.
RESERVED = {
    *("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message"),
    *("padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
    *("tokenizer_kwargs", "strftime_now", "raise_exception", "self"),
}


@dataclass(frozen=True)
class PromptSettings:
    """How a question becomes a prompt. The default is the paper's sampling prompt."""

    system: str = SYSTEM_PROMPT  # empty: no system turn
    wrapping: str = QUESTION  # the user's turn; holds {question}
    template: bool = True  # False: no chat template, the text is continued as it stands
    thinking: bool | None = None  # for templates with such a switch; None: as the template has it
    prefix: str = ""  # the beginning of the assistant's turn
    arguments: dict[str, Any] = field(default_factory=dict)  # of the chat template
    examples: tuple[tuple[str, str], ...] = ()  # (question, response) of solved problems before the question
    date: str | None = None  # YYYY-MM-DD, for templates that name today; None: the day on which a run starts

    def as_json(self) -> dict[str, Any]:
        """The settings that differ from the default, for a record."""
        default = PromptSettings()
        changed = {name: value for name, value in asdict(self).items() if value != getattr(default, name)}
        return json.loads(json.dumps(changed))

    def user_turn(self, question: str) -> str:
        """The text of the user's turn."""
        return self.wrapping.replace(QUESTION, question)


PAPER = PromptSettings()
#: Prompts by name: the paper's, that of Qwen2.5-Math's evaluation ("qwen25-math-cot"), and those of base models.
PRESETS = {
    "paper": PAPER,
    "boxed": PromptSettings(system="Please reason step by step, and put your final answer within \\boxed{}."),
    "plain": PromptSettings(system="", template=False),
    "few-shot": PromptSettings(system="", wrapping="Question: {question}\nAnswer:", template=False),
}
TITLES = {
    "paper": "The paper's sampling prompt",
    "boxed": "Boxed answer (Qwen2.5-Math's evaluation)",
    "plain": "Plain continuation, no chat template",
    "few-shot": "Few-shot, no chat template",
}


def preset_of(settings: PromptSettings) -> str | None:
    """The name of the preset that these settings are, examples and date aside."""
    bare = replace(settings, examples=(), date=None)
    return next((name for name, preset in PRESETS.items() if preset == bare), None)


def prompt_of(value: Any) -> PromptSettings:
    """The settings of a record's value or a user's: an object with some of the fields; those that it lacks are the
    paper's. Raises UserError."""
    if value is None:
        return PAPER
    if not isinstance(value, dict):
        raise UserError("The prompt's settings are not an object with names and values; choose a preset, or write one.")
    known = {spec.name for spec in fields(PromptSettings)}
    if unknown := sorted(map(str, value.keys() - known)):
        raise UserError(f"The prompt has no setting {unknown[0]!r:.40}; it has {', '.join(sorted(known))}.")
    if isinstance(value.get("examples"), list | tuple):
        shots = value["examples"]
        if not all(isinstance(shot, list | tuple) and len(shot) == 2 for shot in shots):
            raise UserError("An example of the prompt is not a question with its response; give pairs of texts.")
        value = value | {"examples": tuple(map(tuple, shots))}
    return check_prompt(replace(PAPER, **value))


def check_prompt(settings: PromptSettings) -> PromptSettings:
    """The settings, if they can be used with any model. Raises UserError."""
    texts = {"system prompt": settings.system, "wrapping": settings.wrapping, "assistant's prefix": settings.prefix}
    for n, example in enumerate(settings.examples, 1):
        texts |= {f"question of example {n}": example[0], f"response of example {n}": example[1]}
    for name, text in texts.items():
        if not isinstance(text, str) or any("\ud800" <= c <= "\udfff" for c in text):
            raise UserError(f"The {name} is not text; write it again.")
        if len(text) > MAX_CHARS:
            raise UserError(f"The {name} has {len(text):,} characters; the limit is {MAX_CHARS:,}. Shorten it.")
    if QUESTION not in settings.wrapping:
        raise UserError(f"The wrapping lacks {QUESTION}, so the model would never see the problem; add it.")
    if len(settings.examples) > MAX_EXAMPLES:
        raise UserError(f"The prompt has {len(settings.examples)} examples; the limit is {MAX_EXAMPLES}. Give fewer.")
    if settings.thinking not in (None, True, False) or settings.template not in (True, False):
        raise UserError("Thinking and the chat template are on or off; choose one of the two.")
    if not isinstance(settings.arguments, dict) or not all(isinstance(name, str) for name in settings.arguments):
        raise UserError('The template\'s arguments are no JSON object; write them as {"name": value}.')
    if taken := sorted(RESERVED & settings.arguments.keys()):
        raise UserError(f"{taken[0]} is set by this software and cannot be an argument of the template; remove it.")
    try:
        json.dumps(settings.arguments, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise UserError("The template's arguments are no JSON values; use texts, numbers, lists and objects.") from None
    try:
        if settings.date is not None:
            date.fromisoformat(settings.date)
    except (TypeError, ValueError):
        raise UserError(f"{str(settings.date)[:40]!r} is no date; write it as 2025-07-31.") from None
    if not settings.template and (settings.arguments or settings.thinking is not None):
        raise UserError(
            "Template arguments and thinking need the chat template, and this prompt has none; leave them out."
        )
    return settings
