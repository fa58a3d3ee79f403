"""Archive backends: a folder, a bucket or a dataset on the Hub, each with one folder per run."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from lightreasoner.errors import UserError
from lightreasoner.hub.errors import hub_errors
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN
from lightreasoner.storage.remote import ADDRESS, RemoteFolder
from lightreasoner.storage.runs import RECORD

HUB = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})", re.ASCII)
TOKEN_VARIABLE = "LIGHTREASONER_ARCHIVE_TOKEN"
#: Paths within a run: checkpoints, merged models, locks and half-written files.
NOT_ARCHIVED = re.compile(r"(?:checkpoints|merged-[^/]*)/|\.|.*/\.")
PARTIAL = ".keep-"  # of a run that is being restored, of a file that is being copied
RUNS_FOLDER = "runs"  # the folder within the archive that holds the runs
FileStamps = dict[str, tuple[int, int]]  # a run's files: path in it → (bytes, mtime in ns)


class ArchiveBackend(Protocol):
    """An archive of runs. Every method raises UserError when it cannot be used."""

    def fetch(self, into: Path, known: set[str]) -> None:
        """Copy every archived run except the known ones into a folder, each under its id."""

    def put(self, run: Path, files: FileStamps) -> None:
        """Archive a run as it is now, replacing an earlier copy."""

    def remove(self, run_id: str) -> None:
        """Remove a run if it is archived."""


class FolderArchive:
    """A folder on a mounted bucket or volume."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def fetch(self, into: Path, known: set[str]) -> None:
        with self._errors("read"):
            for run in sorted((self.path / RUNS_FOLDER).glob("*")):
                if ID_PATTERN.fullmatch(run.name) and run.name not in known and (run / RECORD).is_file():
                    shutil.copytree(run, into / run.name)

    def put(self, run: Path, files: FileStamps) -> None:
        with self._errors("written"):
            target = self.path / RUNS_FOLDER / run.name
            for name in sorted(files, key=lambda name: name == RECORD):  # the record is the last
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                if not _same_file(run / name, target / name):
                    # under another name first: an aborted copy leaves the earlier one intact
                    part = (target / name).with_name(f"{PARTIAL}{Path(name).name}")
                    shutil.copyfile(run / name, part)
                    shutil.copystat(run / name, part)
                    os.replace(part, target / name)
            for name in set(file_stamps(target)) - set(files):
                (target / name).unlink(missing_ok=True)

    def remove(self, run_id: str) -> None:
        with self._errors("written"), suppress(FileNotFoundError):
            # run.json first: a partial deletion counts
            (self.path / RUNS_FOLDER / run_id / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self.path / RUNS_FOLDER / run_id)

    def _errors(self, done: str) -> AbstractContextManager[None]:
        return _archive_errors(f"{self.path} cannot be {done}")


class RemoteArchive:
    """A bucket, at any address that fsspec supports."""

    def __init__(self, address: str):
        self._remote = RemoteFolder(address)

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
                self._remote.download(f"runs/{run}/{name}", into / run / name)

    def put(self, run: Path, files: FileStamps) -> None:
        for name in sorted(files, key=lambda name: name == RECORD):
            self._remote.upload(run / name, f"runs/{run.name}/{name}")
        for name in self._names(run.name) - set(files):
            self._remote.delete(f"runs/{run.name}/{name}")

    def remove(self, run_id: str) -> None:
        for name in sorted(self._names(run_id), key=lambda name: name != RECORD):  # as in FolderArchive
            self._remote.delete(f"runs/{run_id}/{name}")

    def _names(self, run_id: str) -> set[str]:
        start = f"runs/{run_id}/"
        return {name.removeprefix(start) for name in self._remote.files() if name.startswith(start)}


class HubArchive:
    """A dataset repository on the Hugging Face Hub, created as a private one."""

    def __init__(self, repo: str, token: str):
        from huggingface_hub import HfApi

        self.repo, self._api = repo, HfApi(token=token)

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo}"

    def fetch(self, into: Path, known: set[str]) -> None:
        with self._errors():
            if not self._api.repo_exists(self.repo, repo_type="dataset"):
                return
            skipped = [f"{RUNS_FOLDER}/{run_id}/*" for run_id in known]
            whole = {"repo_type": "dataset", "allow_patterns": f"{RUNS_FOLDER}/*", "ignore_patterns": skipped}
            self._api.snapshot_download(self.repo, **whole, local_dir=into / ".hub")
            for run in (into / ".hub" / RUNS_FOLDER).glob("*"):
                if ID_PATTERN.fullmatch(run.name) and (run / RECORD).is_file():
                    run.rename(into / run.name)

    def put(self, run: Path, files: FileStamps) -> None:
        with self._errors():
            self._api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
            upload = partial(
                self._api.upload_folder,
                repo_id=self.repo,
                repo_type="dataset",
                folder_path=run,
                path_in_repo=f"{RUNS_FOLDER}/{run.name}",
                commit_message=f"Keep {run.name}",
            )
            names = {name: _escape_pattern(name) for name in files}
            upload(allow_patterns=[pattern for name, pattern in names.items() if name != RECORD])
            upload(allow_patterns=[*names.values()], delete_patterns="**")  # run.json, and the deletion of other files

    def remove(self, run_id: str) -> None:
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        with self._errors(), suppress(EntryNotFoundError, RepositoryNotFoundError):
            if any(True for _ in self._api.list_repo_tree(self.repo, f"{RUNS_FOLDER}/{run_id}", repo_type="dataset")):
                self._api.delete_folder(f"{RUNS_FOLDER}/{run_id}", self.repo, repo_type="dataset")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with _archive_errors(f"{self} cannot be used"), hub_errors(self.repo, kind="dataset"):
            yield


@contextmanager
def _archive_errors(failure: str) -> Iterator[None]:
    """Turns every exception inside into a UserError that begins with `failure`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{failure}, so finished runs are not archived. {error}") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__  # a text may contain the token
        advice = "Check LIGHTREASONER_ARCHIVE and its write access."
        raise UserError(f"{failure} ({reason}), so finished runs are not archived. {advice}") from error


def _same_file(source: Path, target: Path) -> bool:
    """Whether a file was copied already. Mounts may round times to a second or two."""
    try:
        ours, copy = source.stat(), target.stat()
    except FileNotFoundError:
        return False
    return ours.st_size == copy.st_size and abs(ours.st_mtime - copy.st_mtime) < 2 and source.name != RECORD


def _escape_pattern(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def archive_backend(settings: Settings, token: str = "") -> ArchiveBackend | None:
    """The archive that the settings name, or None. Raises UserError for an unusable one."""
    if not settings.archive:
        return None
    if found := HUB.fullmatch(settings.archive):
        if not token:
            raise UserError(
                f"The archive {settings.archive} needs a token with write access; set {TOKEN_VARIABLE} to one."
            )
        return HubArchive(found[1], token)
    if ADDRESS.fullmatch(settings.archive) and not settings.archive.startswith("hf://"):
        return RemoteArchive(settings.archive.rstrip("/"))
    if "://" in settings.archive or not Path(settings.archive).is_absolute():
        raise UserError(
            f"LIGHTREASONER_ARCHIVE is {settings.archive!r:.100}; give an absolute path, a bucket's address such as "
            "s3://BUCKET/PATH, or hf://datasets/OWNER/NAME."
        )
    path = Path(settings.archive)
    if path.resolve().is_relative_to(settings.workspace.resolve()):
        raise UserError(f"LIGHTREASONER_ARCHIVE is {path}, which is inside the workspace; name a folder outside.")
    return FolderArchive(path)


def file_stamps(run: Path) -> FileStamps:
    """The files of a run that are archived, with their stamps."""
    stamps: FileStamps = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if NOT_ARCHIVED.match(name) or path.is_symlink() or not path.is_file():
            continue
        with suppress(FileNotFoundError):
            status = path.stat()
            stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps
