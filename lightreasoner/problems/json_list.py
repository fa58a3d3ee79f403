"""Reads the items of a file that is one list in JSON, one after another, so that any of them is read alone."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from lightreasoner.problems.text_encoding import MAX_LINE, encoding_of, open_text, size_of

CHUNK = 1 << 20  # characters that are read at a time
_BLANK = re.compile(r"[ \t\n\r]*")


def once(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON. Raises KeyError where a name has two values, of which Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        if any(value != found[name] for own, value in pairs if own == name):
            raise KeyError(name)
    return found


class _Reader:
    """A text that is read in chunks. `at` is the byte of the file where `text[pos:]` begins."""

    def __init__(self, file: TextIO, at: int, size: Callable[[str], int]):
        self._file, self._size, self.text, self.pos, self.at = file, size, "", 0, at

    def more(self) -> bool:
        read = self._file.read(max(CHUNK, len(self.text) - self.pos))
        self.text, self.pos = self.text[self.pos :] + read, 0
        return bool(read)

    def move(self, end: int) -> None:
        self.at, self.pos = self.at + self._size(self.text[self.pos : end]), end

    def sign(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            self.move(_BLANK.match(self.text, self.pos).end())
            if self.pos < len(self.text) or not self.more():
                return self.text[self.pos : self.pos + 1]

    def value(self) -> object:
        """The value that begins here. Raises ValueError, KeyError, RecursionError."""
        while True:
            try:
                value, end = _decode(self.text, self.pos)
            except json.JSONDecodeError:
                end = len(self.text)
            if self.text[end : end + 1] in (*" \t\n\r,]",):  # 12. may become 12.5
                self.move(end)
                return value
            if len(self.text) - self.pos > MAX_LINE or not self.more():
                raise ValueError("no JSON, or too long")


_decode = json.JSONDecoder(object_pairs_hook=once).raw_decode


def list_items(path: Path, start: int = 0) -> Iterator[tuple[int, object]]:
    """(the byte where it begins, its value) of each item of a list; from the item at the byte `start` on, if not 0.

    Raises ValueError, KeyError or RecursionError where the file is no such list, or an item is very long.
    """
    encoding, mark = encoding_of(path)
    with open_text(path, start, "\n") as file:
        reader = _Reader(file, start or mark, size_of(encoding))
        if not start:
            if reader.sign() != "[":
                raise ValueError("no list")
            reader.move(reader.pos + 1)
        sign = reader.sign()
        while sign != "]" or reader.at == start:
            at = reader.at
            yield at, reader.value()
            sign = reader.sign()
            if sign == ",":
                reader.move(reader.pos + 1)
                if reader.sign() == "]":
                    raise ValueError("a comma too many")
            elif sign != "]":
                raise ValueError("no comma")
        reader.move(reader.pos + 1)
        if reader.sign():
            raise ValueError("more after the list")
