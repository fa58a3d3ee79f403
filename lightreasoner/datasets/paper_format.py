"""The paper's format: the JSON lines of its released samples, one training sample per line.

`prompt_id` is the question, and `step` the position in the response. `prefix` is the text of the response before it,
without the prompt, which the paper's trainer makes from the question. `tokens` and `token_ids` are the plausible set,
`weights` the contrastive target on it. `kl_divergence` is in nats; JSON has no infinity, so an infinite one is null.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lightreasoner.datasets.samples import Sample
from lightreasoner.errors import UserError

FIELDS = ("prompt_id", "step", "prefix", "tokens", "token_ids", "weights", "kl_divergence")
MAX_BYTES = 10_000_000_000
MAX_LINE = 8_000_000  # bytes
SUM_TOLERANCE = 0.02  # the paper's code computes its softmax in 16 bits
_OTHER_KINDS = {b"PAR1": "a Parquet file", b"\x1f\x8b": "gzip-compressed", b"PK\x03\x04": "a ZIP archive"}
_OTHER_KINDS |= {b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text", b"\x28\xb5\x2f\xfd": "zstd-compressed"}


class UnreadableLine(Exception):
    """Why a line is not a sample, as the end of a sentence. It never quotes the line, which may contain anything."""


def paper_line(sample: Sample, prefix: str, tokens: list[str]) -> bytes:
    """A sample as a line of the format, with numbers in full precision."""
    kl = sample.kl if math.isfinite(sample.kl) else None
    values = (sample.question, sample.step, prefix, tokens, sample.token_ids, sample.weights, kl)
    return json.dumps(dict(zip(FIELDS, values, strict=True))).encode() + b"\n"


def read_paper_file(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[tuple[int, Sample | str]]:
    """(line number, sample) or (line number, why it is not a sample) of each line that is not blank.

    A sample's problem_id is empty and its `sample` is 0: the format has neither. Raises UserError, immediately or while
    iterating, when the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path} is not a file; name a file of JSON lines in the paper's format.")
        if size > max_bytes:
            raise UserError(
                f"{path.name} has {size / 1e6:,.0f} MB, more than the limit of {max_bytes / 1e6:,.0f} MB; split it."
            )
        with path.open("rb") as file:
            head = file.read(65_536)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is invalid"
        raise UserError(f"{path} cannot be opened: {reason}. Check the path.") from None
    if kind := next((kind for magic, kind in _OTHER_KINDS.items() if head.startswith(magic)), None):
        raise UserError(f"{path.name} is {kind}; only plain UTF-8 JSON lines in the paper's format can be imported.")
    if head.count(b"\0") > len(head) // 10:
        raise UserError(f"{path.name} consists of zero bytes, not of UTF-8 text; export it again.")
    return _read(path)


def _read(path: Path) -> Iterator[tuple[int, Sample | str]]:
    try:
        with path.open("rb") as file:
            for number, line in _lines(file):
                if number == 1 and line:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line is None:
                    yield number, f"it is longer than {MAX_LINE / 1e6:.0f} MB"
                elif line.strip():
                    try:
                        yield number, parse_line(line)
                    except UnreadableLine as reason:
                        yield number, str(reason)
    except OSError as error:
        raise UserError(f"{path} cannot be read to its end: {error.strerror}. Check the disk.") from None


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(line number, line), with None for a line longer than MAX_LINE."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        complete = len(line) < MAX_LINE or line.endswith(b"\n")
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield number, line if complete else None


def parse_line(line: bytes) -> Sample:
    """One line as a sample. Raises UnreadableLine."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UnreadableLine(f"byte {error.start + 1} is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise UnreadableLine(f"it is not valid JSON ({error.msg}, column {error.colno})") from None
    except (RecursionError, ValueError):  # nested too deeply; a number of thousands of digits
        raise UnreadableLine("it is not readable JSON") from None
    if not isinstance(row, dict):
        raise UnreadableLine("it is not an object with named fields")
    if missing := [name for name in FIELDS if name not in row]:
        raise UnreadableLine(f"it has no {' and no '.join(missing)}")
    question, step, prefix, tokens, token_ids, weights, kl = (row[name] for name in FIELDS)
    _text("prompt_id", question)
    if not question.strip():
        raise UnreadableLine("prompt_id is empty")
    if not _whole(step):
        raise UnreadableLine("step is not a whole number from 0 up")
    _text("prefix", prefix)
    for name, values in (("tokens", tokens), ("token_ids", token_ids), ("weights", weights)):
        if not isinstance(values, list) or not values:
            raise UnreadableLine(f"{name} is not a non-empty list")
    if not len(tokens) == len(token_ids) == len(weights):
        raise UnreadableLine(
            f"tokens, token_ids and weights differ in length ({len(tokens)}, {len(token_ids)}, {len(weights)})"
        )
    for token in tokens:
        _text("tokens", token)
    if not all(map(_whole, token_ids)) or len(set(token_ids)) < len(token_ids):
        raise UnreadableLine("token_ids are not different whole numbers from 0 up")
    if not all(map(_number, weights)) or not all(0 <= w <= 1 + SUM_TOLERANCE for w in weights):
        raise UnreadableLine("weights are not all numbers from 0 to 1")
    if abs(math.fsum(weights) - 1) > SUM_TOLERANCE:
        raise UnreadableLine(f"weights add up to {math.fsum(weights):.4g}, not to 1")
    if kl is not None and (not _number(kl) or math.isnan(kl) or kl < -1e-3):  # rounding may leave it just below 0
        raise UnreadableLine("kl_divergence is not a number from 0 up")
    kl = math.inf if kl is None else float(kl)
    return Sample("", 0, question, step, None, token_ids, [float(w) for w in weights], kl, None, prefix, tokens)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise UnreadableLine(f"{name} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise UnreadableLine(f"{name} holds half of a character") from None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)
