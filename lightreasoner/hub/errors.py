"""What the Hub's refusals mean to a person who publishes or fetches: one sentence each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lightreasoner.errors import UserError
from lightreasoner.hub.redaction import clean_text

AGAIN = "Run the same command again, or press the same button: it goes on where it stopped."


def refuse_offline() -> None:
    """Raises UserError where nobody may ask the Hub."""
    if constants.is_offline_mode():
        raise UserError(
            "HF_HUB_OFFLINE is set, so the Hugging Face Hub cannot be reached; unset it to publish or pull."
        )


@contextmanager
def speaking(repo: str) -> Iterator[None]:
    """Around requests about `repo`: every way in which they can fail becomes a UserError."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OfflineModeIsEnabled:
        refuse_offline()
        raise
    except Exception as error:
        root = _root(error)
        if (told := _sentence(repo, root)) is None:
            raise
        raise UserError(told) from error


def _root(error: BaseException) -> BaseException:
    """The exception that says most: an HTTP answer or an error of the system, behind what wraps it."""
    while isinstance(error, RuntimeError) and error.__cause__:  # huggingface_hub's wrapper around one file's upload
        error = error.__cause__
    seen, found = set(), error
    if isinstance(error, ValueError) and "README.md" in str(error):  # it says what the answer behind it does not
        return error
    while found is not None and id(found) not in seen:
        if isinstance(found, HfHubHTTPError) or (isinstance(found, OSError) and found.errno == errno.ENOSPC):
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return error


def _sentence(repo: str, error: BaseException) -> str | None:
    if isinstance(error, GatedRepoError):
        return f"{repo} is gated: accept its terms on its page first, and use a token of the same account."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no such revision; name a branch, tag or commit that it has."
    if isinstance(error, RepositoryNotFoundError):
        return f"The Hugging Face Hub knows no {repo}, or it is private and this token may not see it; check both."
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _answered(repo, error)
    if isinstance(error, LocalEntryNotFoundError):  # how huggingface_hub says that nobody answered as it should
        return f"The connection to the Hugging Face Hub failed while {repo} was fetched. {AGAIN}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full; free some space, then do the same again."
    if isinstance(error, FileNotFoundError):
        return f"{clean_text(str(error.filename))} is gone: the run was changed or deleted while it was read."
    if isinstance(error, PermissionError):
        return f"{clean_text(str(error.filename))} cannot be read or written; check its permissions."
    family = type(error).__module__.partition(".")[0]
    if isinstance(error, ConnectionError | TimeoutError) or family in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return f"The connection to the Hugging Face Hub failed ({type(error).__name__}). {AGAIN}"
    if isinstance(error, RuntimeError) and (_sending(error) or family == "hf_xet"):
        return f"The Hugging Face Hub did not take a file. {AGAIN}"
    if isinstance(error, OSError) and error.strerror:
        return f"A file could not be read or written ({clean_text(error.strerror)}); look at the disk, then try again."
    if isinstance(error, ValueError) and "README.md" in str(error):
        said = " ".join(str(error).split())[:200]
        return f"The Hub refuses the card's first lines ({clean_text(said)}); check the licence."
    return None


def _sending(error: BaseException) -> bool:
    return "uploading" in str(error).lower() or "xet" in str(error).lower()


def _answered(repo: str, error: HfHubHTTPError) -> str:
    response = error.response
    code, said = response.status_code, _shown(error.server_message)
    if code == 401:
        return "The Hub does not know this access token; it was mistyped, or it has expired or been revoked."
    if code == 403:
        return f"The Hub does not let this token do that with {repo} (403{said}); it needs the right to write there."
    if code == 409:
        return f"{repo} was made or changed by somebody else at this very moment; do the same again."
    if code == 429:
        wait = response.headers.get("Retry-After", "")
        when = f" in {int(wait):,} seconds" if wait.isdigit() else " later"
        return f"The Hub says that there were too many requests (429): its rate limit. Try again{when}. {AGAIN}"
    if code in (413, 507):
        return f"The Hub has no room for this ({code}{said}); look at the account's storage on its page."
    if code >= 500:
        return f"The Hugging Face Hub has trouble of its own (it answered {code}). {AGAIN}"
    return f"The Hugging Face Hub refused this for {repo} (it answered {code}{said})."


def _shown(message: object) -> str:
    text = "".join(c for c in str(message or "") if c.isprintable())[:160]
    return f": {clean_text(text)}" if text else ""
