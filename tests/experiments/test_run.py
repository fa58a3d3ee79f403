"""Experiments from end to end on a tiny pair: stages, what is not done again, failures, stops, rounds, the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import read_rows
from lightreasoner.experiments import run as running
from lightreasoner.experiments.plan import plan_of
from lightreasoner.experiments.results import all_stages, arm_results, best_arm, flips, forecast
from lightreasoner.experiments.stages import round_stages
from lightreasoner.jobs.context import STOP_FILE
from lightreasoner.jobs.events import EVENTS_FILE, read_events
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import read_run
from tests.support.tiny_models import save_tiny

PROBLEMS = [
    {"id": f"p{n}", "question": f"Tom has {n} apples{' and pears' * (n % 3)}.", "answer": "7"} for n in range(6)
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("pair")
    save_tiny(place / "expert", seed=1)
    save_tiny(place / "amateur", seed=2)
    (place / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS))
    return place


def tables(pair: Path, **others) -> dict:
    """A plan of seconds: two updates an arm, on all steps whose KL is above 0."""
    found = {"expert": str(pair / "expert"), "amateur": str(pair / "amateur"), "max_new_tokens": 8}
    found |= {"problems": str(pair / "problems.jsonl"), "test": str(pair / "problems.jsonl")}
    arms = {"max_steps": 2, "beta": 0.0, "save_every": 1, "held_out": 0.0}
    return found | {"test_max_new_tokens": 8, "preview": 0, "arms": arms} | others


def go(pair: Path, folder: Path, **others):
    settings = Settings(workspace=folder.parent / "workspace", device="cpu", dtype="float32")
    return running.run_experiment(plan_of(tables(pair, **others)), folder, settings)


def states(stages) -> list[tuple[str, str]]:
    return [(stage.kind, stage.state) for stage in stages]


def written(folder: Path) -> dict[Path, int]:
    """Every result under a folder, and when it was written; the experiment's own files, which tell of it, left out."""
    files = (path for path in folder.parent.glob("x-*/**/*") if path.is_file())
    return {p: p.stat().st_mtime_ns for p in files if p.suffix in (".parquet", ".safetensors")}


@pytest.fixture(scope="module")
def done(pair, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "x"
    go(pair, folder, preview=4, preview_betas="0.1,1")
    return folder


def test_each_stage_is_a_run_of_its_own_beside_the_experiment(done):
    stages = all_stages(done)
    kinds = ["preview", "dataset", "finetune", "evaluation", "finetune", "evaluation"]
    assert states(stages) == [(kind, "succeeded") for kind in kinds] and all(stage.is_done for stage in stages)
    runs = {path.name: read_run(path)["kind"] for path in done.parent.iterdir() if (path / "run.json").exists()}
    assert runs == {
        "x": "experiment",
        "x-preview": "evaluation",
        "x-data": "dataset",
        "x-1-lightreasone": "finetune",
        "x-1-lightreasone-test": "evaluation",
        "x-2-control-rand": "finetune",
        "x-2-control-rand-test": "evaluation",
    }
    assert read_run(done.parent / "x-data")["config"]["beta_floor"] == 0, "the control needs every step"
    end = read_events(done / EVENTS_FILE)[-1]
    assert (end["kind"], end["state"]) == ("end", "succeeded") and end["result"]["best"]
    assert "No cell solves more" in forecast(stages) or "points" in forecast(stages)


def test_every_arm_stands_beside_the_same_answers_of_the_expert(done):
    first, second = (done.parent / f"x-{name}-test" for name in ("1-lightreasone", "2-control-rand"))
    assert read_rows(first, 0) == read_rows(second, 0) and len(read_rows(first, 0)) == 6
    said = [event.get("text") for event in read_events(second / EVENTS_FILE)]
    assert "Solving with base" not in said, "the expert answered once"
    assert "Solving with control: random steps" in said, "it was told by its folder's name"
    one, other = arm_results(all_stages(done))
    assert (one.before, one.problems, one.updates, one.is_control) == (other.before, 6, 2, False) and other.is_control
    assert one.pass_at_1 == pytest.approx(one.before + one.difference)


def test_what_has_ended_is_not_done_again(done, pair):
    before = written(done)
    go(pair, done, preview=4, preview_betas="0.1,1")
    assert written(done) == before and len(before) > 6


def test_the_report_opens_without_scripts_and_repeats_the_plan(done, pair):
    page, plan = (done / "report.html").read_text(), (done / "plan.toml").read_text()
    assert "<script" not in page and "control: random steps" in page and "http" not in page
    assert "learning_rate" not in plan and "max_steps = 2" in plan
    card = (done / "model_card.md").read_text()
    assert "## Experiment" in card and "of problems.jsonl, greedy" in card
    assert flips(next(stage for stage in all_stages(done) if stage.kind == "evaluation")) is not None


def test_several_test_sets_are_evaluated_one_by_one_and_averaged(pair, tmp_path):
    """A plan held one test set, so a table of several benchmarks took an experiment for each of them."""
    second = tmp_path / "second.jsonl"
    second.write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS[:4]))
    tests = [str(pair / "problems.jsonl"), str(second)]
    stages = go(pair, tmp_path / "x", test=tests)
    judged = [stage.folder.name for stage in stages if stage.kind == "evaluation"]
    assert judged == [f"x-{arm}-{tag}" for arm in ("1-lightreasone", "2-control-rand") for tag in ("test", "test2")]
    assert all(stage.is_done for stage in stages)
    base = [read_rows(tmp_path / name, 0) for name in judged]
    assert base[0] == base[2] and base[1] == base[3], "the expert answered each test set once"
    results = arm_results(all_stages(tmp_path / "x"))
    assert [(arm.test, arm.problems, arm.whole) for arm in results[:3]] == [
        ("", 10, True),
        (tests[0], 6, True),
        (tests[1], 4, True),
    ]
    mean, *parts = results[:3]
    assert mean.pass_at_1 == pytest.approx(sum(part.pass_at_1 for part in parts) / 2) and mean.p is None
    assert best_arm(results).is_overall
    page = (tmp_path / "x" / "report.html").read_text()
    assert "mean of 2 test sets" in page and "· second.jsonl" in page
    assert "measured on problems.jsonl, second.jsonl" in page
    assert "second.jsonl" in (tmp_path / "x" / "arms.csv").read_text()


def test_another_plan_in_the_same_folder_is_refused(done, pair):
    with pytest.raises(UserError, match="belongs to another run: rounds was 1, now 2"):
        go(pair, done, preview=4, preview_betas="0.1,1", rounds=2)


def test_an_arm_that_fails_leaves_the_others_alone_and_is_repeated_alone(pair, tmp_path, monkeypatch):
    real, asked = running.run_as_job, []

    def fails_once(job, settings, console):
        asked.append(job.config.method)
        if asked == ["lightreasoner"]:
            raise UserError("The moon is full.")
        return real(job, settings, console)

    monkeypatch.setattr(running, "run_as_job", fails_once)
    with pytest.raises(
        UserError, match=r"1 of 2 arms have no result; Fine-tune · lightreasoner: The moon is full. Resume"
    ):
        go(pair, tmp_path / "x")
    assert asked == ["lightreasoner", "random-steps"]
    assert [arm.name for arm in arm_results(all_stages(tmp_path / "x"))] == ["control: random steps"]
    assert "The moon is full." in str(read_events(tmp_path / "x" / EVENTS_FILE))
    before = written(tmp_path / "x")
    go(pair, tmp_path / "x")
    assert asked == ["lightreasoner", "random-steps", "lightreasoner"]
    assert before.items() <= written(tmp_path / "x").items()


def test_an_experiment_that_is_stopped_goes_on_where_it_was(pair, tmp_path, monkeypatch):
    """Stopped in the middle of a training whose results are kept: it is trained to its end afterwards, not taken."""
    folder = tmp_path / "x"

    class Stopping(running.StageProgress):
        def update(self, done, total, **numbers):
            super().update(done, total, **numbers)
            if self._stage.kind == "finetune" and done == 1:
                (folder / STOP_FILE).write_text("keep")

    monkeypatch.setattr(running, "StageProgress", Stopping)
    arms = {"max_steps": 4, "beta": 0.0, "held_out": 0.0}
    with pytest.raises(StopRequested):
        go(pair, folder, arms=arms)
    assert states(all_stages(folder))[:3] == [
        ("dataset", "succeeded"),
        ("finetune", "interrupted"),
        ("evaluation", "waiting"),
    ]
    monkeypatch.undo()
    go(pair, folder, arms=arms)
    assert {state for _, state in states(all_stages(folder))} == {"succeeded"}
    assert [arm.updates for arm in arm_results(all_stages(folder))] == [4, 4]


def test_a_stage_that_is_stopped_alone_is_taken_as_it_is(pair, tmp_path, monkeypatch):
    folder = tmp_path / "x"

    class Stopping(running.StageProgress):
        def update(self, done, total, **numbers):
            super().update(done, total, **numbers)
            if self._stage.kind == "finetune" and done == 1 and not self._stage.arm.is_control:
                (self._stage.folder / STOP_FILE).write_text("keep")

    monkeypatch.setattr(running, "StageProgress", Stopping)
    go(pair, folder, arms={"max_steps": 4, "beta": 0.0, "held_out": 0.0})
    assert states(all_stages(folder))[1:3] == [("finetune", "stopped"), ("evaluation", "succeeded")]
    stopped, control = arm_results(all_stages(folder))
    assert stopped.updates < control.updates == 4


def test_a_later_round_begins_with_the_expert_that_won(pair, tmp_path, monkeypatch):
    """Tiny random models solve nothing, so the verdicts are made up: a response is right if an adapter wrote it."""
    from lightreasoner.evaluation import evaluate

    rows = evaluate.graded_rows
    monkeypatch.setattr(
        evaluate, "graded_rows", lambda *a, **k: [row | {"right": row["model"] != "base"} for row in rows(*a, **k)]
    )
    folder = tmp_path / "x"
    go(pair, folder, rounds=2, control=False)
    stages = all_stages(folder)
    assert [stage.round for stage in stages] == [1, 1, 1, 2, 2, 2] and all(stage.is_done for stage in stages)
    assert stages[3].job.expert == str(tmp_path / "x-r2-expert") and (tmp_path / "x-r2-expert/config.json").is_file()
    assert [(arm.round, arm.difference) for arm in arm_results(stages)] == [(1, 1.0), (2, 1.0)]


def test_without_a_gain_there_is_no_later_round(pair, tmp_path):
    with pytest.raises(UserError, match="No arm of round 1 improves its expert"):
        go(pair, tmp_path / "x", rounds=2, control=False)


def test_a_clearly_worse_arm_is_not_evaluated_to_its_end(pair, tmp_path, monkeypatch):
    from lightreasoner.evaluation import evaluate

    rows = evaluate.graded_rows
    monkeypatch.setattr(running, "ENOUGH", 2)
    monkeypatch.setattr("lightreasoner.experiments.stages.BATCH", 2)
    monkeypatch.setattr(
        evaluate, "graded_rows", lambda *a, **k: [row | {"right": "2-" not in row["model"]} for row in rows(*a, **k)]
    )
    arms = [{"name": "good"}, {"name": "bad", "seed": 1}]
    go(pair, tmp_path / "x", arm=arms, control=False, stop_worse=True)
    results = arm_results(all_stages(tmp_path / "x"))
    assert [(arm.name, arm.problems, arm.whole) for arm in results] == [("good", 6, True), ("bad", 2, False)]
    assert best_arm(results).name == "good"


def test_a_budget_is_measured_once_and_kept(pair, tmp_path, monkeypatch):
    from lightreasoner.experiments import budget

    real, measured = budget.measure, []
    monkeypatch.setattr(budget, "measure", lambda *given: measured.append(real(*given)) or budget.Rates(0.5, 0.4, 0))
    monkeypatch.setattr(budget, "LEAST", dict.fromkeys(budget.LEAST, 1))
    settings, folder = Settings(workspace=tmp_path / "workspace", device="cpu", dtype="float32"), tmp_path / "x"
    plan = plan_of(tables(pair, control=False, arms={"max_steps": 900, "beta": 0.0, "held_out": 0.0}))
    running.run_experiment(plan, folder, settings, minutes=0.1)
    assert measured[0].response > 0 and measured[0].update > 0
    stages = all_stages(folder)
    assert (stages[0].job.limit, stages[1].job.config.max_steps, stages[2].job.limit) == (2, 6, 2)
    running.run_experiment(plan, folder, settings, minutes=0.1)
    assert len(measured) == 1 and states(all_stages(folder)) == states(stages)
    with pytest.raises(UserError, match=r"minutes was 0\.1, now 5"):
        running.run_experiment(plan, folder, settings, minutes=5)


def test_on_the_command_line(pair, tmp_path, monkeypatch, capsys):
    for name, value in (("WORKSPACE", str(tmp_path / "workspace")), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    words = ["--expert", str(pair / "expert"), "--amateur", str(pair / "amateur"), "--max-new-tokens", "8"]
    words += ["--problems", str(pair / "problems.jsonl"), "--test", str(pair / "problems.jsonl")]
    words += ["--test-max-new-tokens", "8", "--preview", "0", "--arm", "max_steps=1,beta=0", "--no-control"]
    place = ["--run-dir", str(tmp_path / "x")]
    assert main(["experiment", *words, *place, "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3 and told[0].startswith("waiting") and not (tmp_path / "x").exists()
    assert main(["experiment", *words, *place]) == 0
    told = capsys.readouterr().out
    assert "lightreasoner" in told and "95 % interval" in told and "report.html" in told
    plan = str(tmp_path / "x" / "plan.toml")
    assert main(["experiment", plan, "--run-dir", str(tmp_path / "y"), "--dry-run"]) == 0
    assert "Fine-tune · lightreasoner" in capsys.readouterr().out
    assert main(["experiment", plan, *place, "--limit", "3"]) == 2
    assert "leave out --limit" in capsys.readouterr().err
    assert main(["experiment", "--run-dir", str(tmp_path / "z"), "--problems", "none", "--test", "bundled-test"]) == 2
    assert "'none' is neither a problem source" in capsys.readouterr().err and not (tmp_path / "z").exists()
    with pytest.raises(SystemExit):
        main(["experiment", "--run-dir", "s3://bucket/x", "--problems", "a", "--test", "b"])
    assert "must be a folder of this machine" in capsys.readouterr().err


def test_nothing_is_loaded_to_list_the_stages(pair, tmp_path):
    plan = plan_of(tables(pair))
    assert states(round_stages(plan, tmp_path / "x")) == [
        ("dataset", "waiting"),
        ("finetune", "waiting"),
        ("evaluation", "waiting"),
        ("finetune", "waiting"),
        ("evaluation", "waiting"),
    ]
