"""The archive of finished runs, for servers with an ephemeral disk: a folder, a bucket or a dataset on the Hub.

LIGHTREASONER_ARCHIVE names it: /path, s3://BUCKET/PATH or hf://datasets/OWNER/NAME. Finished datasets, adapters and
evaluations are copied there, and back when the server starts; jobs, traces, checkpoints and merged models are not.
run.json is copied last, so a partial copy does not count as a run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.jobs.events import EVENTS_FILE, last_event
from lightreasoner.serving.archive_backends import PARTIAL, ArchiveBackend, FileStamps, file_stamps
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, read_json, write_text
from lightreasoner.storage.runs import list_runs, read_run

log = logging.getLogger(__name__)

ARCHIVED_KINDS = ("dataset", "finetune", "evaluation")
PAUSE = 20.0  # seconds between searches for finished runs


def is_finished(run: Path, record: dict) -> bool:
    """Whether a run is of an archived kind and complete: imported, succeeded, or stopped early with its results."""
    if record["kind"] not in ARCHIVED_KINDS:
        return False
    if record["about"].get("imported"):
        return True
    last = last_event(run / EVENTS_FILE)
    return bool(last and last["kind"] == "end" and last.get("state") == "succeeded")


class RunArchiver:
    """Copies finished runs to a backend, in a thread. `trouble`: a sentence saying why it cannot, or None."""

    def __init__(self, settings: Settings, backend: ArchiveBackend):
        self.settings, self.backend, self.trouble = settings, backend, None
        self._notes = settings.workspace / "kept" / "runs.json"  # run id → its archived files
        self._closed, self._thread = threading.Event(), None

    def start(self) -> RunArchiver:
        """Restore the archived runs, then archive finished ones until `close`."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="archiver")
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread after the current copy."""
        self._closed.set()
        if self._thread:
            self._thread.join(30)

    def _run(self) -> None:
        restored = False
        while True:
            try:
                restored = restored or self.restore() >= 0
                self.archive_finished()
                self.trouble = None
            except UserError as error:
                if self.trouble != str(error):
                    log.warning("%s", error)
                self.trouble = str(error)
            except Exception:  # the thread must survive
                log.exception("error in the archiver")
                self.trouble = "Finished runs are not archived: an unexpected error occurred; see the server's log."
            if self._closed.wait(PAUSE):
                return

    def restore(self) -> int:
        """Restore every archived run that is missing here, completely or not at all. Returns their number."""
        self._apply_deletions()  # deleted runs must not come back
        runs, staging = self.settings.runs, self.settings.runs / f"{PARTIAL}back"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            self.backend.fetch(staging, {path.name for path in runs.iterdir()})
            archived, count = self._archived(), 0
            for run in [path for path in staging.iterdir() if not path.name.startswith(".")]:
                try:
                    read_run(run)
                except UserError as error:
                    log.warning("an archived run is not restored: %s", error)
                    continue
                archived[run.name] = _as_lists(file_stamps(run))
                run.rename(runs / run.name)
                count += 1
            if count:
                self._write_notes(archived)
            return count
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def archive_finished(self) -> int:
        """Archive finished and changed runs, and remove those that were deleted here. Returns the number of copies."""
        self._apply_deletions()
        archived, count = self._archived(), 0
        for run, record in list_runs(self.settings.runs):
            if not ID_PATTERN.fullmatch(run.name) or not is_finished(run, record):
                continue
            files = file_stamps(run)
            if archived.get(run.name) == _as_lists(files):
                continue
            self.backend.put(run, files)
            if file_stamps(run) != files:  # it changed meanwhile; the next search copies the rest
                continue
            archived[run.name] = _as_lists(files)
            self._write_notes(archived)
            count += 1
        return count

    def _apply_deletions(self) -> None:
        for note in deleted_runs(self.settings).glob("*"):
            if ID_PATTERN.fullmatch(note.name) and not (self.settings.runs / note.name).exists():
                self.backend.remove(note.name)
            note.unlink(missing_ok=True)

    def _archived(self) -> dict[str, dict]:
        """Run id → the stamps of its archived files, as noted on this disk."""
        noted = read_json(self._notes)
        with suppress(KeyError, TypeError):
            return noted["runs"] if noted["place"] == str(self.backend) else {}
        return {}

    def _write_notes(self, archived: dict[str, dict]) -> None:
        write_text(self._notes, json.dumps({"place": str(self.backend), "runs": archived}))


def _as_lists(files: FileStamps) -> dict[str, list[int]]:
    return {name: list(mark) for name, mark in files.items()}


def deleted_runs(settings: Settings) -> Path:
    """The folder with an empty file for each deleted run that is still archived."""
    return settings.workspace / "kept" / "forgotten"


def note_deleted(settings: Settings, run_id: str) -> None:
    """Note that a run was deleted, so that it is removed from the archive, too. Raises UserError."""
    if settings.archive and ID_PATTERN.fullmatch(run_id):
        write_text(deleted_runs(settings) / run_id, "")


def ephemeral_disk_notice(settings: Settings, env: dict[str, str] | None = None) -> str:
    """A warning where the disk is ephemeral; otherwise empty."""
    env = dict(os.environ) if env is None else env
    if not env.get("SPACE_ID") or os.path.ismount(settings.workspace):
        return ""
    if settings.archive:
        return (
            "This Space archives finished datasets, adapters and evaluations; traces and unfinished runs are lost when "
            "it restarts."
        )
    return "This Space's disk is ephemeral: download the results you need before it restarts."
