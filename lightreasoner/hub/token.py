"""Whose token a push or a pull uses. In a terminal it is the person's own; in a job it is the one that came with it.

A server may be logged in itself, for gated models. What visitors publish or fetch never falls back to that: a job of
these verbs gets an environment in which the server's own login is not to be found, and its token is kept nowhere but in
this server's memory until the process starts.
"""

from __future__ import annotations

import os
import re

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings

VERBS = ("push", "pull")
VARIABLE = "HF_TOKEN"
_TOKEN = re.compile(r"[\x21-\x7e]{8,4000}")  # what fits into a header; OAuth tokens are long


def checked_token(token: object) -> str | None:
    """A token as somebody typed it, or None where nothing was. Raises UserError, which never quotes it."""
    text = token.strip() if isinstance(token, str) else token
    if text in (None, ""):
        return None
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise UserError("That is no access token: it must be one word of letters, digits and signs. Copy it again.")
    return text


def job_environment(verb: str, token: str | None) -> dict[str, str]:
    """The variables by which a job of this verb has this token and no other. Empty for verbs that need none."""
    if verb not in VERBS:
        return {}
    return {
        VARIABLE: token or "",
        "HUGGING_FACE_HUB_TOKEN": "",
        "HF_OIDC_RESOURCE": "",
        "HF_TOKEN_PATH": os.devnull,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


def token_of(settings: Settings) -> str | None:
    """The token of this process: what it was handed in a job, else HF_TOKEN or what `hf auth login` has left."""
    if settings.job:
        return checked_token(os.environ.get(VARIABLE))
    from huggingface_hub import get_token

    return checked_token(get_token())


def needed_token(settings: Settings) -> str:
    """The same where nothing goes without one. Raises UserError."""
    if token := token_of(settings):
        return token
    if settings.job:
        raise UserError(
            "This job has no access token: one is given when a push is started, and never stored. Start it again from "
            "its form; what is on the Hub already is not sent again."
        )
    raise UserError(
        "No access token was found; make one that may write on https://huggingface.co/settings/tokens, then run "
        "`hf auth login` or set HF_TOKEN."
    )
