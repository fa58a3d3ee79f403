"""Stored responses judged again, verdicts set by hand, and results of several responses per problem."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.evaluation import results
from lightreasoner.evaluation.evaluate import Sampling
from lightreasoner.evaluation.results import (
    FOLDER,
    SCHEMA,
    ResultsReader,
    Variant,
    read_results,
    read_rows,
    shard,
    write_results,
)
from lightreasoner.evaluation.summaries import Answer, majority, summarise
from lightreasoner.evaluation.verdicts import regrade, set_verdict
from lightreasoner.scoring.significance import estimate, pass_at_k
from lightreasoner.storage.atomic import locked
from lightreasoner.storage.runs import LOCK, begin_run
from tests.support.tiny_models import save_tiny

RESPONSES = {
    "p1": ("The answer is 18.", "18", True, "18"),
    "p2": (r"The answer is $2\sqrt{3}$.", "2", True, "2"),  # an older rule took the first number
    "p3": ("The answer is 7.", "8", False, "7"),
}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    begin_run(
        folder, "evaluation", {"model": "m", "adapters": [], "problems": "x"}, {"problems": 3, "models": ["base"]}
    )
    rows = [
        {"model": "base", "problem_id": name, "question": "?", "answer": answer, "response_ids": [1], "response": text}
        | {"finish_reason": "stop", "extracted": found, "right": right, "seconds": 1.0}
        for name, (text, answer, right, found) in RESPONSES.items()
    ]
    old = pa.schema([field for field in SCHEMA if field.name not in ("sample", "level", "subject")])  # as 0.4 wrote it
    (folder / FOLDER).mkdir()
    for n, row in enumerate(rows):
        pq.write_table(pa.Table.from_pylist([row], old), shard(folder, 0, n))
    write_results(folder, [Variant("base")])
    return folder


def test_judging_again_changes_what_todays_rules_see_in_another_way(run):
    untouched = {path.name: path.stat().st_mtime_ns for path in (run / FOLDER).glob("*.parquet")}
    (change,) = regrade(run)
    assert (change.problem_id, change.before, change.after) == ("p2", (True, "2"), (False, r"2\sqrt{3}"))
    assert change.flipped
    assert {row["problem_id"]: row["right"] for row in read_rows(run, 0)} == {"p1": True, "p2": False, "p3": False}
    assert read_results(run)["models"][0]["right"] == 1
    now = {path.name: path.stat().st_mtime_ns for path in (run / FOLDER).glob("*.parquet")}
    assert [name for name in now if now[name] != untouched[name]] == ["00-000001.parquet"]
    assert regrade(run) == []


def test_the_command_lists_what_changed_and_needs_no_model(run, capsys):
    assert main(["evaluate", "--regrade", str(run)]) == 0
    out = capsys.readouterr().out
    assert "base · p2: right (2) → wrong (2\\sqrt{3}); the reference answer is 2" in out
    assert "1 verdicts changed, and 0 answers were read in another way." in out


def test_without_regrade_the_usual_arguments_are_needed(capsys):
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--model", "m"])
    assert left.value.code == 2
    assert "required: --problems, --run-dir" in capsys.readouterr().err


def test_an_interrupted_judging_leaves_every_file_whole(run, monkeypatch):
    def full(*args, **options):
        raise OSError("no space")

    monkeypatch.setattr(results.pq, "write_table", full)
    with pytest.raises((OSError, UserError)):
        regrade(run)
    assert len(read_rows(run, 0)) == 3
    assert read_results(run)["models"][0]["right"] == 2


@pytest.mark.parametrize(
    "table",
    [{"x": [1]}, {"problem_id": [1], "answer": [2], "response": [3], "model": ["m"], "right": ["x"], "extracted": [5]}],
)
def test_a_file_with_other_columns_in_place_of_answers_is_a_sentence(run, table):
    """It was a KeyError or a TypeError: only files that are no Parquet were taken for damaged."""
    pq.write_table(pa.table(table), shard(run, 0, 1))
    with pytest.raises(
        UserError, match=r"^00-000001.parquet is damaged \(its column \w+ is missing or of another type"
    ):
        regrade(run)


@pytest.mark.parametrize("name", ["results.json", "verdicts.json"])
def test_a_file_of_brackets_is_damaged_and_no_traceback(run, name):
    (run / name).write_text("[" * 100_000)
    if name == "results.json":
        assert read_results(run) is None
    else:
        with pytest.raises(UserError, match=r"^verdicts.json, with the verdicts set by hand, is damaged"):
            regrade(run)


@pytest.mark.parametrize(
    "part", [7, {"name": {"a": 1}}, {"name": "a", "pass_at_1": "half"}, {"name": "a", "problems": []}]
)
def test_results_of_another_type_count_as_unreadable(tmp_path, part):
    """A share in words was a traceback in the log, and the tab's call failed."""
    (tmp_path / "results.json").write_text(json.dumps({"models": [part], "comparisons": []}))
    assert read_results(tmp_path) is None


def test_a_run_that_is_worked_on_or_is_no_evaluation_is_refused(run, tmp_path):
    begin_run(tmp_path / "other", "dataset", {}, {})
    with pytest.raises(UserError, match="holds a dataset run"):
        regrade(tmp_path / "other")
    with locked(run / LOCK, "held"), pytest.raises(UserError, match="job is working"):
        regrade(run)


def test_a_verdict_by_hand_counts_is_shown_as_such_and_survives_judging_again(run):
    reader = ResultsReader(run, [Variant("base")])
    reader.refresh()
    set_verdict(run, 0, "p3", True)
    reader.refresh()
    assert (reader.rows[0]["p3"].right, reader.rows[0]["p3"].judged, reader.rows[0]["p3"].by_hand) == (
        True,
        False,
        True,
    )
    assert (read_results(run)["models"][0]["right"], read_results(run)["models"][0]["by_hand"]) == (3, 1)
    assert read_rows(run, 0)[2]["right"] is False, "the grader's own verdict stays beside it"
    regrade(run)
    reader.refresh()
    assert reader.results()["models"][0]["right"] == 2 and reader.row(0, "p3")["by_hand"]
    set_verdict(run, 0, "p3", None)
    assert "by_hand" not in read_results(run)["models"][0]
    with pytest.raises(UserError, match="no such answer"):
        set_verdict(run, 0, "p9", True)


def test_a_damaged_file_of_verdicts_is_named(run):
    (run / "verdicts.json").write_text("{")
    with pytest.raises(UserError, match=r"verdicts\.json"):
        ResultsReader(run, [Variant("base")]).refresh()


# ---- several responses


@pytest.mark.parametrize(("n", "right", "k"), [(5, 2, 1), (5, 2, 3), (5, 0, 2), (5, 5, 5), (4, 3, 2), (8, 1, 8)])
def test_pass_at_k_is_the_mean_over_all_choices_of_k(n, right, k):
    marks = [True] * right + [False] * (n - right)
    choices = [any(chosen) for chosen in combinations(marks, k)]
    assert math.isclose(pass_at_k(n, right, k), sum(choices) / len(choices))


def test_the_majority_counts_equal_answers_together_and_no_missing_ones():
    assert majority(["7", "18", None, None, "18.0", "7 eggs", "18 eggs"]) == 1
    assert majority(["7", "18"]) == 0  # the first of equally frequent ones
    assert majority([None, None]) == 0
    assert majority([r"\frac{1}{2}", "3", "0.5"]) == 0


def answer(extracted: str | None, right: bool, sample: int, *groups: str | None) -> Answer:
    return Answer("?", "1", extracted, right, "stop", 3, 0.1, Path("x"), sample, groups or (None, None), right)


def test_avg_pass_and_maj_by_hand():
    problems = [
        [answer("1", True, 0, "1", "Algebra"), answer("1", True, 1), answer("2", False, 2), answer(None, False, 3)],
        [answer("5", False, 0, "2", "Algebra"), answer("1", True, 1), answer("5", False, 2), answer("6", False, 3)],
    ]
    found = summarise("m", problems)
    assert (found.samples, found.pass_at_1, found.right) == (4, 0.375, 1)
    assert [round(found.pass_at[k].value, 6) for k in (1, 2, 4)] == [0.375, round((5 / 6 + 1 / 2) / 2, 6), 1.0]
    assert found.majority.value == 0.5
    assert found.low <= 0.375 <= found.high
    assert [(g["name"], g["pass_at_1"]) for g in found.groups["level"]] == [("1", 0.5), ("2", 0.25)]
    assert "subject" not in found.groups, "one subject is no comparison"
    assert found.as_json()["pass_at"]["4"]["value"] == 1.0


def test_an_interval_of_shares_is_a_bootstrap_over_problems():
    found = estimate([0.0, 0.25, 0.5, 0.75] * 25)
    assert found.value == 0.375
    assert 0.31 < found.low < 0.34 and 0.41 < found.high < 0.44  # 0.375 ± 1.96 · 0.28 / √100
    assert estimate([0.5] * 10).low < 0.5 < estimate([0.5] * 10).high


def test_samples_on_the_command_line(tmp_path, monkeypatch, capsys):
    for name, value in (("WORKSPACE", str(tmp_path / "workspace")), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    save_tiny(tmp_path / "model", seed=1)
    rows = [{"id": f"p{n}", "question": f"{n}?", "answer": "1", "level": f"L{n % 2}"} for n in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = ["evaluate", "--model", str(tmp_path / "model"), "--problems", str(tmp_path / "p.jsonl")]
    fixed += ["--max-new-tokens", "8", "--batch-size", "3"]
    assert main([*fixed, "--samples", "3", "--run-dir", str(tmp_path / "greedy")]) == 2
    assert "--samples is 3 at temperature 0" in capsys.readouterr().err
    asked = ["--samples", "3", "--temperature", "1.5"]
    assert main([*fixed, *asked, "--run-dir", str(tmp_path / "run")]) == 0
    assert "maj@3" in capsys.readouterr().out
    written = {(row["problem_id"], row["sample"]): row["response_ids"] for row in read_rows(tmp_path / "run", 0)}
    assert len(written) == 12
    assert any(written["p0", 0] != written["p0", n] for n in (1, 2)), "responses differ"
    found = read_results(tmp_path / "run")["models"][0]
    assert (found["problems"], found["samples"]) == (4, 3)
    assert [group["name"] for group in found["groups"]["level"]] == ["L0", "L1"]
    # the numbers drawn depend on seed, problem and sample, and not on the batches
    fixed[-1] = "5"
    assert main([*fixed, *asked, "--run-dir", str(tmp_path / "again")]) == 0
    again = {(row["problem_id"], row["sample"]): row["response_ids"] for row in read_rows(tmp_path / "again", 0)}
    assert again == written
    config = json.loads((tmp_path / "run/run.json").read_text())["config"]
    assert Sampling(config["samples"], config["temperature"], config["seed"]) == Sampling(3, 1.5, 0)
