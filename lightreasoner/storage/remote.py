"""Run folders in remote storage (s3://, gs://, sftp:// or wherever else fsspec reaches), synced with a local copy.

A command works in the local copy: `open_run` downloads it first, and uploads changes while the command runs.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError, first_line
from lightreasoner.storage.atomic import locked
from lightreasoner.storage.runs import RECORD

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
EVENTS = "events.jsonl"
INTERVAL = 10.0  # seconds between two uploads of what has changed
LAST = (RECORD, "complete")  # names of files that declare others complete, and so are uploaded after them
NOT_SENT = re.compile(r"\.|.*/\.|stop$")  # half-written files, the lock, and a request to stop
FileStates = dict[str, tuple[int, int]]  # path in a folder → (bytes, mtime in ns)


@dataclass(frozen=True)
class RunLocation:
    """A run folder: `local`, where commands read and write it, and `address`, the name that other machines know."""

    local: Path
    address: str  # of remote storage, without a password; or the local path as it was given


class RemoteFolder:
    """A folder in remote storage. Every method raises UserError when it fails."""

    def __init__(self, address: str):
        import fsspec

        self.address = re.sub(r"//[^/@]*@", "//", address)  # shown and stored without a password
        with self._errors():
            try:
                self._fs, self._path = fsspec.core.url_to_fs(address)
            except ImportError as error:  # its text names the missing package
                raise UserError(f"{self.address} cannot be reached from here: {error}.") from error
            except ValueError as error:
                raise UserError(f"{self.address} is in no known kind of storage: {error}.") from error

    def files(self) -> dict[str, int]:
        """The folder's files: path in the folder → bytes. Empty where there is no such folder."""
        with self._errors():
            self._fs.invalidate_cache()
            try:
                self._fs.info(self._path)
            except FileNotFoundError:  # any other error does not mean that it is empty
                return {}
            # other file systems walk through folders, and would leave out those that fail
            strict = {} if self._fs.async_impl else {"on_error": "raise"}
            found = self._fs.find(self._path, detail=True, **strict)
            root = len(self._path.rstrip("/")) + 1
            sizes = {path[root:]: info["size"] for path, info in found.items()}
            for name in sizes:
                if not name or name.startswith("/") or ".." in name.split("/") or "\\" in name:
                    raise UserError(f"{self.address} holds a file called {name!r:.100}, which is not a safe file name.")
            return {name: size for name, size in sizes.items() if not NOT_SENT.match(name)}

    def download(self, name: str, to: Path) -> None:
        with self._errors():
            to.parent.mkdir(parents=True, exist_ok=True)
            part = to.with_name(f".{to.name}.part")
            self._fs.get_file(f"{self._path}/{name}", str(part))
            part.replace(to)

    def upload(self, file: Path, name: str) -> None:
        with self._errors():
            path = f"{self._path}/{name}"
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(file), path)

    def delete(self, name: str) -> None:
        with self._errors(), suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._path}/{name}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each kind of storage has exceptions of its own
            reason = first_line(error)
            raise UserError(f"{self.address} cannot be used: {reason}. Check the address and your access.") from error


class SyncedFolder:
    """A local copy of a remote folder. As a context manager, it pulls on entry and pushes until the end."""

    def __init__(self, remote: RemoteFolder, local: Path):
        self.remote, self.local = remote, local
        self._synced: FileStates = {}  # the local files as they are in the remote folder
        self._closed, self._thread = threading.Event(), None

    def pull(self) -> None:
        """Copy the remote folder here, unless the local run is ahead: one killed before all of it was uploaded."""
        remote = self.remote.files()
        events = self.local / EVENTS
        if not events.exists() or remote.get(EVENTS, 0) > events.stat().st_size:
            self._replace_local(remote)
            return
        local = file_states(self.local)
        same = {name for name, (size, _) in local.items() if remote.get(name) == size and Path(name).name not in LAST}
        self._synced = {name: local[name] for name in same}

    def pull_to_read(self) -> None:
        """Copy the remote folder here whenever the two differ. Raises UserError when it is empty."""
        remote = self.remote.files()
        if not remote:
            raise UserError(f"There is nothing at {self.remote.address}; name the folder of a run.")
        if remote != {name: size for name, (size, _) in file_states(self.local).items()}:
            self._replace_local(remote)

    def _replace_local(self, remote: dict[str, int]) -> None:
        partial = self.local.with_name(f".{self.local.name}.coming")  # an incomplete download is never used
        shutil.rmtree(partial, ignore_errors=True)
        for name in remote:
            self.remote.download(name, partial / name)
        shutil.rmtree(self.local, ignore_errors=True)
        if remote:
            partial.rename(self.local)
        self._synced = file_states(self.local)

    def push(self) -> None:
        """Upload what has changed since the last push, and delete remotely what was deleted here."""
        if not self.local.is_dir():  # deleted by somebody: the remote copy is all that is left
            return
        local = file_states(self.local)
        for name in sorted(local, key=lambda name: Path(name).name in LAST):
            if self._synced.get(name) != local[name] and (self.local / name).exists():
                self.remote.upload(self.local / name, name)
                self._synced[name] = local[name]
        for name in sorted(set(self._synced) - set(local), key=lambda name: Path(name).name not in LAST):
            self.remote.delete(name)
            del self._synced[name]

    def __enter__(self) -> SyncedFolder:
        self.pull()
        self._thread = threading.Thread(target=self._push_repeatedly, daemon=True, name="sync")
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_error: object) -> None:
        self._closed.set()
        self._thread.join()
        try:
            self.push()
        except UserError as error:
            if kind is None:
                raise
            log.warning("%s", error)  # the first error is the one to show

    def _push_repeatedly(self) -> None:
        while not self._closed.wait(INTERVAL):
            try:
                self.push()
            except Exception as error:  # the next push tries again, and the last one raises
                log.warning("%s", error)


def run_path(text: str) -> Path | str:
    """A command-line argument that names a run folder: a path, or an address as text."""
    if not text.strip():  # a variable of the shell that is not set would name the folder one is in
        raise ArgumentTypeError("it is empty; name a folder")
    return text if "://" in text else Path(text)


@contextmanager
def open_run(place: Path | str, workspace: Path, read_only: bool = False) -> Iterator[RunLocation]:
    """Where a run folder can be used: a path as it is; an address as a local copy below the workspace, kept in sync.

    read_only: nothing is uploaded. Raises UserError for an address that cannot be used.
    """
    if isinstance(place, Path):
        try:
            os.stat(place)
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) or error.errno == errno.ENAMETOOLONG:
                raise UserError(f"{str(place)!r:.100} cannot be the name of a folder; choose another.") from None
        yield RunLocation(place, str(place))
        return
    if not ADDRESS.fullmatch(place):
        raise UserError(f"{place!r:.200} is no address; write it like s3://BUCKET/PATH, or name a folder.")
    remote = RemoteFolder(place := place.rstrip("/"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "Processes that train together need a folder that all of them see, and each would have its own copy of "
            f"{remote.address}; name a folder on shared storage."
        )
    copies = workspace / "mirrors" / hashlib.sha256(place.encode()).hexdigest()[:16]
    synced = SyncedFolder(remote, copies / place.rpartition("/")[2])
    copies.mkdir(parents=True, exist_ok=True)
    with locked(copies / ".lock", f"Another command on this machine uses {remote.address}; wait until it has ended."):
        if read_only:
            synced.pull_to_read()
            yield RunLocation(synced.local, remote.address)
        else:
            with synced:
                yield RunLocation(synced.local, remote.address)


def file_states(folder: Path) -> FileStates:
    """The files of a folder, without those that are half written."""
    for _ in range(5):  # a checkpoint may be deleted meanwhile
        with suppress(FileNotFoundError):
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
            names = {path.relative_to(folder).as_posix(): path.stat() for path in paths}
            return {name: (s.st_size, s.st_mtime_ns) for name, s in names.items() if not NOT_SENT.match(name)}
    raise UserError(f"{folder} changes faster than it can be read; another program works in it.")
