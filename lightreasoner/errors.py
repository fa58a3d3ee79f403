"""The errors that users read, and the log entry for those that they should not."""

import logging
import secrets

log = logging.getLogger(__name__)


class UserError(Exception):
    """A request that cannot work. Its message is shown to the user; any other exception is a bug and gets logged.

    The message is one sentence or two short ones: what was seen, why it cannot work, what to do.
    """


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of an exception's text, up to `most` characters; the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def log_unexpected(where: str) -> str:
    """Log the exception being handled, a bug, with its traceback. Returns the sentence to show instead."""
    code = secrets.token_hex(3)
    log.exception("error %s in %s", code, where)
    return f"An unexpected error occurred. The server's log describes it under {code}."
