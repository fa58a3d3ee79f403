"""Standard output that cannot show every character: ASCII, ISO-8859-1, Windows code pages, pipes."""

import codecs
import json
import sys
from typing import Any

#: What stands for our own characters where an encoding lacks them. Any other becomes an escape such as \u4e2d.
PLAIN = {
    **{"α": "alpha", "β": "beta", "π": "pi", "θ": "theta", "′": "'", "‖": "||", "⟦": "[[", "⟧": "]]", "≥": ">="},
    **{"…": "...", "·": "-", "–": "-", "—": "-", "−": "-", "×": "x", "→": "->", "’": "'", "“": '"', "”": '"', "²": "2"},
    **{"≤": "<=", "±": "+-", "é": "e", "ï": "i", "\u202f": " ", "\u2009": " ", "\xa0": " "},
}
HANDLER = "lightreasoner-plain"


def plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler: PLAIN, else an escape, so that no output fails because of a character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    escaped = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in missing)
    return "".join(escaped), error.end


def show_everything() -> None:
    """Let standard output and standard error take any text, whatever their encoding."""
    codecs.register_error(HANDLER, plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's stand-in may lack it
            stream.reconfigure(errors=HANDLER)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON: in an encoding that lacks characters, with JSON's own escapes, so that it reads back."""
    utf = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    print(json.dumps(value, ensure_ascii=not utf, indent=indent))


def read_stdin() -> str:
    """All of standard input: UTF-8 if it is that, else in the terminal's encoding."""
    if not hasattr(sys.stdin, "buffer"):
        return sys.stdin.read()
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode(sys.stdin.encoding or "utf-8", "replace")
