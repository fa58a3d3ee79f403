"""What version 0.2.0 wrote still opens, and says what it said then: tests/written_by_0_2, and README.md there.

`look` reads everything; expected.json holds what 0.2.0 read. It is never written anew: where these tests fail,
somebody's datasets, adapters, links or jobs no longer open.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM

from lightreasoner.cli.main import build_parser, main
from lightreasoner.datasets.annotations import load_annotations
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.explorer_page import Filters, page
from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.quality import quality_report
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import KL_EDGES, rows
from lightreasoner.evaluation.costs import cost_table
from lightreasoner.jobs.events import EVENTS_FILE as EVENTS
from lightreasoner.jobs.events import read_events
from lightreasoner.jobs.view import job_view, log_tail
from lightreasoner.models.loading import load_model
from lightreasoner.publishing.contents import MANIFEST
from lightreasoner.publishing.push import read_manifest
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import list_runs, read_run
from lightreasoner.tracing.from_trajectory import record_id
from lightreasoner.tracing.records import reweigh, trace_csv
from lightreasoner.training.examples import load_examples
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.runs import amateur_of, tuned_run
from lightreasoner.training.trainer import last_checkpoint
from tests.support.browser import App
from tests.support.hub_server import Account, Hub
from tests.support.tiny_models import IDS
from ui.components.dataset_catalogue import Datasets
from ui.components.pair_check_card import pair_check_calls
from ui.components.trace_view import standalone
from ui.datasets.calls import DatasetActions
from ui.evaluate.calls import EvaluateActions
from ui.evaluate.catalogue import Evaluations
from ui.finetune.calls import FinetuneActions
from ui.finetune.catalogue import Tunings
from ui.inspect.links import open_link
from ui.jobs.calls import Jobs
from ui.studio import Studio, branch_request, replay

HERE = Path(__file__).parent / "written_by_0_2"
WRITTEN_AT = "/home/user/studio"  # the workspace that the files name
TRACES = ("trace", "branch", "scored", "lens", "flip's trace")
DATASETS = ("dataset", "own dataset", "pulled", "imported")
TUNED = ("tuned", "own tuned", "interrupted")
SELECTIONS = (
    {},
    {"alpha": 0.5, "beta": 0.15},
    {"selector": "top-percent", "budget": 0.2},
    {"selector": "random", "budget": 0.1, "seed": 3},
)
#: Sentences that are written on reading: today's → those of 0.2.0.
REWORDED = {
    "The process was killed, or the machine restarted. Resume continues where it stopped.": (
        "Its process is gone: it was killed, or the machine restarted. Resume goes on where it was."
    )
}
BASES = {"tuned": "lightreasoner-expert-4m", "own tuned": f"{WRITTEN_AT}/models/expert"}


# ---- opening


def arrive(place: Path) -> Path:
    """A copy of the workspace, in a place of its own, as if it had been written there."""
    home = place / "studio"
    shutil.copytree(HERE / "studio", home)
    old, new = WRITTEN_AT.encode(), str(home).encode()
    for path in home.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".log", ".md") and old in (content := path.read_bytes()):
            path.write_bytes(content.replace(old, new))
    with closing(sqlite3.connect(home / "jobs/jobs.sqlite")) as jobs, jobs:
        jobs.execute(
            "UPDATE jobs SET argv = replace(argv, ?1, ?2), run_dir = replace(run_dir, ?1, ?2)", (WRITTEN_AT, str(home))
        )
    return home


def studio_at(home: Path) -> Studio:
    return Studio(Settings(workspace=home, device="cpu", dtype="float32"))


def call(calls: list, name: str, *arguments: Any) -> dict:
    """A call as the page makes it."""
    answer = next(one for one in calls if one.__name__ == name)(list(arguments))
    answer = json.loads(json.dumps(answer, allow_nan=False))
    assert not answer.get("error"), answer["error"]
    return answer


def loaded_logits(ref: str) -> torch.Tensor:
    """The last position's logits on IDS."""
    model = load_model(ref, Settings(device="cpu", dtype="float32")).model
    with torch.inference_mode():
        return model(input_ids=IDS).logits[0, -1].float()


# ---- looking: each gives plain JSON


def look(home: Path, ids: dict[str, str]) -> dict:
    """All that is looked at, as JSON has it."""
    studio = studio_at(home)
    seen = {
        "ids": ids,
        "traces": {name: look_at_trace(studio, ids[name]) for name in TRACES},
        "datasets": {name: look_at_dataset(home / "runs" / ids[name]) for name in DATASETS},
        "tuned": {name: look_at_tuning(studio, ids[name]) for name in TUNED},
        "logits": {name: look_at_logits(home, ids[name], BASES[name]) for name in BASES},
        "evaluation": look_at_evaluation(studio, ids),
        "preflight": look_at_preflight(studio, ids["preflight"]),
        "jobs": look_at_jobs(studio),
        "published": {path.parent.name: look_at_published(path) for path in sorted(home.glob(f"hub/*/*/{MANIFEST}"))},
        "exports": look_at_exports(home / "exports"),
        "addresses": addresses(studio, ids),
        "words": words(build_parser()),
    }
    return json.loads(json.dumps(seen, allow_nan=False).replace(str(home), WRITTEN_AT))


def look_at_trace(studio: Studio, trace_id: str) -> dict:
    return summary_of_trace(studio.record(trace_id))


def summary_of_trace(record: dict) -> dict:
    other = reweigh(record, 0.05, 0.15)
    return {
        "question": record["request"]["question"],
        "pair": record["pair"],
        "parent": record["parent"],
        "problem_id": record["problem_id"],
        "lens": record.get("lens"),
        "response": record["response"],
        "stream": [without_the_last(json.loads(line)) for line in replay(record).splitlines()],
        "csv": csv_without_the_last(trace_csv(other)).splitlines()[:3],
        "candidates": [
            [sum(s["candidates"]["ids"]), total(s["candidates"]["expert_logprobs"])] for s in record["steps"]
        ],
        "supports": [[s["support"]["ids"], s["support"]["weights"]] for s in record["steps"]],
        "reweighed": [[len(s["support"]["ids"]), s["selected"]] for s in other["steps"]],
    }


def without_the_last(item: Any) -> Any:
    """A line of the stream without the plausible tokens of a step, which 0.2.0 did not send."""
    if isinstance(item, list):
        expert, amateur = item[-1]
        assert len(expert) == len(amateur) > 0
        return item[:-1]
    return item


def csv_without_the_last(text: str) -> str:
    """Without the teaching signal, which 0.2.0 did not compute; its traces have it."""
    table, out = list(csv.reader(io.StringIO(text))), io.StringIO()
    assert table[0][-1] == "teaching" and all(float(row[-1]) >= 0 for row in table[1:])
    csv.writer(out).writerows([row[:-1] for row in table])
    return out.getvalue()


def total(values: list) -> float:
    """The sum; null stands for what is infinite."""
    return math.fsum(x for x in values if x is not None and math.isfinite(x))


def look_at_dataset(folder: Path) -> dict:
    run, explorer = read_run(folder), Explorer(folder)
    explorer.refresh()
    found = {
        "config": run["config"],
        "fingerprints": run["about"].get("fingerprints"),
        "imported": is_imported(run),
        "rows": [],
        "samples": [],
        "marks": sorted([*key, mark] for key, mark in load_annotations(folder).by_step.items()),
        "histogram": explorer.histogram(KL_EDGES),
        "kinds": {kind["kind"]: [kind["steps"], kind["mean_kl"]] for kind in explorer.categories()},
        "health": {finding.name: finding.value for finding in quality_report(explorer, 0.2, 0.4)},
        "most divergent": [
            [row[name] for name in ("problem", "sample", "step", "token", "kl", "target_tokens", "selected", "mark")]
            for row in page(explorer, Filters(), "kl", 0, 5, Selection())["rows"]
        ],
        "texts": explorer.note is None,
    }
    for row in rows(folder):
        details = [step["expert_logprobs"] for step in row["steps"]]
        numbers = [row["kl"], row["js"], row["expert_logprob"], *details]
        name = (row["problem_id"], row["sample"], row["finish_reason"], row["response_ids"], row["response"])
        found["rows"].append([*name, sum(row["prompt_ids"]), [total(column) for column in numbers]])
    for selection in SELECTIONS:
        taken, report = list(training_samples(folder, Selection(**selection))), explorer.report(Selection(**selection))
        found["samples"].append(
            {
                "selection": selection,
                "samples": len(taken),
                "targets": total(
                    [w * id for sample in taken for id, w in zip(sample.token_ids, sample.weights, strict=True)]
                ),
                "weights": total([w for sample in taken for w in sample.weights]),
                "prefixes": sum(len(sample.prefix_ids or sample.prefix) for sample in taken),
                "kl": total([sample.kl for sample in taken]),
                "report": {name.replace("_annotation", "_mark"): count for name, count in report.as_json().items()},
            }
        )
    return found


def look_at_tuning(studio: Studio, run_id: str) -> dict:
    tunings = Tunings(studio.settings, studio.jobs)
    run = tunings.find(run_id)
    examples = load_examples(run.folder)
    checkpoint = last_checkpoint(run.folder / "checkpoints")
    curves = tunings.curves(run)
    tables = {"trained": curves.trained.table(300), "measured": curves.measured.table(300)}
    tables = {name: table.drop(columns="seconds").to_dict("list") for name, table in tables.items()}
    return {
        "config": run.run["config"],
        "result": result_of(run.run),
        "curves": tables | {"lessons": curves.examples, "notes": curves.notes},
        "events": [[event["seq"], event["kind"]] for event in read_events(run.folder / EVENTS)],
        "lessons": [[sum(example.ids), [target.step for target in example.targets]] for example in examples],
        "card": tunings.card(run),
        "checkpoint": checkpoint and checkpoint.name,
    }


def renamed(found: dict) -> dict:
    """With the setting that was called group then under its name now."""
    config = found["config"]
    return found | {"config": {"max_samples_per_trajectory" if n == "group" else n: v for n, v in config.items()}}


def result_of(run: dict) -> dict | None:
    """The numbers of a fine-tuning run's result by names of this file's own."""
    found = FinetuneResult.from_record(run)
    return found and found.as_json()


def look_at_logits(home: Path, run_id: str, base: str) -> list[float]:
    base = base.replace(WRITTEN_AT, str(home))
    return loaded_logits(f"{base}::{home}/runs/{run_id}/adapter")[:40].tolist()


def look_at_evaluation(studio: Studio, ids: dict[str, str]) -> dict:
    evaluations = Evaluations(studio.settings, studio.jobs)
    calls, entry = EvaluateActions(studio, evaluations).calls, evaluations.find(ids["evaluation"])
    flip = call(calls, "flip", ids["evaluation"], 1, ids["flip"])
    later = ("name", "judged", "by_hand", "model", "sample")  # what 0.2.0 did not tell
    names = ("tuning_seconds", "sampling_seconds", "problems", "tuned_tokens", "method", "base", "gains")
    return {
        "results": evaluations.results(entry),
        "answers": [
            [[p, a.right, a.extracted, a.length] for p, a in v.items()] for v in evaluations.answers(entry).rows
        ],
        "flips": {side: call(calls, "listed", ids["evaluation"], 1, side, 0) for side in ("gained", "lost")},
        "flip": flip | {side: {n: v for n, v in flip[side].items() if n not in later} for side in ("before", "after")},
        "costs": {cost.run: {name: asdict(cost)[name] for name in names} for cost in cost_table(studio.settings.runs)},
    }


def look_at_preflight(studio: Studio, run_id: str) -> dict:
    answer = call(pair_check_calls(studio), "look", run_id)
    return {
        "result": answer["result"],
        "told": answer["job"]["result"],
        "config": read_run(studio.settings.runs / run_id)["config"],
    }


def look_at_jobs(studio: Studio) -> list[dict]:
    studio.jobs.tick(start=False)  # as a server that starts: what was killed with the one before is found out
    found, store = [], studio.jobs.store
    names = (
        "id",
        "run",
        "verb",
        "title",
        "state",
        "attempt",
        "retry_of",
        "message",
        "kept",
        "actions",
        "result",
        "numbers",
    )
    for job in store.jobs():
        view = job_view(store, job)
        view["message"] = REWORDED.get(view["message"], view["message"])
        found.append({name: view[name] for name in names} | {"argv": list(job.argv), "log": log_tail(store, job)})
    return found


def look_at_published(manifest: Path) -> dict:
    listed = read_manifest(manifest)
    return listed | {"card": (manifest.parent / "README.md").read_text(encoding="utf-8")}


def look_at_exports(folder: Path) -> dict:
    table = pq.read_table(folder / "samples.parquet")
    return {
        "lines": [json.loads(line) for line in (folder / "released.jsonl").read_text().splitlines()][:3],
        "columns": table.column_names,
        "samples": table.num_rows,
        "kl": total(table["kl"].to_pylist()),
        "trace": summary_of_trace(json.loads((folder / "trace.json").read_text())),
    }


# ---- addresses, as the page writes them (assets/js/address.js and the tabs' put)


def addresses(studio: Studio, ids: dict[str, str]) -> list[str]:
    flip = {"tab": "evaluate", "run": ids["evaluation"], "model": 1, "problem": ids["flip"]}
    row = next(rows(studio.settings.runs / ids["dataset"]))["problem_id"]
    data = {"tab": "datasets", "dataset": ids["dataset"]}
    choice = {"alpha": 0.5, "beta": 0.15, "selector": "js"}
    return [
        urlencode(address)
        for address in (
            {"trace": ids["trace"]},
            {"trace": ids["scored"], "step": 3, "alpha": 0.5, "beta": 0.15},
            {"trace": ids["lens"], "step": 2},
            {"lens": ids["tuned"]},
            data,
            data | choice,
            data | {"problem": row, "sample": 0, "step": 3},
            {"tab": "datasets", "dataset": ids["imported"]},
            {"tab": "finetune", "run": ids["tuned"]},
            {"tab": "finetune", "compare": f"{ids['tuned']},{ids['own tuned']}"},
            {"tab": "finetune", "dataset": ids["dataset"]} | choice,
            {"tab": "evaluate", "run": ids["evaluation"]},
            flip,
            {"tab": "evaluate", "run": ids["tuned"]},
            {"tab": "jobs"},
            {"tab": "jobs", "job": ids["job of tuned"]},
        )
    ]


# ---- the command line's words


def words(parser: argparse.ArgumentParser, verb: tuple[str, ...] = ()) -> list[list[str]]:
    """A command line for every verb and each of its options, as today's parser has them."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if groups:
        return [line for name, inner in groups[0].choices.items() for line in words(inner, (*verb, name))]
    either = [action for group in parser._mutually_exclusive_groups for action in group._group_actions]
    needed = [
        a
        for a in parser._actions
        if a.required or a in [g._group_actions[0] for g in parser._mutually_exclusive_groups]
    ]
    lines = [[*verb, *(word for action in needed for word in said(action))]]
    for action in parser._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            others = [a for a in needed if a is not action and not (a in either and action in either)]
            lines.append([*verb, *(word for a in others for word in said(a)), *said(action)])
    return lines


def said(action: argparse.Action) -> list[str]:
    value = str(next(iter(action.choices))) if action.choices else {int: "3", float: "0.5"}.get(action.type, "x")
    return [*action.option_strings[-1:], *([] if action.nargs == 0 else [value])]


# ---- the tests


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ids(expected) -> dict[str, str]:
    return expected["ids"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """For looking only."""
    return arrive(tmp_path_factory.mktemp("written_by_0_2"))


@pytest.fixture(scope="module")
def studio(home) -> Studio:
    return studio_at(home)


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A copy to work in."""
    home = arrive(tmp_path)
    for name, value in (("WORKSPACE", str(home)), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    return home


def same(found: Any, wanted: Any, home: Path, rel: float = 1e-6) -> None:
    """Equal, numbers but for rounding; every difference with its place."""
    found = json.loads(json.dumps(found, allow_nan=False).replace(str(home), WRITTEN_AT))
    differences: list[str] = []

    def compare(a: Any, b: Any, where: str) -> None:
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            for name in b:
                compare(a[name], b[name], f"{where}.{name}")
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for n, pair in enumerate(zip(a, b, strict=True)):
                compare(*pair, f"{where}[{n}]")
        elif isinstance(a, float) and isinstance(b, float):
            if not math.isclose(a, b, rel_tol=rel, abs_tol=rel):
                differences.append(f"{where}: {a} instead of {b}")
        elif a != b or isinstance(a, bool) != isinstance(b, bool):
            differences.append(f"{where}: {str(a)[:200]} instead of {str(b)[:200]}")

    compare(found, wanted, "")
    assert not differences, "\n".join(differences[:20])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the log, which tells each attempt, and locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in (EVENTS, ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", TRACES)
def test_traces_open_with_every_number(studio, home, ids, expected, name):
    same(look_at_trace(studio, ids[name]), expected["traces"][name], home)


def test_a_trace_is_exported_as_a_page_of_its_own(studio, ids):
    record = studio.record(ids["lens"])
    text = standalone(record)
    held = text.partition('<script type="application/json" id="lr-record">')[2].partition("</script>")[0]
    assert json.loads(held) == record


def test_a_trace_branches(own, ids, expected):
    """The branch that 0.2.0 made of it, made again."""
    studio = studio_at(own)
    record, before = studio.record(ids["trace"]), studio.record(ids["branch"])
    step = before["parent"]["step"]
    request = branch_request(record, step, before["steps"][step]["token_id"])
    refs = (record["pair"]["name"], record["pair"]["expert"], record["pair"]["amateur"])
    live = studio.start(request, refs, parent={"id": record["id"], "step": step})
    assert live.done.wait(60) and not live.error, live.error
    again = studio.record(live.trace.id)
    assert [s["token_id"] for s in again["steps"]] == [s["token_id"] for s in before["steps"]]
    for now, then in zip(again["steps"], before["steps"], strict=True):
        assert now["kl"] == pytest.approx(then["kl"], abs=1e-3)
    assert again["pair"] == before["pair"]


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_open_explore_and_select(home, ids, expected, name):
    same(look_at_dataset(home / "runs" / ids[name]), expected["datasets"][name], home)


def test_a_row_of_a_dataset_opens_as_a_trace(studio, ids, expected):
    """By its name, as traces of it have it."""
    datasets = Datasets(studio.settings, studio.jobs)
    marked = expected["datasets"]["dataset"]["marks"][0][0]
    row = next(row for row in rows(studio.settings.runs / ids["dataset"]) if row["problem_id"] == marked)
    answer = call(DatasetActions(datasets).calls, "trajectory", ids["dataset"], row["problem_id"], 0, 3)
    assert (
        answer["record"]["id"]
        == record_id(ids["dataset"], row["problem_id"])
        == f"{ids['dataset']}.0.{row['problem_id']}"
    )
    assert [step["token_id"] for step in answer["record"]["steps"]] == row["response_ids"]
    marked = {str(step): mark for name, _, step, mark in expected["datasets"]["dataset"]["marks"]}
    assert answer["marks"] == marked and set(marked.values()) == {"keep", "drop", "pin"}


@pytest.mark.parametrize("name", ["dataset", "own dataset", "tuned", "own tuned", "evaluation"])
def test_the_same_command_again_finds_all_done(own, ids, expected, name):
    folder = own / "runs" / ids[name]
    before = contents(folder)
    argv = next(job for job in expected["jobs"] if job["id"] == ids[f"job of {name}"])["argv"]
    assert main([word.replace(WRITTEN_AT, str(own)) for word in argv]) == 0
    after = contents(folder)
    assert after.keys() == before.keys()
    changed = [path for path in before if before[path] != after[path] and path not in ("run.json", "results.json")]
    assert not changed
    assert read_run(folder) == renamed(json.loads(before["run.json"]))
    events = read_events(folder / EVENTS)
    assert [event["state"] for event in events if event["kind"] == "end"] == ["succeeded", "succeeded"]
    second = events[[event["kind"] for event in events].index("end") + 1 :]
    assert not {"metrics", "halved", "corrupt"} & {event["kind"] for event in second}


@pytest.mark.parametrize("name", TUNED)
def test_fine_tuning_runs_open_with_curves_and_results(studio, home, ids, expected, name):
    if name == "interrupted":
        assert read_run(home / "runs" / ids[name]).get("result") is None
    same(look_at_tuning(studio, ids[name]), renamed(expected["tuned"][name]), home)


@pytest.mark.parametrize("name", BASES)
def test_adapters_load_on_their_base(home, ids, expected, name):
    found, wanted = look_at_logits(home, ids[name], BASES[name]), torch.tensor(expected["logits"][name])
    assert (torch.tensor(found) - wanted).abs().max() <= 1e-5 * max(1, wanted.abs().max())


def test_an_adapter_is_merged(own, ids, expected):
    out = own / "merged"
    assert main(["merge", "--run-dir", str(own / "runs" / ids["own tuned"]), "--out", str(out)]) == 0
    wanted = torch.tensor(expected["logits"]["own tuned"])
    for folder in (out, *own.glob(f"runs/{ids['own tuned']}/merged-*"), own / "hub/model/merged"):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.inference_mode():
            logits = model(input_ids=IDS).logits[0, -1, :40]
        assert (logits - wanted).abs().max() <= 1e-4 * max(1, wanted.abs().max())


def test_tuned_experts_are_found_for_their_pair(studio, home, ids):
    run = tuned_run(studio.settings, ids["tuned"])
    assert (run.expert, amateur_of(run)) == ("lightreasoner-expert-4m", "lightreasoner-amateur-1m")
    assert run.ref == f"lightreasoner-expert-4m::{home}/runs/{ids['tuned']}/adapter"
    assert run.dataset == home / "runs" / ids["dataset"]


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(own, ids, expected):
    studio = studio_at(own)
    studio.jobs.tick(start=False)
    job = studio.jobs.store.get(ids["job of interrupted"])
    assert job.state == "interrupted"
    assert main(list(job.argv)) == 0
    told = [event.get("text") for event in read_events(job.run_dir / EVENTS) if event["kind"] == "status"]
    assert "Training resumes at update 8" in told
    found, whole = result_of(read_run(job.run_dir)), expected["tuned"]["own tuned"]["result"]
    assert {n: v for n, v in found.items() if isinstance(v, int)} == {
        n: v for n, v in whole.items() if isinstance(v, int)
    }
    for name in ("train_loss", "held_out_loss", "drift"):  # the same settings, and nobody killed that one
        assert found[name] == pytest.approx(whole[name], rel=1e-3)


def test_an_evaluation_opens_with_its_flips_and_costs(studio, home, ids, expected):
    same(look_at_evaluation(studio, ids), expected["evaluation"], home)


def test_the_check_of_a_pair_opens_with_its_verdict(studio, home, ids, expected):
    same(look_at_preflight(studio, ids["preflight"]), expected["preflight"], home)


def test_the_job_list_opens(own, expected):
    same(look_at_jobs(studio_at(own)), expected["jobs"], own)


def test_jobs_of_then_are_retried_and_resumed(own, ids, expected):
    studio = studio_at(own)
    studio.jobs.tick(start=False)
    for job in expected["jobs"]:
        if "resume" in job["actions"]:
            assert studio.jobs.resume(job["id"]).state == "queued"
        elif "retry" in job["actions"]:
            made = studio.jobs.retry(job["id"])
            assert (made.retry_of, made.verb, len(made.argv)) == (job["id"], job["verb"], len(job["argv"]))


def test_every_word_of_the_command_line_is_still_understood(expected):
    parser = build_parser()
    verbs = {tuple(line[:2]) if line[0] == "jobs" else line[0] for line in expected["words"]}
    assert len(verbs) >= 18 and len(expected["words"]) > 120
    for line in [*expected["words"], *(job["argv"] for job in expected["jobs"])]:
        try:
            parser.parse_args(line)
        except SystemExit:
            pytest.fail(f"not understood any more: {' '.join(line)}")


def test_runs_are_listed_by_their_kinds(home, ids):
    kinds = {folder.name: record["kind"] for folder, record in list_runs(home / "runs")}
    assert {kinds[ids[name]] for name in DATASETS} == {"dataset"}
    assert {kinds[ids[name]] for name in TUNED} == {"finetune"}
    assert (kinds[ids["evaluation"]], kinds[ids["preflight"]]) == ("evaluation", "preflight")
    assert len(kinds) == len(DATASETS) + len(TUNED) + 2


def test_exports_are_read_and_imported_again(own, ids, expected):
    same(look_at_exports(own / "exports"), expected["exports"], own)
    assert main(["import", str(own / "exports/released.jsonl"), "--run-dir", str(own / "again")]) == 0
    found, before = look_at_dataset(own / "again"), expected["datasets"]["imported"]
    same(found, before, own)


def test_exports_are_written_as_they_were(own, ids):
    """Whoever reads our files with a program of their own finds the same in them."""
    argv = ["export", "--run-dir", str(own / "runs" / ids["dataset"]), "--format"]
    assert main([*argv, "released", "--out", str(own / "again.jsonl")]) == 0
    assert main([*argv, "parquet", "--beta", "0.1", "--out", str(own / "again.parquet")]) == 0
    now, then = (
        [json.loads(x) for x in f.read_text().splitlines()]
        for f in (own / "again.jsonl", own / "exports/released.jsonl")
    )
    same(now, then, own)
    now, then = (pq.read_table(path).to_pylist() for path in (own / "again.parquet", own / "exports/samples.parquet"))
    same(now, then, own)


def test_what_was_pushed_is_pulled(own, ids, expected, monkeypatch):
    for kind, name in (("dataset", "data"), ("model", "adapter"), ("model", "merged")):
        same(look_at_published(own / "hub" / kind / name / MANIFEST), expected["published"][name], own)
    with Hub() as hub:
        hub.accounts["hf_writerwriterwriter"] = Account("me")
        for kind, name in (("dataset", "data"), ("model", "adapter")):
            hub.add(f"me/{name}", own / "hub" / kind / name, kind)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name, value in (
            ("ENDPOINT", hub.url),
            ("HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_CACHE", str(own / "cache")),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_writerwriterwriter")
        assert main(["pull", "me/data", "--run-dir", str(own / "back")]) == 0
        found, before = look_at_dataset(own / "back"), expected["datasets"]["pulled"]
        same(found, before, own)
        wanted = torch.tensor(expected["logits"]["tuned"])
        logits = loaded_logits("lightreasoner-expert-4m::me/adapter")[:40]
        assert (logits - wanted).abs().max() <= 1e-5 * max(1, wanted.abs().max())
    assert read_run(own / "runs" / ids["pulled"])["pulled"]["repo"] == "me/data"


def test_addresses_are_answered(studio, home, ids, expected):
    """Each as the page asks for it: the calls of its tab, with what the address says."""
    datasets, tunings, evaluations = (kind(studio.settings, studio.jobs) for kind in (Datasets, Tunings, Evaluations))
    said = {"dataset": [], "run": [], "job": [], "trace": [], "compare": []}
    for address in expected["addresses"]:
        asked = dict(parse_qsl(address))
        tab = asked.pop("tab", "inspect")
        choice = (float(asked.get("alpha", 0.2)), float(asked.get("beta", 0.4)), asked.get("selector", "kl"))
        if tab == "inspect":
            viewer, preset, *_ = open_link(studio, SimpleNamespace(query_params=asked))
            assert preset == "bundled"
            if "trace" in asked:
                head = json.loads(viewer.splitlines()[0])
                view = {name: float(asked[name]) if name in asked else None for name in ("step", "alpha", "beta")}
                assert (head["run"], head["view"]) == (asked["trace"], view)
                said["trace"].append(head["run"])
        elif tab == "datasets" and "problem" in asked:
            place = (asked["problem"], int(asked["sample"]), int(asked["step"]))
            answer = call(DatasetActions(datasets).calls, "trajectory", asked["dataset"], *place)
            assert answer["record"]["dataset"]["problem_id"] == asked["problem"]
        elif "dataset" in asked:
            answer = call(DatasetActions(datasets).calls, "overview", asked["dataset"], *choice, "")
            said["dataset"].append([answer["open"]["id"], answer["open"]["above"]])
        elif tab == "finetune" and "compare" in asked:
            answer = call(FinetuneActions(tunings, datasets).calls, "overview", None, asked["compare"].split(","), {})
            said["compare"] += [run["id"] for run in answer["compared"]["runs"]]
            assert not answer["compared"]["missing"]
        elif tab == "finetune":
            answer = call(FinetuneActions(tunings, datasets).calls, "overview", asked["run"], [], {})
            said["run"].append(answer["open"]["id"])
        elif tab == "evaluate" and "problem" in asked:
            answer = call(
                EvaluateActions(studio, evaluations).calls, "flip", asked["run"], int(asked["model"]), asked["problem"]
            )
            assert answer["before"]["right"] != answer["after"]["right"]
        elif tab == "evaluate":
            answer = call(EvaluateActions(studio, evaluations).calls, "look", asked["run"], False, {})
            said["run"].append("fills" if answer.get("fills") else answer["open"]["id"])
        elif tab == "jobs":
            answer = call(Jobs(studio.jobs).calls, "look", 50, asked.get("job"), {})
            assert len(answer["active"]) + len(answer["past"]) == len(expected["jobs"])
            said["job"].append(answer["opened"]["id"] if "job" in asked else None)
        else:
            pytest.fail(f"nobody answers {address}")
    above = [[ids["dataset"], n] for n in (over(home, ids, 0.4), over(home, ids, 0.15))]
    assert said == {
        "trace": [ids["trace"], ids["scored"], ids["lens"]],
        "dataset": [*above, [ids["imported"], expected["datasets"]["imported"]["samples"][0]["samples"]], above[1]],
        "run": [ids["tuned"], ids["evaluation"], "fills"],
        "compare": [ids["tuned"], ids["own tuned"]],
        "job": [None, ids["job of tuned"]],
    }


def over(home: Path, ids: dict[str, str], beta: float) -> int:
    return sum(kl > beta for row in rows(home / "runs" / ids["dataset"]) for kl in row["kl"])


def test_nothing_tells_of_the_machine_that_wrote_it():
    for path in HERE.rglob("*"):
        if path.is_file() and path.suffix != ".py":
            content = path.read_bytes()
            assert not [word for word in (b"/tmp/", b"/root/", b"/var/") if word in content], path


@pytest.mark.browser
def test_addresses_open_in_a_browser(own, ids, expected, visitors):
    studio_at(own).jobs.cancel(ids["queued"])  # the server would begin with it
    app = App(own).start("--no-preload")
    try:
        shown = {
            "inspect": ".lr-token",
            "datasets": ".lr-data h2, .lr-data .lr-token",
            "finetune": ".lr-tuning h2",
            "evaluate": ".lr-evaluate h2, .lr-evaluate .lr-question",
            "jobs": ".lr-job",
        }
        page = visitors.context(app.url).new_page()
        whole = expected["addresses"]
        for address in (a for a in whole if not any(other.startswith(f"{a}&") for other in whole)):
            asked = dict(parse_qsl(address))
            tab, lens = asked.get("tab", "inspect"), asked.get("lens")
            page.goto(f"{app.url}?{address}", wait_until="commit")
            button = page.locator(f"#lr-tab-{tab}-button")
            expect(button).to_have_attribute("aria-selected", "true")
            if tab == "finetune" and "dataset" in asked:  # fills the form in, and is gone from the address
                expect(page.locator("#lr-ft-dataset input")).to_have_value(re.compile("Bundled"))
                expect(page.get_by_label("β", exact=True)).to_have_value(asked["beta"])
                continue
            if lens:
                expect(page.locator("#lr-tuned input")).to_have_value(re.compile("LightReasoner, .* samples"))
            elif tab == "evaluate" and asked["run"] == ids["tuned"]:  # fills the form in
                expect(page.locator("#lr-ev-adapters input:checked")).to_have_count(1)
            else:
                expect(page.locator(shown[tab]).locator("visible=true").first, address).to_be_visible()
            expect(page.locator(".lr-error").locator("visible=true")).to_have_count(0)
            now = dict(parse_qsl(urlsplit(page.url).query))
            assert now == asked, "the page writes the address that it was opened by"
        page.goto("about:blank")
    finally:
        app.stop()
    assert not app.tracebacks()
