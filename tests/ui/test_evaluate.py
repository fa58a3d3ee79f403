"""The calls and the form of the Evaluate tab as plain functions, with valid and with forged arguments."""

from __future__ import annotations

import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lightreasoner.cli.evaluate import report
from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import FOLDER, SCHEMA, shard, variants_of, write_results
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import begin_run, read_run
from tests.support.damage import DAMAGES
from tests.support.tiny_dataset import make_dataset, trajectory, write_rows
from tests.support.tiny_evaluation import make_base, make_evaluation, make_tuned, row, write_events
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from ui.components.downloads import downloads_folder
from ui.components.form_values import describe_answers, describe_source
from ui.components.pair_card import OTHER
from ui.components.problem_form import OWN_FILE
from ui.evaluate import regrading
from ui.evaluate.calls import EvaluateActions
from ui.evaluate.catalogue import Evaluations
from ui.evaluate.form import NO_ADAPTERS, adapter_choices, prefilled
from ui.evaluate.request import read_form
from ui.evaluate.tab import start_evaluation
from ui.inspect.comparison import comparison_calls
from ui.studio import Studio

BEFORE, AFTER = "1100x01010", "1111x00011"
GAINED, LOST = ["p2", "p3", "p9"], ["p6"]
FORM = {"model": "lightreasoner-expert-4m", "own_model": "", "adapters": [], "adapter_folder": ""}
FORM |= {"source": "bundled-test", "upload": None, "limit": 50, "max_new_tokens": 256, "with_base": True}
FORM |= {"batch_size": 0, "samples": 1, "temperature": 0}
FORM |= {"amateur": "", "alpha": "0.2", "beta": "0.4", "takeover": False, "cap": 0}


class Bench:
    """A workspace without a running scheduler: a tiny base, its tuned model, and an evaluation of both."""

    def __init__(self, workspace: Path):
        self.settings = Settings(workspace=workspace, device="cpu", dtype="float32")
        self.studio = Studio(self.settings)
        self.runs = self.settings.runs
        self.base = make_base(workspace)
        self.evaluations = Evaluations(self.settings, self.studio.jobs)
        self.calls = {call.__name__: call for call in EvaluateActions(self.studio, self.evaluations).calls}

    def ask(self, name: str, *arguments) -> dict:
        answer = self.calls[name](list(arguments))
        json.dumps(answer, allow_nan=False)  # a browser reads neither NaN nor infinity
        return answer

    def open(self, run: Path) -> dict:
        answer = self.ask("look", run.name, False, {})
        assert "error" not in answer, answer
        return answer["open"]

    def score(self, run: Path, problem: str, side: str) -> dict:
        answer = self.ask("score", run.name, 1, problem, side)
        trace = answer["trace"]
        if live := self.studio.live_runs.get(trace):
            assert live.done.wait(120)
        return self.ask("scored", trace)


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[Bench, Path, Path]:
    """For tests that change nothing: bench, fine-tuning run, evaluation."""
    bench = Bench(tmp_path_factory.mktemp("shared"))
    tuned = make_tuned(bench.runs, bench.base)
    return bench, tuned, make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER], batch=3)


def fields(**change) -> dict:
    assert change.keys() <= FORM.keys()
    return FORM | change


# ---- the form


def test_the_form_is_a_command_line(shared, capsys):
    bench, tuned, _ = shared
    asked = read_form(
        bench.settings, fields(model=OTHER, own_model=str(bench.base), adapters=[tuned.name], limit=0, batch_size=4)
    )
    words = asked.argv("bundled-test")
    assert words == [
        *("evaluate", "--model", str(bench.base), "--adapter", str(tuned), "--problems", "bundled-test"),
        *("--max-new-tokens", "256", "--batch-size", "4"),
    ]
    assert "1 adapter · Bundled, test" in asked.title
    alone = read_form(
        bench.settings, fields(model=OTHER, own_model=str(bench.base), adapters=[tuned.name], with_base=False)
    )
    assert "--no-base" in alone.argv("svamp") and alone.argv("svamp")[-4:-2] == ["--limit", "50"]
    several = read_form(bench.settings, fields(samples=4, temperature=0.6)).argv("svamp")
    assert several[-4:] == ["--samples", "4", "--temperature", "0.6"]
    assert read_form(bench.settings, fields(samples=None, temperature=None)) == read_form(bench.settings, fields())
    folder = read_form(bench.settings, fields(adapter_folder=str(tuned / "adapter")))
    assert folder.adapters == (tuned / "adapter",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": OTHER, "own_model": " "}, "No model was named"),
        ({"model": OTHER, "own_model": "a/b::./c"}, "Name the base model without an adapter"),
        ({"model": None}, "names no model"),
        ({"adapters": ["../../etc"]}, "no valid run id"),
        ({"adapters": "x" * 20}, "as a list"),
        ({"adapters": [new_id()]}, "is not a run folder"),
        ({"adapter_folder": "/nowhere/at/all"}, "There is no adapter folder /nowhere/at/all"),
        ({"adapter_folder": 7}, "as text"),
        ({"adapter_folder": "a\0b"}, "not a valid path"),
        ({"with_base": False}, "There is no model to evaluate"),
        ({"source": "gsm9k"}, "no problem source"),
        ({"source": "file"}, "No file of problems was uploaded"),
        ({"limit": -3}, "The number of problems is -3"),
        ({"limit": 2.5}, "The number of problems is 2.5"),
        ({"max_new_tokens": 0}, "The token limit is 0"),
        ({"max_new_tokens": float("nan")}, "The token limit is nan"),
        ({"batch_size": "many"}, "The batch size is many"),
        ({"samples": 4}, "The number of responses per problem is 4 at temperature 0"),
        ({"samples": 0}, "The number of responses per problem is 0"),
        ({"samples": 2.5, "temperature": 1}, "The number of responses per problem is 2.5"),
        ({"temperature": -1}, "The temperature is -1"),
        ({"temperature": True}, "The temperature is True"),
    ],
)
def test_mistakes_in_the_form_are_one_sentence(shared, change, sentence):
    with pytest.raises(UserError) as mistake:
        read_form(shared[0].settings, fields(**change))
    assert sentence in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_an_adapter_of_another_base_is_refused_before_anything_runs(shared):
    bench, tuned, _ = shared
    with pytest.raises(UserError, match="was fine-tuned from tiny-base, not from lightreasoner-expert-4m"):
        read_form(bench.settings, fields(adapters=[tuned.name]))
    assert adapter_choices(bench.settings, "lightreasoner-expert-4m", [])["info"] == NO_ADAPTERS
    ticks = adapter_choices(bench.settings, str(bench.base), [tuned.name, "gone"])
    assert [run for _, run in ticks["choices"]] == ticks["value"] == [tuned.name]


def test_a_link_to_a_tuned_model_fills_the_form_in(shared):
    bench, tuned, run = shared
    assert bench.ask("look", tuned.name, True, {})["fills"] is True
    model, own, ticks, wrong = prefilled(bench.settings, tuned.name)
    assert (model, own.value, own.visible, ticks.value, wrong) == (OTHER, str(bench.base), True, [tuned.name], "")
    assert "so it has no tuned expert" in prefilled(bench.settings, run.name)[-1]
    assert prefilled(bench.settings, ["x"])[-1] == "That is no valid run id; copy it again in full."


def test_the_button_queues_the_job_that_the_command_line_names(bench):
    run_id = start_evaluation(bench.studio, fields(limit=3))
    (job,) = bench.studio.jobs.store.jobs()
    assert (job.verb, job.run_dir.name) == ("evaluate", run_id)
    assert job.argv[-2:] == ("--run-dir", str((bench.runs / run_id).absolute()))
    seen = bench.ask("look", run_id, False, {})
    assert (seen["open"]["state"], seen["open"]["models"]) == ("waiting", [])
    assert [entry["id"] for entry in seen["evaluations"]] == [run_id]
    assert bench.ask("act", run_id, "resume")["error"].startswith("This evaluation is waiting by now")
    assert "cancel it first" in bench.ask("discard", run_id)["error"]
    assert bench.ask("act", run_id, "cancel") == {}
    assert "There is no evaluation" in bench.ask("look", run_id, False, {})["error"]  # it never began


# ---- what is shown


def test_an_empty_workspace_has_an_answer(bench):
    seen = bench.ask("look", None, True, {})
    assert (seen["evaluations"], seen["overview"]["groups"], seen["overview"]["costs"]) == ([], [], [])
    assert len(seen["overview"]["paper"]["scores"]) == 15 and len(seen["overview"]["paper"]["costs"]) == 8


def test_an_evaluation_shows_the_engines_numbers(shared):
    bench, _, run = shared
    seen, results = bench.open(run), json.loads((run / "results.json").read_text())
    for shown, found in zip(seen["models"], results["models"], strict=True):
        assert all(shown[key] == found[key] for key in ("pass_at_1", "interval", "truncations", "extraction_failures"))
    (comparison,) = seen["comparisons"]
    assert (comparison["gained"], comparison["lost"], comparison["model"]) == (3, 1, 1)
    assert comparison["difference"] == pytest.approx(0.2) and comparison["verdict"] == "not significant"
    assert seen["models"][0]["name"] == "tiny-base, base model" and "LightReasoner" in seen["models"][1]["name"]
    assert (seen["state"], seen["done"], seen["total"], seen["paper"]) == ("done", 20, 20, [])


def test_the_charts_come_with_their_numbers_and_only_when_these_changed(shared):
    bench, _, run = shared
    first = bench.ask("look", run.name, True, {})
    figures = first["figures"]
    assert [trace["name"] for trace in figures["models"]["data"]] == ["base", "fine-tuned"]
    assert len(first["charts"]) == len(first["overview"]["groups"])
    assert first["charts"][0]["layout"]["meta"]["says"].startswith("tiny-base, base model, pass@1 ")
    assert figures["differences"]["data"][0]["x"] == pytest.approx([20])
    json.dumps(first, allow_nan=False)
    again = bench.ask("look", run.name, True, first["marks"])
    assert not again.keys() & {"figures", "charts", "open", "overview"}


@pytest.mark.parametrize("kind, part", [("csv", "pass@1 in %"), ("tex", r"pass@1 in \%")])
def test_results_are_taken_along_as_a_table(shared, kind, part):
    bench, _, run = shared
    for which, title in ((run.name, run.name[:8]), (None, "all-results")):
        made = bench.ask("prepare", which, kind)
        assert made["name"] == f"evaluation-{title}.{kind}"
        (file,) = (downloads_folder(bench.settings) / made["url"].rpartition("/")[2]).iterdir()
        text = file.read_text(encoding="utf-8")
        assert part in text and ("gained" in text) == (which is not None)
        assert ("benchmark" in text) == (which is None)
    assert "choose csv or tex" in bench.ask("prepare", run.name, "../x")["error"]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("0" * 12, "1" * 12, "significant"),
        ("1" * 12, "0" * 12, "significant"),
        ("0101", "0101", "no problem changed sides"),
    ],
)
def test_significance_in_words(bench, before, after, verdict):
    run = make_evaluation(bench.runs, bench.base, [make_tuned(bench.runs, bench.base)], [before, after])
    assert bench.open(run)["comparisons"][0]["verdict"] == verdict


def test_preliminary_results_become_the_final_ones(bench):
    """While an evaluation runs, its results are the engine's over the rows so far; unchanged parts are sent once."""
    run = make_evaluation(
        bench.runs, bench.base, [make_tuned(bench.runs, bench.base)], [BEFORE, AFTER], batch=4, whole=False
    )
    shards = sorted((run / FOLDER).iterdir())
    for path in shards[1:]:
        path.rename(path.with_suffix(".away"))
    seen = bench.open(run)
    assert [model.get("problems") for model in seen["models"]] == [4, None] and seen["comparisons"] == []
    for path in shards[1:]:
        path.with_suffix(".away").rename(path)
    seen = bench.open(run)
    write_results(run, variants_of(read_run(run)))
    ended = bench.open(run)
    assert (seen["models"], seen["comparisons"]) == (ended["models"], ended["comparisons"])
    first = bench.ask("look", run.name, True, {})
    again = bench.ask("look", run.name, True, first["marks"])
    assert not {"open", "overview", "evaluations"} & again.keys()


def test_a_damaged_shard_is_named(bench):
    run = make_evaluation(bench.runs, bench.base, [make_tuned(bench.runs, bench.base)], [BEFORE, AFTER], whole=False)
    (run / FOLDER / "01-000000.parquet").write_bytes(b"PAR1 not quite")
    assert "01-000000.parquet is damaged" in bench.ask("look", run.name, False, {})["error"]
    (run / "results.json").write_text("{")  # and a half-written results.json is none
    assert "01-000000.parquet is damaged" in bench.ask("look", run.name, False, {})["error"]


def test_all_results_side_by_side_with_the_papers_where_they_overlap(bench):
    dataset = bench.runs / "a-dataset-of-six-00"
    make_dataset(dataset, problems=6)
    write_events(dataset, [(0.0, "start"), (20.0, "end")])
    tuned = make_tuned(bench.runs, bench.base, dataset)
    make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER])
    largest = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE * 2, AFTER * 2])
    make_evaluation(bench.runs, bench.base, [], ["11"], problems="svamp")
    make_evaluation(bench.runs, "Qwen/Qwen2.5-Math-1.5B", [], [BEFORE], problems="gsm8k")
    seen = bench.ask("look", None, True, {})["overview"]
    groups = {(Path(group["base"]).name, group["key"]): group for group in seen["groups"]}
    assert list(groups) == [("Qwen2.5-Math-1.5B", "gsm8k"), ("tiny-base", "bundled-test"), ("tiny-base", "svamp")]
    ours = groups["tiny-base", "bundled-test"]
    assert [(m["base"], m["problems"], m["run"]) for m in ours["models"]] == [
        (True, 20, largest.name),
        (False, 20, largest.name),
    ]
    assert ours["paper"] == []  # the paper has no such model
    paper = {row["method"]: row["value"] for row in groups["Qwen2.5-Math-1.5B", "gsm8k"]["paper"]}
    assert paper == {"base": 0.425, "sft": 0.692, "lightreasoner": 0.706}
    (cost,) = seen["costs"]
    assert (cost["seconds"], cost["problems"], cost["tuned_tokens"]) == (60, 6, 1600)
    assert cost["gain"] == pytest.approx(0.2) and cost["gains"][0]["problems"] == 20


# ---- flips


def test_flips_are_those_of_the_comparison(shared):
    bench, _, run = shared
    gained, lost = (bench.ask("listed", run.name, 1, side, 0) for side in ("gained", "lost"))
    assert [row["problem"] for row in gained["rows"]] == GAINED and gained["total"] == 3
    assert [row["problem"] for row in lost["rows"]] == LOST
    assert gained["rows"][0] == {
        "problem": "p2",
        "question": "Tom has 2 apples and buys 2 more. How many?",
        "answer": "4",
        "before": "2",
        "after": "4",
    }
    assert bench.ask("listed", run.name, 1, "gained", 2)["rows"] == gained["rows"][2:]


def test_both_responses_are_scored_by_both_models_once(bench):
    """Scored live with the tuned model as expert and its base as amateur; found again after a restart without loading
    a model."""
    tuned = make_tuned(bench.runs, bench.base)
    run = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER])
    flip = bench.ask("flip", run.name, 1, "p2")
    assert (flip["before"]["right"], flip["after"]["right"], flip["answer"]) == (False, True, "4")
    assert 0 < flip["shared"] < flip["before"]["tokens"] and flip["before"]["trace"] is None
    record = bench.score(run, "p2", "before")["record"]
    assert "".join(step["text"] for step in record["steps"]) == flip["before"]["response"]
    assert record["pair"]["expert"] == f"{bench.base}::{tuned / 'adapter'}"
    assert record["pair"]["amateur"] == str(bench.base)
    assert max(step["kl"] for step in record["steps"]) > 0.01, "the adapter changes something"
    assert record["steps"][0]["candidates"]["ids"] and "support" not in record["steps"][0]
    assert bench.studio.live_runs == {}, "what is on disk need not stay in memory"

    shutil.rmtree(bench.base)  # a restart, and no model to load
    again = Bench.__new__(Bench)
    again.settings, again.studio = bench.settings, Studio(bench.settings)
    evaluations = Evaluations(again.settings, again.studio.jobs)
    again.calls = {call.__name__: call for call in EvaluateActions(again.studio, evaluations).calls}
    trace = again.ask("flip", run.name, 1, "p2")["before"]["trace"]
    assert again.ask("score", run.name, 1, "p2", "before") == {"trace": trace}
    assert again.ask("scored", trace)["record"] == record
    assert "after" in again.ask("flip", run.name, 1, "p2")
    failed = again.ask("score", run.name, 1, "p2", "after")["trace"]
    assert again.studio.live_runs[failed].done.wait(60)
    assert (
        "tiny-base" in again.ask("scored", failed)["error"]
    )  # the base is gone: a sentence, and it can be tried again
    assert again.studio.live_runs == {}


@pytest.mark.parametrize(
    ("call", "arguments", "sentence"),
    [
        ("look", ("../..", False, {}), "no valid run id"),
        ("look", (new_id(), False, None), "There is no evaluation"),
        ("look", ({"a": 1}, False, {}), "no valid run id"),
        ("listed", ("RUN", 0, "gained", 0), "The model is 0"),
        ("listed", ("RUN", 2, "gained", 0), "The model is 2"),
        ("listed", ("RUN", True, "gained", 0), "The model is True"),
        ("listed", ("RUN", 1, "sideways", 0), "gained or lost"),
        ("listed", ("RUN", 1, "lost", -1), "The place in the list"),
        ("flip", ("RUN", 1, "p77"), "no such answer"),
        ("flip", ("RUN", 1, None), "no such answer"),
        ("score", ("RUN", 1, "p1", "between"), "before or after"),
        ("scored", ("../../etc/passwd",), "no valid trace id"),
        ("scored", (None,), "no valid trace id"),
        ("listed_responses", ("RUN", 2, "all", 0), "The model is 2"),
        ("listed_responses", ("RUN", 0, "best", 0), "There are the filters all, right"),
        ("listed_responses", ("RUN", 0, ["all"], 0), "There are the filters all, right"),
        ("response", ("RUN", 0, "p77", 0), "no such answer"),
        ("response", ("RUN", 0, "p1", 5), "no such answer"),
        ("response", ("RUN", 0, "p1", "x"), "The sample is x"),
        ("set_verdict", ("RUN", 0, "p1", 0, 1), "A verdict is right, wrong or the grader's, not '1'"),
        ("set_verdict", ("RUN", 0, "p1", 3, True), "no such answer"),
        ("set_verdict", ("RUN", 7, "p1", 0, True), "The model is 7"),
        ("set_verdict", ("RUN", 0, "p77", 0, None), "no such answer"),
        ("regrade", ("TUNED",), "not an evaluation"),
        ("act", ("RUN", "rm -rf"), "no action called"),
        ("act", ("RUN", "resume"), "no longer possible"),
        ("discard", ("TUNED",), "not an evaluation"),
    ],
)
def test_forged_arguments_get_a_sentence(shared, call, arguments, sentence):
    bench, tuned, run = shared
    names = {"RUN": run.name, "TUNED": tuned.name}
    known = (names.get(a, a) if isinstance(a, str) else a for a in arguments)
    assert sentence in bench.ask(call, *known)["error"]
    assert run.is_dir() and tuned.is_dir()


def test_inspect_with_this_model_arrives_at_a_problem_that_flipped(bench):
    """The link led to an empty page. Both responses to the first problem that the run gained are scored as on this tab
    and compared; a run without an evaluation has none."""
    tuned, alone = (make_tuned(bench.runs, bench.base) for _ in range(2))
    run = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER])
    calls = {call.__name__: call for call in comparison_calls(bench.studio)}
    assert calls["flip"]([alone.name]) == {} and "error" in calls["flip"](["no-such-run"])
    while "status" in (found := calls["flip"]([tuned.name])):
        time.sleep(0.05)
    before, after = (bench.ask("flip", run.name, 1, "p2")[side]["trace"] for side in ("before", "after"))
    assert found == {"as": "flip", "traces": [before, after]}
    both = calls["beside"]([before, after])
    json.dumps(both, allow_nan=False)
    assert [both[side]["graded"]["right"] for side in ("left", "right")] == [False, True]
    assert both["alignment"]["first"][0] is not None and "support" not in both["left"]["steps"][0]
    assert "no trace" in calls["beside"]([before, "x" * 22])["error"]
    assert "made from no other" in calls["origin"]([before])["error"]


def test_inspect_with_a_model_that_was_not_evaluated_arrives_at_a_problem_of_its_dataset(bench):
    """It arrived at a sentence. The expert and the tuned expert both answer: a problem that went wrong, if there is."""
    data, generator = bench.runs / ("d" * 22), torch.Generator().manual_seed(0)
    begin_run(data, "dataset", {"expert": str(bench.base), "amateur": str(bench.base), "max_new_tokens": 5}, {})
    rows = [trajectory(n, 8, 300, generator, answer="4", response=f"It is {4 + n}.") for n in range(3)]
    write_rows(data, 0, rows)
    tuned = make_tuned(bench.runs, bench.base, data)
    calls = {call.__name__: call for call in comparison_calls(bench.studio)}
    while "status" in (found := calls["flip"]([tuned.name])):
        assert found["as"] == "asked"
        time.sleep(0.02)
    both = calls["beside"](found["traces"])
    assert found["as"] == "asked" and both["left"]["problem_id"] == "p1", "the first one that is wrong"
    assert [both[side]["lens"]["writer"] for side in ("left", "right")] == ["expert", "tuned"]
    assert all(0 < len(both[side]["steps"]) <= 5 and "graded" in both[side] for side in ("left", "right"))
    assert calls["flip"]([tuned.name]) == found and not any(bench.studio.live_runs.values()), "nothing is run again"


def test_a_score_that_nobody_waits_for_is_asked_for_again(bench, monkeypatch):
    """A closed tab kept the accelerator until both responses were scored."""
    monkeypatch.setattr("ui.components.flip_traces.PATIENCE", 0.05)
    monkeypatch.setattr("ui.studio.load_pair", lambda *_, on_status, **__: [on_status("Loading") for _ in iter(int, 1)])
    tuned = make_tuned(bench.runs, bench.base)
    run = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER])
    trace = bench.ask("score", run.name, 1, "p2", "before")["trace"]
    live = bench.studio.live_runs[trace]
    assert live.done.wait(30) and "ask for it again" in bench.ask("scored", trace)["error"]
    assert bench.ask("score", run.name, 1, "p2", "before")["trace"] == trace
    again = bench.studio.live_runs[trace]
    assert again is not live and again.done.wait(30)


def test_one_model_alone_has_no_flips(bench):
    run = make_evaluation(bench.runs, bench.base, [], [BEFORE])
    assert bench.open(run)["comparisons"] == []
    assert "only one model" in bench.ask("listed", run.name, 1, "gained", 0)["error"]


def test_a_deleted_evaluation_is_gone(bench):
    run = make_evaluation(bench.runs, bench.base, [], [BEFORE])
    assert bench.ask("discard", run.name) == {}
    assert not run.exists() and bench.ask("look", None, False, {})["evaluations"] == []
    assert "There is no evaluation" in bench.ask("look", run.name, False, {})["error"]


# ---- judging again, and verdicts by hand


def judged(bench: Bench, run: Path) -> dict:
    """What came of judging again, once it has ended."""
    for _ in range(600):
        state = bench.open(run)["judged"]
        if "done" not in state:
            return state
        time.sleep(0.1)
    raise AssertionError(state)


def altered(run: Path) -> str:
    """Give the first stored response the verdict of another rule; returns its problem."""
    path = sorted((run / FOLDER).iterdir())[0]
    rows = pq.read_table(path).to_pylist()
    rows[0] |= {"right": not rows[0]["right"], "extracted": "7"}
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return rows[0]["problem_id"]


def test_judging_again_lists_what_changed_and_says_where_nothing_did(bench):
    run = make_evaluation(bench.runs, bench.base, [make_tuned(bench.runs, bench.base)], ["1100", "1010"], batch=3)
    assert bench.open(run)["judged"] is None
    assert bench.ask("regrade", run.name) == {}
    assert judged(bench, run) == {"judged": 8, "flipped": 0, "read": 0, "changes": []}
    problem = altered(run)
    assert bench.ask("set_verdict", run.name, 0, problem, 0, True)["right"] is True
    bench.ask("regrade", run.name)
    state = judged(bench, run)
    (change,) = state["changes"]
    assert (state["flipped"], state["read"], change["problem_id"]) == (1, 0, problem)
    assert (change["before"], change["after"]) == ((False, "7"), (True, "0")) and change["by_hand"] is True
    assert bench.open(run)["labels"][change["model"]] == "tiny-base, base model"
    assert bench.open(run)["models"][0]["by_hand"] == 1, "judging again keeps what was set by hand"


def test_no_request_waits_while_responses_are_judged(bench, monkeypatch):
    """The call ran the whole judging inside the request; 20,000 responses are half a minute of it."""
    run = make_evaluation(bench.runs, bench.base, [], [BEFORE])
    go, runs = threading.Event(), []

    def slow(folder, on_progress):
        runs.append(folder)
        on_progress(3, 10)
        assert go.wait(60)
        raise UserError("00-000000.parquet is damaged.")

    monkeypatch.setattr(regrading, "regrade", slow)
    monkeypatch.setattr(regrading, "AT_ONCE", 0.05)
    assert bench.ask("regrade", run.name) == bench.ask("regrade", run.name) == {}
    assert bench.open(run)["judged"] == {"done": 3, "total": 10} and len(runs) == 1, "the second click joins the first"
    assert "being judged again" in bench.ask("set_verdict", run.name, 0, "p1", 0, True)["error"]
    go.set()
    assert judged(bench, run) == {"error": "00-000000.parquet is damaged."}


def test_verdicts_by_hand_from_the_page(bench):
    tuned = make_tuned(bench.runs, bench.base)
    run = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER], batch=3)
    problem = bench.ask("listed", run.name, 1, "gained", 0)["rows"][0]["problem"]
    before = bench.open(run)["models"][0]
    now = bench.ask("set_verdict", run.name, 0, problem, 0, True)
    assert now == {"sample": 0, "extracted": "2", "right": True, "judged": False, "by_hand": True}
    assert problem not in [row["problem"] for row in bench.ask("listed", run.name, 1, "gained", 0)["rows"]]
    side = bench.ask("flip", run.name, 1, problem)["before"]
    assert (side["right"], side["judged"], side["by_hand"], side["model"], side["sample"]) == (True, False, True, 0, 0)
    after = bench.open(run)["models"][0]
    assert (before["by_hand"], after["by_hand"]) == (None, 1)
    assert after["pass_at_1"] == before["pass_at_1"] + 0.1
    assert all(a < b for a, b in zip(before["interval"], after["interval"], strict=True)), "intervals count it"
    shown = bench.ask("listed_responses", run.name, 0, "by_hand", 0)
    assert [row["problem"] for row in shown["rows"]] == [problem] and shown["total"] == 1
    assert bench.ask("set_verdict", run.name, 0, problem, 0, None)["by_hand"] is False
    assert bench.open(run)["models"][0]["by_hand"] is None


def test_every_response_of_a_model_alone_can_be_read(bench):
    """Responses were only to be seen where two models differ: an evaluation of one model had none."""
    run = make_evaluation(bench.runs, bench.base, [], [BEFORE])
    ask = partial(bench.ask, "listed_responses", run.name, 0)
    found = {which: ask(which, 0)["total"] for which in ("all", "right", "wrong", "unread", "by_hand")}
    assert found == {"all": 10, "right": 4, "wrong": 6, "unread": 1, "by_hand": 0}
    (row,) = ask("unread", 0)["rows"]
    assert (row["problem"], row["extracted"], row["right"]) == ("p4", None, False)
    answer = bench.ask("response", run.name, 0, "p4", 0)
    assert (answer["response"], answer["cut"]) == ("4 + 4 + 4 + 4 and so on", True)
    assert [row["problem"] for row in ask("all", 8)["rows"]] == ["p8", "p9"]


def test_several_responses_on_the_page_as_on_the_command_line(bench):
    """avg@k, pass@k, maj@k, levels and their intervals: the page shows the numbers that the command line prints."""
    run = make_evaluation(bench.runs, bench.base, [], ["1"])
    levels = {"p2": "10", "p3": "2", "p4": "2"}
    rows = [
        row("base", n, mark, "{n}?", tiny_tokenizer()) | {"sample": sample, "level": levels[f"p{n}"]}
        for n, marks in ((2, "1100"), (3, "0x00"), (4, "1110"))
        for sample, mark in enumerate(marks)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), shard(run, 0, 0))
    record = json.loads((run / "run.json").read_text())
    record["config"] |= {"samples": 4, "temperature": 0.6}
    record["about"]["problems"] = 3
    (run / "run.json").write_text(json.dumps(record))
    summaries = write_results(run, variants_of(read_run(run)))
    seen = bench.open(run)
    (model,) = seen["models"]
    assert (seen["done"], seen["total"]) == (12, 12), "responses are counted, not problems"
    assert (model["samples"], model["responses"], model["extraction_failures"]) == (4, 12, 1)
    printed = "\n".join(report(summaries))
    for share, low, high in (
        (model["pass_at_1"], *model["interval"]),
        *((of["value"], of["low"], of["high"]) for size, of in model["pass_at"].items() if size != "1"),
        tuple(model["majority"].values()),
        *((group["pass_at_1"], *group["interval"]) for group in model["groups"]["level"]),
    ):
        assert f"{100 * share:.1f} % ({100 * low:.1f} – {100 * high:.1f} %)" in printed
    assert [group["name"] for group in model["groups"]["level"]] == ["2", "10"], "in the order of the numbers"
    figure = bench.ask("look", run.name, False, {})["figures"]["models"]
    assert "avg@4 41.7 %" in figure["layout"]["meta"]["says"] and "2 of 3 right by majority" in str(figure)
    assert [row["sample"] for row in bench.ask("listed_responses", run.name, 0, "all", 4)["rows"]][:4] == [0, 1, 2, 3]
    bench.ask("set_verdict", run.name, 0, "p3", 1, True)
    assert bench.open(run)["models"][0]["pass_at"]["4"]["value"] == 1


def test_a_preview_is_an_evaluation_whose_best_cell_leads_to_fine_tuning(bench):
    cells = (Contrast(0.2, 0.1), Contrast(0.2, 1.0))
    right = ["0" * 20, "1" * 15 + "0" * 5, "0" * 20]
    answer = bench.ask("look", make_evaluation(bench.runs, bench.base, [], right, contrasts=cells).name, False, {})
    preview = answer["open"]["preview"]
    assert preview["best"] == {"alpha": 0.2, "beta": 0.1, "cap": None}
    assert preview["sentence"].startswith(
        "If training reached its target at β = 0.1 and α = 0.2, the best of 2 cells, the expert would gain +75"
    )
    assert list(answer["figures"]["preview"]["data"][0]["y"]) == [75.0, 0.0]
    kinds = [(m["base"], m.get("kind"), m["tokens_per_second"] is None) for m in answer["open"]["models"]]
    assert kinds == [(True, None, False), (False, "contrast", True), (False, "contrast", True)]
    overview = bench.ask("look", None, True, {})["overview"]
    assert [len(group["models"]) for group in overview["groups"]] == [1], "cells are no models"


def test_an_evaluation_without_known_answers_is_shown_and_counts_nowhere(bench):
    """No reader of answers knew rows without a verdict."""
    run = make_evaluation(bench.runs, bench.base, [], ["?" * 4, "?" * 4], contrasts=(Contrast(0.2, 0.1),))
    answer = bench.ask("look", run.name, True, {})
    opened, overview = answer["open"], answer["overview"]
    assert opened["preview"]["sentence"].startswith("No answers are known, so accuracy cannot be told")
    assert opened["preview"]["best"] is None and opened["comparisons"] == []
    assert opened["facts"][0][2] == "Without known answers: nothing is graded"
    assert list(answer["figures"]["preview"]["data"][0]["y"]) == [0.0]
    assert overview["groups"] == [] and answer["evaluations"][0]["facts"].endswith("no known answers")
    totals = {name: bench.ask("listed_responses", run.name, 0, name, 0)["total"] for name in ("all", "right", "wrong")}
    assert totals == {"all": 4, "right": 0, "wrong": 0}
    assert bench.ask("response", run.name, 0, "p1", 0)["judged"] is None
    assert bench.ask("flip", run.name, 1, "p1")["answer"] is None
    assert "No answer to this problem is known" in bench.ask("set_verdict", run.name, 0, "p1", 0, True)["error"]
    summary = report(write_results(run, variants_of(read_run(run))))
    assert "–" in summary[1]


def test_responses_beside_a_contrast_are_scored_with_its_two_models(bench):
    """They were scored with the base against itself: KL 0 at every step, said of a model that does not exist."""
    amateur = save_tiny(bench.settings.workspace / "amateur", seed=2)
    right = [BEFORE, AFTER]
    run = make_evaluation(bench.runs, bench.base, [], right, contrasts=(Contrast(0.2, 0.1),), amateur=amateur)
    record = bench.score(run, "p2", "after")["record"]
    assert (record["pair"]["expert"], record["pair"]["amateur"]) == (str(bench.base), str(amateur))
    assert max(step["kl"] for step in record["steps"]) > 0.01


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"beta": "0.1; 2"}, "β is '0.1; 2'; give numbers with commas between them"),
        ({"alpha": "0"}, "α is 0.0; it must be a number from 0.01 to 1"),
        ({"alpha": None}, "α is None; give numbers"),
        ({"temperature": 0.5}, "The temperature is 0.5, but decoding by contrast draws nothing"),
        ({"beta": ",".join(map(str, range(65)))}, "These are 65 cells of α and β; at most 64"),
    ],
)
def test_a_grid_that_is_none_is_one_sentence(shared, change, sentence):
    values = fields(amateur="lightreasoner-amateur-1m", alpha="0.2", beta="0.4", takeover=False) | change
    with pytest.raises(UserError) as caught:
        read_form(shared[0].settings, values)
    assert str(caught.value).startswith(sentence)


def test_the_preview_of_the_form_is_a_command_line(shared):
    values = fields(amateur="lightreasoner-amateur-1m", alpha=" 0.2,0.5", beta="0.10,1", takeover=False)
    argv = read_form(shared[0].settings, values).argv("bundled-test")
    assert argv[argv.index("--amateur") :] == [
        "--amateur",
        "lightreasoner-amateur-1m",
        "--alpha",
        "0.2,0.5",
        "--beta",
        "0.1,1",
    ]
    argv = read_form(shared[0].settings, values | {"takeover": True}).argv("bundled-test")
    assert argv[argv.index("--amateur") :][2:] == ["--beta", "0.1,1", "--takeover"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_answers_that_change_while_the_page_shows_them(bench, damage):
    """Answers of deleted files were counted on, and a response that was no longer in its file was a bare error."""
    tuned = make_tuned(bench.runs, bench.base)
    run = make_evaluation(bench.runs, bench.base, [tuned], [BEFORE, AFTER], batch=3, whole=False)
    bench.open(run)
    DAMAGES[damage](shard(run, 1, 0), shard(run, 1, 1))
    asked = [("response", run.name, 1, "p0", 0), ("flip", run.name, 1, "p2"), ("look", run.name, False, {})]
    asked += [("listed", run.name, 1, side, 0) for side in ("gained", "lost")]
    asked += [("listed_responses", run.name, 1, "all", 0), ("set_verdict", run.name, 1, "p0", 0, True)]
    answers = [bench.ask(*call) for call in asked + asked]
    assert not [answer for answer in answers if "unexpected" in str(answer.get("error"))]
    models = (answers[2].get("open") or {}).get("models")
    if left := {"deleted": 7, "another": 7, "fewer rows": 8}.get(damage):
        assert [model["problems"] for model in models] == [10, left]
    elif damage != "all gone":
        assert "01-000000.parquet is damaged" in answers[2]["error"]


def test_the_form_tells_of_known_answers_in_words_before_an_evaluation_starts(tmp_path):
    file = tmp_path / "mine.jsonl"
    answers = ["7", "B", r"\frac{1}{2}", "no solution", "Mr. Oak"]
    file.write_text("".join(json.dumps({"question": "Who?", "answer": answer}) + "\n" for answer in answers))
    said = describe_source(Settings(workspace=tmp_path), OWN_FILE, str(file))
    assert "1 of 5 known answers is neither number, option nor formula (“Mr. Oak”)" in said.replace("\\", "")


def test_known_answers_in_words_of_a_benchmark_are_counted_when_it_is_chosen(monkeypatch):
    """They were counted for files alone; of a benchmark on the Hub one read it when the evaluation had begun."""
    rows = [{"body": "Trees.", "question": f"Which, {n}?", "answer": answer} for n, answer in enumerate(["oak", "7"])]
    monkeypatch.setattr("lightreasoner.problems.stream.hub_rows", lambda source, split: enumerate(rows, 1))
    said = describe_answers("asdiv").replace("\\", "")
    assert said.startswith("ASDiv: 1 of 2 known answers is neither number, option nor formula (“oak”)")
    assert [describe_answers(source) for source in ("bundled-test", OWN_FILE, None)] == [""] * 3

    def offline(source, split):
        raise UserError("no connection")

    monkeypatch.setattr("lightreasoner.problems.stream.hub_rows", offline)
    assert describe_answers("svamp") == ""
