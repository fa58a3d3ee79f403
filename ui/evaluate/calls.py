"""What the Evaluate tab's script may ask of the server, outside the queue. Each answer is a dict; mistakes come as
"error".

Anybody may call these with anything: ids, numbers and names are checked here or in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from lightreasoner.errors import UserError
from lightreasoner.evaluation.costs import Cost, benchmark
from lightreasoner.evaluation.paper_results import Paper, read_paper
from lightreasoner.evaluation.results import variants_of
from lightreasoner.problems.sources import SOURCES
from ui.access.actions import action
from ui.components.run_list import METHOD_TITLES
from ui.components.script_calls import add_if_changed, answering, fingerprint
from ui.evaluate.catalogue import Evaluation, Evaluations, by_benchmark, canonical, is_tuning_run
from ui.evaluate.flips import Flips
from ui.studio import Studio

CLEAR = 0.05  # p below which a difference is called clear
MODEL = ("problems", "right", "pass_at_1", "interval", "extraction_failures", "truncations", "mean_length")
MODEL += ("tokens_per_second", "seconds")


def verdict(comparison: dict) -> str:
    """McNemar's p in words."""
    if not comparison["gained"] and not comparison["lost"]:
        return "no problem changed sides"
    return "clear" if comparison["p"] < CLEAR else "could be chance"


def facts(run: dict) -> list[tuple[str, str, str]]:
    """(name, value, what it means) for the head of an evaluation."""
    config, about = run["config"], run["about"]
    rows = [("Problems", f"{about.get('problems', 0):,}", "Those with a known answer")]
    if about.get("without answer"):
        rows.append(("Left out", f"{about['without answer']:,}", "Problems without a known answer"))
    rows.append(("Limit", f"{config.get('max_new_tokens', 0):,} tokens", "A longer response is cut off there"))
    rows.append(("Decoding", "greedy, zero-shot", "In the model's chat template"))
    rows.append(("On", " · ".join(filter(None, [about.get("device"), about.get("dtype")])), "Device and precision"))
    return rows


def shown(evaluations: Evaluations, evaluation: Evaluation, paper: Paper) -> dict:
    """All that the page draws of an opened evaluation."""
    job = evaluations.view(evaluation)
    seen = {"id": evaluation.id, "name": evaluation.name, "state": evaluation.state, "job": job}
    seen |= {"command": job["command"] if job else None, "models": [], "comparisons": [], "facts": [], "paper": []}
    if evaluation.run is None:
        return seen
    run, variants = evaluation.run, variants_of(evaluation.run)
    base = canonical(str(run["config"].get("model")))
    names = evaluations.names(run)
    place = {variant.name: n for n, variant in enumerate(variants)}
    results, total = evaluations.results(evaluation), run["about"].get("problems", 0)
    models = {place[model["name"]]: model for model in results["models"] if model["name"] in place}
    for n, name in enumerate(names):
        numbers = {key: models[n].get(key) for key in MODEL} if n in models else {}
        seen["models"].append({"name": name, "base": variants[n].adapter is None, "total": total} | numbers)
    for comparison in results["comparisons"]:
        if comparison["after"] in place:
            kept = {key: comparison[key] for key in ("difference", "low", "high", "p", "problems")}
            counts = {side: len(comparison[side]) for side in ("gained", "lost")}
            seen["comparisons"].append(
                {"model": place[comparison["after"]], "verdict": verdict(comparison)} | kept | counts
            )
    done = sum(model["problems"] for model in results["models"])
    seen |= {"done": done, "total": total * len(variants), "facts": facts(run)}
    return seen | {"paper": paper_rows(paper, base, benchmark(run))}


def paper_rows(paper: Paper, base: str, key: str) -> list[dict]:
    """The paper's figures for this model on this benchmark: [{"method", "value"}], empty where it has none."""
    known = paper.scores.get(base, {})
    return [{"method": method, "value": scores[key]} for method, scores in known.items() if key in scores]


def overview(evaluations: Evaluations, paper: Paper) -> dict:
    """All results side by side, what they cost, and the paper's tables."""
    groups = by_benchmark(evaluations)
    for group in groups:
        group["paper"] = paper_rows(paper, group["base"], group["key"])
    titles = [SOURCES[key].title for key in paper.benchmarks]
    return {
        "groups": groups,
        "costs": [cost_line(cost) for cost in evaluations.costs()],
        "paper": {
            "source": paper.source,
            "hardware": paper.hardware,
            "benchmarks": titles,
            "scores": [
                {"model": m, "method": way, "values": list(values.values()), "average": paper.averages[m][way]}
                for m, by_method in paper.scores.items()
                for way, values in by_method.items()
            ],
            "costs": [
                {"base": m, "method": way, "seconds": c["hours"] * 3600} | {k: v for k, v in c.items() if k != "hours"}
                for m, by_method in paper.costs.items()
                for way, c in by_method.items()
            ],
        },
    }


def cost_line(cost: Cost) -> dict:
    """A row of the cost table; `missing` says why a cell is empty."""
    line = {name: value for name, value in asdict(cost).items() if name != "gains"}
    line |= {"method": METHOD_TITLES.get(cost.method, cost.method), "seconds": cost.seconds, "gain": cost.gain}
    return line | {"gains": [asdict(gain) for gain in cost.gains]}


def evaluate_calls(studio: Studio, evaluations: Evaluations) -> list[Callable[..., dict]]:
    """The tab's functions, bound to this server's evaluations."""
    flips, paper = Flips(studio, evaluations), read_paper()

    @action("evaluate.view")
    @answering
    def look(run_id, wide, seen) -> dict:
        """The list; the open evaluation, if one is; everything side by side, if that is `wide` open.

        seen: the marks of the answer before; what has not changed since is left out.
        """
        seen = seen if isinstance(seen, dict) else {}
        answer: dict = {"marks": {}, "tuned": fingerprint(evaluations.tuned())}
        add_if_changed(answer, "evaluations", evaluations.summaries(), seen)
        if wide is True:
            add_if_changed(answer, "overview", overview(evaluations, paper), seen)
        if run_id is None:
            return answer
        try:
            if is_tuning_run(studio.settings, run_id):
                return answer | {"fills": True}
            add_if_changed(answer, "open", shown(evaluations, evaluations.find(run_id), paper), seen)
        except UserError as error:
            answer["error"] = str(error)
        return answer

    @action("evaluate.list_flips")
    @answering
    def listed(run_id, model, direction, start) -> dict:
        """A page of flips of a model against the first one."""
        return flips.listed(run_id, model, direction, start)

    @action("evaluate.read_flip")
    @answering
    def flip(run_id, model, problem) -> dict:
        """Both responses to one problem."""
        return flips.opened(run_id, model, problem)

    @action("evaluate.score_response")
    @answering
    def score(run_id, model, problem, side) -> dict:
        """Begin to score a response with both models: {"trace": id}."""
        return {"trace": flips.score(run_id, model, problem, side)}

    @action("evaluate.watch_scoring")
    @answering
    def scored(trace) -> dict:
        """How far that is."""
        return flips.scored(trace)

    @action("evaluate.control_job")
    @answering
    def act(run_id, action) -> dict:
        """Stop the evaluation's job and keep what is there, cancel it, or resume it."""
        evaluations.act(run_id, action)
        return {}

    @action("evaluate.delete")
    @answering
    def discard(run_id) -> dict:
        """Delete an evaluation for good."""
        evaluations.remove(run_id)
        return {}

    return [look, listed, flip, score, scored, act, discard]
