"""Folders that lie elsewhere: in a bucket, or wherever fsspec reaches (s3://, gs://, az://, sftp://, file:// …).

A run is worked on in a folder of this machine. `mirrored` brings it here first and sends what changes while it lasts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lightreasoner.errors import UserError
from lightreasoner.storage.runs import RECORD

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
OPTIONS = ("--run-dir", "--dataset")  # that may name one
STARTS = tuple(f"{option}=" for option in OPTIONS)
_addresses: dict[Path, str] = {}  # a folder here → where it comes from
EVENTS = "events.jsonl"
PAUSE = 10.0  # seconds between two looks at what has changed
LAST = (RECORD, "complete")  # by name: what says of other files that they are whole goes after them
NOT_SENT = re.compile(r"\.|.*/\.|stop$")  # half-written files, the lock, and somebody's wish that it stop
Stamps = dict[str, tuple[int, int]]  # path in a folder → (bytes, mtime in ns)


class Remote:
    """A folder elsewhere, by its address. Every method raises UserError when it cannot be used."""

    def __init__(self, address: str):
        import fsspec

        self.address = re.sub(r"//[^/@]*@", "//", address)  # as it is shown and kept: without a password
        with self._said():
            try:
                self._fs, self._path = fsspec.core.url_to_fs(address)
            except ImportError as error:  # it names the package
                raise UserError(f"{self.address} cannot be reached from here: {error}.") from error
            except ValueError as error:
                raise UserError(f"{self.address} is at no kind of place that is known: {error}.") from error

    def files(self) -> dict[str, int]:
        """What lies there: path in the folder → bytes."""
        with self._said():
            self._fs.invalidate_cache()
            try:
                self._fs.info(self._path)
            except FileNotFoundError:  # anything else is no empty place
                return {}
            # the others walk through folders, and would leave out those that fail
            strict = {} if self._fs.async_impl else {"on_error": "raise"}
            found = self._fs.find(self._path, detail=True, **strict)
            root = len(self._path.rstrip("/")) + 1
            names = {path[root:]: info["size"] for path, info in found.items()}
            for name in names:
                if not name or name.startswith("/") or ".." in name.split("/") or "\\" in name:
                    raise UserError(f"{self.address} holds a file called {name!r:.100}, which is no name for one.")
            return {name: size for name, size in names.items() if not NOT_SENT.match(name)}

    def bring(self, name: str, to: Path) -> None:
        with self._said():
            to.parent.mkdir(parents=True, exist_ok=True)
            part = to.with_name(f".{to.name}.part")
            self._fs.get_file(f"{self._path}/{name}", str(part))
            part.replace(to)

    def send(self, file: Path, name: str) -> None:
        with self._said():
            place = f"{self._path}/{name}"
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(file), place)

    def drop(self, name: str) -> None:
        with self._said(), suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._path}/{name}")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{self.address} cannot be used: {reason}. Check the address and your rights.") from error


class Mirror:
    """A folder here of a folder there, while a verb works on it."""

    def __init__(self, remote: Remote, local: Path):
        self.remote, self.local, self._sent = remote, local, {}
        self._closed, self._thread = threading.Event(), None

    def bring(self) -> None:
        """Lay here what is there, unless what is here goes further: a run that was killed before it could send all."""
        there = self.remote.files()
        here = self.local / EVENTS
        if not here.exists() or there.get(EVENTS, 0) > here.stat().st_size:
            self._replace(there)
            return
        now = stamps(self.local)
        same = {name for name, (size, _) in now.items() if there.get(name) == size and Path(name).name not in LAST}
        self._sent = {name: now[name] for name in same}

    def refresh(self) -> None:
        """Lay here what is there, for a folder that is only read."""
        there = self.remote.files()
        if not there:
            raise UserError(f"There is nothing at {self.remote.address}; name the folder of a run.")
        if there != {name: size for name, (size, _) in stamps(self.local).items()}:
            self._replace(there)

    def _replace(self, there: dict[str, int]) -> None:
        coming = self.local.with_name(f".{self.local.name}.coming")  # what was fetched in part is not taken for whole
        shutil.rmtree(coming, ignore_errors=True)
        for name in there:
            self.remote.bring(name, coming / name)
        shutil.rmtree(self.local, ignore_errors=True)
        if there:
            coming.rename(self.local)
        self._sent = stamps(self.local)

    def send(self) -> None:
        """Send what has changed since it was last sent, and remove there what was removed here."""
        now = stamps(self.local)
        for name in sorted(now, key=lambda name: Path(name).name in LAST):
            if self._sent.get(name) != now[name] and (self.local / name).exists():
                self.remote.send(self.local / name, name)
                self._sent[name] = now[name]
        for name in sorted(set(self._sent) - set(now), key=lambda name: Path(name).name not in LAST):
            self.remote.drop(name)
            del self._sent[name]

    def __enter__(self) -> Mirror:
        self.bring()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="mirror")
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_error: object) -> None:
        self._closed.set()
        self._thread.join()
        try:
            self.send()
        except UserError as error:
            if kind is None:
                raise
            log.warning("%s", error)  # what went wrong first is what a person has to know

    def _watch(self) -> None:
        while not self._closed.wait(PAUSE):
            try:
                self.send()
            except Exception as error:  # the next look tries again, and the last one says so
                log.warning("%s", error)


@contextmanager
def mirrored(words: list[str], workspace: Path) -> Iterator[list[str]]:
    """A command line in which --run-dir and --dataset name folders here; those that were elsewhere are mirrored.

    Raises UserError for an address that cannot be used.
    """
    words = [part for word in words for part in (word.split("=", 1) if word.startswith(STARTS) else [word])]
    with ExitStack() as stack:
        for n, word in enumerate(words[:-1]):
            if word not in OPTIONS or "://" not in words[n + 1]:
                continue
            if not ADDRESS.fullmatch(words[n + 1]):
                raise UserError(
                    f"{words[n + 1]!r:.200} is no address; write it like s3://BUCKET/PATH, or name a folder."
                )
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise UserError(
                    "Processes that train together need a folder that all of them see, and each would mirror "
                    f"{Remote(words[n + 1]).address} for itself; name a folder on shared storage."
                )
            address = words[n + 1].rstrip("/")
            place = workspace / "mirrors" / hashlib.sha256(address.encode()).hexdigest()[:16]
            mirror = Mirror(Remote(address), local := place / address.rpartition("/")[2])
            stack.enter_context(_alone(place, mirror.remote.address))
            if word == "--run-dir":
                stack.enter_context(mirror)
            else:
                mirror.refresh()
            _addresses[local] = mirror.remote.address
            words[n + 1] = str(local)
        yield words


def address_of(folder: Path) -> str:
    """Where a folder's files really lie: the address that it mirrors, or its own path."""
    return _addresses.get(Path(folder), str(folder))


@contextmanager
def _alone(place: Path, address: str) -> Iterator[None]:
    """Two commands at once would each fetch and remove under the other's feet."""
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another command here works on {address}; wait until it has ended.") from None
    try:
        yield
    finally:
        lock.release()


def stamps(folder: Path) -> Stamps:
    """The files of a folder, without those that are half written."""
    for _ in range(5):  # a checkpoint may be thrown away while we look
        with suppress(FileNotFoundError):
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
            names = {path.relative_to(folder).as_posix(): path.stat() for path in paths}
            return {name: (s.st_size, s.st_mtime_ns) for name, s in names.items() if not NOT_SENT.match(name)}
    raise UserError(f"{folder} changes faster than it can be read; something else works in it.")
