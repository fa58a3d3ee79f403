"""The evaluations of the workspace: their results, the names of their models, and the costs of adapters."""

import threading
from functools import lru_cache
from pathlib import Path

import pandas as pd

from lightreasoner.errors import UserError
from lightreasoner.evaluation.costs import Cost, benchmark, cost_table, largest
from lightreasoner.evaluation.results import ResultsReader, Variant, read_results, variants_of
from lightreasoner.formatting import plural
from lightreasoner.jobs.events import EVENTS_FILE, working_seconds
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.models.references import parse_ref
from lightreasoner.problems.sources import problems_title
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import stamp
from lightreasoner.storage.runs import list_runs, read_run, run_folder
from lightreasoner.training.runs import ADAPTER, WEIGHTS, tuned_run
from ui.components.run_list import MAX_LISTED, Entry, RunList, without_folders


def canonical(ref: str) -> str:
    """A model's reference in its canonical form, so that two can be compared."""
    try:
        return parse_ref(ref).text
    except UserError:
        return ref


class Evaluation(Entry):
    """One entry of the list."""

    @property
    def problems(self) -> str:
        return problems_title(str(self.run["config"].get("problems")))

    def describe(self, config: dict, about: dict) -> str:
        """Base · benchmark · number of problems · number of adapters · preview against an amateur."""
        count, more = len(config.get("adapters") or []), []
        if contrasts := config.get("contrasts"):
            what = "takeover of" if contrasts[0].get("takeover") else "preview against"
            more = [f"{what} {without_folders(str(config.get('amateur')))}"]
        parts = [without_folders(config.get("model")), self.problems, f"{about.get('problems', 0):,}"]
        return " · ".join([*parts, *([plural(count, "adapter")] if count else []), *more])


class Evaluations(RunList):
    """All evaluations, and the answers of those that were opened last."""

    verbs, kind, article, noun, entry = ("evaluate",), "evaluation", "an", "evaluation", Evaluation
    in_memory = 3

    def __init__(self, settings: Settings, jobs: Scheduler):
        super().__init__(settings, jobs)
        self._seconds = lru_cache(MAX_LISTED)(lambda folder, log_stamp: working_seconds(folder))
        self._refreshing = threading.Lock()

    def answers(self, evaluation: Evaluation) -> ResultsReader:
        """The answers so far; those of the last few evaluations stay in memory. Raises UserError."""
        found = self.parsed.get(evaluation.id, lambda: ResultsReader(evaluation.folder, variants_of(evaluation.run)))
        with self._refreshing:
            found.refresh()
        return found

    def answered(self, run_id: object) -> tuple[Evaluation, ResultsReader]:
        """An evaluation that has begun, and its answers so far. Raises UserError."""
        evaluation = self.find(run_id)
        if evaluation.run is None:
            raise UserError("This evaluation is still empty; wait for its first answers.")
        return evaluation, self.answers(evaluation)

    def results(self, evaluation: Evaluation) -> dict:
        """{"models", "comparisons"} of the answers so far. Raises UserError."""
        return read_results(evaluation.folder) or self.answers(evaluation).results()

    def tuned(self) -> list[str]:
        """Ids of the fine-tuning runs that have an adapter."""
        runs = list_runs(self.settings.runs, "finetune")
        return [folder.name for folder, _ in runs if (folder / ADAPTER / WEIGHTS).is_file()]

    def names(self, run: dict) -> list[str]:
        """The names of an evaluation's models on the page, all different."""
        base, variants = without_folders(str(run["config"].get("model"))), variants_of(run)
        full = [self._named(v, base) for v in variants]
        brief = [name.rpartition(" · ")[0] or name for name in full]  # without the run's id
        return [b if brief.count(b) == 1 else f for b, f in zip(brief, full, strict=True)]

    def _named(self, variant: Variant, base: str) -> str:
        """Of an adapter, the title of its fine-tuning run if that is in this workspace."""
        if variant.is_base:
            return f"{base}, base model"
        return (variant.adapter and self._title(variant.adapter)) or variant.name

    def _title(self, adapter: Path) -> str | None:
        if adapter.parent.parent.resolve() != self.settings.runs.resolve():
            return None
        try:
            return tuned_run(self.settings, adapter.parent.name).title
        except UserError:  # deleted since
            return None

    def facts(self, evaluation: Evaluation) -> str:
        """pass@1 of the first model, and the lowest and highest pass@1 of the others."""
        found = read_results(evaluation.folder) if evaluation.run else None
        if not found or not found["models"]:
            return ""
        measured = [model.get("pass_at_1") for model in found["models"]]
        if measured[0] is None:
            return "no known answers"
        first, *others = (100 * share for share in measured if share is not None)
        span = sorted({f"{share:.1f}": share for share in others}.values())
        later = f" → {' … '.join(f'{share:.1f}' for share in (span[0], span[-1])[: len(span)])} %" if span else ""
        return f"pass@1 {first:.1f} %{later}"

    def costs(self) -> list[Cost]:
        """The cost of every fine-tuned model of this workspace."""
        return cost_table(self.settings.runs, lambda folder: self._seconds(folder, stamp(folder / EVENTS_FILE)))


def by_benchmark(evaluations: Evaluations) -> list[dict]:
    """All results, grouped by base model and benchmark.

    Of several results of a model on a benchmark the one over the most problems counts, then the newest.
    """
    found = []
    for entry in evaluations.listed():  # newest first
        results = read_results(entry.folder) if entry.run else None
        if not results:
            continue
        variants, base = variants_of(entry.run), canonical(str(entry.run["config"].get("model")))
        named = dict(zip([v.name for v in variants], evaluations.names(entry.run), strict=True))
        places = {v.name: str(v.adapter or "") for v in variants}
        contrasts = {v.name for v in variants if v.contrast}  # no models; a grid of them would crowd the others out
        for model in results["models"]:
            if model["name"] in contrasts or model["pass_at_1"] is None:
                continue
            place, name = (of.get(model["name"], model["name"]) for of in (places, named))
            shown = model | {"name": name, "run": entry.id, "base": place == ""}
            found.append((base, benchmark(entry.run), entry.problems, place, model["problems"], shown))
    table = pd.DataFrame(found, columns=["base", "key", "title", "place", "problems", "model"])
    bases = table["base"].unique().tolist()  # the latest evaluated first
    groups = []
    for (base, key), rows in largest(table, ["base", "key", "place"]).groupby(["base", "key"]):
        models = sorted(rows["model"], key=lambda model: (not model["base"], -model["pass_at_1"]))
        groups.append({"base": base, "key": key, "title": rows["title"].iloc[0], "models": models})
    return sorted(groups, key=lambda group: bases.index(group["base"]))  # stable: by key within a base


def is_tuning_run(settings: Settings, run_id: object) -> bool:
    """Whether this is the id of a fine-tuning run, which prefills the form."""
    try:
        return read_run(run_folder(settings, run_id))["kind"] == "finetune"
    except UserError:
        return False
