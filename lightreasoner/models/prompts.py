"""From text to ids: the chat prompt of a problem, and the ids of a response that is given as text."""

from __future__ import annotations

from jinja2 import TemplateError

from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel

SYSTEM_PROMPT = "Please reason step by step."  # the paper's


def prompt_ids(loaded: LoadedModel, question: str) -> list[int]:
    """The problem in the model's chat template, with the paper's system prompt.

    A model without a template gets the system prompt and the question as plain paragraphs. Raises UserError when the
    question is blank or holds one of the model's control tokens: those would be read as the end of the turn.
    """
    tokenizer, question = loaded.tokenizer, question.strip()
    present = [token for token in control_tokens(tokenizer) if token in question]
    if present:
        raise UserError(
            f"The problem contains {present[0]!r}, a control token of {loaded.ref} that would break the prompt; "
            "remove it."
        )
    if not question:
        raise UserError("The problem is empty, so there is nothing to read; write or pick one.")
    if not tokenizer.chat_template:
        ids = tokenizer(f"{SYSTEM_PROMPT}\n\n{question}\n\n")["input_ids"]
    else:
        ids = tokenizer(chat_text(tokenizer, question), add_special_tokens=False)["input_ids"]
    return list(ids)


def chat_text(tokenizer, question: str) -> str:
    """The rendered chat template, up to where the assistant begins."""
    system, user = {"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}
    joined = {"role": "user", "content": f"{SYSTEM_PROMPT}\n\n{question}"}
    try:
        return tokenizer.apply_chat_template([system, user], tokenize=False, add_generation_prompt=True)
    except TemplateError:  # some templates (Gemma's) refuse a system turn
        return tokenizer.apply_chat_template([joined], tokenize=False, add_generation_prompt=True)


def control_tokens(tokenizer) -> list[str]:
    """The tokens that mean something to the model rather than to a reader."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special and token.content.strip()]


def response_ids(loaded: LoadedModel, text: str) -> list[int]:
    """The expert's ids of a response that is given as text. Control tokens are read as such: one may end the turn.

    Raises UserError when nothing is left to score.
    """
    ids = list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise UserError("The response has no tokens, so there is nothing to score; write some text.")
    return ids
