"""The one family of errors that a person is meant to read."""

from __future__ import annotations

import logging
import secrets

log = logging.getLogger(__name__)


class UserError(Exception):
    """Something a person asked for that cannot work.

    The message is one sentence (or two short ones): what was seen, why it cannot work, what to do.
    Anything that is not a UserError is a bug and is logged with its traceback.
    """


def log_unexpected(where: str) -> str:
    """Log the exception being handled, a bug, with its traceback; the sentence to show instead of it."""
    code = secrets.token_hex(3)
    log.exception("error %s in %s", code, where)
    return f"Something broke on our side. The server's log explains it under {code}."
