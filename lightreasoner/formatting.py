"""Values and untrusted text formatted for people."""

import time
import unicodedata
from typing import Any


def printable(text: str) -> str:
    """The text with control characters escaped, so that model output cannot control the terminal."""
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)


def plural(count: int, noun: str) -> str:
    """1 problem, 1,204 problems."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """14 %, 14.1 %."""
    return f"{100 * share:.{digits}f} %"


def format_duration(seconds: float) -> str:
    """40 seconds, 7 minutes, 3.5 hours, 4.2 days."""
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'' if round(seconds) <= 1 else 's'}"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def in_points(low: float, high: float) -> str:
    """Two shares from −1 to 1 in percentage points: +1.5 to +3.0."""
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def format_time(seconds: float) -> str:
    """A time for a label: 22 Nov, 14:05, in the server's time zone."""
    return time.strftime("%d %b, %H:%M", time.localtime(seconds)).lstrip("0")


def format_bytes(size: float) -> str:
    """812 kB, 3.4 MB, 120 MB, 1.2 GB."""
    if size < 1e6:
        return f"{max(1, round(size / 1e3))} kB" if size < 999_500 else "1.0 MB"
    if size < 1e9:
        return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{min(999, round(size / 1e6))} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


def markdown_table(values: dict[str, Any]) -> list[str]:
    """A Markdown table of names and values without those that are None."""
    rows = [(name.replace("_", " "), format_value(value)) for name, value in values.items() if value is not None]
    return ["| | |", "|---|---|", *(f"| {markdown_cell(name)} | {markdown_cell(value)} |" for name, value in rows)]


def format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown_cell(text: str) -> str:
    """The text escaped for a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def csv_cell(text: str) -> str:
    """A text for a cell of a CSV file: one that a spreadsheet would run as a formula starts with a quote."""
    return ("'" if text.lstrip()[:1] in tuple("=+-@") and text.strip() else "") + text
