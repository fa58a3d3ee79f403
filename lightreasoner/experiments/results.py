"""The results of an experiment's arms, read from the runs of its stages; they can be read while it goes on."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from lightreasoner.evaluation.preview import preview_cells, verdict
from lightreasoner.evaluation.results import open_results
from lightreasoner.evaluation.tables import counted, percent
from lightreasoner.experiments.plan import Plan, plan_of
from lightreasoner.experiments.stages import Stage, later_expert, round_stages
from lightreasoner.jobs.events import working_seconds
from lightreasoner.problems.sources import problems_title
from lightreasoner.scoring.significance import Estimate, mean_estimate
from lightreasoner.storage.runs import read_run
from lightreasoner.training.result import FinetuneResult

SHOWN = 3  # problems whose verdict changed
SIGNIFICANT = 0.05  # differences with a McNemar p below it are called significant
KEPT = 4000  # characters of a response in a report


@dataclass(frozen=True)
class ArmResult:
    """An arm beside the expert that it began with. Shares from 0 to 1, differences with their paired 95 % interval."""

    name: str
    is_control: bool
    round: int
    problems: int
    before: float  # the expert's pass@1 on the same problems
    pass_at_1: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float | None  # McNemar's; None of a mean over test sets
    samples: int | None
    updates: int | None
    train_loss: float | None  # nats
    training_seconds: float | None
    evaluation_seconds: float | None
    run: str  # names of the two run folders
    evaluation: str  # of a mean, that of its first test set
    whole: bool  # whether the arm has answered every problem
    test: str = ""  # the test set, where there are several; of the mean over them, and of an only one, empty
    tests: int = 1  # test sets that there are

    @property
    def is_overall(self) -> bool:
        """Whether it tells of all test sets: it is their mean, or there is one alone."""
        return not self.test

    @property
    def label(self) -> str:
        if self.tests == 1:
            return self.name
        return f"{self.name} · {problems_title(self.test) if self.test else f'mean of {self.tests} test sets'}"

    @property
    def significant(self) -> bool:
        """Whether the arm differs from its expert at the 5 % level."""
        return self.p < SIGNIFICANT if self.p is not None else not self.low <= 0 <= self.high


def arm_results(stages: list[Stage]) -> list[ArmResult]:
    """Of all arms that have answered a problem, in the order of the stages; where there are several test sets, of the
    mean over them and of each. Raises UserError for damaged answers."""
    return with_means([result for stage in stages for result in stage_results(stage)])


def with_means(results: list[ArmResult]) -> list[ArmResult]:
    """Before the results of an arm on several test sets, their mean, in which each test set weighs the same."""
    found = []
    for _, group in itertools.groupby(results, lambda arm: (arm.round, arm.name)):
        own = [arm for arm in group if arm.test or arm.tests == 1]  # without a mean of some of them
        found += [mean_result(own), *own] if own[0].test else own
    return found


def mean_result(own: list[ArmResult]) -> ArmResult:
    """own: of one arm, on each test set that it has answered so far."""
    change = mean_estimate([Estimate(arm.difference, arm.low, arm.high) for arm in own])
    before = fmean(arm.before for arm in own)
    seconds = [arm.evaluation_seconds for arm in own if arm.evaluation_seconds is not None]
    return replace(
        own[0],
        test="",
        **{name: sum(getattr(arm, name) for arm in own) for name in ("problems", "gained", "lost")},
        **{"before": before, "pass_at_1": before + change.value, "p": None},
        **{"difference": change.value, "low": change.low, "high": change.high},
        evaluation_seconds=sum(seconds) if seconds else None,
        whole=len(own) == own[0].tests and all(arm.whole for arm in own),
    )


def stage_results(stage: Stage) -> list[ArmResult]:
    """Of one stage: one, or none where it is no evaluation or has no answer yet. Raises UserError."""
    if stage.kind != "evaluation" or not (stage.folder / "answers").is_dir():
        return []
    reader = open_results(stage.folder, stage.job.variants())
    compared = next(iter(reader.results()["comparisons"]), None)
    if compared is None:
        return []
    before = sum(reader.rows[0][problem].right for problem in reader.rows[1] if problem in reader.rows[0])
    before, tuned = before / compared["problems"], stage.job.adapters[0]
    trained = FinetuneResult.from_record(read_run(tuned)) or FinetuneResult()
    result = ArmResult(
        *(stage.arm.name, stage.arm.is_control, stage.round),
        *(compared["problems"], before, before + compared["difference"]),
        *(compared[name] for name in ("difference", "low", "high")),
        *(len(compared["gained"]), len(compared["lost"]), compared["p"]),
        *(trained.samples, trained.updates, trained.train_loss, trained.seconds),
        working_seconds(stage.folder),
        *(tuned.name, stage.folder.name, stage.state == "succeeded"),
        stage.job.problems if len(stage.tests) > 1 else "",
        len(stage.tests),
    )
    return [result]


def best_arm(results: list[ArmResult]) -> ArmResult | None:
    """The arm that solves the most of all rounds, on average over the test sets; of equal ones the first.

    The control counts: that it wins is a finding.
    """
    return max((arm for arm in results if arm.whole and arm.is_overall), key=lambda arm: arm.pass_at_1, default=None)


def flips(stage: Stage, most: int = SHOWN) -> list[dict[str, Any]]:
    """Problems whose verdict changed, gains first: question, answer, and both responses with their verdicts."""
    reader = open_results(stage.folder, stage.job.variants())
    compared = reader.results()["comparisons"]
    changed = [*compared[0]["gained"], *compared[0]["lost"]] if compared else []
    if compared and compared[0]["lost"] and len(compared[0]["gained"]) >= most:
        changed = [*compared[0]["gained"][: most - 1], compared[0]["lost"][0]]  # a loss is worth a look, too
    shown = []
    for problem in changed[:most]:
        before, after = reader.row(0, problem), reader.row(1, problem)
        shown.append(
            {"question": before["question"], "answer": before["answer"]}
            | {"before": before["response"][:KEPT], "after": after["response"][:KEPT], "gained": bool(after["right"])}
        )
    return shown


def recorded_plan(record: dict[str, Any]) -> Plan:
    """The plan of an experiment's run.json: as the budget settled it, else as asked for. Raises UserError."""
    return plan_of(record.get("settled") or {name: v for name, v in record["config"].items() if name != "minutes"})


def all_stages(folder: Path) -> list[Stage]:
    """The stages of an experiment's folder, of the rounds that have begun. Raises UserError when it is none."""
    record = read_run(folder, "experiment")
    plan, stages = recorded_plan(record), []
    for turn in range(1, plan.rounds + 1):
        expert = None if turn == 1 else later_expert(folder, turn)
        if expert is None or expert.is_dir():
            stages += round_stages(plan, folder, turn, expert and str(expert))
    return stages


def forecast(stages: list[Stage]) -> str | None:
    """The preview's sentence; None before it has solved a problem, or without a preview."""
    stage = next((stage for stage in stages if stage.kind == "preview"), None)
    if stage is None or not (stage.folder / "answers").is_dir():
        return None
    _, cells = preview_cells(stage.folder, stage.job.variants())
    return verdict(cells) if cells else None


def arms_table(results: list[ArmResult]) -> pd.DataFrame:
    """A row per arm, for a file: shares in percent, differences in percentage points, times in seconds."""
    several, tests = len({arm.round for arm in results}) > 1, any(arm.tests > 1 for arm in results)
    rows = [
        ({"round": arm.round} if several else {})
        | {"arm": arm.name}
        | ({"test set": arm.test or "mean"} if tests else {})
        | {"problems": arm.problems, "before in %": percent(arm.before)}
        | {"after in %": percent(arm.pass_at_1), "change in points": percent(arm.difference)}
        | {"low in points": percent(arm.low), "high in points": percent(arm.high), "gained": arm.gained}
        | {"lost": arm.lost, "McNemar p": arm.p, "samples": arm.samples, "updates": arm.updates}
        | {"training loss in nats": arm.train_loss, "training in s": arm.training_seconds}
        | {"evaluation in s": arm.evaluation_seconds, "complete": arm.whole}
        for arm in results
    ]
    return counted(pd.DataFrame(rows), ("samples", "updates"))
