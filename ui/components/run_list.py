"""The runs of one kind that a tab lists, the state of each, and deleting one."""

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lightreasoner.errors import UserError
from lightreasoner.experiments.plan import FILE as PLAN
from lightreasoner.experiments.results import all_stages
from lightreasoner.experiments.stages import ROUND_EXPERT
from lightreasoner.jobs.context import stop_requested
from lightreasoner.jobs.events import EVENTS_FILE, last_event, reversed_events
from lightreasoner.jobs.outcome import is_in_progress
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import ACTIVE, FINISHED, Job
from lightreasoner.jobs.view import LOOK_BACK, job_view
from lightreasoner.serving.archive import note_deleted
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import stamp
from lightreasoner.storage.names import checked_name, give_name, given_name
from lightreasoner.storage.runs import RECORD, delete_run, list_runs, read_run, run_folder

MAX_LISTED = 500  # runs and jobs


class Recent:
    """The parsed form of the runs that were opened last; safe to use from several threads."""

    def __init__(self, size: int):
        self.size = size
        self._parsed: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of the key, from `make` if there is none; the least recently used one is dropped."""
        with self._lock:
            parsed = self._parsed.pop(key, None) or make()
            self._parsed[key] = parsed
            while len(self._parsed) > self.size:
                self._parsed.popitem(last=False)
        return parsed

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._parsed.pop(key, None)


@dataclass(frozen=True)
class Entry:
    """One entry of a list. `run` is None until its job has started, or if the job failed before."""

    id: str
    folder: Path
    run: dict | None
    job: Job | None
    again: int = 1  # which one of those with the same name, in order of their making

    @property
    def created(self) -> float:
        return self.run["created"] if self.run else self.job.created

    @property
    def name(self) -> str:
        """The name on the page, which no other entry of the list has."""
        return f"{self.plain_name} ({self.again})" if self.again > 1 else self.plain_name

    @property
    def plain_name(self) -> str:
        """The user's name, else that of the job until there is a run, else what the run is."""
        if given := given_name(self.folder):
            return given
        if self.run is None:
            return self.job.title
        arm = arm_of(self.folder)
        return self.describe(self.run["config"], self.run["about"]) + (f" · {arm}" if arm else "")

    def describe(self, config: dict, about: dict) -> str:
        """The name of a run, from its record."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """waiting, running, done, stopped, failed, cancelled or interrupted."""
        if self.job:
            states = {"queued": "waiting", "succeeded": "stopped" if self.job.kept else "done"}
            return states.get(self.job.state, "running" if self.job.state in ACTIVE else self.job.state)
        if self.run["about"].get("imported"):
            return "done"
        end = last_event(self.folder / EVENTS_FILE)
        if end is None:  # a run copied from elsewhere
            return "done"
        if end["kind"] != "end":  # made on the command line; in progress unless its process was killed
            return "running" if is_in_progress(self.folder) else "interrupted"
        return "stopped" if end.get("kept") else {"succeeded": "done"}.get(end.get("state"), str(end.get("state")))


def numbered(entries: Iterable[Entry]) -> list[Any]:
    """The entries, newest first, with a number where several have the same name: the later one has the higher."""
    ordered = sorted(entries, key=lambda entry: (given_name(entry.folder) is None, entry.created))
    taken: set[str] = set()
    found = []
    for entry in ordered:
        name, again = entry.plain_name, 1
        while (name if again == 1 else f"{name} ({again})") in taken:
            again += 1
        found.append(entry if again == 1 else replace(entry, again=again))
        taken.add(name if again == 1 else f"{name} ({again})")
    return sorted(found, key=lambda entry: -entry.created)


def arm_of(folder: Path) -> str | None:
    """The name of the arm whose stage in an experiment this run is; None for a run of its own."""
    at = len(folder.name)
    while (at := folder.name.rfind("-", 0, at)) > 0:
        experiment = folder.with_name(folder.name[:at])
        if written := stamp(experiment / PLAN):
            return _arms(experiment, written).get(folder.name)
    return None


@lru_cache(MAX_LISTED)
def _arms(experiment: Path, written: tuple) -> dict[str, str]:
    """Name of a stage's folder → its arm. written: of the plan, so that it is read again when it changes."""
    try:
        stages = all_stages(experiment)
    except UserError:
        return {}
    several = any(stage.round > 1 for stage in stages)
    names = ((s.folder.name, f"round {s.round}: {s.arm.name}" if several else s.arm.name) for s in stages if s.arm)
    return dict(names)


class RunList:
    """The runs of one kind. Methods take unchecked ids from the page and raise UserError for invalid ones."""

    verbs: ClassVar[tuple[str, ...]]  # of the jobs that make such runs
    kind: ClassVar[str]  # in run.json
    article: ClassVar[str]  # of the noun
    noun: ClassVar[str]  # for sentences
    entry: ClassVar[type[Entry]] = Entry
    in_memory: ClassVar[int]  # runs whose parsed form stays in memory

    def __init__(self, settings: Settings, jobs: Scheduler):
        self.settings, self.jobs = settings, jobs
        self.parsed = Recent(self.in_memory)  # by the run's id
        self._again: dict[str, int] = {}  # id → Entry.again, as last listed

    def latest_jobs(self) -> dict[Path, Job]:
        """Run folder → its latest job."""
        latest: dict[Path, Job] = {}
        for job in sorted(self.jobs.store.jobs(limit=MAX_LISTED), key=lambda job: job.created):
            if job.verb in self.verbs:
                latest[job.run_dir.absolute()] = job
        return latest

    def listed(self) -> list[Any]:
        """All entries, newest first."""
        jobs = self.latest_jobs()
        entries = [
            self.entry(folder.name, folder, run, jobs.pop(folder.absolute(), None))
            for folder, run in list_runs(self.settings.runs, self.kind)[:MAX_LISTED]
        ]
        entries += [
            self.entry(folder.name, folder, None, job)
            for folder, job in jobs.items()
            if folder.parent == self.settings.runs.absolute()
            and not (folder / RECORD).exists()
            and (job.state not in FINISHED or folder.is_dir())
        ]
        found = numbered(entries)
        self._again = {entry.id: entry.again for entry in found}
        return found

    def summaries(self) -> list[dict]:
        return [
            {"id": e.id, "name": e.name, "created": e.created, "facts": self.facts(e)} | self.condition(e)
            for e in self.listed()
        ]

    def condition(self, entry: Entry) -> dict:
        """The state of an entry, and whether it was asked to stop."""
        state = entry.state
        return {"state": state, "stopping": state == "running" and stop_requested(entry.folder) is not None}

    def rename(self, run_id: object, name: object) -> None:
        """Give a run the user's name; an empty one takes it back. Raises UserError, also for a name that is taken."""
        entry, name = self.find(run_id), checked_name(name)
        if name and any(other.name == name for other in self.listed() if other.id != entry.id):
            raise UserError(f"Another {self.noun} is called “{name}” already; choose another name.")
        give_name(entry.folder, name)

    def facts(self, entry: Any) -> str:
        """What the list says of an entry besides its name and state."""
        raise NotImplementedError

    def find(self, run_id: object) -> Any:
        folder = run_folder(self.settings, run_id)
        if run_id not in self._again:
            self.listed()
        again = self._again.get(run_id, 1)
        job = self.latest_jobs().get(folder.absolute())
        if not (folder / RECORD).exists():
            if job is None or (job.state in FINISHED and not folder.is_dir()):
                raise UserError(f"There is no {self.noun} {run_id} on this server; it was deleted or made elsewhere.")
            return self.entry(folder.name, folder, None, job, again)
        run = read_run(folder)
        if run["kind"] != self.kind:
            raise UserError(f"This link opens a run of the kind {run['kind']}, not {self.article} {self.noun}.")
        return self.entry(folder.name, folder, run, job, again)

    def view(self, entry: Entry) -> dict:
        """The view of the entry's job; of a run of the command line, what its log tells."""
        if entry.job:
            return job_view(self.jobs.store, entry.job)
        events = list(islice(reversed_events(entry.folder / EVENTS_FILE), LOOK_BACK))
        last = {event["kind"]: event for event in reversed(events)}
        status, progress = last.get("status", {}), last.get("progress", {})
        message = events[0].get("message") if events else None
        told = {"status": str(status.get("text") or ""), "message": str(message or "")}
        told |= {name: progress.get(name) for name in ("done", "total")}
        return dict.fromkeys(("id", "command", "rate", "eta", "elapsed", "state")) | told | {"actions": []}

    def act(self, run_id: object, action: object) -> None:
        """Stop its job and save the output so far ("keep"), cancel it, or resume it."""
        entry = self.find(run_id)
        actions = {"keep": self.jobs.keep, "cancel": self.jobs.cancel, "resume": self.jobs.resume}
        view = self.view(entry)
        if not isinstance(action, str) or action not in actions:
            raise UserError(f"There is no action called {str(action)[:20]!r}.")
        if action not in view["actions"]:
            raise UserError(f"This {self.noun} is {entry.state} by now, so this action is no longer possible.")
        actions[action](entry.job.id)

    def remove(self, run_id: object) -> Entry:
        """Delete a run for good. Raises UserError while a job of it is queued or running."""
        entry = self.find(run_id)
        if entry.job and entry.job.state not in FINISHED:
            raise UserError(f"A job is working on this {self.noun}; cancel it first, then delete the {self.noun}.")
        if entry.run is None:  # its job ended before it wrote a run
            self.jobs.delete(entry.job.id)
            shutil.rmtree(entry.folder, ignore_errors=True)
        else:
            delete_run(entry.folder)
            note_deleted(self.settings, entry.id)
        self.parsed.forget(entry.id)
        return entry


def without_folders(ref: object) -> str:
    """A model's reference, or a path, without owner and folders. The model that a later round of an experiment begins
    with is called after the round, since its folder begins with an id."""
    name = str(ref).rstrip("/").rpartition("/")[2]
    return f"expert of round {turn[1]}" if (turn := ROUND_EXPERT.search(name)) else name
