"""The sentence for each way in which a request to the Hugging Face Hub can fail."""

import errno
import json
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
from lightreasoner.hub.redaction import redact_text

AGAIN = "Run the same command again, or press the same button: it resumes."
OFFLINE = "HF_HUB_OFFLINE is set"


class HubUnreachable(UserError):
    """The Hub gave no usable answer. `reason`: why, in a few words."""

    def __init__(self, reason: str):
        super().__init__(f"The Hugging Face Hub cannot be reached ({reason}). Check the connection. {AGAIN}")
        self.reason = reason


def refuse_offline() -> None:
    """Raises UserError where HF_HUB_OFFLINE forbids requests."""
    if constants.is_offline_mode():
        raise UserError(f"{OFFLINE}, so the Hugging Face Hub cannot be reached; unset it to publish or pull.")


@contextmanager
def hub_errors(repo: str, revision: str | None = None, kind: str = "repository") -> Iterator[None]:
    """Turns every known failure of the requests inside into a UserError about `repo`, a repository of this kind.

    Raises HubUnreachable, a UserError, when there is no connection. Other exceptions pass unchanged.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        cause = _cause(error)
        if reason := _lost_connection(cause):
            raise HubUnreachable(reason) from error
        if (message := _message(repo, revision, kind, cause)) is None:
            raise
        raise UserError(message) from error


def _cause(error: BaseException) -> BaseException:
    """The most telling exception of a chain: an HTTP answer or a full disk behind the exceptions that wrap it."""
    while isinstance(error, RuntimeError) and error.__cause__:  # huggingface_hub's wrapper around one file's upload
        error = error.__cause__
    if isinstance(error, ValueError) and "README.md" in str(error):  # it quotes what the answer behind it lacks
        return error
    seen, link = set(), error
    while link is not None and id(link) not in seen:
        if isinstance(link, HfHubHTTPError) or (isinstance(link, OSError) and link.errno == errno.ENOSPC):
            return link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return error


def _lost_connection(error: BaseException) -> str | None:
    """Why there was no answer; None for failures of another kind."""
    if isinstance(error, OfflineModeIsEnabled):
        return OFFLINE
    if isinstance(error, LocalEntryNotFoundError):  # huggingface_hub raises this where no answer was usable
        return "the connection failed"
    family = type(error).__module__.partition(".")[0]
    lost = isinstance(error, ConnectionError | TimeoutError | json.JSONDecodeError) or family.startswith("http")
    return type(error).__name__ if lost and not isinstance(error, HfHubHTTPError) else None


def _message(repo: str, revision: str | None, kind: str, error: BaseException) -> str | None:
    if isinstance(error, GatedRepoError):  # before RepositoryNotFoundError, its base class
        return (
            f"{repo} is gated: its authors give access on its page, {constants.ENDPOINT}/{repo}. "
            "Accept the terms there and use a token of the same account (HF_TOKEN)."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision or 'main'!r}; name one of its branches, tags or commits."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hugging Face Hub knows no {kind} {repo}, or it is private and this token has no access to it; "
            "check the spelling and the token (HF_TOKEN)."
        )
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _status_message(repo, error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full; free some space, then try again."
    if isinstance(error, FileNotFoundError):
        return f"{redact_text(str(error.filename))} is gone: the run was changed or deleted while it was read."
    if isinstance(error, PermissionError):
        inside = str(error.filename).startswith(constants.HF_HUB_CACHE)
        advice = "set HF_HOME to a folder that can" if inside else "check its permissions"
        return f"{redact_text(str(error.filename))} cannot be read or written; {advice}."
    if isinstance(error, RuntimeError) and ("uploading" in str(error).lower() or _is_xet(error)):
        return f"The Hugging Face Hub did not accept a file. {AGAIN}"
    if isinstance(error, OSError) and error.strerror:
        return f"A file could not be read or written ({redact_text(error.strerror)}); check the disk, then try again."
    if isinstance(error, ValueError) and "README.md" in str(error):
        quoted = " ".join(str(error).split())[:200]
        return f"The Hub refuses the card's first lines ({redact_text(quoted)}); check the licence."
    return None


def _is_xet(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "hf_xet" or "xet" in str(error).lower()


def _status_message(repo: str, error: HfHubHTTPError) -> str:
    code = error.response.status_code
    text = "".join(c for c in str(error.server_message or "") if c.isprintable())[:160]
    answer = f"{code}: {redact_text(text)}" if text else str(code)
    if code == 401:
        return (
            "The Hub does not know this access token (401): it was mistyped, has expired or was revoked. "
            "Log in again with `hf auth login`, or set HF_TOKEN."
        )
    if code == 402:
        return "The Hub asks for a paid plan for this (402); choose other hardware or upgrade the account."
    if code == 403:
        owner = repo.partition("/")[0]
        return f"The Hub does not let this token do that with {repo} ({answer}); use one with write access to {owner}."
    if code == 409:
        return f"{repo} was created or changed by another request at the same moment; try again."
    if code == 429:
        wait = error.response.headers.get("Retry-After", "")
        when = f" in {int(wait):,} seconds" if wait.isdigit() else " later"
        return f"There were too many requests to the Hub (429), beyond its rate limit. Try again{when}. {AGAIN}"
    if code in (413, 507):
        return f"The Hub has no room for this ({answer}); check the account's storage on its page."
    if code >= 500:
        return f"The Hugging Face Hub has a problem (it answered {code}). {AGAIN}"
    return f"The Hugging Face Hub refused this for {repo} (it answered {answer})."
