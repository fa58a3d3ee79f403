"""The report of an experiment: what was done and what came of it, as an HTML file and as a model card to take along."""

import time
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from lightreasoner.experiments.figures import BEST, rounds_table
from lightreasoner.experiments.plan import FILE, Plan, write_plan
from lightreasoner.experiments.results import ArmResult, all_stages, arm_results, arms_table, best_arm, flips, forecast
from lightreasoner.experiments.stages import Stage
from lightreasoner.formatting import format_duration, markdown_cell, markdown_table
from lightreasoner.jobs.events import working_seconds
from lightreasoner.settings import ASSETS
from lightreasoner.storage.atomic import write_text
from lightreasoner.storage.runs import read_run, versions_shown
from lightreasoner.tables import KINDS, table_text
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.runs import ADAPTER, used_adapter

REPORT, CARD = "report.html", "model_card.md"
TABLES = {kind: f"arms.{kind}" for kind in KINDS}


def write_report(plan: Plan, folder: Path) -> None:
    """Write the report of what there is so far, and the card of the best arm. Raises UserError."""
    stages = all_stages(folder)
    results = arm_results(stages)
    write_text(folder / REPORT, html_report(plan, folder, stages, results))
    for kind, name in TABLES.items() if results else ():
        write_text(folder / name, table_text(arms_table(results), kind))
    if best := best_arm(results):
        tuned = next(s for s in stages if s.kind == "finetune" and s.folder.name == best.run)
        write_text(folder / CARD, card(plan, tuned, results))


def command(folder: Path) -> str:
    """The command that repeats an experiment in another folder."""
    return f"python -m lightreasoner experiment {folder.name}/{FILE} --run-dir ANOTHER_FOLDER"


def html_report(plan: Plan, folder: Path, stages: list[Stage], results: list[ArmResult]) -> str:
    """One page without scripts, which opens offline."""
    template = Environment(loader=FileSystemLoader(ASSETS / "templates"), autoescape=True, trim_blocks=True)
    best = best_arm(results)
    shown = next((s for s in stages if best and s.kind == "evaluation" and s.folder.name == best.evaluation), None)
    record = read_run(folder)
    return template.get_template("experiment_report.html").render(
        title=plan.title,
        duration=format_duration,
        verdict=sentence(results),
        forecast=forecast(stages),
        plan=plan,
        arms=results,
        rounds=[row for row in rounds_table(results).to_dict("records") if row["series"] == BEST],
        best=best,
        costs=[(stage.title, stage.state, working_seconds(stage.folder)) for stage in stages],
        flips=flips(shown) if shown else [],
        plan_text=write_plan(plan),
        command=command(folder),
        versions=versions_shown(record),
        date=time.strftime("%Y-%m-%d", time.gmtime(record["created"])),
    )


def sentence(results: list[ArmResult]) -> str:
    """What came of the experiment, the control considered."""
    best = best_arm(results)
    if best is None:
        return "No arm has been evaluated yet."
    over = f", on average over {best.tests} test sets with together" if best.tests > 1 else " of"
    name = best.name if best.round == 1 else f"Round {best.round}, {best.name}"
    found = (
        f"{name}: pass@1 from {100 * best.before:.1f} to {100 * best.pass_at_1:.1f} %{over} {best.problems:,} "
        f"problems ({points(best.difference)}, 95 % interval {signed(best.low)} to {signed(best.high)}; "
        f"{best.gained:,} gained, {best.lost:,} lost)."
    )
    rounds = _other_rounds(results, best)
    if best.low <= 0 <= best.high:
        return f"{found} The interval contains no change: more problems are needed to tell.{rounds}"
    controls = (arm for arm in results if arm.whole and arm.is_overall and arm.is_control and arm.round == best.round)
    control = next(controls, None)
    if control is None or control is best:
        return found + rounds
    return (
        f"{found} The control, random steps at the same budget, reaches {100 * control.pass_at_1:.1f} % "
        f"({points(control.difference)}).{rounds}"
    )


def _other_rounds(results: list[ArmResult], best: ArmResult) -> str:
    """What the rounds before and after the best arm's came to; empty for an experiment of one round."""
    overall = [arm for arm in results if arm.whole and arm.is_overall]
    first = min(overall, key=lambda arm: arm.round)
    last = best_arm([arm for arm in overall if arm.round == max(each.round for each in overall)])
    said = "" if best.round == first.round else f" The expert before all rounds solves {100 * first.before:.1f} %."
    if last.round > best.round:
        said += (
            f" Round {last.round} does not reach it: its best, {last.name}, solves {100 * last.pass_at_1:.1f} % "
            f"({points(last.difference)} against the expert of that round)."
        )
    return said


def signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def points(share: float) -> str:
    return f"{signed(share)} points"


def card(plan: Plan, tuned: Stage, results: list[ArmResult]) -> str:
    """The model card of the tuned expert with the experiment's results."""
    record = read_run(tuned.folder)
    rows = {
        markdown_cell(arm.label): f"{100 * arm.pass_at_1:.1f} % ({points(arm.difference)}; 95 % interval "
        f"{signed(arm.low)} to {signed(arm.high)}; {arm.gained} gained, {arm.lost} lost)"
        for arm in results
        if arm.whole
    }
    before = next(arm for arm in results if arm.run == tuned.folder.name)
    result = FinetuneResult.from_record(record)
    tests = ", ".join(Path(test).name for test in plan.tests)
    lines = ["## Experiment", "", f"pass@1 on {before.problems:,} problems of {tests}, greedy; "]
    lines[-1] += f"the expert before fine-tuning: {100 * before.before:.1f} %."
    if result and result.updates:
        lines[-1] += f" {result.updates:,} updates."
    own = adapter_card(record | used_adapter(tuned.folder / ADAPTER))
    return "\n".join([own, *lines, "", *markdown_table(rows), ""])
