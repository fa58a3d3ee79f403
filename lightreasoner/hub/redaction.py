"""Removes local paths and access tokens from texts and records before they leave this machine."""

import re
from typing import Any

#: An access token of the Hub, anywhere in a text.
TOKEN = re.compile(r"\b(hf_|api_org_)[A-Za-z0-9_\-.]{12,}")
#: An absolute path inside a text; not part of a URL, a Hub id or a relative path.
_PATH = re.compile(r"""(?<![\w./:~])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s"'<>|,;:()\[\]{}]+""")
_WHOLE = re.compile(r"(?:file://)?(?:~?/|~[\w-]+/|[A-Za-z]:[\\/]|\\\\)")


def redact(value: Any) -> Any:
    """A copy of a JSON value without access tokens, and with ./NAME in place of each absolute path to NAME."""
    if isinstance(value, dict):
        return {redact_text(str(name)): redact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """As `redact`. A path that is the whole text, or one side of a `::`, may contain spaces."""
    text = TOKEN.sub(r"\1…", text)
    if "\n" not in text:
        sides = text.split("::", 1)
        text = "::".join(_name_only(side) if _WHOLE.match(side) else side for side in sides)
    return _PATH.sub(lambda match: _name_only(match[0]), text)


def _name_only(path: str) -> str:
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return f"./{name}" if name and name != "~" else "."
