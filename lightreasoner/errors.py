"""The errors that users read, and the log entry for those that they should not."""

import errno
import logging
import os
import re
import secrets
import sys

log = logging.getLogger(__name__)


class UserError(Exception):
    """A request that cannot work. Its message is shown to the user; any other exception is a bug and gets logged.

    The message is one sentence or two short ones: what was seen, why it cannot work, what to do.
    """


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of an exception's text, up to `most` characters; the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: How libraries that keep no errno say it: SQLite, safetensors and tokenizers (Rust), torch, pyarrow.
SAYS_FULL = re.compile(
    r"No space left|disk is full|quota exceeded|os error (?:28|122)\b|errno 28\b|not enough space|iostream error|"
    r"PytorchStreamWriter failed writing|inline_container.*unexpected pos",
    re.IGNORECASE,
)


def disk_full(error: BaseException | None) -> str | None:
    """Why a disk takes no more, such as "No space left on device", if that is behind an exception; else None."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = getattr(error, "errno", None)
        if isinstance(error, OSError) and number in FULL:
            return os.strerror(number)
        if isinstance(error, Exception) and not isinstance(error, UserError) and SAYS_FULL.search(str(error)):
            return os.strerror(errno.ENOSPC)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def log_unexpected(where: str) -> str:
    """Log the exception being handled, a bug, with its traceback. Returns the sentence to show instead.

    A full disk is no bug and has a sentence of its own.
    """
    if full := disk_full(sys.exception()):
        log.error("the disk is full: %s", where)
        return f"This could not be written: {full}. Free some space and try again."
    code = secrets.token_hex(3)
    log.exception("error %s in %s", code, where)
    return f"An unexpected error occurred. The server's log describes it under {code}."
