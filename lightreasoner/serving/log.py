"""The server's log: one short line for each request that is refused."""

import sys

LONGEST = 300  # characters of a line


def log_line(text: str) -> None:
    """Write one line to the log, without the control characters that a request could hold."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:LONGEST])
    print(line if len(text) <= LONGEST else line + "…", file=sys.stderr, flush=True)
