"""Text for a terminal that somebody else wrote."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Control characters (a model may write any) spelled out, so that nothing can drive the terminal."""
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)
