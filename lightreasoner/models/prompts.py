"""Token ids of a problem's chat prompt, and of a response that is given as text."""

from collections.abc import Sequence

from jinja2 import TemplateError

from lightreasoner.errors import UserError, first_line
from lightreasoner.models.loading import LoadedModel

SYSTEM_PROMPT = "Please reason step by step."  # the paper's


def prompt_ids(loaded: LoadedModel, question: str, context: Sequence[tuple[str, str]] = ()) -> list[int]:
    """The ids of a problem in the model's chat template, with the paper's system prompt.

    context: (role, text) of the turns before the question; a system turn among them takes the place of the paper's.
    Without a template, the turns are plain paragraphs. Raises UserError when the question is blank, when a turn
    contains a control token of the model, which could end it, and when the template cannot render the turns.
    """
    tokenizer, question = loaded.tokenizer, question.strip()
    present = [
        token for token in control_tokens(tokenizer) if any(token in text for text in (question, *texts(context)))
    ]
    if present:
        raise UserError(
            f"The problem contains {present[0]!r}, a control token of {loaded.ref} that would break the prompt; "
            "remove it."
        )
    if not question:
        raise UserError("The problem is empty; write or choose one.")
    if not tokenizer.chat_template:
        paragraphs = [*([] if has_system(context) else [SYSTEM_PROMPT]), *texts(context), question]
        ids = tokenizer("\n\n".join(paragraphs) + "\n\n")["input_ids"]
    else:
        try:
            text = chat_text(tokenizer, question, context)
        except TemplateError as error:
            raise UserError(
                f"The chat template of {loaded.ref} cannot render this conversation ({first_line(error)}); leave out "
                "the turns that it does not know."
            ) from None
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(ids)


def texts(context: Sequence[tuple[str, str]]) -> list[str]:
    return [text for _, text in context]


def has_system(context: Sequence[tuple[str, str]]) -> bool:
    return bool(context) and context[0][0] == "system"


def chat_text(tokenizer, question: str, context: Sequence[tuple[str, str]] = ()) -> str:
    """The rendered chat template, up to the start of the assistant's turn. Raises TemplateError."""
    system = context[0][1] if has_system(context) else SYSTEM_PROMPT
    spoken = [*(context[1:] if has_system(context) else context), ("user", question)]
    turns = [{"role": role, "content": text} for role, text in spoken]
    try:
        first = {"role": "system", "content": system}
        return tokenizer.apply_chat_template([first, *turns], tokenize=False, add_generation_prompt=True)
    except TemplateError:  # some templates (Gemma's) refuse a system turn
        asked = next(n for n, turn in enumerate(turns) if turn["role"] == "user")
        turns[asked] = {"role": "user", "content": f"{system}\n\n{turns[asked]['content']}"}
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def control_tokens(tokenizer) -> list[str]:
    """The texts of a tokenizer's special tokens."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special and token.content.strip()]


def response_ids(loaded: LoadedModel, text: str) -> list[int]:
    """The expert's ids of a response. A control token in the text is one token, and may end the turn.

    Raises UserError for a text without tokens.
    """
    ids = list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise UserError("The response is empty, so there is nothing to score; write some text.")
    return ids
