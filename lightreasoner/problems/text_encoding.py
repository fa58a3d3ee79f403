"""Opens files of text in UTF-8, UTF-16 or UTF-32, from any byte on, and tells how many bytes a text takes there."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

from lightreasoner.errors import UserError

BOM = b"\xef\xbb\xbf"
MAX_LINE = 8_000_000  # bytes of a line of JSON
#: What a file begins with, by its encoding. The longer ones come first.
MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    BOM: "utf-8",
    b"\xff\xfe": "utf-16-le",  # as PowerShell and Excel write it
    b"\xfe\xff": "utf-16-be",
}


def encoding_of(path: Path) -> tuple[str, int]:
    """(its encoding, bytes of its mark)."""
    with path.open("rb") as file:
        head = file.read(4)
    mark = next((mark for mark in MARKS if head.startswith(mark)), b"")
    return MARKS.get(mark, "utf-8"), len(mark)


def open_text(path: Path, start: int = 0, newline: str = "") -> io.TextIOWrapper:
    """A file's text from the byte `start` on, without its mark. newline: as for `open`."""
    encoding, mark = encoding_of(path)
    file = path.open("rb")
    file.seek(max(start, mark))
    return io.TextIOWrapper(file, encoding=encoding, newline=newline)


def size_of(encoding: str) -> Callable[[str], int]:
    """How many bytes a text takes in an encoding."""
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding.removesuffix("-le").removesuffix("-be")]
    return lambda text: width * len(text) if text.isascii() else len(text.encode(encoding))


def text_lines(path: Path, start: int = 0) -> Iterator[str]:
    """The lines of a text from the byte `start` on, with their ends. Raises UserError on an invalid byte."""
    try:
        with open_text(path, start) as file:
            yield from file
    except UnicodeDecodeError:
        check_text(path)
        raise


def json_lines(path: Path, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """(a line in UTF-8, its bytes in the file) from the byte `start` on, of at most MAX_LINE. Raises UserError."""
    encoding, mark = encoding_of(path)
    if encoding == "utf-8":
        with path.open("rb") as file:
            file.seek(max(start, mark))
            yield from ((line, len(line)) for line in iter(lambda: file.readline(MAX_LINE), b""))
        return
    size = size_of(encoding)
    try:
        with open_text(path, start, "\n") as file:
            for line in iter(lambda: file.readline(MAX_LINE), ""):
                yield line.encode(), size(line)
    except UnicodeDecodeError:
        check_text(path)
        raise


def check_text(path: Path) -> None:
    """Raises UserError where a file is no text in its encoding."""
    encoding, _ = encoding_of(path)
    if encoding != "utf-8":
        decoded(path.read_bytes(), path)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            decoded(line, path, number)


def decoded(data: bytes, path: Path, first_line: int = 1) -> str:
    """Decode UTF-8, with or without a byte order mark, and UTF-16. Raises UserError that names the invalid byte."""
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding, data = MARKS.get(mark, "utf-8"), data[len(mark) :]
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            name, byte = encoding[:6].upper(), error.start + len(mark) + 1
            raise UserError(f"{path.name} is {name} text that is damaged at byte {byte}; save it as UTF-8.") from None
        line = first_line + data.count(b"\n", 0, error.start)
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise UserError(
            f"{path.name} is not UTF-8 text: byte {byte} of line {line} is 0x{data[error.start]:02X}; "
            "save it as UTF-8 (in Excel: CSV UTF-8) and load it again."
        ) from None
