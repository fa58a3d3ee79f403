"""The calls of the Evaluate tab's script on the server: the list, an opened evaluation, all results side by side."""

from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import pandas as pd

from lightreasoner.errors import UserError
from lightreasoner.evaluation.costs import benchmark
from lightreasoner.evaluation.figures import departure_figure, differences_figure, models_figure, preview_figure
from lightreasoner.evaluation.paper_results import Paper, read_paper
from lightreasoner.evaluation.preview import best_cell, preview_cells
from lightreasoner.evaluation.preview import verdict as preview_verdict
from lightreasoner.evaluation.results import Variant, variants_of
from lightreasoner.evaluation.tables import models_table
from lightreasoner.problems.sources import SOURCES
from lightreasoner.tables import KINDS, table_text
from lightreasoner.training.config import METHOD_TITLES
from ui.access.actions import action
from ui.components.downloads import offer
from ui.components.prompt_form import prompt_facts, stored_prompt
from ui.components.run_actions import RunActions
from ui.components.run_list import MAX_LISTED
from ui.components.script_calls import add_if_changed, calls_of, fingerprint
from ui.evaluate.catalogue import Evaluation, Evaluations, by_benchmark, canonical, is_tuning_run
from ui.evaluate.flips import Flips
from ui.evaluate.regrading import Regrading
from ui.evaluate.responses import Responses
from ui.studio import Studio

SIGNIFICANT = 0.05  # differences with a McNemar p below it are called significant
MODEL = ("problems", "right", "pass_at_1", "interval", "extraction_failures", "truncations", "mean_length")
MODEL += ("tokens_per_second", "seconds", "by_hand", "samples", "responses", "pass_at", "majority", "groups")


def verdict(comparison: dict) -> str:
    """The result of McNemar's test in words."""
    if not comparison["gained"] and not comparison["lost"]:
        return "no problem changed sides"
    return "significant" if comparison["p"] < SIGNIFICANT else "not significant"


def facts(run: dict) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of an evaluation's properties."""
    config, about = run["config"], run["about"]
    with_answer = "With a known answer" if about.get("graded", True) else "Without known answers: nothing is graded"
    rows = [("Problems", f"{about.get('problems', 0):,}", with_answer)]
    if about.get("without answer"):
        rows.append(("Left out", f"{about['without answer']:,}", "Problems without a known answer"))
    if about.get("unreadable rows"):
        rows.append(("Unreadable", f"{about['unreadable rows']:,}", "Rows of the file that were left out"))
    if about.get("answers"):
        rows.append(("Compared as text", about["answers"].partition(" known")[0], about["answers"]))
    rows.append(("Max new tokens", f"{config.get('max_new_tokens', 0):,}", "Longer responses are cut off"))
    samples, temperature = config.get("samples", 1), config.get("temperature", 0)
    way = f"temperature {temperature:g}" if temperature else "greedy"
    prompt = stored_prompt(config.get("prompt"))
    shots = f"{len(prompt.examples)}-shot" if prompt.examples else "zero-shot"
    where = "In the model's chat template" if prompt.template else "Without a chat template"
    rows.append(("Decoding", f"{way}, {shots}", where))
    rows += prompt_facts(run)
    if samples > 1:
        rows.append(("Responses", f"{samples:,} per problem", "pass@1 is avg@k; models are compared by maj@k"))
    if about.get("across"):
        rows.append(("Tokenizers", "differ", about["across"]))
    rows.append(("Device", " · ".join(filter(None, [about.get("device"), about.get("dtype")])), "Device and precision"))
    return rows


class EvaluateActions(RunActions):
    """The calls of the Evaluate tab's script; those on single problems are in Flips and Responses."""

    activity = "evaluate"

    def __init__(self, studio: Studio, evaluations: Evaluations):
        super().__init__(evaluations)
        self.regrading, self.paper = Regrading(), read_paper()
        self.flips, self.responses = Flips(studio, evaluations), Responses(evaluations, self.regrading)

    @property
    def calls(self) -> list[Callable[[object], dict]]:
        return super().calls + calls_of(self.flips) + calls_of(self.responses)

    @action("evaluate.view")
    def look(self, run_id, wide, seen) -> dict:
        """The list, the opened evaluation, and with `wide` the comparison of all; unchanged parts are left out.

        seen: the "marks" of the previous answer.
        """
        answer: dict = {"marks": {}, "tuned": fingerprint(self.runs.tuned())}
        add_if_changed(answer, "evaluations", self.runs.summaries(), seen)
        if wide is True:
            overview = self.overview()
            add_if_changed(answer, "overview", overview, seen)
            add_if_changed(answer, "charts", overview["groups"], seen, lambda groups: list(map(models_chart, groups)))
        if run_id is None:
            return answer
        try:
            if is_tuning_run(self.runs.settings, run_id):
                return answer | {"fills": True}
            opened = self.opened(self.runs.find(run_id))
            add_if_changed(answer, "open", opened, seen)
            results = {part: opened.get(part) for part in ("models", "comparisons", "paper", "preview")}
            add_if_changed(answer, "figures", results, seen, figures)
        except UserError as error:
            answer["error"] = str(error)
        return answer

    @action("evaluate.download")
    def prepare(self, run_id, kind) -> dict:
        """Write the table of an evaluation's models, or without an id that of all results, as "csv" or "tex":
        {"url", "name"}."""
        if not isinstance(kind, str) or kind not in KINDS:
            raise UserError(f"There is no table of the kind {str(kind)[:20]!r}; choose csv or tex.")
        if run_id is None:
            groups = by_benchmark(self.runs)
            parts = [models_table(group["models"]).assign(benchmark=group["title"]) for group in groups]
            table, name = pd.concat(parts) if parts else None, "all-results"
        else:
            evaluation = self.runs.find(run_id)
            opened = self.opened(evaluation)
            shown = any(model.get("problems") for model in opened["models"])
            table, name = models_table(opened["models"], opened["comparisons"]) if shown else None, evaluation.id[:8]
        if table is None:
            raise UserError("There are no results yet; wait for the first answers.")
        text = table_text(table, kind)
        name = f"evaluation-{name}.{kind}"
        return offer(self.runs.settings, name, lambda out: out.write_text(text, encoding="utf-8"))

    @action("evaluate.regrade")
    def regrade(self, run_id) -> dict:
        """Begin to judge the stored responses again by today's rules, without a model; `look` has what came of it."""
        self.regrading.begin(self.runs.find(run_id))
        return {}

    def opened(self, evaluation: Evaluation) -> dict:
        """Everything that the page shows of an evaluation. Raises UserError."""
        job = self.runs.view(evaluation)
        shown = {"id": evaluation.id, "name": evaluation.name, "state": evaluation.state, "job": job}
        shown |= {"command": job["command"], "models": [], "comparisons": [], "facts": [], "paper": []}
        shown["judged"] = self.regrading.state(evaluation.id)
        if evaluation.run is None:
            return shown
        run, variants = evaluation.run, variants_of(evaluation.run)
        base = canonical(str(run["config"].get("model")))
        place = {variant.name: n for n, variant in enumerate(variants)}
        results, total = self.runs.results(evaluation), run["about"].get("problems", 0)
        models = {place[model["name"]]: model for model in results["models"] if model["name"] in place}
        names = self.runs.names(run)
        shown["labels"] = {variant.name: name for variant, name in zip(variants, names, strict=True)}
        for n, name in enumerate(names):
            numbers = {key: models[n].get(key) for key in MODEL} if n in models else {}
            shown["models"].append({"name": name, "base": variants[n].is_base, "total": total} | numbers)
            if variants[n].contrast:
                shown["models"][-1]["kind"] = "contrast"
        for found in results["comparisons"]:
            if found["after"] in place:
                row = {"model": place[found["after"]], "verdict": verdict(found)}
                row |= {key: found[key] for key in ("difference", "low", "high", "p", "problems")}
                shown["comparisons"].append(row | {side: len(found[side]) for side in ("gained", "lost")})
        done = sum(model.get("responses") or model["problems"] for model in results["models"])
        total *= len(variants) * run["config"].get("samples", 1)
        shown |= {"done": done, "total": total, "facts": facts(run)}
        shown["preview"] = preview_of(evaluation.folder, variants) if results["models"] else None
        return shown | {"paper": paper_rows(self.paper, base, benchmark(run))}

    def overview(self) -> dict:
        """All results by base model and benchmark, the costs of the adapters, and the tables of the paper."""
        paper, groups = self.paper, by_benchmark(self.runs)
        for group in groups:
            group["paper"] = paper_rows(paper, group["base"], group["key"])
        return {
            "groups": groups,
            "costs": [
                asdict(cost)
                | {"method": METHOD_TITLES.get(cost.method, cost.method), "seconds": cost.seconds, "gain": cost.gain}
                for cost in self.runs.costs()
            ],
            "paper": {
                "source": paper.source,
                "hardware": paper.hardware,
                "benchmarks": [SOURCES[key].title for key in paper.benchmarks],
                "scores": [
                    {"model": m, "method": way, "values": list(values.values()), "average": paper.averages[m][way]}
                    for m, by_method in paper.scores.items()
                    for way, values in by_method.items()
                ],
                "costs": [
                    {"base": m, "method": way, "seconds": c["hours"] * 3600}
                    | {k: v for k, v in c.items() if k != "hours"}
                    for m, by_method in paper.costs.items()
                    for way, c in by_method.items()
                ],
            },
        }


def preview_of(folder: Path, variants: list[Variant]) -> dict | None:
    """{"cells", "sentence", "takeover", "graded", "best"} of an evaluation with contrasts, else None.

    best: {"alpha", "beta", "cap"} where training is worth a try, or None.
    """
    if not variants[0].is_base or not any(variant.contrast for variant in variants):
        return None
    _, cells = preview_cells(folder, variants)
    if not cells:
        return None
    best = best_cell(cells)
    usable = best is not None and not best.contrast.takeover and best.low > 0
    rows = [asdict(cell) | asdict(cell.contrast) for cell in cells]
    names = ("alpha", "beta", "takeover", "difference", "low", "high", "gained", "lost", "changed")
    names += ("same_answer", "mean_length", "base_length")
    return {
        "cells": [{name: row[name] for name in names} for row in rows],
        "sentence": preview_verdict(cells),
        "takeover": cells[0].contrast.takeover,
        "graded": cells[0].graded,
        "best": {name: getattr(best.contrast, name) for name in ("alpha", "beta", "cap")} if usable else None,
    }


def models_chart(group: dict, measure: str = "pass@1") -> dict:
    """pass@1 of a group's models and the paper's, as a figure. group: "models" and "paper" as the page has them."""
    rows = [
        (
            m["name"],
            "base" if m["base"] else m.get("kind", "fine-tuned"),
            m["pass_at_1"],
            *m["interval"],
            m["right"],
            m["problems"],
        )
        for m in group["models"]
        if m.get("problems") and m["pass_at_1"] is not None
    ]
    titles = [f"paper: {METHOD_TITLES.get(row['method'], row['method'])}" for row in group["paper"]]
    theirs = [(title, "paper", row["value"], *[None] * 4) for title, row in zip(titles, group["paper"], strict=True)]
    return drawn((*rows, *theirs), measure)


@lru_cache(MAX_LISTED)  # of all groups mostly one changes
def drawn(rows: tuple, measure: str) -> dict:
    columns = ["name", "kind", "pass_at_1", "low", "high", "right", "problems"]
    return models_figure(pd.DataFrame(rows, columns=columns), measure).to_plotly_json()


def figures(results: dict) -> dict:
    """The figures of an opened evaluation: "models", and "differences" where a model is compared with the first."""
    samples = max((model.get("samples") or 1 for model in results["models"]), default=1)
    found = {"models": models_chart(results, f"avg@{samples}" if samples > 1 else "pass@1")}
    if results["comparisons"]:
        rows = pd.DataFrame(results["comparisons"])
        names = [results["models"][n]["name"] for n in rows["model"]]
        frame = rows.assign(name=names, significant=rows["verdict"] == "significant")
        found["differences"] = differences_figure(frame).to_plotly_json()
    if results["preview"]:
        draw = preview_figure if results["preview"]["graded"] else departure_figure
        found["preview"] = draw(pd.DataFrame(results["preview"]["cells"])).to_plotly_json()
    return found


def paper_rows(paper: Paper, base: str, key: str) -> list[dict]:
    """The paper's results of this model on this benchmark: [{"method", "value"}], empty if there are none."""
    known = paper.scores.get(base, {})
    return [{"method": method, "value": scores[key]} for method, scores in known.items() if key in scores]
