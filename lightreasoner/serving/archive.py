"""Keeping finished runs where the disk forgets: copied to a folder, a bucket or a dataset on the Hub, and back.

LIGHTREASONER_KEEP names the place: /path, s3://BUCKET/PATH or hf://datasets/OWNER/NAME. Datasets, adapters and
evaluations are kept when they are finished; jobs and their SQLite file, traces, checkpoints and merged models are not.
They come back when the server starts. run.json is written last and read first: a run that was copied in part does not
count.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.jobs.events import EVENTS_FILE, last_event
from lightreasoner.serving.archive_backends import PARTIAL, ArchiveBackend, FileStamps, file_stamps
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, write_text
from lightreasoner.storage.runs import list_runs, read_run

log = logging.getLogger(__name__)

ARCHIVED_KINDS = ("dataset", "finetune", "evaluation")
PAUSE = 20.0  # seconds between looks at what has finished


def is_finished(run: Path, record: dict) -> bool:
    """Whether a run is of a kind that is kept, and whole: imported, or ended well, also when it was stopped early."""
    if record["kind"] not in ARCHIVED_KINDS:
        return False
    if record["about"].get("imported"):
        return True
    last = last_event(run / EVENTS_FILE)
    return bool(last and last["kind"] == "end" and last.get("state") == "succeeded")


class RunArchiver:
    """Copies what has finished to the place, in a thread. `trouble` is what keeps it from doing so, or None."""

    def __init__(self, settings: Settings, backend: ArchiveBackend):
        self.settings, self.backend, self.trouble = settings, backend, None
        self._notes = settings.workspace / "kept" / "runs.json"  # run id → what of it is kept
        self._closed, self._thread = threading.Event(), None

    def start(self) -> RunArchiver:
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
                self.archive_finished()
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
        self._apply_deletions()  # what somebody deleted must not come back
        runs, coming = self.settings.runs, self.settings.runs / f"{PARTIAL}back"
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir(parents=True)
        try:
            self.backend.fetch(coming, {path.name for path in runs.iterdir()})
            kept, count = self._archived(), 0
            for run in [path for path in coming.iterdir() if not path.name.startswith(".")]:
                try:
                    read_run(run)
                except UserError as error:
                    log.warning("a kept run is left where it is: %s", error)
                    continue
                kept[run.name] = _as_lists(file_stamps(run))
                run.rename(runs / run.name)
                count += 1
            if count:
                self._write_notes(kept)
            return count
        finally:
            shutil.rmtree(coming, ignore_errors=True)

    def archive_finished(self) -> int:
        """Keep what has finished or changed since, and let go of what was deleted here; how many runs were copied."""
        self._apply_deletions()
        kept, count = self._archived(), 0
        for run, record in list_runs(self.settings.runs):
            if not ID_PATTERN.fullmatch(run.name) or not is_finished(run, record):
                continue
            files = file_stamps(run)
            if kept.get(run.name) == _as_lists(files):
                continue
            self.backend.put(run, files)
            if file_stamps(run) != files:  # it changed under our hands; the next look copies the rest
                continue
            kept[run.name] = _as_lists(files)
            self._write_notes(kept)
            count += 1
        return count

    def _apply_deletions(self) -> None:
        for note in deleted_runs(self.settings).glob("*"):
            if ID_PATTERN.fullmatch(note.name) and not (self.settings.runs / note.name).exists():
                self.backend.remove(note.name)
            note.unlink(missing_ok=True)

    def _archived(self) -> dict[str, dict]:
        """Run id → the stamp of what is kept of it, as far as this disk knows."""
        try:
            noted = json.loads(self._notes.read_text(encoding="utf-8"))
            return noted["runs"] if noted["place"] == str(self.backend) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_notes(self, kept: dict[str, dict]) -> None:
        write_text(self._notes, json.dumps({"place": str(self.backend), "runs": kept}))


def _as_lists(files: FileStamps) -> dict[str, list[int]]:
    return {name: list(mark) for name, mark in files.items()}


def deleted_runs(settings: Settings) -> Path:
    """The folder with an empty file for each run that a person deleted and that is kept still."""
    return settings.workspace / "kept" / "forgotten"


def note_deleted(settings: Settings, run_id: str) -> None:
    """Note that a run was deleted for good, so that it is not kept any longer. Raises UserError."""
    if settings.keep and ID_PATTERN.fullmatch(run_id):
        write_text(deleted_runs(settings) / run_id, "")


def ephemeral_disk_notice(settings: Settings, env: dict[str, str] | None = None) -> str:
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
