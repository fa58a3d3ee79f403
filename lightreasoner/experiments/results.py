"""The results of an experiment's arms, read from the runs of its stages; they can be read while it goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lightreasoner.evaluation.preview import preview_cells, verdict
from lightreasoner.evaluation.results import ResultsReader
from lightreasoner.evaluation.tables import counted, percent
from lightreasoner.experiments.plan import Plan, plan_of
from lightreasoner.experiments.stages import Stage, later_expert, round_stages
from lightreasoner.jobs.events import working_seconds
from lightreasoner.storage.runs import read_run
from lightreasoner.training.result import FinetuneResult

SHOWN = 3  # problems whose verdict changed
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
    p: float  # McNemar's
    samples: int | None
    updates: int | None
    train_loss: float | None  # nats
    training_seconds: float | None
    evaluation_seconds: float | None
    run: str  # names of the two run folders
    evaluation: str
    whole: bool  # whether the arm has answered every problem


def arm_results(stages: list[Stage]) -> list[ArmResult]:
    """Of all arms that have answered a problem, in the order of the stages. Raises UserError for damaged answers."""
    found = []
    for stage in stages:
        if stage.kind != "evaluation" or not (stage.folder / "answers").is_dir():
            continue
        reader = _reader(stage)
        compared = next(iter(reader.results()["comparisons"]), None)
        if compared is None:
            continue
        before = sum(reader.rows[0][problem].right for problem in reader.rows[1] if problem in reader.rows[0])
        before, tuned = before / compared["problems"], stage.job.adapters[0]
        trained = FinetuneResult.from_record(read_run(tuned)) or FinetuneResult()
        found.append(
            ArmResult(
                *(stage.arm.name, stage.arm.is_control, stage.round),
                *(compared["problems"], before, before + compared["difference"]),
                *(compared[name] for name in ("difference", "low", "high")),
                *(len(compared["gained"]), len(compared["lost"]), compared["p"]),
                *(trained.samples, trained.updates, trained.train_loss, trained.seconds),
                working_seconds(stage.folder),
                *(tuned.name, stage.folder.name, stage.state == "succeeded"),
            )
        )
    return found


def best_arm(results: list[ArmResult]) -> ArmResult | None:
    """The arm that solves the most; of equal ones the first. The control counts: that it wins is a finding."""
    return max((arm for arm in results if arm.whole), key=lambda arm: arm.difference, default=None)


def _reader(stage: Stage) -> ResultsReader:
    reader = ResultsReader(stage.folder, stage.job.variants())
    reader.refresh()
    return reader


def flips(stage: Stage, most: int = SHOWN) -> list[dict[str, Any]]:
    """Problems whose verdict changed, gains first: question, answer, and both responses with their verdicts."""
    reader = _reader(stage)
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
    several = len({arm.round for arm in results}) > 1
    rows = [
        ({"round": arm.round} if several else {})
        | {"arm": arm.name, "problems": arm.problems, "before in %": percent(arm.before)}
        | {"after in %": percent(arm.pass_at_1), "change in points": percent(arm.difference)}
        | {"low in points": percent(arm.low), "high in points": percent(arm.high), "gained": arm.gained}
        | {"lost": arm.lost, "McNemar p": arm.p, "samples": arm.samples, "updates": arm.updates}
        | {"training loss in nats": arm.train_loss, "training in s": arm.training_seconds}
        | {"evaluation in s": arm.evaluation_seconds, "complete": arm.whole}
        for arm in results
    ]
    return counted(pd.DataFrame(rows), ("samples", "updates"))
