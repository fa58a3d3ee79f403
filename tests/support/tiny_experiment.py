"""Run folders of an experiment and its stages as the verb leaves them, with answers made up: no model has to run."""

from __future__ import annotations

import json
from pathlib import Path

from lightreasoner.decoding.contrast import parse_contrasts
from lightreasoner.experiments.plan import FILE, Plan, plan_of, write_plan
from lightreasoner.experiments.report import write_report
from lightreasoner.experiments.stages import Stage, round_stages
from lightreasoner.jobs.events import EVENTS_FILE
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import begin_run
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_evaluation import make_evaluation, make_tuned

BEFORE = "110100100010" * 5
AFTER = {"LightReasoner": "111111101011" * 5, "control: random steps": "110110100010" * 5}
BETAS = "0.1,1"


def plan_for(base: Path, amateur: Path, **more) -> Plan:
    """A method beside its control."""
    tables = {"expert": str(base), "amateur": str(amateur), "problems": "bundled-train", "test": "bundled-test"}
    tables |= {"limit": 6, "test_limit": len(BEFORE), "preview": 10, "preview_betas": BETAS}
    return plan_of(tables | {"arm": [{"name": "LightReasoner", "max_steps": 100}]} | more)


def write_log(folder: Path, state: str | None, **last) -> None:
    """A log of one attempt of 12 seconds, which ended in a state; None: it has not ended, and its process is gone."""
    events = [{"kind": "start", "verb": "experiment", "pid": 1, "mark": "none", "keeps": True, "resumes": True}]
    events += [{"kind": "status", "text": "Solving with base"}, {"kind": "progress", "done": 30, "total": 60}]
    events[-1] |= {name: value for name, value in last.items() if name in ("done", "total")}
    if state:
        message, result = last.get("message", ""), last.get("result", {})
        events.append({"kind": "end", "state": state, "message": message, "result": result, "kept": False})
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / EVENTS_FILE, "w") as file:
        for n, event in enumerate(events):
            file.write(json.dumps({"seq": n + 1, "time": 1e9 + n, "elapsed": 4.0 * n, "by": "1.x"} | event) + "\n")


def make_experiment(runs: Path, base: Path, amateur: Path, failing: str = "", most: int = 99, **more) -> Path:
    """An experiment that ended. failing: an arm that has no result; most: stages that there are; more: of the plan."""
    folder, plan = runs / new_id(), plan_for(base, amateur, **more)
    begin_run(folder, "experiment", plan.as_json(), {"versions": {"lightreasoner": "0.5.0"}})
    (folder / FILE).write_text(write_plan(plan), encoding="utf-8")
    for stage in round_stages(plan, folder)[:most]:
        if stage.arm and stage.arm.name == failing:
            if stage.kind == "finetune":
                write_log(stage.folder, "failed", message="The moon is full.")
        else:
            make_stage(runs, stage, base)
    write_report(plan, folder)
    result = {"best": "LightReasoner", "gain_in_points": 41.7}
    why = f"1 of 2 arms have no result; Fine-tune · {failing}: The moon is full. Resume repeats only what is missing."
    ended = ("failed", {"message": why}) if failing else ("succeeded", {"result": result})
    write_log(folder, ended[0] if most == 99 else None, done=6, total=6, **ended[1])
    return folder


def make_stage(runs: Path, stage: Stage, base: Path) -> None:
    """The run of a stage that succeeded."""
    if stage.kind == "dataset":
        make_dataset(stage.folder, problems=6)
    elif stage.kind == "finetune":
        make_tuned(runs, base, stage.job.dataset.local, stage.arm.config.method).rename(stage.folder)
    elif stage.kind == "preview":
        marks = ["1010010001", "1110010001", "1010110001"]
        contrasts = tuple(parse_contrasts("0.2", BETAS, False))
        made = make_evaluation(runs, base, [], marks, problems="bundled-train", contrasts=contrasts)
        made.rename(stage.folder)
    else:
        after = AFTER.get(stage.arm.name, BEFORE)
        make_evaluation(runs, base, [stage.job.adapters[0]], [BEFORE, after]).rename(stage.folder)
    write_log(stage.folder, "succeeded", done=60, total=60)
