"""What the Fine-tune tab's script may ask of the server, outside the queue. Each answer is a dict; mistakes come as
"error".

Anybody may call these with anything: ids are checked where runs are found.
"""

from __future__ import annotations

from collections.abc import Callable

from lightreasoner.errors import UserError
from lightreasoner.formatting import shown
from lightreasoner.jobs.store import FINISHED
from lightreasoner.storage.atomic import folder_bytes
from ui.access.actions import action
from ui.components.dataset_catalogue import Datasets
from ui.components.run_list import METHOD_TITLES, short_name, stamp
from ui.components.script_calls import answering, fingerprint
from ui.finetune.catalogue import Tuning, Tunings
from ui.finetune.request import LABELS

MOST_COMPARED = 6  # as many lines as can be told apart
POINTS = 300  # a curve
#: Settings that run.json holds beside those of FinetuneConfig, and what people call them.
OTHERS = {"alpha": "α", "beta": "β", "selector": "Selector", "budget": "Budget"}


def settings_of(run: Tuning, datasets: Datasets) -> dict[str, str]:
    """Every setting of a run, in words: name → value."""
    if run.run is None:
        return {}
    config, about = run.run["config"], run.run["about"]
    place = str(config.get("dataset", ""))
    try:
        named = f"{datasets.find(short_name(place)).name} · {short_name(place)[:6]}"
    except UserError:
        named = short_name(place)
    method = str(config.get("method"))
    rows = {"Method": METHOD_TITLES.get(method, method), "Expert": str(about.get("expert", "?")), "Dataset": named}
    rows |= {label: shown(config[name]) for name, label in OTHERS.items() if config.get(name) is not None}
    rows |= {label: shown(config[name]) for name, label in LABELS.items() if config.get(name) is not None}
    where = [str(about[name]) for name in ("device", "dtype") if about.get(name)]
    return rows | ({"Device": ", ".join(where)} if where else {})


def finetune_calls(tunings: Tunings, datasets: Datasets) -> list[Callable[..., dict]]:
    """The tab's functions, bound to this server's runs."""

    def merged(run: Tuning) -> dict | None:
        """The latest merge: how its job stands, and where the model lies."""
        found = tunings.merges(run)
        if not found:
            return None
        last, whole = found[0], next((merge for merge in found if merge.done), None)
        return {
            "job": last.job.id,
            "state": last.job.state,
            "busy": last.job.state not in FINISHED,
            "message": last.job.message,
            "folder": str(whole.folder) if whole else None,
            "bytes": folder_bytes(whole.folder) if whole else None,
        }

    def progress(run: Tuning, done: int) -> dict:
        """How far it is: the job's own view where there is a job, else told by the curves."""
        view = tunings.view(run) or {}
        total = run.updates or view.get("total")
        names = ("id", "state", "status", "message", "actions", "command", "eta", "elapsed")
        found = {name: view.get(name) for name in names} | {
            "done": done,
            "total": total,
            "actions": view.get("actions", []),
        }
        if found["eta"] is None and total and run.state == "growing":
            found["eta"] = tunings.curves(run).seconds_left(total)
        return found

    def opened(run_id: object, seen: object) -> dict:
        run = tunings.find(run_id)
        curves, place = tunings.curves(run), tunings.adapter(run)
        now = {"id": run.id, "state": run.state, "job": progress(run, curves.update), "merge": merged(run)}
        told = (run.id, run.state, curves.version, place and stamp(place / "README.md"), run.run is None)
        now["version"] = fingerprint(told)
        if now["version"] == seen:
            return now | {"unchanged": True}
        result = (run.run or {}).get("result") or {}
        dataset = short_name(run.run["config"].get("dataset", "")) if run.run else ""
        return now | {
            "name": run.name,
            "created": run.created,
            "dataset": dataset if (tunings.settings.runs / dataset).is_dir() and dataset else None,
            "curves": curves.as_json(POINTS),
            "result": result if run.state not in ("growing", "waiting") else {},
            "settings": list(settings_of(run, datasets).items()),
            "card": tunings.card(run),
            "adapter": folder_bytes(place) if place else None,
            "bytes": folder_bytes(run.folder),
        }

    def lines(run_id: object) -> dict:
        run = tunings.find(run_id)
        curves = tunings.curves(run)
        return {"id": run.id, "name": run.name, "state": run.state, "curves": curves.as_json(POINTS)}

    def compared(ids: list, seen: object) -> dict:
        found, missing = [], []
        for run_id in ids[:MOST_COMPARED]:
            try:
                found.append(lines(run_id))
            except UserError:
                missing.append(run_id)
        version = fingerprint(found)
        if version == seen:
            return {"version": version, "unchanged": True}
        sets = [settings_of(tunings.find(run["id"]), datasets) for run in found]
        names = list(dict.fromkeys(name for one in sets for name in one))
        rows = [[name, *(one.get(name, "–") for one in sets)] for name in names]
        table = [{"name": name, "values": values, "differs": len(set(values)) > 1} for name, *values in rows]
        return {"version": version, "runs": found, "table": table, "missing": missing}

    @action("finetune.view")
    @answering
    def overview(run_id, ids, seen) -> dict:
        """The list; the open run and those that are compared, unless they are as the page has `seen` them."""
        seen = seen if isinstance(seen, dict) else {}
        there = [(dataset.id, dataset.state) for dataset in datasets.listed() if dataset.run]
        answer: dict = {"runs": tunings.summaries(), "open": None, "compared": None, "datasets": len(there)}
        answer["renew"] = fingerprint(there)
        if isinstance(ids, list) and ids:
            answer["compared"] = compared(ids, seen.get("compared"))
        if run_id is not None:
            try:
                answer["open"] = opened(run_id, seen.get("open"))
            except UserError as error:
                answer["error"] = str(error)
        return answer

    @action("finetune.control_job")
    @answering
    def act(run_id, action) -> dict:
        """Stop the run's job and keep what it has, cancel it, or resume it."""
        tunings.act(run_id, action)
        return {}

    @action("finetune.delete")
    @answering
    def discard(run_id) -> dict:
        """Delete a run for good."""
        tunings.remove(run_id)
        return {}

    @action("finetune.merge")
    @answering
    def merge(run_id) -> dict:
        """Queue a job that merges the adapter into its base."""
        return {"job": tunings.merge(run_id).id}

    @action("finetune.download")
    @answering
    def prepare(run_id, kind) -> dict:
        """Write a zip to download, of the "adapter" or the "merged" model: {"url", "name"}."""
        if kind not in ("adapter", "merged"):
            raise UserError(f"There is no file called {str(kind)[:20]!r}; take adapter or merged.")
        return tunings.adapter_file(run_id) if kind == "adapter" else tunings.merged_file(run_id)

    return [overview, act, discard, merge, prepare]
