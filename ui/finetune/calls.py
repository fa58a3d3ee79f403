"""The calls of the Fine-tune tab's script on the server: the list, an opened run, a comparison, merging and files."""

import pandas as pd

from lightreasoner.errors import UserError
from lightreasoner.formatting import format_value
from lightreasoner.jobs.context import stop_requested
from lightreasoner.jobs.store import FINISHED
from lightreasoner.storage.atomic import folder_bytes, stamp
from lightreasoner.training.best_checkpoint import other_adapter
from lightreasoner.training.config import METHOD_TITLES
from lightreasoner.training.curves import Curves
from lightreasoner.training.figures import curve_figures
from lightreasoner.training.presets import save_preset
from lightreasoner.training.runs import measured_in
from ui.access.actions import action
from ui.components.dataset_catalogue import Datasets
from ui.components.run_actions import RunActions
from ui.components.run_list import without_folders
from ui.components.script_calls import add_if_changed, fingerprint
from ui.finetune.catalogue import LABELS, Tuning, Tunings
from ui.finetune.model_card import card_html

MOST_COMPARED = 6  # as many lines as can be told apart
POINTS = 300  # per curve
#: Settings in run.json that are not in FinetuneConfig, and their names on the page.
SELECTION_LABELS = {"alpha": "α", "beta": "β", "selector": "Selector", "budget": "Budget", "tau": "τ", "box": "Box"}
SELECTION_LABELS |= {"cap": "Cap on the log ratio"}


def settings_of(run: Tuning, datasets: Datasets) -> dict[str, str]:
    """Label → text of every setting of a run."""
    if run.run is None:
        return {}
    config, about = run.run["config"], run.run["about"]
    dataset = without_folders(config.get("dataset", ""))
    try:
        title = f"{datasets.find(dataset).name} · {dataset[:6]}"
    except UserError:
        title = dataset
    method = str(config.get("method"))
    rows = {"Method": METHOD_TITLES.get(method, method), "Expert": str(about.get("expert", "?")), "Dataset": title}
    labels = SELECTION_LABELS | LABELS
    rows |= {label: format_value(config[name]) for name, label in labels.items() if config.get(name) is not None}
    device = [str(about[name]) for name in ("device", "dtype") if about.get(name)]
    return rows | ({"Device": ", ".join(device)} if device else {})


def target_of(run: Tuning) -> str:
    """What a run is trained towards, in a few words: losses of runs that differ in it cannot be compared."""
    config = run.run["config"] if run.run else {}
    method = str(config.get("method"))
    title = METHOD_TITLES.get(method, method)
    if method == "no-contrast" or method == "sft":
        return title
    alpha = config.get("alpha")
    steps = "" if method == "lightreasoner" else f", {title.lower()}"
    numbers = f", α = {alpha:g}" if isinstance(alpha, int | float) else ""
    numbers += f", cap {cap:g}" if isinstance(cap := config.get("cap"), int | float) else ""
    return f"contrastive target{numbers}{steps}"


def differences(settings: pd.DataFrame) -> list[dict]:
    """A row per setting with its value in each run, and whether they differ. settings: a row per run."""
    table = settings.fillna("–")
    return [{"name": n, "values": table[n].tolist(), "differs": bool(table[n].nunique() > 1)} for n in table]


def numbers_of(curves: Curves) -> dict:
    """The counts and the numbers beside a run's progress."""
    trained, held_out = curves.trained, curves.measured.columns["held_out_loss"]
    found = {name: trained.last(name) for name in ("samples_seen", "epoch")}
    first = next((value for value in held_out if value is not None), None)
    found |= {"before": first, "after": curves.measured.last("held_out_loss")}
    return curves.examples | found | {"lowest": curves.measured.lowest("held_out_loss")}


def changed(figures: dict, marks: object) -> dict:
    """The names of all figures, and those as JSON that the page does not have yet. marks: of the previous answer."""
    answer: dict = {"marks": {}}
    for name, figure in figures.items():
        add_if_changed(answer, name, figure.to_plotly_json(), marks)
    return {"marks": answer.pop("marks"), "changed": answer}


class FinetuneActions(RunActions):
    activity = "finetune"

    def __init__(self, tunings: Tunings, datasets: Datasets):
        super().__init__(tunings)
        self.datasets = datasets

    @action("finetune.view")
    def overview(self, run_id, ids, seen) -> dict:
        """The list, the opened run and the compared runs. seen: the versions of the latter two that the page has, and
        under "figures" and "comparison" the marks of their figures."""
        seen = seen if isinstance(seen, dict) else {}
        datasets = [(dataset.id, dataset.state) for dataset in self.datasets.listed() if dataset.run]
        answer: dict = {"runs": self.runs.summaries(), "open": None, "compared": None, "datasets": len(datasets)}
        answer["renew"] = fingerprint(datasets)
        if isinstance(ids, list) and ids:
            answer["compared"] = self.compared(ids, seen.get("compared"), seen.get("comparison"))
        if run_id is not None:
            try:
                answer["open"] = self.opened(run_id, seen.get("open"), seen.get("figures"))
            except UserError as error:
                answer["error"] = str(error)
        return answer

    @action("finetune.merge")
    def merge(self, run_id) -> dict:
        """Queue a job that merges the adapter into its base model."""
        return {"job": self.runs.merge(run_id).id}

    @action("finetune.use_adapter")
    def use(self, run_id, which) -> dict:
        """Put the "best" or the "last" adapter of a run into use."""
        self.runs.use(run_id, which)
        return {}

    @action("finetune.save_preset")
    def save_preset(self, run_id, name) -> dict:
        """Save a run's settings under a name, which the form and the command line know."""
        run = self.runs.find(run_id)
        if run.run is None:
            raise UserError("This run has not begun, so it has no settings yet; wait until it starts.")
        return {"saved": save_preset(self.runs.settings, name, run.run)}

    @action("finetune.download")
    def prepare(self, run_id, kind) -> dict:
        """Write a zip file of the "adapter" or the "merged" model to download: {"url", "name"}."""
        return self.runs.zip_file(run_id, kind)

    def opened(self, run_id: object, seen: object, marks: object) -> dict:
        """Everything that the page shows of a run. Raises UserError."""
        run = self.runs.find(run_id)
        curves, adapter = self.runs.curves(run), self.runs.adapter(run)
        now = {"id": run.id, "state": run.state, "job": self.progress(run, curves.update), "merge": self.merged(run)}
        shown = (run.id, run.name, run.state, curves.version, adapter and stamp(adapter / "README.md"), run.run is None)
        now["version"] = fingerprint(shown)
        if now["version"] == seen:
            return now | {"unchanged": True}
        result = (run.run or {}).get("result") or {}
        dataset = without_folders(run.run["config"].get("dataset", "")) if run.run else ""
        return now | {
            "name": run.name,
            "created": run.created,
            "dataset": dataset if dataset and (self.runs.settings.runs / dataset).is_dir() else None,
            "numbers": numbers_of(curves),
            "notes": [*filter(None, [curves.held_out_comment()]), *curves.notes],
            "used": measured_in(adapter) if adapter else None,
            "other": other_adapter(run.folder, run.run) if adapter else None,
            "figures": changed(curve_figures({"": curves.table(POINTS)}, now["job"]["total"]), marks),
            "result": result if run.state not in ("running", "waiting") else {},
            "settings": list(settings_of(run, self.datasets).items()),
            "card_html": card_html(self.runs.card(run)),
            "adapter": folder_bytes(adapter) if adapter else None,
            "bytes": folder_bytes(run.folder),
        }

    def progress(self, run: Tuning, done: int) -> dict:
        """The progress of a run: from its job, or for a run of the command line from its curves."""
        view = self.runs.view(run)
        total = run.updates or view["total"]
        names = ("id", "state", "status", "message", "command", "eta", "elapsed")
        known = {name: view[name] for name in names}
        stops = run.job is not None and stop_requested(run.folder) == "keep"  # it will not do what is left
        if known["eta"] is None and total and run.state == "running" and not stops:
            known["eta"] = self.runs.curves(run).seconds_left(total)
        return known | {"done": done, "total": total, "actions": view["actions"]}

    def merged(self, run: Tuning) -> dict | None:
        """The state of the latest merge, and the folder of the latest merged model."""
        merges = self.runs.merges(run)
        if not merges:
            return None
        last, whole = merges[0], next((merge for merge in merges if merge.done), None)
        return {
            "job": last.job.id,
            "state": last.job.state,
            "busy": last.job.state not in FINISHED,
            "message": last.job.message,
            "folder": str(whole.folder) if whole else None,
            "bytes": folder_bytes(whole.folder) if whole else None,
        }

    def compared(self, ids: list, seen: object, marks: object) -> dict:
        """The curves of several runs and a table of their settings; ids without a run are listed as missing."""
        runs, missing = [], []
        for run_id in ids[:MOST_COMPARED]:
            try:
                runs.append(self.runs.find(run_id))
            except UserError:
                missing.append(run_id)
        names = [chr(ord("A") + n) for n in range(len(runs))]
        curves = [self.runs.curves(run) for run in runs]
        shown = [
            (r.id, r.name, r.state, c.version, settings_of(r, self.datasets)) for r, c in zip(runs, curves, strict=True)
        ]
        version = fingerprint(shown)
        if version == seen:
            return {"version": version, "unchanged": True}
        tables = {name: one.table(POINTS) for name, one in zip(names, curves, strict=True)}
        figures = curve_figures(tables, targets={name: target_of(run) for name, run in zip(names, runs, strict=True)})
        return {
            "version": version,
            "runs": [{"id": run.id, "name": run.name} for run in runs],
            "figures": changed(figures, marks),
            "table": differences(pd.DataFrame([one[-1] for one in shown], names)),
            "missing": missing,
        }
