"""The datasets of a workspace, the state of each, and the explorers of those that were opened last."""

import time

import numpy as np

from lightreasoner.datasets.amateurs import amateur_datasets
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.step_table import read_steps
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.paper import BETA
from lightreasoner.problems.sources import problems_title
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import folder_bytes, stamp
from lightreasoner.storage.runs import read_run
from ui.components.form_values import pair_title
from ui.components.run_list import MAX_LISTED, Entry, Recent, RunList

MARK = ":"  # between the id of a dataset and the folder of a further amateur, in the id of that amateur's own dataset
COUNTING = 0.3  # seconds per request of the list for counting samples; later requests count the rest


class Dataset(Entry):
    """One entry of the list."""

    def describe(self, config: dict, about: dict) -> str:
        """Pair · source · number of problems."""
        if about.get("imported"):
            return f"{config.get('source', 'samples')} · imported"
        known, limit = about.get("pair") or {}, config.get("limit")
        pair = pair_title((known.get("name"), config.get("expert", "?"), config.get("amateur", "?")))
        problems = problems_title(str(config.get("problems") or config.get("responses") or "?"))
        more = [f"{limit:,}"] if limit else []
        return " · ".join([pair, problems, *more, *(["scored"] if config.get("responses") else [])])


class Datasets(RunList):
    """All datasets, and the explorers of those that were opened last."""

    verbs = ("sample", "score", "compare-amateurs")
    kind, article, noun, entry = "dataset", "a", "dataset", Dataset
    in_memory = 4  # explorers, at about fifty bytes per step each

    def __init__(self, settings: Settings, jobs: Scheduler):
        super().__init__(settings, jobs)
        self._counts = Recent(MAX_LISTED)  # id → {shard: (its stamp, steps above the default β)}

    def find(self, run_id: object) -> Dataset:
        """The dataset with this id; with MARK and a folder's name after it, the one of a further amateur inside it."""
        whole, mark, name = str(run_id).partition(MARK)
        if not mark:
            return super().find(run_id)
        found = next((own for own in self.further(super().find(whole)) if own.folder.name == name), None)
        if found is None:
            raise UserError("This dataset has no such amateur; it was deleted, or the link is not whole.")
        return found

    def further(self, dataset: Dataset) -> list[Dataset]:
        """The datasets of its further amateurs. They have its job."""
        amateurs = amateur_datasets(dataset.folder)[1:] if dataset.run else []
        folders = [each.folder for each in amateurs]
        return [self.entry(f"{dataset.id}{MARK}{own.name}", own, read_run(own), dataset.job) for own in folders]

    def explorer(self, dataset: Dataset) -> Explorer:
        """The dataset's explorer, up to date. Raises UserError."""
        explorer = self.parsed.get(dataset.id, lambda: Explorer(dataset.folder))
        explorer.refresh()
        return explorer

    def summaries(self) -> list[dict]:
        """The list for the page. `samples` is the number of steps above the default β, None until counted."""
        until = time.monotonic() + COUNTING
        return [
            {
                "id": dataset.id,
                "name": dataset.name,
                "samples": self._samples(dataset, until),
                "bytes": folder_bytes(dataset.folder),
                "created": dataset.created,
            }
            | self.condition(dataset)
            for dataset in self.listed()
        ]

    def _samples(self, dataset: Dataset, until: float) -> int | None:
        if dataset.run is None:
            return None
        if dataset.run["about"].get("imported"):
            return (dataset.run["about"].get("import") or {}).get("rows")
        total, counts = 0, self._counts.get(dataset.id, dict)
        for path in shards(dataset.folder):
            now = stamp(path)
            if now is None:
                continue
            known = counts.get(path)
            if known is None or known[0] != now:
                if time.monotonic() > until:
                    return None
                try:
                    kl = read_steps(path, ("kl",)).values["kl"].astype(np.float64)
                    known = (now, int((kl > BETA).sum()))
                except UserError:  # the explorer names damaged shards
                    known = (now, 0)
                counts[path] = known
            total += known[1]
        return total
