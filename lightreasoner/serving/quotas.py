"""Limits on the visitors of a public server, each and all together. They do not apply to the owner.

Visitors can delete their cookies, so every limit per visitor comes with a wider one per network address.
"""

import threading
import time
from collections import OrderedDict, deque
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.serving.permissions import User
from lightreasoner.settings import Settings

MAX_KEYS = 20_000  # visitors and addresses remembered; the least recent are dropped
PER_ADDRESS = 3  # times the limit of a visitor, since users share addresses


class RateLimit:
    """At most `most` events per key in `seconds`."""

    def __init__(self, most: int, seconds: float):
        self.most, self.seconds = most, seconds
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: str) -> bool:
        """Count an event unless it exceeds the limit; whether it was counted."""
        now = time.monotonic()
        with self._lock:
            times = self._seen.setdefault(key, deque())
            self._seen.move_to_end(key)
            while len(self._seen) > MAX_KEYS:
                self._seen.popitem(last=False)
            while times and now - times[0] > self.seconds:
                times.popleft()
            if len(times) >= self.most:
                return False
            times.append(now)
            return True


class VisitorRateLimit:
    """A rate limit per visitor and a wider one per address."""

    def __init__(self, most: int, seconds: float):
        self._visitors, self._addresses = RateLimit(most, seconds), RateLimit(most * PER_ADDRESS, seconds)

    def allow(self, visitor: User) -> bool:
        alone = not visitor.id or self._visitors.allow(visitor.id)  # without a cookie only the address counts
        return alone and self._addresses.allow(visitor.address)


class TraceQuota:
    """Limits the traces of visitors: at once and per minute."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._rate = VisitorRateLimit(settings.traces_per_minute, 60)
        self._running: list[tuple[User, threading.Event]] = []
        self._lock = threading.Lock()

    def admit(self, visitor: User, done: threading.Event) -> None:
        """Admit a visitor's trace, which sets `done` at its end. Raises UserError when a limit is reached."""
        most = self.settings.visitor_traces
        with self._lock:
            self._running = [(who, ended) for who, ended in self._running if not ended.is_set()]
            of_visitor = sum(who.id == visitor.id for who, _ in self._running) if visitor.id else 0
            of_address = sum(who.address == visitor.address for who, _ in self._running)
            if of_visitor >= most or of_address >= 2 * most:
                raise UserError(
                    f"{max(of_visitor, of_address)} of your runs are still in progress; wait for them, or stop one."
                )
            if len(self._running) >= self.settings.public_traces:
                raise UserError(
                    f"{len(self._running)} runs of visitors are in progress already; try again in a minute."
                )
            if not self._rate.allow(visitor):
                raise UserError("Too many runs per minute; wait a little, then press Run again.")
            self._running.append((visitor, done))


def delete_oldest(folder: Path, pattern: str, most_bytes: int) -> None:
    """Delete the oldest files of a folder until the others take at most `most_bytes`."""
    files = []
    for path in folder.glob(pattern):
        try:
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
        except OSError:
            continue
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
