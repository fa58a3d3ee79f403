"""The name that a user gives a run: a file in its folder, beside the record, which the run's own process writes."""

import unicodedata
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import write_text

FILE, LONGEST = "name.txt", 80  # characters


def given_name(folder: Path) -> str | None:
    """The name that the user gave a run; None where the page names it."""
    try:
        text = (Path(folder) / FILE).read_text(encoding="utf-8")[: LONGEST + 1]
    except (OSError, ValueError):
        return None
    return " ".join(text.split())[:LONGEST] or None


def give_name(folder: Path, name: object) -> None:
    """Name a run; an empty name removes the user's. Raises UserError for what is no name."""
    text = checked_name(name)
    path = Path(folder) / FILE
    if text:
        write_text(path, text + "\n")
    else:
        path.unlink(missing_ok=True)


def checked_name(name: object) -> str:
    """The name on one line, without spaces around it. Raises UserError."""
    text = " ".join(name.split()) if isinstance(name, str) else None
    if text is None or len(text) > LONGEST:
        raise UserError(f"The name has {len(text or ''):,} characters; give it 1 to {LONGEST}, or none.")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") and c != "\u200d" for c in text):
        raise UserError("The name holds characters that cannot be seen; type it anew.")
    return text
