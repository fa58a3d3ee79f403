"""The calls of the Improve tab's script on the server: the list, an opened experiment, and its files."""

import shutil

import pandas as pd

from lightreasoner.errors import UserError
from lightreasoner.evaluation.figures import differences_figure
from lightreasoner.experiments.figures import rounds_figure
from lightreasoner.experiments.plan import CONTROL, FILE, NEXT_AMATEURS, Plan
from lightreasoner.experiments.report import CARD, REPORT, TABLES, command, sentence
from lightreasoner.experiments.results import ArmResult, best_arm
from lightreasoner.experiments.stages import Stage, round_stages
from lightreasoner.jobs.context import stop_requested
from lightreasoner.jobs.events import EVENTS_FILE, last_event
from lightreasoner.problems.sources import problems_title
from lightreasoner.storage.runs import RECORD
from ui.access.actions import action
from ui.components.downloads import offer
from ui.components.run_actions import RunActions
from ui.components.script_calls import add_if_changed
from ui.experiments.catalogue import Experiment, Experiments

FILES = {"report": REPORT, "card": CARD, "plan": FILE} | TABLES
ARM = (  # what the page gets of an ArmResult
    *("name", "is_control", "round", "problems", "before", "pass_at_1", "difference", "low", "high", "gained", "lost"),
    *("p", "samples", "updates", "training_seconds", "evaluation_seconds", "run", "evaluation", "whole"),
    *("test", "tests", "label", "significant"),
)


def facts(plan: Plan, minutes: float | None = None, settled: bool = True) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of a plan's properties.

    minutes: its budget; settled: whether its numbers are those that a trial chose, and no longer upper bounds.
    """
    most = "" if settled or not minutes else "at most "

    def count(limit: int | None) -> str:
        return f" · {most}{limit:,}" if limit else ""

    rows = [("Expert", plan.expert, "The model to improve"), ("Amateur", plan.amateur, "The weaker model")]
    rows.append(("Learns from", problems_title(plan.problems) + count(plan.limit), "No answers are needed"))
    rows.append(("Measured on", plan.test_titles + count(plan.test_limit), "Their answers are known"))
    rows.append(("Arms", f"{len(plan.arms):,}", "Each is fine-tuned on the same dataset"))
    steps = max(arm.config.max_steps for arm in plan.arms)
    rows.append(("Updates", f"{most}{steps:,}", "Of the arm that makes the most"))
    if minutes:
        found = "By a trial on this machine" if settled else "A trial on this machine is to choose the numbers"
        rows.append(("Budget", f"{minutes:g} minute{'' if minutes == 1 else 's'}", found))
    if not any(arm.is_control for arm in plan.arms):
        rows.append(("Control", "none", f"Without “{CONTROL}”"))
    if plan.rounds > 1:
        rows.append(("Rounds", f"{plan.rounds:,}", "The best tuned expert is tuned again"))
        rows.append(("Amateur of later rounds", NEXT_AMATEURS[plan.next_amateur], "What diverges from the expert"))
    return rows


def arms_figure(arms: list[dict]) -> dict:
    """The change of every arm with its paired interval."""
    rows = pd.DataFrame(arms)
    rows = rows.assign(name=rows["label"])
    return differences_figure(rows).to_plotly_json()


class ExperimentActions(RunActions):
    activity = "experiments"

    def __init__(self, experiments: Experiments):
        super().__init__(experiments)
        self.experiments = experiments

    @action("experiments.view")
    def look(self, run_id, seen) -> dict:
        """The list and the opened experiment; unchanged parts are left out. seen: the "marks" of the last answer."""
        answer: dict = {"marks": {}}
        add_if_changed(answer, "experiments", self.runs.summaries(), seen)
        if run_id is None:
            return answer
        try:
            experiment = self.runs.find(run_id)
            opened = self.opened(experiment)
            add_if_changed(answer, "open", opened, seen)
            if opened["arms"]:
                add_if_changed(answer, "figure", opened["arms"], seen, arms_figure)
            if opened["arms"] and opened["rounds"] > 1:
                add_if_changed(answer, "curve", opened["arms"], seen, lambda arms: self.curve(experiment))
        except UserError as error:
            answer["error"] = str(error)
        return answer

    @action("experiments.download")
    def prepare(self, run_id, kind) -> dict:
        """Write the "report", the model "card", the "plan" or the arms' table as "csv" or "tex": {"url", "name"}."""
        experiment = self.runs.find(run_id)
        if not isinstance(kind, str) or kind not in FILES:
            raise UserError(f"There is no file called {str(kind)[:20]!r}; choose one of {', '.join(FILES)}.")
        source = experiment.folder / FILES[kind]
        if not source.is_file():
            raise UserError(f"There is no {source.name} yet; it is written when an arm has been evaluated.")
        name = f"{source.stem}-{experiment.id[:8]}{source.suffix}"
        return offer(self.runs.settings, name, lambda out: shutil.copyfile(source, out))

    def opened(self, experiment: Experiment) -> dict:
        """Everything that the page shows of an experiment. Raises UserError."""
        job = self.runs.view(experiment)
        shown = {
            "id": experiment.id,
            "name": experiment.name,
            "state": experiment.state,
            # its stages last differently long, so a rate of stages would tell nothing
            "job": {name: job[name] for name in ("id", "status", "message", "done", "total", "actions")},
        }
        shown |= {"command": job["command"], "stages": [], "arms": [], "facts": [], "flips": []}
        shown |= {"forecast": None, "sentence": None, "best": None, "files": [], "repeat": None}
        if experiment.run is None:
            plan, minutes = self.experiments.asked(experiment)
            stages = [self.stage(stage, False) for stage in round_stages(plan, experiment.folder.absolute())]
            return shown | {"facts": facts(plan, minutes, False), "rounds": plan.rounds, "stages": stages}
        plan, stages = self.experiments.plan(experiment), self.experiments.stages(experiment)
        results = self.experiments.results(stages)
        best, stops = best_arm(results), stop_requested(experiment.folder) is not None
        return shown | {
            "facts": facts(plan, experiment.run["config"].get("minutes"), "settled" in experiment.run),
            "rounds": plan.rounds,
            "stages": [self.stage(stage, stops) for stage in stages],
            "forecast": self.experiments.forecast(stages),
            "arms": [arm_row(arm, plan.rounds > 1) for arm in results],
            "sentence": sentence(results) if best else None,
            "best": best and best.run,
            "flips": self.experiments.flips(stages, results),
            "files": [kind for kind, name in FILES.items() if (experiment.folder / name).is_file()],
            "repeat": command(experiment.folder),
        }

    def curve(self, experiment: Experiment) -> dict:
        """pass@1 over the rounds, as a figure."""
        results = self.experiments.results(self.experiments.stages(experiment))
        return rounds_figure(results).to_plotly_json()

    def stage(self, stage: Stage, stops: bool) -> dict:
        """A box of the page. stops: whether the whole experiment was asked to stop."""
        log = stage.folder / EVENTS_FILE
        state = stage.state
        stops = state == "running" and (stops or stop_requested(stage.folder) is not None)
        last = (last_event(log, "progress") if state != "waiting" else None) or {}
        told = (last_event(log, "status") if state == "running" and not stops else None) or {}
        return {
            "id": stage.folder.name,
            "kind": stage.kind,
            "round": stage.round,
            "arm": stage.arm and stage.arm.name,
            "test": problems_title(stage.job.problems) if len(stage.tests) > 1 else None,
            "state": state,
            "stopping": stops,
            "message": stage.message if state in ("failed", "cancelled", "interrupted") else "",
            "status": str(told.get("text") or ""),
            "done": last.get("done"),
            "total": last.get("total"),
            "seconds": self.experiments.seconds(stage) if state not in ("waiting", "running") else None,
            "opens": (stage.folder / RECORD).is_file(),
        }


def arm_row(arm: ArmResult, several: bool) -> dict:
    """A row of the table. several: whether the rounds are named."""
    row = {name: getattr(arm, name) for name in ARM}
    return row | ({"label": f"round {arm.round}: {arm.label}"} if several else {})
