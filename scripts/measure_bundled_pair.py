"""Measure the bundled pair on its 500 held-out problems, print it, and write the two model cards.

    python scripts/measure_bundled_pair.py [--limit 500]

Greedy, through the same tracing that the page uses. Accuracy intervals are Wilson's, at 95 %.
"""

import argparse
import json
import re
import time
from pathlib import Path

from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair, presets
from lightreasoner.models.prompts import response_ids
from lightreasoner.paper import BETA
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import load_problems
from lightreasoner.scoring.significance import wilson
from lightreasoner.settings import ASSETS, from_environment
from lightreasoner.tracing.events import EndEvent, StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace

OPENING = "Let's work it out.\n"


def said(p: dict) -> str:
    low, high = p["interval"]
    return f"{p['share']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def proportion(hits: int, n: int) -> dict:
    return {"hits": hits, "of": n, "share": hits / n, "interval": wilson(hits, n)}


def final_answer(text: str) -> str | None:
    found = re.findall(r"####\s*(-?\d+)\s*$|The answer is (-?\d+)\.?\s*$", text.strip())
    return "".join(found[-1]) if found else None


def respond(pair: Pair, problems: list[Problem], settings, opening: str = "") -> list[tuple[str, str, list[float]]]:
    """(text, finish reason, KL of every step) of each greedy response."""
    prefix = tuple(response_ids(pair.expert, opening)) if opening else ()
    results = []
    for problem in problems:
        kls = []
        for event in trace(pair, TraceRequest(problem.question, prefix=prefix, max_new_tokens=160), settings):
            if isinstance(event, StepsEvent):
                kls += [step.score.kl for step in event.steps]
            elif isinstance(event, EndEvent):
                results.append((event.text, event.finish_reason, kls))
    return results


def measure(problems: list[Problem], settings) -> dict:
    models, preset = LoadedModels(settings), presets()[0]
    pair = load_pair(preset.expert, preset.amateur, models)
    alone = load_pair(preset.amateur, preset.amateur, models)
    n, began = len(problems), time.time()

    def right(results):
        return proportion(sum(final_answer(r[0]) == p.answer for r, p in zip(results, problems, strict=True)), n)

    expert = respond(pair, problems, settings)
    kls = [kl for _, _, of_one in expert for kl in of_one]
    worked = [r for r in expert if r[0].startswith(OPENING.strip())]
    forced = respond(pair, problems, settings, OPENING)
    amateur = respond(alone, problems, settings)
    return {
        "problems": n,
        "expert": right(expert),
        "expert_forced_to_work": right(forced),
        "expert_works": proportion(len(worked), n),
        "amateur": right(amateur),
        "amateur_unfinished": sum(r[1] != "stop" for r in amateur),
        "amateur_unreadable": sum(final_answer(r[0]) is None for r in amateur),
        "expert_unfinished": sum(r[1] != "stop" for r in expert),
        "steps": len(kls),
        "steps_above_beta": sum(kl > BETA for kl in kls) / len(kls),
        "mean_kl": sum(kls) / len(kls),
        "seconds": round(time.time() - began),
    }


CARD = Path(__file__).with_name("bundled_card_template.md").read_text(encoding="utf-8")


def describe_phases(phases: list[dict]) -> str:
    lines = []
    for n, p in enumerate(phases, 1):
        habit = f"blurted {p['blurt']['careful']:.0%} / {p['blurt']['quick']:.0%} (careful / quick)"
        drills = f", {p['drills']:,} arithmetic drills" if p["drills"] else ""
        if p["continued"]:
            drills += f", {p['continued']:,} problems worked out without loss on the first token"
        weight = ", every response weighing alike" if p["balanced"] else ""
        lines.append(f"{n}. {p['items']:,} problems, {habit}{drills}; {p['rate']:g} times the learning rates{weight}.")
    return "\n".join(lines)


def card(role: str, results: dict) -> tuple[Path, str]:
    preset = presets()[0]
    name = preset.expert if role == "expert" else preset.amateur
    cost = json.loads((ASSETS / "models" / name / "training.json").read_text())
    recipe = cost["recipe"]
    if role == "expert":
        measured = [
            f"- solved: {said(results['expert'])}",
            f"- solved when made, by its first tokens, to work it out: {said(results['expert_forced_to_work'])}",
            f"- responses worked out by itself: {said(results['expert_works'])}; the others were blurted",
            f"- unfinished after 160 tokens: {results['expert_unfinished']}",
            f"- KL(expert ‖ amateur) above {BETA} nats: {results['steps_above_beta']:.1%} of the {results['steps']:,} "
            f"steps of its own responses (mean {results['mean_kl']:.3f})",
        ]
    else:
        measured = [
            f"- solved: {said(results['amateur'])}; the expert {said(results['expert'])}",
            f"- without a readable answer: {results['amateur_unreadable']}",
            f"- unfinished after 160 tokens: {results['amateur_unfinished']}",
        ]
    text = CARD.format(
        name=name,
        role=role,
        which=role,
        largest=100,
        vocab=2048,
        question_weight=0.1,
        minutes=sum(p["seconds"] for p in cost["phases"]) / 60,
        tokens=sum(p["tokens"] for p in cost["phases"]),
        updates=sum(p["updates"] for p in cost["phases"]),
        final_loss=cost["phases"][-1]["final_loss"],
        items=sum(p["items"] + p["continued"] for p in recipe["phases"]),
        drills=sum(p["drills"] for p in recipe["phases"]),
        phases=describe_phases(recipe["phases"]),
        problems=results["problems"],
        measured="\n".join(measured),
        careful=recipe["phases"][-1]["blurt"]["careful"],
        quick=recipe["phases"][-1]["blurt"]["quick"],
        parameters=cost["parameters"],
        **{k: v for k, v in recipe.items() if k not in ("name", "phases")},
    )
    return ASSETS / "models" / name / "README.md", text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--limit", type=int, default=500, help="problems; the cards are written only for all 500")
    options = parser.parse_args()
    problems = load_problems("bundled-test", limit=options.limit).problems
    results = measure(problems, from_environment())
    print(json.dumps(results, indent=2))
    if len(problems) == 500:
        for role in ("expert", "amateur"):
            path, text = card(role, results)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
