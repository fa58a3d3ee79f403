"""Token ids of a problem's chat prompt, and of a response that is given as text."""

from jinja2 import TemplateError

from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel

SYSTEM_PROMPT = "Please reason step by step."  # the paper's


def prompt_ids(loaded: LoadedModel, question: str) -> list[int]:
    """The ids of a problem in the model's chat template, with the paper's system prompt.

    Without a template, the system prompt and the question are plain paragraphs. Raises UserError when the question is
    blank or contains a control token of the model, which could end the turn.
    """
    tokenizer, question = loaded.tokenizer, question.strip()
    present = [token for token in control_tokens(tokenizer) if token in question]
    if present:
        raise UserError(
            f"The problem contains {present[0]!r}, a control token of {loaded.ref} that would break the prompt; "
            "remove it."
        )
    if not question:
        raise UserError("The problem is empty; write or choose one.")
    if not tokenizer.chat_template:
        ids = tokenizer(f"{SYSTEM_PROMPT}\n\n{question}\n\n")["input_ids"]
    else:
        ids = tokenizer(chat_text(tokenizer, question), add_special_tokens=False)["input_ids"]
    return list(ids)


def chat_text(tokenizer, question: str) -> str:
    """The rendered chat template, up to the start of the assistant's turn."""
    system, user = {"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}
    joined = {"role": "user", "content": f"{SYSTEM_PROMPT}\n\n{question}"}
    try:
        return tokenizer.apply_chat_template([system, user], tokenize=False, add_generation_prompt=True)
    except TemplateError:  # some templates (Gemma's) refuse a system turn
        return tokenizer.apply_chat_template([joined], tokenize=False, add_generation_prompt=True)


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
