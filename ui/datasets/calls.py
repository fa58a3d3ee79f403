"""The calls of the Datasets tab's script on the server: the list, a dataset, its steps, responses, marks and files."""

import itertools
import math

import pandas as pd
import plotly.graph_objects as go

from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.explorer_page import Filters, page
from lightreasoner.datasets.figures import (
    category_figure,
    histogram_figure,
    kept_figure,
    one_token_figure,
    plane_figure,
    teaching_figure,
)
from lightreasoner.datasets.imported import read_imported
from lightreasoner.datasets.origin import origin_sentences
from lightreasoner.datasets.quality import GOOD, GradedAnswers, quality_report
from lightreasoner.datasets.selectors import SELECTORS, Selection, above_beta, parse_box
from lightreasoner.datasets.step_table import compared_share
from lightreasoner.datasets.trajectories import KL_EDGES, is_across, shards
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes, percent, plural
from lightreasoner.grading.grading import grade
from lightreasoner.jobs.store import FINISHED
from lightreasoner.models.references import parse_ref
from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA, BETA_FLOOR
from lightreasoner.tracing.from_trajectory import trace_record
from lightreasoner.validation import check_alpha_beta, number
from ui.access.actions import action
from ui.components.dataset_catalogue import MARK, Dataset, Datasets
from ui.components.prompt_form import prompt_facts
from ui.components.run_actions import RunActions
from ui.components.run_list import Recent, without_folders
from ui.components.script_calls import fingerprint
from ui.components.trace_view import export_trace
from ui.datasets.amateurs import add_arguments, amateurs_mark, amateurs_view
from ui.datasets.downloads import dataset_file

ROWS = 25  # steps per page
BETAS = [n / 100 for n in range(301)]  # points of the curve of selected steps: the positions of the slider
ALPHAS = [ALPHA_FLOOR, *(n / 25 for n in range(1, 26))]
LOWER_BOUND = "KL is a lower bound. Steps whose plausible tokens were not all compared have no target"
COUNTS = ("problems", "responses", "steps", "above")  # findings that the facts show as well
OPEN = 4  # datasets whose graded answers stay in memory


def selected(alpha: object, beta: object, selector: object, more: object = None) -> Selection:
    """A Selection of checked values. more: {"tau", "box", "cap"}, where they are set. Raises UserError."""
    alpha, beta = check_alpha_beta(alpha, beta)
    if not isinstance(more, dict | None):
        raise UserError("The settings of the selector must be names and values; reload the page.")
    more = more or {}
    tau = more.get("tau") if selector == "teaching" else None
    return Selection(str(selector), alpha, beta, tau=tau, box=more.get("box") or None, cap=more.get("cap"))


def facts(dataset: Dataset, explorer: Explorer, size: int, over: int) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of a dataset's properties."""
    data, config = explorer.view.data, dataset.run["config"]
    problems = len({response.problem_id for response in data.responses})
    rows = [("Problems", f"{problems:,}", "Different problems with at least one step")]
    if len(data.responses) != problems and not explorer.imported:
        rows.append(("Responses", f"{len(data.responses):,}", "Of all problems together"))
    rows.append(("Steps", f"{data.steps:,}", "Tokens of all responses, including their end tokens"))
    across = is_across(dataset.run)
    rows.append(("Above β", f"{'≥ ' * across}{over:,}", "Steps with a KL above β"))
    if across and (share := compared_share(shards(explorer.folder))) is not None:
        rows.append(("Tokenizers differ", f"KL ≥, {percent(share)} of the expert’s mass compared", LOWER_BOUND))
    if data.steps and not explorer.imported:
        rows.append(("Mean length", f"{data.steps / len(data.responses):.0f} tokens", "Per response"))
    if config.get("max_new_tokens"):
        rows.append(("Max new tokens", f"{config['max_new_tokens']:,}", "Longer responses are cut off"))
    if config.get("temperature"):
        rows.append(("Temperature", f"{config['temperature']:g}", f"seed {config.get('seed', 0)}"))
    if config.get("beta_floor") == 0:
        rows.append(("Details", "of every step", "Steps of any KL can become training samples"))
    if origin := origin_sentences(dataset.run):
        rows.append(("Responses from", str(config.get("responses")), " ".join(origin)))
    rows += prompt_facts(dataset.run)
    return [*rows, ("On disk", format_bytes(size), "")]


def figures(explorer: Explorer, selection: Selection, over: int) -> dict[str, go.Figure]:
    """The charts of a dataset by their names. over: the number of steps above β."""
    bins = pd.DataFrame({"low": KL_EDGES[:-1], "high": KL_EDGES[1:]})
    found = {
        "histogram": histogram_figure(bins.assign(steps=explorer.histogram(KL_EDGES)), selection.beta),
        "kept": kept_figure(pd.DataFrame(explorer.steps_above(BETAS)), selection.beta),
        "categories": category_figure(pd.DataFrame(explorer.categories())),
    }
    known = explorer.histogram(KL_EDGES, selection.alpha, selection.cap)
    if any(known):
        unknown = explorer.view.data.steps - sum(known)
        found["teaching"] = teaching_figure(bins.assign(steps=known), unknown)
    if not explorer.imported:
        found["plane"] = plane_figure(*explorer.plane(selection.alpha, selection.cap), explorer.view.data.steps)
    if over and not explorer.imported:  # an imported target is the same at any α
        effect = pd.DataFrame(explorer.alpha_effect(ALPHAS, selection.beta))
        found["one_token"] = one_token_figure(effect, selection.alpha)
    return found


def describe_selection(explorer: Explorer, selection: Selection) -> list[str]:
    """Sentences on the samples of a selection; the first is their number. An error becomes a sentence as well."""
    try:
        report = explorer.report(selection)
    except UserError as error:
        return ["No samples", str(error)]
    sentences = [plural(report.usable, "sample")]
    taught = explorer.taught(selection)
    if taught.samples:
        sentences.append(
            f"{taught.teaching:,} of them teach something; training starts from a loss of {taught.loss:.3f} nats, "
            "their mean teaching signal."
        )
    if report.missing:
        floor = explorer.run["config"].get("beta_floor", BETA_FLOOR)
        sentences.append(
            f"{report.missing:,} more are selected, but for steps at or below {floor:g} nats no details are stored."
        )
    if report.unknown:
        sentences.append(
            f"Of {report.unknown:,} steps no details are stored, so their teaching signal is unknown and they are not "
            "selected."
        )
    if selection.box:
        (low, high), (kl_low, kl_high) = parse_box(selection.box)
        sentences.append(
            f"Only steps with an entropy of the expert from {low:g} to {high:g} nats and a KL from {kl_low:g} to "
            f"{kl_high:g} nats.".replace("inf", "∞")
        )
    if selection.selector not in ("kl", "all") and selection.tau is None:
        sentences.append(
            f"As many steps as have KL above β = {selection.beta:g}, so that all selectors have the same budget."
        )
    if report.kept_by_annotation or report.dropped_by_annotation:
        sentences.append(
            f"By your marks: {report.kept_by_annotation:,} kept, {report.dropped_by_annotation:,} dropped."
        )
    return sentences


class DatasetActions(RunActions):
    activity = "datasets"

    def __init__(self, datasets: Datasets):
        super().__init__(datasets)
        self._graded = Recent(OPEN)

    @action("datasets.view")
    def overview(self, dataset_id, alpha, beta, selector, seen, more=None) -> dict:
        """The list and the opened dataset; of the latter only its state if its version is still `seen`.

        more: see `selected`.
        """
        listed = self.runs.summaries()
        answer: dict = {"datasets": listed, "open": None}
        if dataset_id is None:
            return answer
        try:
            answer["open"] = self.opened(dataset_id, selected(alpha, beta, selector, more), seen, listed)
        except UserError as error:
            answer["error"] = str(error)
        return answer

    @action("datasets.list_steps")
    def rows(self, dataset_id, query) -> dict:
        """A page of steps. query: {low, high, ranges, kind, search, mark, order, each, page, alpha, beta, selector,
        tau, box, cap}.

        low and high bound the KL; ranges: {measure: [low, high]} of others. each: "each" for one step per response.
        """
        if not isinstance(query, dict):
            raise UserError("The filters must be names and values; reload the page.")
        named = (query.get(name, "") for name in ("kind", "search", "mark"))
        more = {"ranges": query.get("ranges", {}), "one_each": query.get("each") == "each"}
        filters = Filters(query.get("low"), query.get("high"), *named, **more)
        at = number("The page", query.get("page", 0), 0, 1e6, whole=True)
        selection = selected(query.get("alpha", ALPHA), query.get("beta", BETA), query.get("selector", "kl"), query)
        explorer = self.explorer(dataset_id)
        order = query.get("order", "kl")
        return page(explorer, filters, str(order), at * ROWS, ROWS, selection) | {"size": ROWS}

    @action("datasets.read_response")
    def trajectory(self, dataset_id, problem, sample, step) -> dict:
        """A response as a trace, with the annotations of its steps; in an imported dataset the sample at this step."""
        explorer = self.explorer(dataset_id)
        if explorer.imported:
            return {"sample": imported_sample(explorer, (problem, sample, step))}
        record = trace_of(explorer, problem, sample)
        for one in record["steps"]:
            del one["support"]  # the page computes it from the candidates, at any α
        marks = explorer.view.annotations.by_step.items()
        own = {str(index): mark for (name, n, index), mark in marks if (name, n) == (problem, sample)}
        return {"record": record, "marks": own, "why": why_unstored(explorer)}

    @action("datasets.export_response")
    def trace_file(self, dataset_id, problem, sample, kind, alpha, beta, curve="", cap=None) -> dict:
        """A response as the text of a "json", "csv" or "html" file, at this α, β and cap, with a picture of its
        curve."""
        return export_trace(trace_of(self.explorer(dataset_id), problem, sample), kind, alpha, beta, curve, cap)

    @action("datasets.mark_step")
    def mark(self, dataset_id, problem, sample, step, kind) -> dict:
        """Annotate a step with "keep", "drop" or "pin"; None removes the annotation."""
        self.explorer(dataset_id).annotate(problem, sample, step, kind)
        return {}

    @action("datasets.download")
    def prepare(self, dataset_id, kind, alpha, beta, selector, more=None) -> dict:
        """Write a file to download: {"url", "name"}. more: see `selected`."""
        selection = selected(alpha, beta, selector, more)
        return dataset_file(self.runs.settings, self.explorer(dataset_id), kind, selection)

    @action("datasets.view_amateurs")
    def amateurs(self, dataset_id, alpha, beta, seen) -> dict:
        """The dataset's amateurs compared; only "seen" where nothing has changed since."""
        dataset, selection = self.runs.find(dataset_id), selected(alpha, beta, "kl")
        if dataset.run is None or MARK in dataset.id:
            raise UserError("These are the measures of one amateur; open the dataset around it to compare several.")
        mark = amateurs_mark(dataset, selection)
        return {"seen": mark} if seen == mark else amateurs_view(dataset, selection) | {"seen": mark}

    @action("datasets.add_amateur")
    def add(self, dataset_id, ref, with_expert) -> dict:
        """Queue the job in which one more amateur reads the responses of a dataset."""
        dataset = self.runs.find(dataset_id)
        if dataset.job and dataset.job.state not in FINISHED:
            raise UserError("A job is working on this dataset; wait for it or stop it, then add the amateur.")
        ref = str(parse_ref(ref))
        argv = add_arguments(dataset, ref) + (["--with-expert"] if with_expert is True else [])
        self.runs.jobs.submit(
            "sample", argv, f"Add the amateur {without_folders(ref)} · {dataset.name}", dataset.folder
        )
        return {}

    def explorer(self, dataset_id: object) -> Explorer:
        """The explorer of a dataset that has at least one batch. Raises UserError."""
        dataset = self.runs.find(dataset_id)
        if dataset.run is None:
            raise UserError("This dataset is still empty; wait for its first batch.")
        return self.runs.explorer(dataset)

    def opened(self, dataset_id: object, selection: Selection, seen: object, listed: list[dict]) -> dict:
        """Everything that the page shows of a dataset at a selection. Raises UserError."""
        dataset = self.runs.find(dataset_id)
        explorer = self.runs.explorer(dataset) if dataset.run else None
        steps = explorer.view.data.steps if explorer else 0
        config = dataset.run["config"] if dataset.run else {}
        over = int(above_beta(explorer.view.data.values["kl"], selection.beta).sum()) if steps else 0
        now = {
            "id": dataset.id,
            "state": dataset.state,
            "job": self.runs.view(dataset),
            "responses": len(explorer.view.data.responses) if explorer else 0,
            "unit": unit(dataset, config),
            "steps": steps,
            "above": over,
            "version": version(dataset, explorer, selection),
        }
        if now["version"] == seen:
            return now | {"unchanged": True}
        size = next((entry["bytes"] for entry in listed if entry["id"] == dataset.id), 0)
        now |= {"name": dataset.name, "bytes": size, "command": now["job"]["command"], "imported": False, "facts": []}
        if not steps:
            return now
        opening = (dataset.run["about"].get("prompt") or {}).get("opening") or ""  # of every answer, in its prompt
        graded = self._graded.get(
            dataset.id, lambda: GradedAnswers(lambda response, answer: grade(opening + response, answer).right)
        )
        return now | {
            "imported": explorer.imported,
            "trouble": explorer.note,
            "facts": facts(dataset, explorer, size, over),
            "downloads": ["paper", "parquet"] if explorer.imported else ["paper", "parquet", "steps", "raw"],
            "figures": {name: found.to_plotly_json() for name, found in figures(explorer, selection, over).items()},
            "selectors": [{"name": s.name, "title": s.title, "says": s.description} for s in SELECTORS],
            "selection": describe_selection(explorer, selection),
            "health": [
                {"title": f.title, "tone": f.tone, "says": f.shown if f.tone == GOOD else f"{f.shown}: {f.advice}"}
                for f in quality_report(explorer, selection.alpha, selection.beta, graded)
                if f.tone != GOOD or f.name not in COUNTS
            ],
        }


def unit(dataset: Dataset, config: dict) -> str:
    """What the progress of a dataset's job counts, one of it."""
    if dataset.job and dataset.job.verb == "compare-amateurs":
        return "part"
    return "response" if config.get("samples_per_problem", 1) != 1 else "problem"


def version(dataset: Dataset, explorer: Explorer | None, selection: Selection) -> str:
    """A fingerprint of all that the page shows of a dataset."""
    view = explorer.view if explorer else None
    marks = sorted(view.annotations.by_step.items()) if view else None
    shown = (dataset.id, dataset.name, dataset.state, dataset.job and dataset.job.attempt, view and view.data.steps)
    return fingerprint((shown, view and view.corrupt, marks, selection))


def trace_of(explorer: Explorer, problem: object, sample: object) -> dict:
    """The trace of a response. Raises UserError."""
    if not isinstance(problem, str) or not isinstance(sample, int) or isinstance(sample, bool):
        raise UserError("This link names no response of this dataset; copy the whole link again.")
    return trace_record(explorer.row(problem, sample), explorer.run, explorer.folder.name, explorer.texts)


def imported_sample(explorer: Explorer, key: tuple) -> dict:
    """All that is known of a sample of an imported dataset. Raises UserError."""
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in key[1:])
    place = explorer.view.position(key) if whole and isinstance(key[0], str) else None
    if place is None:
        raise UserError("This dataset has no such sample; copy the whole link again.")
    in_turn = (row for table in read_imported(explorer.folder) for row in table.to_pylist())
    row = next(itertools.islice(in_turn, place, None))
    kl = row["kl"] if math.isfinite(row["kl"]) else None
    texts = {name: row[name] for name in ("question", "prefix", "tokens", "weights", "step")}
    return texts | {"kl": kl, "mark": explorer.view.annotations.get(*key)}


def why_unstored(explorer: Explorer) -> str:
    """The sentence of the step view for steps without stored candidates."""
    floor = explorer.run["config"].get("beta_floor")
    small = f"is at or below {floor:g} nats" if isinstance(floor, int | float) else "is too small"
    return (
        f"The distributions at this step were not stored, because its KL {small}. Build the dataset with the details "
        "of every step to see them."
    )
