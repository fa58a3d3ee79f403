"""Model references: the texts that name a model, such as a Hub id or a folder, and how they are parsed."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from huggingface_hub.utils import HFValidationError, validate_repo_id

from lightreasoner.errors import UserError

BUNDLED = ("lightreasoner-expert-4m", "lightreasoner-amateur-1m")
FORMS = (
    f"give a bundled model ({' or '.join(BUNDLED)}), a Hub id (org/name or org/name@revision), "
    "a folder (/path/to/folder or ./folder) or a GGUF file (/path/to/model.gguf); ::ADAPTER may follow any of them"
)
MAX_CHARS = 500

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HUB = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{0,127}))?")


@dataclass(frozen=True)
class ModelRef:
    """A parsed reference, with absolute paths. `text` is its canonical form, which parses to the same reference."""

    text: str
    kind: Literal["bundled", "hub", "folder", "gguf"]
    base: str
    revision: str | None = None
    adapter: str | None = None  # an absolute folder, or org/name[@revision]

    def __str__(self) -> str:
        return self.text


def parse_ref(text: str | ModelRef) -> ModelRef:
    """Parse a reference. Looks up nothing except whether a relative path exists. Raises UserError.

    `org/name` is always a Hub id, even if there is such a folder; write the folder as `./org/name`.
    """
    if isinstance(text, ModelRef):
        return text
    if not isinstance(text, str):
        raise UserError(f"The model's name is {text!r:.40}, which is not text; {FORMS}.")
    text = text.strip()
    if not text:
        raise UserError(f"No model was named; {FORMS}.")
    if len(text) > MAX_CHARS:
        raise UserError(f"The model's name has {len(text):,} characters, more than {MAX_CHARS}; {FORMS}.")
    if not text.isprintable():
        raise UserError(f"The model's name {_short(text)} contains control or invisible characters; type it again.")
    base, mark, adapter = text.partition("::")
    kind, base, revision = _place(base)
    canonical = f"{base}@{revision}" if revision else base
    if not mark:
        return ModelRef(canonical, kind, base, revision)
    adapter_kind, adapter, adapter_revision = _place(adapter)
    if adapter_kind not in ("hub", "folder"):
        raise UserError(f"{_short(text)} names no adapter; write a folder or a Hub id after the '::'.")
    adapter = f"{adapter}@{adapter_revision}" if adapter_revision else adapter
    return ModelRef(f"{canonical}::{adapter}", kind, base, revision, adapter)


def _place(text: str) -> tuple[str, str, str | None]:
    """(kind, base, revision) of one side of the `::`."""
    if text in BUNDLED:
        return "bundled", text, None
    if text and not _SCHEME.match(text) and "::" not in text:
        path = os.path.abspath(os.path.expanduser(text))
        if text.lower().endswith(".gguf"):
            return "gguf", path, None
        if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
            return "folder", path, None
        if (found := _HUB.fullmatch(text)) and _is_hub_id(*found.groups()):
            return "hub", *found.groups()
        if os.path.exists(text):
            return "folder", path, None
    raise UserError(f"{_short(text)} names no model that can be loaded; {FORMS}.")


def _is_hub_id(repo: str, revision: str | None) -> bool:
    """Whether the Hub allows this id. A revision becomes a path in the cache, so it must not contain '..'."""
    try:
        validate_repo_id(repo)
    except HFValidationError:
        return False
    return not (revision and (".." in revision or "//" in revision or revision.endswith("/")))


def _short(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:77]!r}…"
