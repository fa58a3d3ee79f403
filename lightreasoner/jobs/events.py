"""The event log of a run: one JSON object per line, append-only, read while it grows.

Every complete line stays readable, even if the writer is killed: the next writer ends a torn last line, and all readers
skip it.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError, disk_trouble

EVENTS_FILE = "events.jsonl"
BLOCK = 65_536  # bytes read at a time


def _to_json(value: Any) -> Any:
    """The value as JSON: non-finite numbers become null, arrays lists, unknown types text."""
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
    """The event of a line; None for a torn or damaged one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(event, dict) and isinstance(event.get("seq"), int) and isinstance(event.get("kind"), str)
    return event if whole else None


class EventLog:
    """Appends events. Thread-safe; the run folder's lock ensures that only one process writes.

    by: the attempt that writes; it is stored with every event.
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
        """Write one event: seq, time (unix s), elapsed (s since this writer started), kind and the data.

        Raises UserError when the disk is full; earlier events stay readable.
        """
        with self._lock:
            self._seq += 1
            elapsed = round(time.monotonic() - self._started, 3)
            head = {"seq": self._seq, "time": round(time.time(), 3), "elapsed": elapsed, "kind": kind}
            event = _to_json(head | ({"by": self.by} if self.by else {}) | data | head)
            line = (b"\n" if self._torn else b"") + json.dumps(event, allow_nan=False).encode() + b"\n"
            self._torn = True  # until it is surely written
            try:
                written = os.write(self._file, line)
            except OSError as error:
                raise self._write_error(error) from error
            if written < len(line):
                raise self._write_error(OSError(28, "No space left on device"))
            self._torn = False
            return event

    def close(self) -> None:
        """Sync and close the file."""
        with self._lock:
            if self._file >= 0:
                with suppress(OSError):  # append has reported a full disk
                    os.fsync(self._file)
                os.close(self._file)
                self._file = -1

    def _ends_torn(self) -> bool:
        size = os.fstat(self._file).st_size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def _write_error(self, error: OSError) -> UserError:
        trouble = disk_trouble(error, "Free some space, then resume the run.", writing=True)
        return UserError(f"{self.path} cannot be written: {trouble}")


class EventTail:
    """Reads a growing log: each call of `new` returns the events since the last call."""

    def __init__(self, path: Path):
        self.path, self._offset, self._rest = Path(path), 0, b""

    def new(self) -> list[dict]:
        """The events since the last call, none for a missing file. A file that shrank is read from its start."""
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
        if event := _parse(self._rest):  # complete except for its newline
            events.append(event)
            self._rest = b""
        return events


def read_events(path: Path, after: int = 0) -> list[dict]:
    """All readable events whose seq is greater than `after`."""
    return [event for event in EventTail(path).new() if event["seq"] > after]


def reversed_events(path: Path) -> Iterator[dict]:
    """The readable events from last to first; the file is read block by block, as far as needed."""
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
    """The last readable event, of this kind if one is given."""
    return next((event for event in reversed_events(path) if kind in (None, event["kind"])), None)


def first_event(path: Path) -> dict | None:
    """The event of the first line, the start of the first attempt. None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _parse(file.readline(BLOCK))
    except OSError:
        return None


def working_seconds(folder: Path) -> float | None:
    """Seconds of work in a run folder without the waits, by monotonic clocks. None without a readable log."""
    ends: dict[str, float] = {}  # attempt → its last event
    waits: dict[str, float] = {}  # attempt → seconds of waiting
    since: dict[str, float] = {}  # attempt → start of its current wait
    for event in read_events(Path(folder) / EVENTS_FILE):
        by, at = str(event.get("by")), event.get("elapsed")
        if not isinstance(at, int | float):
            continue
        ends[by] = at
        if event["kind"] == "waiting":
            since.setdefault(by, at)
        elif by in since:
            waits[by] = waits.get(by, 0.0) + at - since.pop(by)
    for by, at in since.items():  # ended while waiting
        waits[by] = waits.get(by, 0.0) + ends[by] - at
    return sum(ends.values()) - sum(waits.values()) if ends else None
