"""The runs of one kind that a tab lists, the state of each, and deleting one."""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from lightreasoner.errors import UserError
from lightreasoner.jobs.events import EVENTS_FILE, last_event
from lightreasoner.jobs.processes import alive
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import ACTIVE, FINISHED, Job
from lightreasoner.jobs.view import job_view
from lightreasoner.serving.archive import note_deleted
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, delete_run, list_runs, read_run, run_folder

MOST = 500  # runs and jobs that are listed
#: Fine-tuning method → its name on the page.
METHOD_TITLES = {
    "lightreasoner": "LightReasoner",
    "no-contrast": "No contrast",
    "all-steps": "All steps",
    "random-steps": "Random steps",
    "sft": "SFT",
}
Parsed = TypeVar("Parsed")


class Recent(Generic[Parsed]):
    """The parsed form of the runs that were opened last; safe to use from several threads."""

    def __init__(self, size: int):
        self.size = size
        self._kept: OrderedDict[Hashable, Parsed] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Parsed]) -> Parsed:
        """What is kept under the key, made by `make` where there is nothing; the one unused for longest goes."""
        with self._lock:
            found = self._kept.pop(key, None) or make()
            self._kept[key] = found
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        return found

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._kept.pop(key, None)


@dataclass(frozen=True)
class Entry:
    """One entry of a list. `run` is None as long as its job has not begun, or if it failed before it could."""

    id: str
    folder: Path
    run: dict | None
    job: Job | None

    @property
    def created(self) -> float:
        return self.run["created"] if self.run else self.job.created

    @property
    def name(self) -> str:
        """What people read; each kind of run says more than this."""
        return self.job.title if self.job else self.id

    @property
    def state(self) -> str:
        """waiting, running, done, stopped, failed, cancelled or interrupted."""
        if self.job:
            states = {"queued": "waiting", "succeeded": "stopped" if self.job.kept else "done"}
            return states.get(self.job.state, "running" if self.job.state in ACTIVE else self.job.state)
        if self.run["about"].get("imported"):
            return "done"
        end = last_event(self.folder / EVENTS_FILE)
        if end is None:  # a copy
            return "done"
        if end["kind"] != "end":  # made by the command line, and at work unless its process was killed
            return "running" if at_work(self.folder) else "interrupted"
        return "stopped" if end.get("kept") else {"succeeded": "done"}.get(end.get("state"), str(end.get("state")))


def at_work(folder: Path) -> bool:
    """Whether the process that last began to work in the folder still does. The lock is left alone: a verb that starts
    at this very moment must find it free."""
    start = last_event(folder / EVENTS_FILE, "start") or {}
    return isinstance(start.get("pid"), int) and alive(start["pid"], start.get("mark"))


class RunList:
    """Runs of one kind. Every method takes ids as they came from the page and raises UserError for what is none."""

    verb: ClassVar[str]  # whose jobs make such runs
    kind: ClassVar[str]  # as run.json has it
    noun: ClassVar[str]  # with its article, as sentences have it
    entry: ClassVar[type[Entry]] = Entry

    def __init__(self, settings: Settings, jobs: Scheduler):
        self.settings, self.jobs = settings, jobs

    def latest_jobs(self) -> dict[Path, Job]:
        """Run folder → its latest job."""
        latest: dict[Path, Job] = {}
        for job in sorted(self.jobs.store.jobs(limit=MOST), key=lambda job: job.created):
            if job.verb == self.verb:
                latest[job.run_dir.absolute()] = job
        return latest

    def listed(self) -> list[Any]:
        """All entries, newest first."""
        jobs = self.latest_jobs()
        found = [
            self.entry(folder.name, folder, run, jobs.pop(folder.absolute(), None))
            for folder, run in list_runs(self.settings.runs, self.kind)[:MOST]
        ]
        found += [
            self.entry(folder.name, folder, None, job)
            for folder, job in jobs.items()
            if folder.parent == self.settings.runs.absolute()
            and not (folder / RECORD).exists()
            and (job.state not in FINISHED or folder.is_dir())
        ]
        return sorted(found, key=lambda entry: -entry.created)

    def find(self, run_id: object) -> Any:
        """The entry of this id."""
        folder = run_folder(self.settings, run_id)
        job = self.latest_jobs().get(folder.absolute())
        plain = self.noun.partition(" ")[2]
        if not (folder / RECORD).exists():
            if job is None or (job.state in FINISHED and not folder.is_dir()):
                raise UserError(f"There is no {plain} {run_id} on this server; it was deleted or made elsewhere.")
            return self.entry(folder.name, folder, None, job)
        run = read_run(folder)
        if run["kind"] != self.kind:
            raise UserError(f"This link opens a run of the kind {run['kind']}, not {self.noun}.")
        return self.entry(folder.name, folder, run, job)

    def view(self, entry: Entry) -> dict | None:
        """What the page shows of the entry's job, or None."""
        return job_view(self.jobs.store, entry.job) if entry.job else None

    def act(self, run_id: object, action: object) -> None:
        """Stop its job and keep what is there ("keep"), cancel it, or resume it."""
        entry = self.find(run_id)
        actions = {"keep": self.jobs.keep, "cancel": self.jobs.cancel, "resume": self.jobs.resume}
        view = self.view(entry)
        if not isinstance(action, str) or action not in actions:
            raise UserError(f"There is no action called {str(action)[:20]!r}.")
        if view is None or action not in view["actions"]:
            plain = self.noun.partition(" ")[2]
            raise UserError(f"This {plain} is {entry.state} by now, so that cannot be done any more.")
        actions[action](entry.job.id)

    def remove(self, run_id: object) -> Entry:
        """Delete one for good. Refused while a job works in it or waits to."""
        entry = self.find(run_id)
        plain = self.noun.partition(" ")[2]
        if entry.job and entry.job.state not in FINISHED:
            raise UserError(f"A job is at work on this {plain}; cancel it first, then delete the {plain}.")
        if entry.run is None:  # its job ended before there was anything
            self.jobs.delete(entry.job.id)
            shutil.rmtree(entry.folder, ignore_errors=True)
        else:
            delete_run(entry.folder)
            note_deleted(self.settings, entry.id)
        return entry


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file does: (mtime in ns, bytes); None while it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def ago(seconds: float) -> str:
    """When something was made, for a label: "22 Nov 14:05", in the server's time."""
    return time.strftime("%d %b %H:%M", time.localtime(seconds)).lstrip("0")


def short_name(ref: object) -> str:
    """A model's reference, or a path, without owner and folders."""
    return str(ref).rstrip("/").rpartition("/")[2]
