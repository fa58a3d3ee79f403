"""The event log of a run: one JSON object a line, only ever appended to, read while it grows.

Whatever happens to the writer, every line that was written stays readable: a torn last line is ended by the next
writer and skipped by all readers.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError

EVENTS_FILE = "events.jsonl"
BLOCK = 65_536  # bytes read at a time


def _to_json(value: Any) -> Any:
    """The value as JSON can hold it: numbers that are not finite become null, arrays lists, the rest text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, without importing them
        return _to_json(value.tolist())
    return str(value)


def _parse(line: bytes) -> dict | None:
    """The event of a line, None for one that is no event (torn, or damaged)."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(event, dict) and isinstance(event.get("seq"), int) and isinstance(event.get("kind"), str)
    return event if whole else None


class EventLog:
    """The writing end; one process at a time, which the run folder's lock sees to. Threads may share it.

    by: who writes, on every line, so that the events of one attempt are told from those of another.
    """

    def __init__(self, path: Path, by: str = ""):
        self.path, self.by = Path(path), by
        self._started, self._lock = time.monotonic(), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._write_error(error) from error
        last = last_event(self.path)
        self._seq = last["seq"] if last else 0
        self._torn = self._ends_torn()

    def append(self, kind: str, **data: Any) -> dict:
        """Write one event: seq, unix time, seconds since this writer began, kind, and the data.

        Raises UserError when the disk refuses; what stood before stays readable.
        """
        with self._lock:
            self._seq += 1
            elapsed = round(time.monotonic() - self._started, 3)
            head = {"seq": self._seq, "time": round(time.time(), 3), "elapsed": elapsed, "kind": kind}
            event = _to_json(head | ({"by": self.by} if self.by else {}) | data | head)
            line = (b"\n" if self._torn else b"") + json.dumps(event, allow_nan=False).encode() + b"\n"
            self._torn = True  # until it is written for sure
            try:
                written = os.write(self._file, line)
            except OSError as error:
                raise self._write_error(error) from error
            if written < len(line):
                raise self._write_error(OSError(28, "No space left on device"))
            self._torn = False
            return event

    def close(self) -> None:
        """Bring everything to the disk and let go of the file."""
        with self._lock:
            if self._file >= 0:
                with suppress(OSError):  # a full disk has been reported by append
                    os.fsync(self._file)
                os.close(self._file)
                self._file = -1

    def _ends_torn(self) -> bool:
        size = os.fstat(self._file).st_size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def _write_error(self, error: OSError) -> UserError:
        why = error.strerror or error
        return UserError(f"{self.path} could not be written: {why}. Free some space, then resume the run.")


class EventTail:
    """The reading end of a log that grows: each call of `new` gives what came since the last one."""

    def __init__(self, path: Path):
        self.path, self._offset, self._rest = Path(path), 0, b""

    def new(self) -> list[dict]:
        """The events since the last call; a missing file has none. A file that shrank is read from the start."""
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except OSError:
            return []
        events = []
        with file:
            if os.fstat(file.fileno()).st_size < self._offset:
                self._offset, self._rest = 0, b""
            file.seek(self._offset)
            while block := file.read(BLOCK):
                self._offset += len(block)
                *lines, self._rest = (self._rest + block).split(b"\n")
                events += (event for line in lines if (event := _parse(line)))
        if event := _parse(self._rest):  # whole but for its newline: nothing of it is missing
            events.append(event)
            self._rest = b""
        return events


def read_events(path: Path, after: int = 0) -> list[dict]:
    """All readable events whose seq is greater than `after`."""
    return [event for event in EventTail(path).new() if event["seq"] > after]


def reversed_events(path: Path) -> Iterator[dict]:
    """The readable events from the last to the first, reading no more of the file than is asked for."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError:
        return
    with file:
        start, rest = file.seek(0, os.SEEK_END), b""
        while start > 0:
            size = min(BLOCK, start)
            start -= size
            file.seek(start)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            for line in reversed(lines):
                if event := _parse(line):
                    yield event
        if event := _parse(rest):
            yield event


def last_event(path: Path, kind: str | None = None) -> dict | None:
    """The last readable event, of this kind if one is named."""
    return next((event for event in reversed_events(path) if kind in (None, event["kind"])), None)


def first_event(path: Path) -> dict | None:
    """The event of the first line: how the first attempt started. None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _parse(file.readline(BLOCK))
    except OSError:
        return None


def working_seconds(folder: Path) -> float | None:
    """Seconds that processes worked in a run folder, by their monotonic clocks. None without a readable log."""
    ends: dict[str, float] = {}  # attempt → its last event
    waits: dict[str, float] = {}  # attempt → seconds it waited
    since: dict[str, float] = {}  # attempt → since when it waits
    for event in read_events(Path(folder) / EVENTS_FILE):
        by, at = str(event.get("by")), event.get("elapsed")
        if not isinstance(at, int | float):
            continue
        ends[by] = at
        if event["kind"] == "waiting":
            since.setdefault(by, at)
        elif by in since:
            waits[by] = waits.get(by, 0.0) + at - since.pop(by)
    for by, at in since.items():  # it ended while it waited
        waits[by] = waits.get(by, 0.0) + ends[by] - at
    return sum(ends.values()) - sum(waits.values()) if ends else None
