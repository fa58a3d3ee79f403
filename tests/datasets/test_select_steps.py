"""Step selection: the samples of a dataset at any α and β are the training rows of a trace."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from lightreasoner.datasets.annotations import set_annotation
from lightreasoner.datasets.samples import SelectionReport
from lightreasoner.datasets.select_steps import contrastive_targets, training_samples
from lightreasoner.datasets.selectors import SELECTOR_NAMES, Selection
from lightreasoner.datasets.step_table import read_details, read_steps
from lightreasoner.datasets.trajectories import rows as stored_rows
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.scoring.divergence import support
from lightreasoner.storage.runs import add_to_run
from tests.support.tiny_dataset import make_dataset, selection_report, trajectory, write_rows


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dataset"
    return folder, make_dataset(folder, problems=7, per_shard=3, steps=40)


def read(folder, *arguments, **kw):
    reports = []
    return list(training_samples(folder, *arguments, on_report=reports.append, **kw)), reports[0]


@pytest.mark.parametrize(
    ("alpha", "beta", "cap"),
    [(0.2, 0.4, None), (0.01, 0.1, None), (1.0, 0.05, None), (0.5, 0.8, None), (0.01, 0.1, 0.5)],
)
def test_samples_are_the_inspectors_training_rows(dataset, alpha, beta, cap):
    folder, rows = dataset
    found, counted = read(folder, Selection(alpha=alpha, beta=beta, cap=cap))
    expected = [(row, step) for row in rows for step in row["steps"] if step["kl"] > beta]
    assert len(found) == len(expected) == counted.usable > 0
    for sample, (row, step) in zip(found, expected, strict=True):
        ids, _, _, weights = support(step["ids"], step["expert_logprobs"], step["amateur_logprobs"], alpha, cap)
        assert sample.token_ids == list(ids)
        assert sample.weights == pytest.approx(weights, abs=1e-6) and sum(sample.weights) == pytest.approx(1, abs=1e-5)
        assert (sample.problem_id, sample.sample, sample.step) == (row["problem_id"], 0, step["index"])
        assert sample.prefix_ids == row["prompt_ids"] + row["response_ids"][: step["index"]]
        assert sample.question == row["question"] and sample.kl == np.float32(step["kl"])
        assert sample.prefix_ids[sample.prompt_tokens :] == row["response_ids"][: step["index"]]


def test_nothing_chosen_is_the_papers_selection(dataset):
    assert read(dataset[0]) == read(dataset[0], Selection("kl", 0.2, 0.4))


def test_steps_below_the_floor_are_counted_not_invented(dataset):
    folder, rows = dataset
    kl = np.concatenate([row["kl"] for row in rows])
    found, counted = read(folder, Selection(beta=0))
    assert counted.selected == int((kl > 0).sum())
    assert counted.usable == len(found) == sum(len(row["steps"]) for row in rows)
    assert counted.missing == counted.selected - counted.usable > 0


@pytest.mark.parametrize("selector", SELECTOR_NAMES)
def test_every_selector_at_equal_budget(dataset, selector):
    folder, rows = dataset
    found, counted = read(folder, Selection(selector, seed=5))
    assert counted.steps == 7 * 40
    assert counted.selected == (280 if selector == "all" else sum(k > 0.4 for row in rows for k in row["kl"]))
    assert counted.usable + counted.missing == counted.selected and counted.usable == len(found)
    assert read(folder, Selection(selector, seed=5)) == (found, counted)
    assert selection_report(folder, Selection(selector, seed=5)) == counted


def test_marks_overrule_the_selector(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=4, steps=30)
    step = {
        name: next(s for s in rows[2]["steps"] if (s["kl"] > 0.4) == above) for name, above in (("in", 1), ("out", 0))
    }
    bare = next(i for i, kl in enumerate(rows[2]["kl"]) if kl <= 0.05)  # has no details
    before, _ = read(folder)
    for index, mark in ((step["in"]["index"], "drop"), (step["out"]["index"], "keep"), (bare, "keep")):
        set_annotation(folder, ("p2", 0, index), mark)
    set_annotation(folder, ("p1", 0, 0), "pin")
    set_annotation(folder, ("p1", 0, 999), "keep")  # no such step
    set_annotation(folder, ("elsewhere", 0, 0), "drop")
    found, counted = read(folder)
    keys = [{(s.problem_id, s.step) for s in some} for some in (before, found)]
    assert keys[0] - keys[1] == {("p2", step["in"]["index"])}
    assert keys[1] - keys[0] == {("p2", step["out"]["index"])}
    assert (counted.kept_by_annotation, counted.dropped_by_annotation, counted.missing) == (2, 1, 1)
    assert (
        counted.selected - counted.dropped_by_annotation + counted.kept_by_annotation
        == counted.usable + counted.missing
    )


def test_a_floor_of_zero_leaves_nothing_missing(tmp_path):
    make_dataset(tmp_path / "d", beta_floor=0)
    counted = selection_report(tmp_path / "d", Selection("random", budget=1.0))
    assert counted == SelectionReport(steps=120, selected=120, usable=120)


def test_a_token_that_the_amateur_denies(tmp_path):
    """Infinite log-ratios: the limit shares the mass among the denied tokens, as the scorer's support does."""
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=1)
    step = rows[0]["steps"][0]
    step["amateur_logprobs"][0] = float("-inf")
    rows[0]["kl"][step["index"]] = float("inf")
    write_rows(folder, 0, rows)
    found, _ = read(folder, Selection(beta=1000))
    expected = support(step["ids"], step["expert_logprobs"], step["amateur_logprobs"], 0.2)
    assert [(s.token_ids, s.weights) for s in found] == [(list(expected[0]), list(expected[3]))]
    assert found[0].kl == float("inf")


def test_a_corrupt_shard_is_an_error_or_passed_over(tmp_path):
    folder = tmp_path / "d"
    make_dataset(folder, problems=6, per_shard=2)
    everything, _ = read(folder)
    shards(folder)[1].write_bytes(b"PAR1 not any more")
    for selector in ("kl", "js"):
        with pytest.raises(UserError, match="000001"):
            read(folder, Selection(selector))
        seen = {}
        found, counted = read(folder, Selection(selector), on_corrupt=seen.__setitem__)
        assert [path.stem for path in seen] == ["000001"] and counted.steps == 80
        assert {s.problem_id for s in found} <= {"p0", "p1", "p4", "p5"} and found
    assert [s for s in everything if s.problem_id not in ("p2", "p3")] == read(
        folder, on_corrupt=lambda path, error: None
    )[0]


def test_details_that_do_not_fit_their_row_are_a_damaged_shard(tmp_path):
    import torch

    row = trajectory(0, 5, 50, torch.Generator().manual_seed(1))
    row["steps"][0]["index"] = 7
    path = write_rows(tmp_path, 0, [row])
    with pytest.raises(UserError, match="damaged"):
        read_details(read_steps(path, ("kl",), ("steps",)), path)


def test_targets_of_no_steps(dataset):
    path = shards(dataset[0])[0]
    details = read_details(read_steps(path, ("kl",), ("steps",)), path)
    assert contrastive_targets(details, np.array([], int), 0.2) == []


def test_a_growing_dataset_without_shards_gives_nothing(tmp_path):
    make_dataset(tmp_path / "d", problems=0)
    assert read(tmp_path / "d") == ([], SelectionReport()) == read(tmp_path / "d", Selection("js"))


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        read(tmp_path)


@pytest.mark.parametrize("case", ["the last of all, without checksums", "the last", "one between", "fewer rows"])
def test_a_finished_dataset_that_lost_responses_is_an_error_or_says_how_many(tmp_path, case):
    """Fine-tuning on it took what was left, without a word."""
    folder = tmp_path / "d"
    make_dataset(folder, problems=6, per_shard=2)
    make = selection_report(folder).steps
    lost = shards(folder)[1 if case == "one between" else 2]
    lost.rename(folder / "away.parquet")
    assert selection_report(folder).steps < make  # it is still being sampled
    add_to_run(folder, result={"responses": 6})
    if case.endswith("checksums") or case == "fewer rows":
        (lost.parent / "_checksums.jsonl").unlink()
    if case == "fewer rows":
        pq.write_table(pq.read_table(folder / "away.parquet").slice(1), lost)
    with pytest.raises(UserError, match=r"no longer exists|\d of the 6 responses of the dataset .* are missing"):
        read(folder)
    with pytest.raises(UserError):
        list(stored_rows(folder))
    seen = []
    found, _ = read(folder, on_corrupt=lambda path, error: seen.append(path))
    assert found and len(seen) == 1
