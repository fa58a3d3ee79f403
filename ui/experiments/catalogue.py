"""The experiments of the workspace: their stages and results, read again only where files have changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightreasoner.cli.experiment import plan_from
from lightreasoner.cli.main import build_parser
from lightreasoner.evaluation.results import FOLDER, VERDICTS
from lightreasoner.experiments.plan import Plan
from lightreasoner.experiments.results import (
    ArmResult,
    all_stages,
    arm_results,
    best_arm,
    flips,
    forecast,
    recorded_plan,
    with_means,
)
from lightreasoner.experiments.stages import Stage, later_expert
from lightreasoner.formatting import plural
from lightreasoner.jobs.events import EVENTS_FILE, last_event, working_seconds
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.problems.sources import problems_title
from lightreasoner.serving.archive import note_deleted
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import stamp
from lightreasoner.storage.runs import RECORD, delete_run
from ui.components.run_list import MAX_LISTED, Entry, Recent, RunList, without_folders


class Experiment(Entry):
    """One entry of the list."""

    def describe(self, config: dict, about: dict) -> str:
        """Expert · the problems that it learns from · budget, or how many · number of arms · number of rounds."""
        arms, rounds, limit = len(config.get("arm") or []), config.get("rounds", 1), config.get("limit")
        parts = [without_folders(config.get("expert", "?")), problems_title(str(config.get("problems", "?")))]
        if minutes := config.get("minutes"):  # its limits are upper bounds
            parts.append(f"{minutes:g} min")
        else:
            parts += [f"{limit:,}"] if isinstance(limit, int) else []
        parts.append(plural(arms, "arm"))
        return " · ".join([*parts, *([f"{rounds} rounds"] if rounds != 1 else [])])


class Experiments(RunList):
    """All experiments. What is read of a stage stays in memory until its files change."""

    verbs, kind, article, noun, entry = ("experiment",), "experiment", "an", "experiment", Experiment
    in_memory = MAX_LISTED

    def __init__(self, settings: Settings, jobs: Scheduler):
        super().__init__(settings, jobs)
        self._read = Recent(4 * MAX_LISTED)

    def facts(self, experiment: Experiment) -> str:
        """The arm that solves the most, and what it gained."""
        result = (last_event(experiment.folder / EVENTS_FILE, "end") or {}).get("result") or {}
        gain = result.get("gain_in_points")
        if not isinstance(gain, int | float):
            return ""
        return f"best: {result.get('best')}, {gain:+.1f} points".replace("-", "−")

    def plan(self, experiment: Experiment) -> Plan:
        """Raises UserError for a record that holds none."""
        return recorded_plan(experiment.run)

    def asked(self, experiment: Experiment) -> tuple[Plan, float | None]:
        """The plan and the budget in minutes of an experiment that has not begun. Raises UserError."""
        argv = [*experiment.job.argv, "--run-dir", str(experiment.folder)]

        def read() -> tuple[Plan, float | None]:
            options = build_parser().parse_args(argv)
            return plan_from(options), options.minutes

        return self._once(experiment.folder, "asked", None, read)

    def stages(self, experiment: Experiment) -> list[Stage]:
        """The stages of the rounds that have begun. Raises UserError."""
        folder = experiment.folder.absolute()
        begun = sum(later_expert(folder, n).is_dir() for n in range(2, experiment.run["config"].get("rounds", 1) + 1))
        return self._once(folder, "stages", (stamp(folder / RECORD), begun), lambda: all_stages(folder))

    def results(self, stages: list[Stage]) -> list[ArmResult]:
        """Of the arms that have answered a problem. Raises UserError for damaged answers."""
        found = []
        for stage in stages:
            if stage.kind == "evaluation":
                marks = (*answer_marks(stage), stamp(stage.job.adapters[0] / RECORD), stage.state)
                found += self._once(stage.folder, "arm", marks, lambda stage=stage: arm_results([stage]))
        return with_means(found)

    def forecast(self, stages: list[Stage]) -> str | None:
        """The preview's sentence, once it has solved a problem. Raises UserError for damaged answers."""
        return next(
            (
                self._once(stage.folder, "forecast", answer_marks(stage), lambda: forecast(stages))
                for stage in stages
                if stage.kind == "preview"
            ),
            None,
        )

    def flips(self, stages: list[Stage], results: list[ArmResult]) -> list[dict]:
        """Problems whose verdict the best arm changed. Raises UserError for damaged answers."""
        best = best_arm(results)
        stage = next((stage for stage in stages if best and stage.folder.name == best.evaluation), None)
        return self._once(stage.folder, "flips", answer_marks(stage), lambda: flips(stage)) if stage else []

    def seconds(self, stage: Stage) -> float | None:
        """Seconds that a stage has computed."""
        log = stage.folder / EVENTS_FILE
        return self._once(stage.folder, "seconds", stamp(log), lambda: working_seconds(stage.folder))

    def _once(self, folder: Path, name: str, marks: Any, make: Callable[[], Any]) -> Any:
        return self._read.get((folder, name, marks), lambda: (make(),))[0]

    def remove(self, run_id: object) -> Entry:
        """Delete an experiment with its dataset, its fine-tuned models and its evaluations, for good."""
        experiment = self.find(run_id)
        stages = self.stages(experiment) if experiment.run else []
        entry = super().remove(run_id)
        for stage in stages:
            if (stage.folder / RECORD).is_file():
                delete_run(stage.folder)
                note_deleted(self.settings, stage.folder.name)
        for turn in {stage.round for stage in stages} - {1}:
            shutil.rmtree(later_expert(entry.folder, turn), ignore_errors=True)
        return entry


def answer_marks(stage: Stage) -> tuple:
    """What changes when a stage's answers, or the verdicts on them, do."""
    return stamp(stage.folder / FOLDER), stamp(stage.folder / VERDICTS)
