"""What datasets there are, how each of them stands, and the explorers that are open. Made once for all visitors."""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightreasoner.errors import UserError
from lightreasoner.exploring import Explorer
from lightreasoner.jobs.events import NAME, last_event
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import ACTIVE, FINISHED, Job
from lightreasoner.jobs.view import job_view
from lightreasoner.pairs import presets
from lightreasoner.problems import SOURCES
from lightreasoner.runs import RECORD, delete_run, list_runs, read_run, run_folder
from lightreasoner.settings import Settings
from lightreasoner.step_table import read_steps
from lightreasoner.trajectories import shards

OPEN = 4  # explorers kept in memory: some fifty bytes a step each
USUAL_BETA = 0.4
COUNTING = 0.3  # seconds that one look at the list may spend on counting samples; the rest is counted by later looks
MOST = 500  # datasets and jobs that are listed


@dataclass(frozen=True)
class Dataset:
    """One entry of the list. `run` is None as long as its job has not begun, or if it failed before it could."""

    id: str
    folder: Path
    run: dict | None
    job: Job | None

    @property
    def created(self) -> float:
        return self.run["created"] if self.run else self.job.created

    @property
    def name(self) -> str:
        """Pair · source · number of problems."""
        if self.run is None:
            return self.job.title
        config, about = self.run["config"], self.run["about"]
        if about.get("imported"):
            return f"{config.get('source', 'samples')} · imported"
        known = about.get("pair") or {}
        preset = next((p for p in presets() if p.name == known.get("name")), None)
        refs = [str(config.get(role, "?")).rstrip("/").rpartition("/")[2] for role in ("expert", "amateur")]
        source = str(config.get("problems", "?"))
        named = SOURCES[source].title if source in SOURCES else source
        limit = config.get("limit")
        return " · ".join([preset.title if preset else " / ".join(refs), named, *([f"{limit:,}"] if limit else [])])

    @property
    def state(self) -> str:
        """waiting, growing, done, stopped, failed, cancelled or interrupted."""
        if self.job:
            states = {"queued": "waiting", "succeeded": "stopped" if self.job.kept else "done"}
            return states.get(self.job.state, "growing" if self.job.state in ACTIVE else self.job.state)
        if self.run["about"].get("imported"):
            return "done"
        end = last_event(self.folder / NAME)
        if end is None:  # a copy
            return "done"
        if end["kind"] != "end":  # made by the command line, and at work unless its process was killed
            return "growing" if is_locked(self.folder) else "interrupted"
        return "stopped" if end.get("kept") else {"succeeded": "done"}.get(end.get("state"), str(end.get("state")))


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder."""
    from filelock import FileLock, Timeout

    from lightreasoner.runs import LOCK

    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def size_of(folder: Path) -> int:
    """Bytes on disk; what vanishes while it is counted counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


class Datasets:
    """Every method takes ids as they came from the page and raises UserError for what is none."""

    def __init__(self, settings: Settings, jobs: Scheduler):
        self.settings, self.jobs = settings, jobs
        self._explorers: OrderedDict[str, Explorer] = OrderedDict()
        self._counts: dict[Path, tuple[tuple, int]] = {}  # shard → (its stamp, steps above the usual β)
        self._changing = threading.Lock()

    def _sampling(self) -> dict[Path, Job]:
        """Run folder → its latest job."""
        latest: dict[Path, Job] = {}
        for job in sorted(self.jobs.store.jobs(limit=MOST), key=lambda job: job.created):
            if job.verb == "sample":
                latest[job.run_dir.absolute()] = job
        return latest

    def listed(self) -> list[Dataset]:
        """All, newest first."""
        jobs = self._sampling()
        found = [
            Dataset(folder.name, folder, run, jobs.pop(folder.absolute(), None))
            for folder, run in list_runs(self.settings.runs, "dataset")[:MOST]
        ]
        found += [
            Dataset(folder.name, folder, None, job)
            for folder, job in jobs.items()
            if folder.parent == self.settings.runs.absolute()
            and not (folder / RECORD).exists()
            and (job.state not in FINISHED or folder.is_dir())
        ]
        return sorted(found, key=lambda dataset: -dataset.created)

    def find(self, dataset_id: object) -> Dataset:
        folder = run_folder(self.settings, dataset_id)
        job = self._sampling().get(folder.absolute())
        if not (folder / RECORD).exists():
            if job is None or (job.state in FINISHED and not folder.is_dir()):
                raise UserError(f"There is no dataset {dataset_id} on this server; it was deleted or made elsewhere.")
            return Dataset(folder.name, folder, None, job)
        run = read_run(folder)
        if run["kind"] != "dataset":
            raise UserError(f"This link opens a run of the kind {run['kind']}, not a dataset.")
        return Dataset(folder.name, folder, run, job)

    def explorer(self, dataset: Dataset) -> Explorer:
        """The dataset's explorer, up to date; the last few stay in memory. Raises UserError."""
        with self._changing:
            explorer = self._explorers.pop(dataset.id, None) or Explorer(dataset.folder)
            self._explorers[dataset.id] = explorer
            while len(self._explorers) > OPEN:
                self._explorers.popitem(last=False)
        explorer.refresh()
        return explorer

    def view(self, dataset: Dataset) -> dict | None:
        """What the page shows of the dataset's job, or None."""
        return job_view(self.jobs.store, dataset.job) if dataset.job else None

    def summaries(self) -> list[dict]:
        """The list as the page shows it. `samples` is the number of steps above the usual β, None until counted."""
        until = time.monotonic() + COUNTING
        return [
            {
                "id": dataset.id,
                "name": dataset.name,
                "state": dataset.state,
                "samples": self._samples(dataset, until),
                "bytes": size_of(dataset.folder),
                "created": dataset.created,
            }
            for dataset in self.listed()
        ]

    def _samples(self, dataset: Dataset, until: float) -> int | None:
        if dataset.run is None:
            return None
        if dataset.run["about"].get("imported"):
            return (dataset.run["about"].get("import") or {}).get("rows")
        total = 0
        for path in shards(dataset.folder):
            try:
                status = path.stat()
            except OSError:
                continue
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._counts.get(path)
            if known is None or known[0] != stamp:
                if time.monotonic() > until:
                    return None
                try:
                    kl = read_steps(path, ("kl",)).values["kl"].astype(np.float64)
                    known = (stamp, int((kl > USUAL_BETA).sum()))
                except UserError:  # the explorer names damaged shards
                    known = (stamp, 0)
                self._counts[path] = known
            total += known[1]
        return total

    def remove(self, dataset_id: object) -> None:
        """Delete a dataset for good. Refused while a job works in it or waits to."""
        dataset = self.find(dataset_id)
        if dataset.job and dataset.job.state not in FINISHED:
            raise UserError("A job is at work on this dataset; cancel it first, then delete the dataset.")
        if dataset.run is None:  # its job ended before there was anything
            self.jobs.delete(dataset.job.id)
            shutil.rmtree(dataset.folder, ignore_errors=True)
        else:
            delete_run(dataset.folder)
        with self._changing:
            self._explorers.pop(dataset.id, None)
            self._counts = {path: count for path, count in self._counts.items() if path.parent.parent != dataset.folder}
