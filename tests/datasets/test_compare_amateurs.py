"""The amateurs of a dataset compared: numbers worked out by hand, and what cannot be compared."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.datasets.amateurs import further_folder
from lightreasoner.datasets.compare_amateurs import compare_amateurs
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import KL_EDGES, rows, shards
from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.evaluation.amateurs import Preview, recommendation
from lightreasoner.evaluation.preview import Cell
from lightreasoner.paper import TEACHES
from lightreasoner.storage.runs import begin_run
from tests.support.tiny_dataset import make_dataset, write_rows

ALPHA = 0.2


def measured_by(rows: list[dict], kls: list[float], ratio: float) -> list[dict]:
    """The rows with these KLs at every response's steps, and an amateur that gives the taken token e^−ratio of its
    probability."""
    changed = []
    for row in rows:
        steps = [
            {
                "index": n,
                "token_id": row["response_ids"][n],
                "kl": kl,
                "ids": [1, 2],
                "expert_logprobs": [math.log(0.6), math.log(0.4)],
                "amateur_logprobs": [math.log(0.6) - ratio, math.log(0.4)],
            }
            for n, kl in enumerate(kls)
            if kl > 0.05
        ]
        changed.append(row | {"kl": kls, "steps": steps})
    return changed


def write(folder: Path, amateur: str, dataset_rows: list[dict], per_shard: int = 2) -> None:
    begin_run(folder, "dataset", {"expert": "x/expert", "amateur": amateur, "beta_floor": 0.05}, {})
    for n in range(0, len(dataset_rows), per_shard):
        write_rows(folder, n // per_shard, dataset_rows[n : n + per_shard])


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Two amateurs of four responses of five steps: a selects steps 0, 1 and 3 of each, b steps 1, 3 and 4."""
    plain = make_dataset(tmp_path / "plain", problems=4, steps=5)
    place = tmp_path / "data"
    write(place, "x/a", measured_by(plain, [0.5, 0.9, 0.1, 2.0, 0.0], 2.0))
    write(further_folder(place, "x/b"), "x/b", measured_by(plain, [0.0, 0.9, 0.3, 2.0, math.inf], 0.0))
    return place


def test_what_each_amateur_selects_and_teaches_is_counted_over_the_same_steps(dataset):
    found = compare_amateurs(dataset, Selection(alpha=ALPHA, beta=0.4))
    a, b = found.amateurs
    assert (found.responses, found.steps, found.left_out, found.unread) == (4, 20, 0, ())
    assert [each.dataset.amateur for each in found.amateurs] == ["x/a", "x/b"]
    assert (a.selected, b.selected, a.share) == (12, 12, 0.6)
    assert a.jaccard == (1.0, 0.5) and b.jaccard == (0.5, 1.0) and a.agreement == 0.5
    assert a.mean_kl == pytest.approx(0.7) and math.isinf(b.mean_kl)
    assert sum(a.histogram) == sum(b.histogram) == 20 and len(a.histogram) == len(KL_EDGES) - 1
    weights = [math.exp(2) / (1 + math.exp(2)), 1 / (1 + math.exp(2))]  # softmax of (2, 0)
    taught = sum(w * math.log(w / p) for w, p in zip(weights, (0.6, 0.4), strict=True))
    assert a.signal == pytest.approx(12 * taught, rel=1e-5) and (a.idle, a.missing) == (0, 0)
    even = 0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4)
    assert b.signal == pytest.approx(12 * even, rel=1e-5) and even > TEACHES
    few = compare_amateurs(dataset, Selection(beta=0.01)).amateurs[0]
    assert (few.selected, few.missing) == (16, 0)


def test_only_responses_that_all_have_read_are_compared(dataset, tmp_path):
    shards(further_folder(dataset, "x/b"))[1].unlink()
    write(further_folder(dataset, "x/c"), "x/c", [])
    found = compare_amateurs(dataset)
    assert (found.responses, found.left_out, [each.name for each in found.unread]) == (2, 2, ["c"])
    write(tmp_path / "alone", "x/a", list(rows(dataset)))
    assert compare_amateurs(tmp_path / "alone").amateurs[0].agreement is None


def test_what_cannot_be_compared_is_refused_in_a_sentence(dataset, tmp_path, capsys):
    b = further_folder(dataset, "x/b")
    other = [row | {"response_ids": [7] * 5} for row in rows(b)]
    write_rows(b, 0, other[:2])
    with pytest.raises(UserError, match="of other responses than the first"):
        compare_amateurs(dataset)
    shards(b)[0].write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged"):
        compare_amateurs(dataset)
    write(tmp_path / "none", "x/a", [])
    begin_run(tmp_path / "bare", "evaluation", {}, {})
    for folder, says in (("none", "no steps yet"), ("nowhere", "not a run folder"), ("bare", "not a dataset")):
        assert main(["amateurs", "--dataset", str(tmp_path / folder)]) == 2
        assert says in capsys.readouterr().err


def test_the_verb_prints_the_table_and_says_that_only_a_preview_can_tell(dataset, capsys):
    assert main(["amateurs", "--dataset", str(dataset)]) == 0
    printed = capsys.readouterr().out
    assert "4 responses, 20 steps" in printed and "Only a preview can tell" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(("a ", "b "))] == ["a", "b"] * 2
    assert main(["amateurs", "--dataset", str(dataset), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["selected"] for each in document["amateurs"]] == [12, 12]
    assert document["amateurs"][1]["mean_kl"] is None, "JSON knows no infinity"
    assert main(["amateurs", "--dataset", str(dataset), "--results", str(dataset)]) == 2
    assert "no finished preview or pair check" in capsys.readouterr().err


def preview(amateur: str, right: range, low: float = 0.1) -> Preview:
    solved = len(right) / 100
    cell = Cell(Contrast(0.2, 0.4), 100, solved, solved - 0.3, low, solved, 0, 0, 0.1, 0.5, 20.0)
    return Preview(amateur, Path(), "p", 6, cell, {f"p{n}": n in right for n in range(100)}, "same")


@pytest.mark.parametrize(
    ("previews", "says"),
    [
        ({}, "Only a preview can tell"),
        ({"x/a": preview("x/a", range(60)), "x/b": preview("x/b", range(35))}, "^a is recommended.*α 0.2[^T]*$"),
        ({"x/a": preview("x/a", range(60)), "x/b": preview("x/b", range(2, 61))}, "too few to tell it from b"),
        ({"x/b": preview("x/b", range(60))}, "^b is recommended.*Not previewed like it: a.$"),
        ({"x/a": preview("x/a", range(30), -0.1)}, "none of the previewed"),
        ({"x/a": preview("x/a", range(32), -0.1)}, "too few to be sure"),
    ],
)
def test_the_recommendation_is_the_previews_alone(dataset, previews, says):
    """Issue 15: the number of steps above β recommended an amateur that taught nothing."""
    datasets = [each.dataset for each in compare_amateurs(dataset).amateurs]
    assert re.search(says, recommendation(datasets, previews)), recommendation(datasets, previews)
