"""The access token of a push or pull: the user's own in a terminal, and the one given at the start in a job.

A server may be logged in to the Hub itself, for gated models. Visitors' jobs never use that login: their environment
hides it, and their token exists only in the server's memory until the process starts.
"""

import os
import re

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings

VERBS = ("push", "pull")
VARIABLE = "HF_TOKEN"
_TOKEN = re.compile(r"[\x21-\x7e]{8,4000}")  # whatever fits into a header; OAuth tokens are long


def checked_token(token: object) -> str | None:
    """The token in a form field or variable, or None if it is empty. Raises UserError, which never quotes it."""
    text = token.strip() if isinstance(token, str) else token
    if text in (None, ""):
        return None
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise UserError("That is no access token: a token is one word of letters, digits and signs. Copy it again.")
    return text


def job_environment(verb: str, token: str | None) -> dict[str, str]:
    """The environment variables that give a job this token and no other. Empty for commands without a token."""
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
    """The token of this process: the job's, else HF_TOKEN or that of `hf auth login`. None if there is none."""
    if settings.job:
        return checked_token(os.environ.get(VARIABLE))
    from huggingface_hub import get_token

    return checked_token(get_token())


def needed_token(settings: Settings) -> str:
    """As token_of. Raises UserError if there is none."""
    if token := token_of(settings):
        return token
    if settings.job:
        raise UserError(
            "This job has no access token, because tokens are never stored. Start it again from its form; files that "
            "are already on the Hub are not sent again."
        )
    raise UserError(
        "No access token was found; create one with write access on https://huggingface.co/settings/tokens, then run "
        "`hf auth login` or set HF_TOKEN."
    )
