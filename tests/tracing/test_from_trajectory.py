"""A row of a dataset as a trace record: its fields, steps and ids."""

from __future__ import annotations

import json

import pytest

from lightreasoner.datasets.explorer import Explorer, IdTexts
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.errors import UserError
from lightreasoner.scoring.measures import STEP_MEASURES
from lightreasoner.storage.atomic import ID_PATTERN, new_id
from lightreasoner.tracing.from_trajectory import record_id, trace_record
from lightreasoner.tracing.records import load_record, reweigh, trace_csv
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_models import tiny_tokenizer


@pytest.fixture
def opened(tmp_path):
    rows = make_dataset(tmp_path / "d", problems=3, tokens=True)
    explorer = Explorer(tmp_path / "d")
    explorer.refresh()
    run_id = new_id()
    return tmp_path / "d", rows[1], trace_record(explorer.row("p1"), explorer.run, run_id, explorer.texts), run_id


def test_the_record_has_a_traces_fields(opened, tmp_path):
    from lightreasoner.tracing.records import Trace, trace_json
    from lightreasoner.tracing.trace import TraceRequest

    _, row, record, run_id = opened
    live = trace_json(Trace({"expert": "a", "amateur": "b", "name": None, "same_model": False}, TraceRequest("2?")))
    assert set(record) == {*live, "dataset"} and set(record["request"]) == set(live["request"])
    assert set(live["pair"]) <= set(record["pair"])
    assert record["id"] == f"{run_id}.0.p1" and record["problem_id"] == "p1"
    assert record["prompt"] == tiny_tokenizer().decode(row["prompt_ids"])
    assert "".join(step["text"] for step in record["steps"]) == row["response"] + "<|im_end|>"
    json.dumps(record, allow_nan=False)


def test_its_steps_are_the_stored_ones_and_its_support_the_training_row(opened):
    folder, row, record, _ = opened
    stored = {step["index"]: step for step in row["steps"]}
    trained = {s.step: s for s in training_samples(folder) if s.problem_id == "p1"}
    for index, step in enumerate(record["steps"]):
        assert step["index"] == index and step["token_id"] == row["response_ids"][index]
        assert [step[name] for name in STEP_MEASURES] == pytest.approx(
            [row[name][index] for name in STEP_MEASURES], rel=1e-6
        )
        assert step["selected"] == (index in trained)
        if index not in stored:
            assert step["candidates"] is step["support"] is None
            continue
        assert step["candidates"]["ids"] == stored[index]["ids"]
        assert all(str(id) in record["tokens"] for id in stored[index]["ids"])
        if index in trained:
            assert step["support"]["ids"] == trained[index].token_ids
            assert step["support"]["weights"] == pytest.approx(trained[index].weights, abs=1e-6)
    assert any(step["candidates"] is None for step in record["steps"]) and trained


def test_it_can_be_reweighed_and_exported(opened):
    *_, record, _ = opened
    again = reweigh(record, 0.05, 0.0)
    assert [s["selected"] for s in again["steps"]] == [s["kl"] > 0 for s in record["steps"]]
    assert len(trace_csv(again).splitlines()) >= 1 + len(record["steps"])


def test_without_a_tokenizer_the_tokens_are_ids(opened):
    folder, row, _, run_id = opened
    explorer = Explorer(folder)
    explorer.refresh()
    record = trace_record(explorer.row("p1"), explorer.run, run_id, IdTexts())
    assert record["steps"][0]["text"] == f"[{row['response_ids'][0]}]"


@pytest.mark.parametrize("problem_id", ["p1", "test-0001", "a.b.c", "数 é", ".."])
def test_ids_are_told_apart_from_traces(problem_id, tmp_path):
    run_id = new_id()
    text = record_id(run_id, problem_id, 3)
    assert text == f"{run_id}.3.{problem_id}"
    assert not ID_PATTERN.fullmatch(text)
    with pytest.raises(UserError):
        load_record(text, tmp_path)
