"""What may leave this machine: texts and records without its paths and without anybody's secrets."""

from __future__ import annotations

import re
from typing import Any

#: An access token of the Hub, wherever one might have slipped in.
SECRET = re.compile(r"\b(hf_|api_org_)[A-Za-z0-9_\-.]{12,}")
#: An absolute path inside a text: no URL's, no Hub id's, no relative one's.
_PATH = re.compile(r"""(?<![\w./:~])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s"'<>|,;:()\[\]{}]+""")
_WHOLE = re.compile(r"(?:file://)?(?:~?/|~[\w-]+/|[A-Za-z]:[\\/]|\\\\)")


def cleaned(value: Any) -> Any:
    """A copy of a JSON value in which every absolute path has only its last part left, as ./NAME, and no token is."""
    if isinstance(value, dict):
        return {clean_text(str(name)): cleaned(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return clean_text(value) if isinstance(value, str) else value


def clean_text(text: str) -> str:
    """A text without absolute paths and tokens. A path that is all of it, or one side of a `::`, may hold blanks."""
    text = SECRET.sub(lambda found: found[1] + "…", text)
    if "\n" not in text:
        base, mark, adapter = text.partition("::")
        text = (
            (_last(base) if _WHOLE.match(base) else base)
            + mark
            + (_last(adapter) if _WHOLE.match(adapter) else adapter)
        )
    return _PATH.sub(lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return f"./{name}" if name and name != "~" else "."
