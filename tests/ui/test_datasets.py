"""The calls and handlers of the Datasets tab as plain functions, with valid and with forged arguments."""

from __future__ import annotations

import json
import math
import os
import shutil
from itertools import pairwise
from pathlib import Path

import gradio as gr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from lightreasoner.cli.main import build_parser, main
from lightreasoner.datasets.amateurs import further_folder
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import COMPARED, KL_EDGES, read_shard, rows, shards, write_shard
from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.models.references import BUNDLED
from lightreasoner.paper import PREVIEW_BETAS
from lightreasoner.processes import mark
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import add_to_run, begin_run, read_run, run_folder
from tests.support.damage import DAMAGES
from tests.support.tiny_dataset import make_dataset, selection_report, trajectory, write_rows
from tests.support.tiny_evaluation import make_evaluation
from ui.components import downloads
from ui.components.dataset_catalogue import Datasets
from ui.components.downloads import download_route
from ui.components.form_values import store_upload
from ui.components.notices import notice_html
from ui.components.pair_check_card import pair_check_calls, start_pair_check
from ui.datasets.amateurs_form import BEFORE, CHECKPOINT, LAYERS, made_pair, makings, start_compare, start_making
from ui.datasets.calls import BETAS, ROWS, DatasetActions
from ui.datasets.request import read_form
from ui.datasets.responses_form import ResponsesForm, start_scoring
from ui.datasets.tab import import_file, start_build
from ui.finetune.form import dataset_choices
from ui.studio import Studio

FORM = {"preset": "bundled", "expert": "", "amateur": "", "source": "bundled-train", "upload": None, "limit": 50}
FORM |= {"max_new_tokens": 128, "temperature": 0, "samples_per_problem": 1, "seed": 0, "batch_size": 0}
FORM |= {"every_step": True}


class Bench:
    """A workspace without a running scheduler, and a dataset of random logits in it."""

    def __init__(self, workspace: Path):
        self.studio = Studio(Settings(workspace=workspace, device="cpu"))
        self.settings, self.jobs = self.studio.settings, self.studio.jobs
        self.datasets = Datasets(self.settings, self.jobs)
        self.calls = {call.__name__: call for call in DatasetActions(self.datasets).calls}

    def make(self, **kw) -> Path:
        folder = run_folder(self.settings, new_id())
        make_dataset(folder, **{"tokens": True, "vocabulary": 300} | kw)
        return folder

    def ask(self, name: str, *arguments) -> dict:
        answer = self.calls[name](list(arguments))
        json.dumps(answer, allow_nan=False)  # a browser reads neither NaN nor infinity
        return answer

    def overview(
        self, folder: Path, alpha: float = 0.2, beta: float = 0.4, selector: str = "kl", seen: str = ""
    ) -> dict:
        answer = self.ask("overview", folder.name, alpha, beta, selector, seen)
        assert "error" not in answer, answer
        return answer["open"]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[Bench, Path]:
    """For tests that change nothing."""
    bench = Bench(tmp_path_factory.mktemp("shared"))
    return bench, bench.make(problems=12, per_shard=5)


def kls(folder: Path) -> np.ndarray:
    return np.concatenate([np.array(row["kl"], np.float64) for row in rows(folder, ["kl"])])


def fields(**change) -> dict:
    assert change.keys() <= FORM.keys()
    return FORM | change


def test_an_empty_workspace_has_an_answer(bench):
    assert bench.ask("overview", None, 0.2, 0.4, "kl", "") == {"datasets": [], "open": None}


def test_the_overview_has_the_engines_numbers(shared):
    bench, folder = shared
    kl = kls(folder)
    for beta in (0.0, 0.3, 0.4, 1.0):
        seen = bench.overview(folder, beta=beta)
        assert seen["steps"] == len(kl) and seen["above"] == int((kl > beta).sum())
        [kept] = seen["figures"]["kept"]["data"]
        assert dict(zip(kept["x"], kept["customdata"], strict=True))[beta] == [int((kl > beta).sum())]
        assert seen["selection"][0] == f"{selection_report(folder, Selection(beta=beta)).usable:,} samples"
    assert len(kept["x"]) == len(BETAS)
    counts = np.histogram(kl.clip(0, math.nextafter(KL_EDGES[-1], 0)), KL_EDGES)[0]
    [bins] = seen["figures"]["histogram"]["data"]
    assert bins["y"] == counts.tolist()
    assert [tuple(place[:2]) for place in bins["customdata"]] == list(pairwise(KL_EDGES))
    assert sum(place[0] for place in seen["figures"]["categories"]["data"][0]["customdata"]) == len(kl)
    [ones] = bench.overview(folder)["figures"]["one_token"]["data"]
    effect = {round(alpha, 2): share for alpha, share in zip(ones["x"], ones["y"], strict=True)}
    sizes = [len(s.token_ids) for s in training_samples(folder, Selection(alpha=0.2))]
    assert effect[0.2] == pytest.approx(sum(n == 1 for n in sizes) / len(sizes))
    listed = bench.ask("overview", None, 0.2, 0.4, "kl", "")["datasets"]
    assert [(d["id"], d["samples"], d["state"]) for d in listed] == [(folder.name, int((kl > 0.4).sum()), "done")]


@pytest.mark.parametrize("selector", ["random", "every-k", "js", "disagreement", "excess-loss"])
def test_other_selectors_have_the_engines_number_of_samples(shared, selector):
    bench, folder = shared
    made = selection_report(folder, Selection(selector))
    said = bench.overview(folder, selector=selector)["selection"]
    assert said[0] == f"{made.usable:,} samples"
    assert any("equal" in part or "As many steps" in part for part in said)
    if made.missing:
        assert any(f"{made.missing:,} more are selected" in part for part in said)


def test_tau_bounds_the_teaching_signal_of_the_samples(shared):
    bench, folder = shared
    made = selection_report(folder, Selection("teaching", tau=0.3))
    answer = bench.ask("overview", folder.name, 0.2, 0.4, "teaching", "", {"tau": 0.3})["open"]
    assert answer["selection"][0] == f"{made.usable:,} samples" and made.usable
    assert not any("As many steps" in part for part in answer["selection"])
    assert any(f"Of {made.unknown:,} steps no details" in part for part in answer["selection"]) == bool(made.unknown)
    kept = bench.ask("overview", folder.name, 0.2, 0.4, "kl", "", {"tau": 0.3})
    assert kept["open"], "τ of another selector has no effect"
    for wrong in ("high", -1, [0.1]):
        assert "τ" in bench.ask("overview", folder.name, 0.2, 0.4, "teaching", "", {"tau": wrong})["error"]
    assert "error" in bench.ask("overview", folder.name, 0.2, 0.4, "teaching", "", "0.3")


def test_an_unchanged_dataset_is_not_sent_again(bench):
    folder = bench.make()
    first = bench.overview(folder)
    again = bench.overview(folder, seen=first["version"])
    assert again["unchanged"] and "figures" not in again
    assert "figures" in bench.overview(folder, beta=0.5, seen=first["version"])
    row = next(rows(folder))
    assert bench.ask("mark", folder.name, row["problem_id"], 0, 3, "keep") == {}
    marked = bench.overview(folder, seen=first["version"])
    assert marked["version"] != first["version"]
    new = trajectory(77, 20, 300, torch.Generator().manual_seed(1))
    write_rows(folder, 99, [new])
    grown = bench.overview(folder, seen=marked["version"])
    assert grown["steps"] == first["steps"] + len(new["kl"])


def test_pages_of_steps_are_the_most_divergent_first_and_hold_each_step_once(shared):
    bench, folder = shared
    asked = {"order": "kl", "page": 0, "alpha": 0.2, "beta": 0.4, "selector": "kl"}
    pages = []
    while True:
        answer = bench.ask("rows", folder.name, asked)
        pages.append(answer["rows"])
        asked["page"] += 1
        if asked["page"] * ROWS >= answer["total"]:
            break
    found = [row for page in pages for row in page]
    assert len(found) == answer["total"] == len(kls(folder))
    assert len({(r["problem"], r["sample"], r["step"]) for r in found}) == len(found)
    assert [r["kl"] for r in found] == sorted((r["kl"] for r in found), reverse=True)
    assert [r["selected"] for r in found] == [r["kl"] > 0.4 for r in found]
    low, high = 0.1, 0.7
    some = bench.ask("rows", folder.name, {"low": low, "high": high})
    kl = kls(folder)
    assert some["total"] == int(((kl >= low) & (kl < high)).sum())
    assert bench.ask("rows", folder.name, {"search": "no such text anywhere"})["total"] == 0


def test_a_row_opens_as_a_trace_and_says_where_nothing_was_stored(shared):
    bench, folder = shared
    row = next(rows(folder))
    answer = bench.ask("trajectory", folder.name, row["problem_id"], row["sample"], 0)
    steps = answer["record"]["steps"]
    assert [s["token_id"] for s in steps] == row["response_ids"]
    stored = {s["index"]: s for s in row["steps"]}
    assert {s["index"] for s in steps if s["candidates"]} == set(stored) != set(range(len(steps)))
    one = next(iter(stored.values()))
    kept = steps[one["index"]]["candidates"]
    assert kept["ids"] == one["ids"] and kept["expert_logprobs"] == pytest.approx(one["expert_logprobs"], rel=1e-6)
    assert {str(i) for i in one["ids"]} <= set(answer["record"]["tokens"])
    assert "were not stored" in answer["why"] and "0.05 nats" in answer["why"]
    for kind, sign in (("json", "{"), ("csv", "step,token_id"), ("html", "<!doctype html>")):
        content = bench.ask("trace_file", folder.name, row["problem_id"], 0, kind, 0.2, 0.4)["content"]
        assert content.lower().startswith(sign)


FORGED = [None, 7, True, [], {}, "", "../../etc/passwd", "a" * 22, "x" * 5000, float("nan"), {"a": 1}, ["b"]]


@pytest.mark.parametrize("forged", FORGED, ids=lambda value: repr(value)[:20])
def test_forged_ids_get_a_sentence(shared, forged):
    bench, _ = shared
    for name, rest in [
        ("rows", ({},)),
        ("trajectory", ("p0", 0, 0)),
        ("trace_file", ("p0", 0, "json", 0.2, 0.4)),
        ("mark", ("p0", 0, 0, "keep")),
        ("act", ("cancel",)),
        ("discard", ()),
        ("prepare", ("paper", 0.2, 0.4, "kl")),
    ]:
        error = bench.ask(name, forged, *rest)["error"]
        assert error and "unexpected error" not in error, (name, error)
    if forged is not None:
        assert "unexpected error" not in bench.ask("overview", forged, 0.2, 0.4, "kl", "")["error"]


@pytest.mark.parametrize("forged", [*FORGED, -1, 1e12, "1"], ids=lambda value: repr(value)[:20])
def test_forged_arguments_get_a_sentence_and_change_nothing(shared, forged):
    bench, folder = shared
    own = folder.name
    calls = [
        ("overview", own, forged, 0.4, "kl", ""),
        ("overview", own, 0.2, "x" if forged == 7 else forged, "kl", ""),
        ("overview", own, 0.2, 0.4, forged, ""),
        ("rows", own, forged if not isinstance(forged, dict) else {"page": -1}),
        ("rows", own, {"kind": forged or 1}),
        ("rows", own, {"order": forged}),
        ("rows", own, {"search": ["x"]}),
        ("trajectory", own, forged, 0, 0),
        ("trajectory", own, "p0", forged if forged != 7 else 99, 0),
        ("trace_file", own, "p0", 0, forged, 0.2, 0.4),
        ("mark", own, "p0", 0, 3, forged or 1),
        ("mark", own, "p0", 0, forged if forged != 7 else 10**6, "keep"),
        ("act", own, forged),
        ("prepare", own, forged, 0.2, 0.4, "kl"),
    ]
    for name, *arguments in calls:
        error = bench.ask(name, *arguments).get("error")
        assert error and "unexpected error" not in error, (name, arguments, error)
    for name in bench.calls:
        assert "error" in bench.calls[name](forged) or forged in ([], {})
    assert not (folder / "marks.json").exists()


def test_marks_are_saved_and_change_the_samples(bench):
    folder = bench.make()
    row = next(rows(folder))
    stored = {s["index"]: s["kl"] for s in row["steps"]}
    low = next(i for i, kl in stored.items() if kl <= 0.4)
    high = next(i for i, kl in stored.items() if kl > 0.4)
    before = selection_report(folder).usable
    assert bench.ask("mark", folder.name, row["problem_id"], 0, low, "keep") == {}
    assert bench.overview(folder)["selection"][0] == f"{before + 1:,} samples"
    assert bench.ask("mark", folder.name, row["problem_id"], 0, high, "drop") == {}
    said = bench.overview(folder)["selection"]
    assert said[0] == f"{before:,} samples" and "1 kept, 1 dropped" in said[-1]
    again = Bench(bench.settings.workspace)  # a restart
    shown = again.ask("rows", folder.name, {"mark": "any"})["rows"]
    assert {(r["step"], r["mark"]) for r in shown} == {(low, "keep"), (high, "drop")}
    assert again.ask("trajectory", folder.name, row["problem_id"], 0, 0)["marks"] == {
        str(low): "keep",
        str(high): "drop",
    }


def fetched(bench: Bench, answer: dict):
    app = Starlette(routes=[download_route(bench.settings)])
    return TestClient(app).get("/" + answer["url"])


def test_downloads_hold_what_was_selected_and_name_no_path(bench):
    folder = bench.make()
    made = list(training_samples(folder, Selection(alpha=0.1, beta=0.3)))
    answer = bench.ask("prepare", folder.name, "paper", 0.1, 0.3, "kl")
    assert str(bench.settings.workspace) not in json.dumps(answer)
    response = fetched(bench, answer)
    assert "attachment" in response.headers["content-disposition"]
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["token_ids"] for line in lines] == [sample.token_ids for sample in made]

    for kind, expected in (("parquet", len(made)), ("raw", 6)):
        content = fetched(bench, bench.ask("prepare", folder.name, kind, 0.1, 0.3, "kl")).content
        path = bench.settings.workspace / "got.parquet"
        path.write_bytes(content)
        assert pq.read_metadata(path).num_rows == expected


@pytest.mark.parametrize("name", ["", "x", "..", "../runs", "a" * 22, "%2e%2e%2fruns", ".hidden-hidden-hidden"])
def test_only_what_was_offered_can_be_fetched(bench, name):
    bench.make()
    assert fetched(bench, {"url": f"downloads/{name}"}).status_code == 404


def test_old_downloads_go_and_a_failed_one_leaves_nothing(bench, monkeypatch):
    folder = bench.make()
    first = bench.ask("prepare", folder.name, "raw", 0.2, 0.4, "kl")
    assert "became a sample" in bench.ask("prepare", folder.name, "paper", 0.2, 999, "kl")["error"]
    assert len(list((bench.settings.workspace / "downloads").iterdir())) == 1
    monkeypatch.setattr(downloads, "LIFETIME", -1)
    second = bench.ask("prepare", folder.name, "raw", 0.2, 0.4, "kl")
    assert fetched(bench, first).status_code == 404 and fetched(bench, second).status_code == 200


def test_a_damaged_shard_is_named_and_the_rest_is_there(bench):
    folder = bench.make()
    path = shards(folder)[1]
    path.write_bytes(path.read_bytes()[:-50])
    seen = bench.overview(folder)
    assert any(finding["tone"] == "bad" and path.name in finding["says"] for finding in seen["health"])
    assert 0 < seen["steps"] < 120
    assert "url" in bench.ask("prepare", folder.name, "paper", 0.2, 0.4, "kl")
    assert "url" in bench.ask("prepare", folder.name, "raw", 0.2, 0.4, "kl")


def test_building_queues_the_command_that_the_form_shows(bench):
    dataset = start_build(bench.studio, fields(limit=50, max_new_tokens=64))
    [job] = bench.jobs.store.jobs()
    words = ["sample", "--pair", "bundled", "--problems", "bundled-train", "--limit", "50", "--max-new-tokens", "64"]
    assert list(job.argv) == [*words, "--run-dir", str(run_folder(bench.settings, dataset).absolute())]
    seen = bench.ask("overview", dataset, 0.2, 0.4, "kl", "")
    assert seen["open"]["state"] == "waiting" and seen["open"]["job"]["actions"] == ["cancel"]
    assert [d["id"] for d in seen["datasets"]] == [dataset]
    assert "cancel it first" in bench.ask("discard", dataset)["error"]
    assert "no longer possible" in bench.ask("act", dataset, "resume")["error"]
    assert bench.ask("act", dataset, "cancel") == {}
    assert bench.ask("overview", None, 0.2, 0.4, "kl", "")["datasets"] == []  # nothing was ever there


def test_every_setting_of_the_form_reaches_the_verb(bench):
    from lightreasoner.cli.main import build_parser

    form = ("other", "org/e", "./a", "gsm8k", None, 7, 33, 0.5, 3, 11, 16, False)
    asked = read_form(bench.settings, dict(zip(FORM, form, strict=True)))
    options = build_parser().parse_args([*asked.argv("gsm8k"), "--run-dir", "x"])
    assert (options.expert, options.amateur, options.problems, options.limit) == ("org/e", ["./a"], "gsm8k", 7)
    assert (options.max_new_tokens, options.temperature, options.samples_per_problem) == (33, 0.5, 3)
    assert (options.seed, options.batch_size, options.beta_floor) == (11, "16", 0.05)


def test_stop_strings_of_the_forms_reach_the_verbs(bench):
    """One per line, with escapes; they used to be impossible in every form and verb."""
    from lightreasoner.cli.decoding import stop_strings
    from lightreasoner.cli.main import build_parser
    from ui.evaluate.request import read_form as read_evaluation

    typed, stops = "\\n\\nQ:\n--x\n\n", ("\n\nQ:", "--x")
    form = dict(zip(FORM, ("bundled", "", "", "gsm8k", None, 7, 33, 0, 1, 0, 0, False), strict=True))
    asked = read_form(bench.settings, form | {"stop": typed}).argv("gsm8k")
    assert stop_strings(build_parser().parse_args([*asked, "--run-dir", "x"])) == stops
    form = {"model": "lightreasoner-expert-4m", "own_model": "", "adapters": [], "adapter_folder": "", "limit": 0}
    form |= {"with_base": True, "source": "gsm8k", "upload": None, "max_new_tokens": 9, "batch_size": 0, "stop": typed}
    asked = read_evaluation(bench.settings, form).argv("gsm8k")
    assert stop_strings(build_parser().parse_args([*asked, "--run-dir", "x"])) == stops
    for verb in ("trace --problem q", "check-pair --problems gsm8k --run-dir x"):
        assert stop_strings(build_parser().parse_args([*verb.split(), "--stop", r"\n\nQ:", "--stop=--x"])) == stops


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"preset": "nobody"}, "no pair"),
        ({"preset": ["bundled"]}, "no pair"),
        ({"preset": "other", "expert": "--run-dir", "amateur": "b"}, "expert is not a model"),
        ({"preset": "other", "expert": "a", "amateur": None}, "amateur is not a model"),
        ({"source": "/etc/passwd"}, "problem source"),
        ({"source": ["gsm8k"]}, "problem source"),
        ({"source": "file"}, "No file of problems"),
        ({"limit": 0}, "number of problems"),
        ({"limit": 2.5}, "number of problems"),
        ({"limit": float("nan")}, "number of problems"),
        ({"limit": "50"}, "number of problems"),
        ({"max_new_tokens": 10**9}, "token limit"),
        ({"temperature": -1}, "temperature"),
        ({"samples_per_problem": 4}, "would be the same"),
        ({"seed": True}, "seed"),
    ],
)
def test_a_form_that_cannot_work_is_refused_before_a_job_is_made(bench, change, word):
    with pytest.raises(UserError, match=word):
        start_build(bench.studio, fields(**change))
    assert bench.jobs.store.jobs() == []


def test_an_upload_is_kept_once_under_its_name(bench, tmp_path):
    """A job must find its problems after Gradio has deleted its uploads."""
    file = tmp_path / "my problems.jsonl"
    file.write_text('{"question": "How much is 5 + 5?"}\n')
    kept = store_upload(bench.settings, str(file))
    assert kept.name == "my problems.jsonl" and kept.read_bytes() == file.read_bytes()
    assert store_upload(bench.settings, str(file)) == kept
    file.write_text("nonsense")
    with pytest.raises(UserError):
        store_upload(bench.settings, str(file))
    assert bench.settings.workspace / "problems" in kept.parents


def test_deleting_takes_the_folder_and_its_numbers(bench):
    folder = bench.make()
    bench.overview(folder)
    assert bench.ask("discard", folder.name) == {}
    assert not folder.exists()
    assert "deleted" in bench.ask("overview", folder.name, 0.2, 0.4, "kl", "")["error"]
    assert bench.ask("discard", folder.name)["error"]


def test_a_run_of_another_kind_is_no_dataset(bench):
    folder = bench.make()
    record = read_run(folder) | {"kind": "evaluation"}
    (folder / "run.json").write_text(json.dumps(record))
    assert "not a dataset" in bench.ask("overview", folder.name, 0.2, 0.4, "kl", "")["error"]
    assert bench.ask("discard", folder.name)["error"] and folder.exists()


def test_an_import_is_a_dataset_and_reports_unreadable_lines(bench, tmp_path):
    folder = bench.make()
    answer = bench.ask("prepare", folder.name, "paper", 0.2, 0.4, "kl")
    file = tmp_path / "theirs.jsonl"
    file.write_text(fetched(bench, answer).text + "not a line\n")
    dataset, said = import_file(bench.studio, str(file))
    assert "1 line could not be read" in said and f"line {selection_report(folder).usable + 1}:" in said
    seen = bench.overview(run_folder(bench.settings, dataset))
    assert seen["imported"] and seen["steps"] == selection_report(folder).usable and "raw" not in seen["downloads"]
    assert seen["name"] == "theirs.jsonl · imported"
    js = bench.ask("overview", dataset, 0.2, 0.4, "js", "")["open"]
    assert js["selection"][0] == "No samples" and "imported dataset" in js["selection"][1]
    row = bench.ask("rows", dataset, {})["rows"][0]
    opened = bench.ask("trajectory", dataset, row["problem"], row["sample"], row["step"])["sample"]
    assert opened["kl"] == pytest.approx(row["kl"], rel=1e-6) and len(opened["tokens"]) == row["target_tokens"]
    for forged in [
        ("p", 0, 0),
        (None, 0, 0),
        (row["problem"], "0", row["step"]),
        (row["problem"], 0, -1),
        ([], {}, 1.5),
    ]:
        assert "no such sample" in bench.ask("trajectory", dataset, *forged)["error"]
    assert bench.ask("mark", dataset, row["problem"], row["sample"], row["step"], "drop") == {}
    assert "<img" not in notice_html("<img src=x>", "error")


def test_a_pair_check_is_a_job_and_its_calls_see_no_other_jobs(bench):
    run = start_pair_check(bench.studio, ("bundled", "", ""), "bundled-train", None, 128, 500)
    [job] = bench.jobs.store.jobs()
    assert job.verb == "preflight" and build_parser().parse_args(job.argv).target == 500
    look, halt, preview = pair_check_calls(bench.studio)
    assert look([run])["job"]["state"] == "queued" and look([run])["result"] is None
    assert halt([run]) == {} and look([run])["job"]["state"] == "cancelled"
    dataset = start_build(bench.studio, FORM)
    for forged in (dataset, "../x", None, 7, "a" * 22):
        assert "error" in look([forged]) and "error" in halt([forged]) and "error" in preview([forged])
    with pytest.raises(UserError):
        start_pair_check(bench.studio, ("bundled", "", ""), "bundled-train", None, 128, float("inf"))


def test_a_pair_check_leads_to_the_preview_of_the_same_pair_and_problems(bench):
    """The check told whether a pair diverges, and what it would teach had to be asked for by hand elsewhere."""
    check = start_pair_check(bench.studio, ("bundled", "", ""), "bundled-train", None, 96, 500, stop="Q:")
    preview = pair_check_calls(bench.studio)[2]
    assert "error" in preview([check]), "it has not begun"
    [job] = bench.jobs.store.jobs()
    config = {"expert": "lightreasoner-expert-4m", "amateur": "lightreasoner-amateur-1m", "problems": "bundled-train"}
    config |= {"max_new_tokens": 96, "split": None, "stop": ["Q:"]}
    begin_run(job.run_dir, "preflight", config, {})
    started = preview([check])["run"]
    found = next(job for job in bench.jobs.store.jobs() if job.run_dir.name == started)
    asked = build_parser().parse_args(found.argv)
    assert (found.verb, asked.model, asked.amateur, asked.problems) == ("evaluate", *list(config.values())[:3])
    assert (asked.limit, asked.max_new_tokens, asked.beta, asked.stop) == (100, 96, PREVIEW_BETAS, ["Q:"])


def test_a_dataset_of_the_command_line_grows_while_its_process_lives_and_its_lock_is_left_alone(bench, monkeypatch):
    """The list used to acquire the folder's lock to see whether it was held; a verb that started just then failed."""
    folder = bench.make()
    log = EventLog(folder / EVENTS_FILE, by="test")
    log.append("start", pid=os.getpid(), mark=mark(os.getpid()), attempt=1)
    (folder / ".lock").touch()
    monkeypatch.setattr("filelock.BaseFileLock.acquire", lambda *_, **__: pytest.fail("the lock was tried"))
    assert bench.overview(folder)["state"] == "running"
    log.append("start", pid=os.getpid(), mark="another life", attempt=2)
    assert bench.overview(folder)["state"] == "interrupted"
    log.append("end", state="succeeded", message="", kept=True)
    assert bench.overview(folder)["state"] == "stopped"
    log.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_shards_that_change_while_the_page_shows_them(bench, damage):
    """A trajectory that was no longer in its shard was a bare error, or another trajectory."""
    folder = bench.make(problems=6, per_shard=2)
    bench.overview(folder)
    first, second, _ = shards(folder)
    DAMAGES[damage](first, second)
    asked = [("trajectory", folder.name, "p0", 0, 0), ("trajectory", folder.name, "p1", 0, 0)]
    asked += [("trace_file", folder.name, "p0", 0, "json", 0.2, 0.4), ("rows", folder.name, {})]
    asked += [("prepare", folder.name, kind, 0.2, 0.4, "kl") for kind in ("paper", "raw")]
    asked += [("mark", folder.name, "p0", 0, 0, "keep"), ("overview", folder.name, 0.2, 0.4, "kl", "")]
    answers = [bench.ask(*call) for call in asked + asked]
    assert not [answer for answer in answers if "unexpected" in str(answer.get("error"))]
    assert answers[0]["error"], "p0 is not there any more"
    if damage != "all gone":
        assert answers[7]["open"]["steps"] < 120 and len(shards(folder)) == (2 if damage == "deleted" else 3)


def test_responses_that_something_else_wrote_become_a_dataset(bench, tmp_path):
    """The file is told as it arrives, a bad row asks, and the job is the verb score on a stored copy."""
    path = tmp_path / "from vllm.jsonl"
    path.write_text('{"question": "2 + 2?", "response": "It is 4."}\n{"question": "3 + 3?"}\n')
    fields = {name: gr.Textbox() for name in [*FORM, "stop", "skip_unreadable"]}
    with gr.Blocks():
        form = ResponsesForm(bench.settings, fields)
    told, box = form.describe(str(path), False, None, None)
    assert "line 2" in told.replace("\\", "") and box.visible
    values = [*(FORM | {"stop": "", "skip_unreadable": False}).values(), str(path), False, False]
    with pytest.raises(UserError, match="line 2: it has neither the text of a response"):
        start_scoring(bench.studio, form.read(values))
    values[-1] = True
    name = start_scoring(bench.studio, form.read(values))
    job = bench.jobs.store.jobs()[0]
    assert (job.verb, job.argv[0]) == ("score", "score") and "--skip-unreadable" in job.argv
    stored = Path(job.argv[job.argv.index("--responses") + 1])
    assert stored.is_relative_to(bench.settings.workspace) and stored.read_bytes() == path.read_bytes()
    assert build_parser().parse_args(job.argv).verb == "score"
    assert [entry["id"] for entry in bench.ask("overview", None, 0.2, 0.4, "kl", "")["datasets"]] == [name]
    for forged in (None, 7, str(tmp_path / "none.jsonl")):
        with pytest.raises(UserError):
            start_scoring(bench.studio, form.read([*values[:-3], forged, False, False]))


# ---- amateurs


def further(folder: Path, ref: str) -> Path:
    """One more amateur of a dataset, with the first one's measures."""
    own = further_folder(folder, ref)
    shutil.copytree(folder, own, ignore=shutil.ignore_patterns("amateurs"))
    record = json.loads((own / "run.json").read_text())
    (own / "run.json").write_text(json.dumps(record | {"config": record["config"] | {"amateur": ref}}))
    return own


def test_the_amateurs_of_a_dataset_are_compared_and_each_opens_as_a_dataset(bench):
    folder = bench.make(problems=6)
    own = further(folder, "x/other")
    answer = bench.ask("amateurs", folder.name, 0.2, 0.4, "")
    first, second = answer["rows"]
    assert second["id"] == f"{folder.name}:{own.name}" and second["ref"] == "x/other"
    assert (first["selected"], first["agreement"]) == (second["selected"], 1) and first["gain"] is None
    assert answer["best"] is None and "preview" in answer["sentence"]
    assert len(answer["figures"]["histogram"]["data"]) == 2
    assert bench.ask("amateurs", folder.name, 0.2, 0.4, answer["seen"]) == {"seen": answer["seen"]}
    assert "rows" in bench.ask("amateurs", folder.name, 0.2, 1.0, answer["seen"]), "another β"
    opened = bench.ask("overview", second["id"], 0.2, 0.4, "kl", "")["open"]
    assert opened["steps"] == bench.overview(folder)["steps"] and "other" in opened["name"]
    assert second["id"] in [id for _, id in dataset_choices(bench.datasets)]
    assert bench.datasets.find(second["id"]).folder == own
    for wrong in (f"{folder.name}:gone", f"{folder.name}:../{own.name}", f"{folder.name}:", ":x"):
        assert "error" in bench.ask("overview", wrong, 0.2, 0.4, "kl", "")
    assert "one amateur" in bench.ask("amateurs", second["id"], 0.2, 0.4, "")["error"]


def test_numbers_of_an_amateur_with_another_tokenizer_are_told_as_lower_bounds(bench, capsys):
    """Its KLs stood beside exact ones without a word."""
    folder = bench.make(problems=4)
    own = further(folder, "x/other")
    for path in shards(own):
        table = read_shard(path)
        share = [[0.75] * len(values) for values in table["kl"].to_pylist()]
        write_shard(own, path.stem, table.append_column(COMPARED, pa.array(share, COMPARED.type)))
    record = json.loads((own / "run.json").read_text())
    about = record["about"] | {"pair": (record["about"].get("pair") or {}) | {"across": True}}
    (own / "run.json").write_text(json.dumps(record | {"about": about}))
    answer = bench.ask("amateurs", folder.name, 0.2, 0.4, "")
    assert [row["least"] for row in answer["rows"]] == [False, True]
    assert any("lower bounds (≥): 75 % of the expert's mass was compared" in note for note in answer["notes"])
    opened = bench.ask("overview", answer["rows"][1]["id"], 0.2, 0.4, "kl", "")["open"]
    facts = {name: value for name, value, _ in opened["facts"]}
    assert facts["Tokenizers differ"] == "KL ≥, 75 % of the expert’s mass compared" and facts["Above β"].startswith(
        "≥ "
    )
    assert all(row["least"] for row in bench.ask("rows", answer["rows"][1]["id"], {})["rows"])
    assert not any("least" in row for row in bench.ask("rows", folder.name, {})["rows"])
    assert main(["amateurs", "--dataset", str(folder)]) == 0
    assert "≥ " in (printed := capsys.readouterr().out) and "75 % of the expert's mass was compared" in printed


def test_the_preview_recommends_an_amateur_with_its_gap_on_the_same_problems(bench):
    """Previews and the amateurs' own answers beside the dataset are found by their models."""
    folder = bench.make(problems=4)
    own = further(folder, "x/other")
    expert, first = Path(read_run(folder)["config"]["expert"]), read_run(folder)["config"]["amateur"]
    cells = (Contrast(0.2, 0.1), Contrast(0.2, 1.0))
    for ref, cell in ((first, "1" * 4 + "0" * 16), ("x/other", "1" * 15 + "0" * 5)):
        right = ["1" * 4 + "0" * 16, cell, "0" * 20]
        make_evaluation(bench.settings.runs, expert, [], right, contrasts=cells, amateur=ref)
        make_evaluation(bench.settings.runs, ref, [], ["1" * 2 + "0" * 18])
    answer = bench.ask("amateurs", folder.name, 0.2, 0.4, "")
    assert [(row["gain"], row["gap"], row["beta"]) for row in answer["rows"]] == [(0, 0.1, 0.1), (0.55, 0.1, 0.1)]
    assert answer["best"]["id"] == f"{folder.name}:{own.name}" and answer["expert"] == str(expert)
    assert answer["sentence"].startswith("other is recommended: its preview gains +55.0 points")
    gap = answer["figures"]["gap"]
    assert [(trace["x"], trace["y"]) for trace in gap["data"]] == [([10.0], [0.0]), ([10.0], [55.0])]
    assert "other: gap +10.0 points" in gap["layout"]["meta"]["says"]
    assert len(gap["data"][1]["customdata"][0]) == len(gap["layout"]["meta"]["columns"]["customdata"])


def test_an_amateur_is_added_by_a_job_in_the_datasets_folder(bench):
    folder = bench.make(problems=2)
    assert bench.ask("add", folder.name, "org/b", True) == {}
    [job] = bench.jobs.store.jobs()
    options = build_parser().parse_args(list(job.argv))
    assert (options.add_amateur, options.with_expert, options.run_dir) == ("org/b", True, folder.absolute())
    assert "A job is working on this dataset" in bench.ask("add", folder.name, "org/c", False)["error"]
    assert "names no model" in bench.ask("add", bench.make(problems=2).name, "no model", False)["error"]


def test_a_comparison_is_one_job_with_the_forms_settings(bench):
    run = start_compare(bench.studio, fields(limit=20), " org/b \n\norg/c", 50)
    [job] = bench.jobs.store.jobs()
    options = build_parser().parse_args(list(job.argv))
    assert job.run_dir.name == run and options.amateur == [BUNDLED[1], "org/b", "org/c"]
    assert (options.expert, options.limit, options.preview, options.pair) == (BUNDLED[0], 20, 50, None)
    for amateurs, preview, says in (
        ("", 50, "nothing to compare it with"),
        ("org/b\norg/b", 50, "named twice"),
        ("no model", 50, "names no model"),
        ("org/b", 1, "A preview of 1 problem"),
        ("org/b", "x", "number of problems of a preview"),
    ):
        with pytest.raises(UserError, match=says):
            start_compare(bench.studio, fields(), amateurs, preview)
    assert len(bench.jobs.store.jobs()) == 1


@pytest.mark.parametrize(
    ("way", "what", "words"),
    [
        (LAYERS, " 2,3 ", ["--drop-layers", "2,3"]),
        (CHECKPOINT, "100", ["--checkpoint", "100"]),
        (BEFORE, "", ["--before-tuning"]),
        (LAYERS, "two", "write their numbers"),
        (CHECKPOINT, "1.5", "give the number of its update"),
        ("forged", "1", "makes no amateur"),
    ],
)
def test_an_amateur_is_made_by_a_job_and_offered_with_what_was_found(bench, way, what, words):
    if isinstance(words, str):
        with pytest.raises(UserError, match=words):
            start_making(bench.studio, ("bundled", "", ""), way, what)
        return
    run = start_making(bench.studio, ("bundled", "", ""), way, what)
    [job] = bench.jobs.store.jobs()
    assert list(job.argv)[1 : 3 + len(words)] == ["--expert", BUNDLED[0], *words]
    assert build_parser().parse_args(list(job.argv)).expert == BUNDLED[0]
    [made] = makings(bench.studio)
    assert made["active"] and made["ref"] is None
    with pytest.raises(UserError, match="not made yet"):
        made_pair(bench.studio, run)
    begin_run(job.run_dir, "amateur", {"expert": BUNDLED[0]}, {})
    add_to_run(job.run_dir, made={"ref": "/made"}, result={"sentence": "It still writes sense.", "coherent": True})
    bench.jobs.store.change(job.id, ("queued",), state="succeeded")
    assert made_pair(bench.studio, run) == (BUNDLED[0], "/made")
