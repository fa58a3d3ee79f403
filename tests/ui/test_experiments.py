"""The calls and the form of the Improve tab as plain functions, on made-up experiments."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from lightreasoner.cli.experiment import plan_from
from lightreasoner.cli.main import build_parser
from lightreasoner.errors import UserError
from lightreasoner.experiments.plan import CONTROL
from lightreasoner.experiments.stages import round_stages
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, new_id
from lightreasoner.storage.runs import RECORD, begin_run
from tests.support.tiny_evaluation import make_base
from tests.support.tiny_experiment import make_experiment, plan_for, write_log
from tests.support.tiny_models import save_tiny
from ui.components.dataset_catalogue import Datasets
from ui.components.pair_card import IMPROVE, OTHER, pair_card
from ui.evaluate.catalogue import Evaluations
from ui.experiments import catalogue
from ui.experiments.calls import ExperimentActions
from ui.experiments.catalogue import Experiments
from ui.experiments.form import prefilled
from ui.experiments.request import QUICK, read_form, usual_amounts, usual_settings
from ui.experiments.tab import start_experiment
from ui.finetune.catalogue import Tunings
from ui.studio import Studio

FORM = {"preset": "bundled", "expert": "", "amateur": "", "source": "bundled-train", "upload": None, "limit": 50}
FORM |= {"skip_unreadable": False, "test_source": "bundled-test", "test_upload": None, "test_limit": 40}
FORM |= {"test_skip_unreadable": False, "learning_rate": 1e-3, "max_steps": 300, "control": True, "preview": True}
FORM |= {"minutes": None, "arms": "", "stop_worse": False, "rounds": 1, "max_new_tokens": 128, "test_max_new_tokens": 0}
FORM |= {"next_amateur": "same"}


class Bench:
    """A workspace without a running scheduler: a tiny pair."""

    def __init__(self, workspace: Path):
        self.settings = Settings(workspace=workspace, device="cpu", dtype="float32")
        self.studio = Studio(self.settings)
        self.runs = self.settings.runs
        self.base, self.amateur = make_base(workspace), save_tiny(workspace / "tiny-amateur", seed=2)
        self.experiments = Experiments(self.settings, self.studio.jobs)
        self.calls = {call.__name__: call for call in ExperimentActions(self.experiments).calls}
        self.make = partial(make_experiment, self.runs, self.base, self.amateur)

    def ask(self, name: str, *arguments) -> dict:
        answer = self.calls[name](list(arguments))
        json.dumps(answer, allow_nan=False)  # a browser reads neither NaN nor infinity
        return answer

    def open(self, run: Path) -> dict:
        answer = self.ask("look", run.name, {})
        assert "error" not in answer, answer
        return answer["open"]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[Bench, Path]:
    """For tests that change nothing: bench, finished experiment."""
    bench = Bench(tmp_path_factory.mktemp("shared"))
    return bench, bench.make()


# ---- the form


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"limit": 0, "test_limit": 0, "preview": False, "control": False, "stop_worse": True, "rounds": 3},
        {"preset": OTHER, "expert": "./a", "amateur": "./b", "skip_unreadable": True, "max_new_tokens": 64},
        {"minutes": 5},
        {"minutes": 0.5, "rounds": 2, "next_amateur": "expert"},
        {"selector": "teaching", "tau": 0.1},
        {"selector": "entropy-kl", "tau": 0.1},
        {"arms": "seed=1|2\n\nmethod=sft\nlearning_rate=1e-4,rank=4", "test_max_new_tokens": 99},
    ],
)
def test_the_form_is_a_command_line(change):
    request = read_form(Settings(), FORM | change)
    argv = request.argv("bundled-train", "bundled-test")
    options = build_parser().parse_args([*argv, "--run-dir", "x"])
    assert plan_from(options) == request.plan()
    assert options.minutes == request.minutes == (FORM | change)["minutes"]


def test_further_arms_change_the_first_one_s_settings():
    plan = read_form(Settings(), FORM | {"arms": "seed=1|2\nmethod=sft\nlearning_rate=1e-4"}).plan()
    first, *_ = plan.arms
    assert [arm.name for arm in plan.arms] == [
        "LightReasoner",
        "LightReasoner, seed 1",
        "LightReasoner, seed 2",
        "SFT",
        "LightReasoner · learning_rate 0.0001",
        CONTROL,
    ]
    assert {arm.config.max_steps for arm in plan.arms} == {300}
    assert {arm.config.max_samples_per_trajectory for arm in plan.arms} == {16}, "the pair's preset"
    assert first.config.learning_rate == 1e-3 and plan.arms[4].config.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": None}, "The learning rate is None"),
        ({"learning_rate": 0}, "The learning rate is 0"),
        ({"max_steps": 1.5}, "The number of updates is 1.5"),
        ({"test_limit": 1}, "test_limit is 1"),
        ({"minutes": -1}, "The budget in minutes is -1"),
        ({"minutes": 0.01}, "The budget in minutes is 0.01"),
        ({"minutes": "soon"}, "The budget in minutes is soon"),
        ({"selector": "magic"}, "There is no selector"),
        ({"selector": "teaching", "tau": -1}, "The threshold τ"),
        ({"rounds": 11}, "The number of rounds is 11"),
        ({"next_amateur": ["x"]}, "next_amateur is"),
        ({"arms": "fast"}, "write its settings as NAME=VALUE"),
        ({"arms": "speed=9"}, "has 'speed', which is unknown"),
        ({"arms": "name=LightReasoner"}, "Two arms are called 'LightReasoner'"),
        ({"arms": ["seed=1"]}, "did not arrive as text"),
        ({"arms": "seed=1\n" * 64}, "at most 64"),
        ({"arms": "seed=" + "|".join(map(str, range(65)))}, "more than 64 arms"),
        ({"test_source": "bundled-train"}, "the very problems that it learned from"),
        ({"source": "file", "upload": None}, "No file of problems was uploaded"),
        ({"preset": OTHER}, "The expert is not a model"),
    ],
)
def test_mistakes_in_the_form_are_one_sentence(change, sentence):
    with pytest.raises(UserError, match=sentence):
        read_form(Settings(), FORM | change)


def test_a_benchmark_with_two_splits_is_learned_from_and_measured_on():
    assert read_form(Settings(), FORM | {"source": "gsm8k", "test_source": "gsm8k"}).test == "gsm8k"


def test_the_button_queues_the_job_that_the_command_line_names(bench, tmp_path):
    run = start_experiment(bench.studio, FORM)
    [job] = bench.studio.jobs.store.jobs(active=True)
    assert (job.verb, job.run_dir.name) == ("experiment", run)
    assert job.argv[:3] == ("experiment", "--pair", "bundled") and "Improve lightreasoner-expert-4m" in job.title
    opened = bench.ask("look", run, {})
    stages = opened["open"]["stages"]
    assert opened["open"]["state"] == "waiting" and [stage["state"] for stage in stages] == ["waiting"] * 6
    assert stages[2]["arm"] == "LightReasoner" and not any(stage["opens"] for stage in stages)
    assert [entry["id"] for entry in opened["experiments"]] == [run]
    assert bench.ask("act", run, "cancel") == {} and bench.ask("look", run, {})["experiments"] == []

    rows = "".join(json.dumps({"question": f"{n}?", "answer": str(n) if n > 1 else None}) + "\n" for n in range(3))
    file, again = tmp_path / "mine.jsonl", tmp_path / "copy.jsonl"
    file.write_text(rows)
    again.write_text(rows)
    with pytest.raises(UserError, match="needs two; this file has 1"):
        start_experiment(bench.studio, FORM | {"test_source": "file", "test_upload": str(file)})
    for copy in (file, again):
        copy.write_text(rows.replace("null", '"7"'))
    ours = {"source": "file", "upload": str(file), "test_source": "file", "test_upload": str(again)}
    with pytest.raises(UserError, match="the very problems that it learned from"):
        start_experiment(bench.studio, FORM | ours)
    with pytest.raises(UserError, match="nowhere"):
        start_experiment(bench.studio, FORM | {"preset": OTHER, "expert": "./nowhere", "amateur": "./nowhere"})


def test_a_link_from_a_pair_fills_the_form_in(shared):
    bench, _ = shared
    assert "?tab=improve&amp;pair=bundled" in pair_card(bench.studio, "bundled", "", "")
    odd = bench.base.rename(bench.base.with_name("a&b <x>"))
    own = pair_card(bench.studio, OTHER, str(odd), str(bench.amateur), "Run")
    odd.rename(bench.base)
    assert "tab=improve&amp;expert=" in own and "a%26b+%3Cx%3E&amp;amateur=" in own
    assert "tab=improve" not in pair_card(bench.studio, "bundled", "", "", IMPROVE)
    assert prefilled({"pair": "bundled"})[0] == "bundled"
    assert prefilled({"expert": "a/b", "amateur": "c/d"}) == (OTHER, "a/b", "c/d")
    for odd in ({}, {"pair": ["bundled"]}, {"pair": "no such"}, {"expert": "a/b"}, {"expert": 5, "amateur": "x"}):
        assert OTHER not in prefilled(odd)
    assert usual_settings("bundled", QUICK)["max_steps"] == 80 and usual_settings(OTHER)["learning_rate"] == 5e-5


def test_the_quick_size_is_the_quick_command(shared):
    """`experiment --quick` and the page's quick size are one preset, whatever the pair."""
    for pair in ("bundled", "smollm2-360m-instruct"):
        amounts = usual_amounts(pair, QUICK)
        request = read_form(Settings(), FORM | {"preset": pair, "size": QUICK} | amounts)
        argv = ["experiment", "--pair", pair, "--problems", "bundled-train", "--test", "bundled-test", "--quick"]
        plan = plan_from(build_parser().parse_args([*argv, "--run-dir", "x"]))
        assert [(arm.config, arm.selection) for arm in plan.arms] == [
            (arm.config, arm.selection) for arm in request.plan().arms
        ]
        assert (plan.limit, plan.test_limit, plan.preview) == (128, 200, 0)
        assert (request.limit, request.test_limit, request.minutes) == (128, 200, None)


# ---- what the page shows


def test_an_experiment_shows_its_stages_and_results(shared):
    bench, run = shared
    opened = bench.open(run)
    assert [(stage["kind"], stage["state"], stage["opens"]) for stage in opened["stages"]] == [
        (kind, "succeeded", True) for kind in ("preview", "dataset", "finetune", "evaluation", "finetune", "evaluation")
    ]
    assert opened["state"] == "done" and opened["sentence"].startswith("LightReasoner: pass@1 from 41.7 to 83.3 %")
    assert "The control, random steps at the same budget" in opened["sentence"]
    assert "the best of 2 cells" in opened["forecast"]
    assert [(arm["gained"], arm["lost"], arm["significant"]) for arm in opened["arms"]] == [
        (25, 0, True),
        (5, 0, False),
    ]
    assert [flip["gained"] for flip in opened["flips"]] == [True] * 3
    assert opened["files"] == ["report", "card", "plan", "csv", "tex"] and run.name in opened["repeat"]
    figure = bench.ask("look", run.name, {})["figure"]
    assert "LightReasoner, better: +41.7 points" in figure["layout"]["meta"]["says"]


def test_several_test_sets_stand_beside_their_mean(bench):
    """A plan had one test set, and the page no place for more."""
    run = bench.make(test=["bundled-test", "bundled-shifted"])
    answer = bench.ask("look", run.name, {})
    opened = answer["open"]
    labels = [f"LightReasoner · {of}" for of in ("mean of 2 test sets", "Bundled, test", "Bundled, shifted")]
    assert [arm["label"] for arm in opened["arms"]][:3] == labels and len(opened["arms"]) == 6
    assert opened["arms"][0]["p"] is None and opened["arms"][0]["significant"] is True
    assert [stage["test"] for stage in opened["stages"][3:5]] == ["Bundled, test", "Bundled, shifted"]
    assert "on average over 2 test sets" in opened["sentence"] and len(opened["flips"]) == 3
    assert ["Measured on", "Bundled, test, Bundled, shifted · 60", "Their answers are known"] in map(
        list, opened["facts"]
    )
    assert answer["figure"] and "test set" in (run / "arms.csv").read_text(encoding="utf-8")


def test_an_experiment_within_a_budget_opens_and_shows_the_numbers_that_were_chosen(bench):
    """Its record holds the budget beside the plan, so the page said that the plan had an unknown 'minutes'."""
    run = bench.make(most=2)
    record = json.loads((run / RECORD).read_text())
    asked = record["config"] | {"minutes": 5, "limit": 500, "test_limit": 500}
    for settled, learned, updates in ((None, " · at most 500", "at most 100"), (100, " · 100", "20")):
        more = settled and {"settled": record["config"] | {"limit": 100, "arm": [{"name": "a", "max_steps": 20}]}}
        (run / RECORD).write_text(json.dumps(record | {"config": asked} | (more or {})))
        shown = {name: value for name, value, _ in bench.open(run)["facts"]}
        assert (shown["Budget"], shown["Updates"]) == ("5 minutes", updates)
        assert shown["Learns from"].endswith(learned) and " · 5 min · " in bench.open(run)["name"]


def test_a_failed_arm_is_named_and_the_others_count(bench):
    run = bench.make(failing=CONTROL)
    opened = bench.open(run)
    assert [stage["state"] for stage in opened["stages"][2:]] == ["succeeded", "succeeded", "failed", "waiting"]
    assert opened["stages"][4]["message"] == "The moon is full." and len(opened["arms"]) == 1
    assert opened["state"] == "failed" and "Resume repeats only what is missing" in opened["job"]["message"]


def test_every_stage_opens_on_its_tab_under_a_name_of_its_own(shared):
    """A stage's folder had up to 47 characters, and a link holds 40: no stage could be opened."""
    bench, run = shared
    ids = {stage["kind"]: [] for stage in bench.open(run)["stages"]}
    for stage in bench.open(run)["stages"]:
        ids[stage["kind"]].append(stage["id"])
    jobs = bench.studio.jobs
    assert Datasets(bench.settings, jobs).find(ids["dataset"][0]).name
    tunings, evaluations = Tunings(bench.settings, jobs), Evaluations(bench.settings, jobs)
    assert [tunings.find(id).name.rpartition(" · ")[2] for id in ids["finetune"]] == ["LightReasoner", CONTROL]
    assert [evaluations.find(id).name.rpartition(" · ")[2] for id in ids["evaluation"]] == ["LightReasoner", CONTROL]
    assert "LightReasoner" not in evaluations.find(ids["preview"][0]).name
    arms = [{"name": "ünusual naming of a very long arm", "seed": list(range(20))}]
    plan = plan_for(bench.base, bench.amateur, arm=arms, rounds=10)
    for turn in (1, 10):
        stages = round_stages(plan, bench.runs / new_id(), turn, "x")
        names = [stage.folder.name for stage in stages]
        assert all(map(ID_PATTERN.fullmatch, names)) and len(set(names)) == len(names)


def test_a_poll_reads_nothing_again_that_has_not_changed(bench, monkeypatch):
    run = bench.make(most=4)
    assert len(bench.open(run)["arms"]) == 1

    def again(*args):
        raise AssertionError("read again")

    for name in ("all_stages", "arm_results", "flips", "forecast", "working_seconds"):
        monkeypatch.setattr(catalogue, name, again)
    before = time.perf_counter()
    opened = bench.open(run)
    assert time.perf_counter() - before < 0.5 and opened["stages"][0]["seconds"] == 12
    monkeypatch.undo()
    write_log(run.with_name(f"{run.name}-2-control-ra"), None, done=3, total=9)
    stage = bench.open(run)["stages"][4]
    assert (stage["state"], stage["done"], stage["total"]) == ("interrupted", 3, 9)


def test_files_to_take_along(bench):
    run = bench.make(most=2)
    assert "There is no model_card.md yet" in bench.ask("prepare", run.name, "card")["error"]
    made = bench.ask("prepare", run.name, "plan")
    assert made["name"] == f"plan-{run.name[:8]}.toml" and made["url"].startswith("downloads/")
    whole = bench.make()
    assert bench.open(whole)["files"] == ["report", "card", "plan", "csv", "tex"]
    rows = pd.read_csv(whole / "arms.csv").set_index("arm")
    numbers = rows.loc["LightReasoner", ["after in %", "change in points", "gained"]].tolist()
    assert numbers == pytest.approx([1000 / 12, 500 / 12, 25])
    assert r"\begin{tabular}" in (whole / "arms.tex").read_text()


@pytest.mark.parametrize(
    ("call", "arguments", "sentence"),
    [
        ("look", ["../../etc", {}], "That is no valid run id"),
        ("look", ["x" * 22, {}], "There is no experiment"),
        ("look", [None], "takes 2 arguments"),
        ("look", ["RUN-data", {}], "a run of the kind dataset, not an experiment"),
        ("prepare", ["RUN", "../run.json"], "There is no file called '../run.json'"),
        ("prepare", ["RUN", ["report"]], "There is no file called"),
        ("act", ["RUN", "keep"], "no longer possible"),
        ("act", ["RUN", "explode"], "There is no action called 'explode'"),
        ("discard", ["x" * 22], "There is no experiment"),
    ],
)
def test_forged_arguments_get_a_sentence(shared, call, arguments, sentence):
    bench, run = shared
    words = [word.replace("RUN", run.name) if isinstance(word, str) else word for word in arguments]
    assert sentence in bench.ask(call, *words)["error"]


def test_a_record_that_is_no_plan_is_one_sentence(bench):
    folder = bench.runs / new_id()
    begin_run(folder, "experiment", {"problems": 5}, {})
    assert "names no problems" in bench.ask("look", folder.name, {})["error"]
    assert len(bench.ask("look", None, {})["experiments"]) == 1


def test_an_experiment_is_deleted_with_its_stages_and_nothing_else(bench):
    other, run = bench.make(most=2), bench.make()
    assert bench.ask("discard", run.name) == {}
    assert {path.name for path in bench.runs.iterdir()} == {other.name, f"{other.name}-preview", f"{other.name}-data"}
