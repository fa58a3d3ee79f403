"""Keeping finished runs where the disk forgets: copied to a mounted folder or a dataset on the Hub, and back.

LIGHTREASONER_KEEP names the place, /path or hf://datasets/OWNER/NAME. Datasets, adapters and evaluations are kept when
they are finished; jobs and their SQLite file, traces, checkpoints and merged models are not. They come back when the
server starts. run.json is written last and read first: a run that was copied in part does not count.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from lightreasoner.errors import UserError
from lightreasoner.files import ID_PATTERN, write_atomically
from lightreasoner.jobs.events import NAME, last_event
from lightreasoner.runs import RECORD, list_runs, read_run
from lightreasoner.settings import Settings

log = logging.getLogger(__name__)

KINDS = ("dataset", "finetune", "evaluation")
PAUSE = 20.0  # seconds between looks at what has finished
HUB = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})", re.ASCII)
TOKEN = "LIGHTREASONER_KEEP_TOKEN"
NOT_KEPT = re.compile(r"(?:checkpoints|merged-[^/]*)/|\.|.*/\.")  # of a run, by path; also locks and half-written files
PART = ".keep-"  # a run on its way in
ALL = "runs"  # the folder of the place that holds one folder a run
Stamp = dict[str, tuple[int, int]]  # a run's files: path in it → (bytes, mtime in ns)


class Place(Protocol):
    """Where runs are kept. Every method raises UserError when the place cannot be used."""

    def fetch(self, into: Path, known: set[str]) -> None:
        """Lay every kept run but the known ones into a folder, each under its id."""

    def put(self, run: Path, files: Stamp) -> None:
        """Keep a run as it is now, in place of what was kept of it."""

    def remove(self, run_id: str) -> None:
        """Forget a run; nothing when it is not there."""


class Folder:
    """A folder that outlives the machine: a mounted bucket or volume."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def fetch(self, into: Path, known: set[str]) -> None:
        with self._said("read"):
            for run in sorted((self.path / ALL).glob("*")):
                if ID_PATTERN.fullmatch(run.name) and run.name not in known and (run / RECORD).is_file():
                    shutil.copytree(run, into / run.name)

    def put(self, run: Path, files: Stamp) -> None:
        with self._said("written"):
            kept = self.path / ALL / run.name
            for name in sorted(files, key=lambda name: name == RECORD):  # the record is the last
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                if not _same(run / name, kept / name):
                    # under another name first: however far a copy gets, what was kept before stays whole
                    part = (kept / name).with_name(f"{PART}{Path(name).name}")
                    shutil.copyfile(run / name, part)
                    shutil.copystat(run / name, part)
                    os.replace(part, kept / name)
            for name in set(stamp(kept)) - set(files):
                (kept / name).unlink(missing_ok=True)

    def remove(self, run_id: str) -> None:
        with self._said("written"), suppress(FileNotFoundError):
            (self.path / ALL / run_id / RECORD).unlink(missing_ok=True)  # half a deletion is one
            shutil.rmtree(self.path / ALL / run_id)

    def _said(self, done: str):
        return _Saying(lambda error: f"{self.path} cannot be {done} ({error.strerror or error})")


class HubDataset:
    """A dataset repository on the Hugging Face Hub, private unless its owner made it otherwise."""

    def __init__(self, repo: str, token: str):
        from huggingface_hub import HfApi

        self.repo, self._api = repo, HfApi(token=token)

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo}"

    def fetch(self, into: Path, known: set[str]) -> None:
        with self._said():
            if not self._api.repo_exists(self.repo, repo_type="dataset"):
                return
            skipped = [f"{ALL}/{run_id}/*" for run_id in known]
            whole = {"repo_type": "dataset", "allow_patterns": f"{ALL}/*", "ignore_patterns": skipped}
            self._api.snapshot_download(self.repo, **whole, local_dir=into / ".hub")
            for run in (into / ".hub" / ALL).glob("*"):
                if ID_PATTERN.fullmatch(run.name) and (run / RECORD).is_file():
                    run.rename(into / run.name)

    def put(self, run: Path, files: Stamp) -> None:
        with self._said():
            self._api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
            upload = partial(
                self._api.upload_folder,
                repo_id=self.repo,
                repo_type="dataset",
                folder_path=run,
                path_in_repo=f"{ALL}/{run.name}",
                commit_message=f"Keep {run.name}",
            )
            names = {name: _literally(name) for name in files}
            upload(allow_patterns=[pattern for name, pattern in names.items() if name != RECORD])
            upload(allow_patterns=[*names.values()], delete_patterns="**")  # the record, and what is gone goes

    def remove(self, run_id: str) -> None:
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        with self._said(), suppress(EntryNotFoundError, RepositoryNotFoundError):
            if any(True for _ in self._api.list_repo_tree(self.repo, f"{ALL}/{run_id}", repo_type="dataset")):
                self._api.delete_folder(f"{ALL}/{run_id}", self.repo, repo_type="dataset")

    def _said(self):
        def sentence(error: Exception) -> str:
            status = getattr(getattr(error, "response", None), "status_code", None)
            return f"{self} cannot be used ({f'the Hub answered {status}' if status else type(error).__name__})"

        return _Saying(sentence)


class _Saying:
    """Inside, what goes wrong with the place becomes a UserError."""

    def __init__(self, sentence):
        self._sentence = sentence

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            advice = "check LIGHTREASONER_KEEP and that it can be written"
            raise UserError(f"{self._sentence(error)}, so finished runs are not kept; {advice}.") from error


def _same(ours: Path, kept: Path) -> bool:
    """Whether a file was copied already. A mount may round times, to a second or two."""
    try:
        here, there = ours.stat(), kept.stat()
    except FileNotFoundError:
        return False
    return here.st_size == there.st_size and abs(here.st_mtime - there.st_mtime) < 2 and ours.name != RECORD


def _literally(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def place(settings: Settings, token: str = "") -> Place | None:
    """Where the settings say that runs are kept, or None. Raises UserError for what is no place."""
    if not settings.keep:
        return None
    if found := HUB.fullmatch(settings.keep):
        if not token:
            raise UserError(f"Keeping runs in {settings.keep} needs a token that may write there; set {TOKEN} to it.")
        return HubDataset(found[1], token)
    if "://" in settings.keep or not Path(settings.keep).is_absolute():
        raise UserError(
            f"LIGHTREASONER_KEEP is {settings.keep!r:.100}; give a folder's whole path, or hf://datasets/OWNER/NAME."
        )
    path = Path(settings.keep)
    if path.resolve().is_relative_to(settings.workspace.resolve()):
        raise UserError(f"LIGHTREASONER_KEEP is {path}, which lies in the workspace; name a folder that outlives it.")
    return Folder(path)


def stamp(run: Path) -> Stamp:
    """The files of a run that are kept."""
    found: Stamp = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if NOT_KEPT.match(name) or path.is_symlink() or not path.is_file():
            continue
        with suppress(FileNotFoundError):
            status = path.stat()
            found[name] = (status.st_size, status.st_mtime_ns)
    return found


def finished(run: Path, record: dict) -> bool:
    """Whether a run is of a kind that is kept, and whole: imported, or ended well, also when it was stopped early."""
    if record["kind"] not in KINDS:
        return False
    if record["about"].get("imported"):
        return True
    last = last_event(run / NAME)
    return bool(last and last["kind"] == "end" and last.get("state") == "succeeded")


class Keeper:
    """Copies what has finished to the place, in a thread. `trouble` is what keeps it from doing so, or None."""

    def __init__(self, settings: Settings, place: Place):
        self.settings, self.place, self.trouble = settings, place, None
        self._notes = settings.workspace / "kept" / "runs.json"  # run id → what of it is kept
        self._closed, self._thread = threading.Event(), None

    def start(self) -> Keeper:
        """Bring back what is kept, then look for what has finished, until `close`."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="keeper")
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread; what is being copied is finished first."""
        self._closed.set()
        if self._thread:
            self._thread.join(30)

    def _run(self) -> None:
        back = False
        while True:
            try:
                back = back or self.restore() >= 0
                self.keep()
                self.trouble = None
            except UserError as error:
                if self.trouble != str(error):
                    log.warning("%s", error)
                self.trouble = str(error)
            except Exception:  # nothing may end this thread
                log.exception("error in the keeper")
                self.trouble = "Finished runs are not kept: something broke on our side; the server's log has more."
            if self._closed.wait(PAUSE):
                return

    def restore(self) -> int:
        """Bring back every kept run that is not here, whole or not at all; how many. Raises UserError."""
        self._forget()  # what somebody deleted must not come back
        runs, coming = self.settings.runs, self.settings.runs / f"{PART}back"
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir(parents=True)
        try:
            self.place.fetch(coming, {path.name for path in runs.iterdir()})
            kept, count = self._kept(), 0
            for run in [path for path in coming.iterdir() if not path.name.startswith(".")]:
                try:
                    read_run(run)
                except UserError as error:
                    log.warning("a kept run is left where it is: %s", error)
                    continue
                kept[run.name] = _marks(stamp(run))
                run.rename(runs / run.name)
                count += 1
            if count:
                self._note(kept)
            return count
        finally:
            shutil.rmtree(coming, ignore_errors=True)

    def keep(self) -> int:
        """Keep what has finished or changed since, and let go of what was deleted here; how many runs were copied."""
        self._forget()
        kept, count = self._kept(), 0
        for run, record in list_runs(self.settings.runs):
            if not ID_PATTERN.fullmatch(run.name) or not finished(run, record):
                continue
            files = stamp(run)
            if kept.get(run.name) == _marks(files):
                continue
            self.place.put(run, files)
            if stamp(run) != files:  # it changed under our hands; the next look copies the rest
                continue
            kept[run.name] = _marks(files)
            self._note(kept)
            count += 1
        return count

    def _forget(self) -> None:
        for note in forgotten(self.settings).glob("*"):
            if ID_PATTERN.fullmatch(note.name) and not (self.settings.runs / note.name).exists():
                self.place.remove(note.name)
            note.unlink(missing_ok=True)

    def _kept(self) -> dict[str, dict]:
        """Run id → the stamp of what is kept of it, as far as this disk knows."""
        try:
            noted = json.loads(self._notes.read_text(encoding="utf-8"))
            return noted["runs"] if noted["place"] == str(self.place) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _note(self, kept: dict[str, dict]) -> None:
        write_atomically(self._notes, json.dumps({"place": str(self.place), "runs": kept}))


def _marks(files: Stamp) -> dict[str, list[int]]:
    return {name: list(mark) for name, mark in files.items()}


def forgotten(settings: Settings) -> Path:
    """The folder with an empty file for each run that a person deleted and that is kept still."""
    return settings.workspace / "kept" / "forgotten"


def forget(settings: Settings, run_id: str) -> None:
    """Note that a run was deleted for good, so that it is not kept any longer. Raises UserError."""
    if settings.keep and ID_PATTERN.fullmatch(run_id):
        write_atomically(forgotten(settings) / run_id, "")


def forgetful(settings: Settings, env: dict[str, str] | None = None) -> str:
    """What people should know about this place's memory, in a sentence; empty where there is nothing to say."""
    env = dict(os.environ) if env is None else env
    if not env.get("SPACE_ID") or os.path.ismount(settings.workspace):
        return ""
    if settings.keep:
        return (
            "This Space keeps finished datasets, adapters and evaluations; traces and what is unfinished are gone when "
            "it restarts."
        )
    return "This Space forgets everything when it restarts: take along what you want to keep."
