"""Folders that lie elsewhere: in a bucket, or wherever fsspec reaches (s3://, gs://, az://, sftp://, file:// …).

A run is worked on in a folder of this machine. `mirrored` brings it here first and sends what changes while it lasts;
`Bucket` is a place where finished runs are kept (see keeping.py).
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.files import ID_PATTERN
from lightreasoner.runs import RECORD

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
EVENTS = "events.jsonl"
PAUSE = 10.0  # seconds between two looks at what has changed
LAST = (RECORD, "complete")  # by name: what says of other files that they are whole goes after them
NOT_SENT = re.compile(r"\.|.*/\.|stop$")  # half-written files, the lock, and somebody's wish that it stop
Stamps = dict[str, tuple[int, int]]  # path in a folder → (bytes, mtime in ns)


class Remote:
    """A folder elsewhere, by its address. Every method raises UserError when it cannot be used."""

    def __init__(self, address: str):
        import fsspec

        self.address = address
        with self._said():
            try:
                self._fs, self._path = fsspec.core.url_to_fs(address)
            except ImportError as error:  # it names the package
                raise UserError(f"{address} cannot be reached from here: {error}.") from error
            except ValueError as error:
                raise UserError(f"{address} is at no kind of place that is known: {error}.") from error

    def files(self) -> dict[str, int]:
        """What lies there: path in the folder → bytes."""
        with self._said():
            self._fs.invalidate_cache()
            if not self._fs.exists(self._path):
                return {}
            found = self._fs.find(self._path, detail=True)
            root = len(self._path.rstrip("/")) + 1
            return {path[root:]: info["size"] for path, info in found.items()}

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
        with self._said():
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

    def refresh(self) -> None:
        """Lay here what is there, for a folder that is only read."""
        there = self.remote.files()
        if not there:
            raise UserError(f"There is nothing at {self.remote.address}; name the folder of a run.")
        if there != {name: size for name, (size, _) in stamps(self.local).items()}:
            self._replace(there)

    def _replace(self, there: dict[str, int]) -> None:
        shutil.rmtree(self.local, ignore_errors=True)
        for name in there:
            self.remote.bring(name, self.local / name)
        self._sent = stamps(self.local)

    def send(self) -> None:
        """Send what has changed since it was last sent, and remove there what was removed here."""
        now = stamps(self.local)
        for name in sorted(now, key=lambda name: Path(name).name in LAST):
            if self._sent.get(name) != now[name] and (self.local / name).exists():
                self.remote.send(self.local / name, name)
                self._sent[name] = now[name]
        for name in set(self._sent) - set(now):
            self.remote.drop(name)
            del self._sent[name]

    def __enter__(self) -> Mirror:
        self.bring()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="mirror")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        self._thread.join()
        self.send()

    def _watch(self) -> None:
        while not self._closed.wait(PAUSE):
            try:
                self.send()
            except UserError as error:  # the next look tries again, and the last one says so
                log.warning("%s", error)


@contextmanager
def mirrored(words: list[str], workspace: Path) -> Iterator[list[str]]:
    """A command line in which --run-dir and --dataset name folders here; those that were elsewhere are mirrored."""
    words = list(words)
    with ExitStack() as stack:
        for n, word in enumerate(words[:-1]):
            if word not in ("--run-dir", "--dataset") or not ADDRESS.fullmatch(words[n + 1]):
                continue
            address = words[n + 1].rstrip("/")
            place = workspace / "mirrors" / hashlib.sha256(address.encode()).hexdigest()[:16]
            mirror = Mirror(Remote(address), local := place / address.rpartition("/")[2])
            if word == "--run-dir":
                stack.enter_context(mirror)
            else:
                mirror.refresh()
            words[n + 1] = str(local)
        yield words


class Bucket:
    """Where finished runs are kept; see kept_places.Place."""

    def __init__(self, address: str):
        self._remote = Remote(address)

    def __str__(self) -> str:
        return self._remote.address

    def fetch(self, into: Path, known: set[str]) -> None:
        runs: dict[str, list[str]] = {}
        for name in self._remote.files():
            run, _, rest = name.removeprefix("runs/").partition("/")
            if name.startswith("runs/") and rest and ID_PATTERN.fullmatch(run) and run not in known:
                runs.setdefault(run, []).append(rest)
        for run, names in runs.items():
            for name in names if RECORD in names else ():
                self._remote.bring(f"runs/{run}/{name}", into / run / name)

    def put(self, run: Path, files: Stamps) -> None:
        for name in sorted(files, key=lambda name: name == RECORD):
            self._remote.send(run / name, f"runs/{run.name}/{name}")
        for name in self._names(run.name) - set(files):
            self._remote.drop(f"runs/{run.name}/{name}")

    def remove(self, run_id: str) -> None:
        for name in sorted(self._names(run_id), key=lambda name: name != RECORD):  # half a deletion is one
            self._remote.drop(f"runs/{run_id}/{name}")

    def _names(self, run_id: str) -> set[str]:
        start = f"runs/{run_id}/"
        return {name.removeprefix(start) for name in self._remote.files() if name.startswith(start)}


def stamps(folder: Path) -> Stamps:
    """The files of a folder, without those that are half written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        try:
            if not NOT_SENT.match(name) and path.is_file() and not path.is_symlink():
                found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue  # a checkpoint that was thrown away meanwhile
    return found
