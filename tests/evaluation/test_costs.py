"""What a tuned model cost: from the folders alone, and in words where they do not tell."""

from __future__ import annotations

import shutil

import pytest

from lightreasoner.evaluation.costs import cost_table, gains
from lightreasoner.evaluation.paper_results import read_paper
from lightreasoner.jobs.events import working_seconds
from lightreasoner.problems.sources import SOURCES
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_evaluation import make_base, make_evaluation, make_tuned, write_events


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_seconds_are_those_of_all_attempts_without_the_waiting(tmp_path):
    waited = [(0.0, "start"), (1.0, "waiting"), (5.0, "waiting"), (21.0, "status"), (31.0, "progress")]  # killed
    write_events(tmp_path, waited, [(0.0, "start"), (9.5, "end")])
    assert working_seconds(tmp_path) == pytest.approx(31 - 20 + 9.5)
    write_events(tmp_path, [(0.0, "start"), (2.0, "waiting"), (50.0, "end")])  # cancelled while it waited
    assert working_seconds(tmp_path) == pytest.approx(2.0)
    assert working_seconds(tmp_path / "nowhere") is None


def test_the_cost_is_what_was_measured(runs, tmp_path):
    base, dataset = make_base(tmp_path), runs / "a-dataset-of-six-00"
    make_dataset(dataset, problems=6)
    write_events(dataset, [(0.0, "start"), (20.0, "end")])
    tuned = make_tuned(runs, base, dataset)
    make_evaluation(runs, base, [tuned], ["1100000000", "1111110000"])
    make_evaluation(runs, base, [tuned], ["1111100000", "1111110000"], problems="svamp")
    (cost,) = cost_table(runs)
    assert (cost.run, cost.method, cost.problems, cost.tuned_tokens) == (tuned.name, "lightreasoner", 6, 1600)
    assert (cost.sampling_seconds, cost.tuning_seconds, cost.seconds) == (20, 40, 60)
    gained = {gain.benchmark: round(gain.difference, 6) for gain in cost.gains}
    assert gained == {"bundled-test": 0.4, "svamp": 0.1}
    assert cost.gain == pytest.approx(0.25)
    assert cost.missing == {}


def test_the_largest_evaluation_counts(runs, tmp_path):
    base = make_base(tmp_path)
    tuned = make_tuned(runs, base)
    make_evaluation(runs, base, [tuned], ["0" * 20, "1" * 20])
    make_evaluation(runs, base, [tuned], ["00", "00"])  # newer, but a glance
    make_evaluation(runs, base, [tuned], ["0" * 30, "1" * 30], whole=False)  # not ended: not counted
    ((gain,),) = gains(runs).values()
    assert (gain.problems, gain.difference) == (20, 1.0)


def test_what_is_not_known_is_said_and_never_made_up(runs, tmp_path):
    dataset = runs / "a-dataset-of-six-00"
    make_dataset(dataset, problems=6)
    tuned = make_tuned(runs, make_base(tmp_path), dataset)
    assert cost_table(runs)[0].missing == {
        "sampling_seconds": "its dataset's log is gone",
        "gain": "not evaluated beside its base yet",
    }
    shutil.rmtree(dataset)
    (tuned / "events.jsonl").unlink()
    (cost,) = cost_table(runs)
    assert (cost.sampling_seconds, cost.tuning_seconds, cost.problems, cost.seconds, cost.gain) == (None,) * 5
    assert cost.missing["problems"] == "its dataset was deleted"
    assert cost.missing["tuning_seconds"] == "its log is gone"
    shutil.rmtree(tuned / "adapter")
    assert cost_table(runs) == []  # nothing came of it


def test_the_papers_numbers_are_whole_and_add_up():
    """Its own averages are those of its own rows: a slip in copying them would show."""
    paper = read_paper()
    assert set(paper.benchmarks) <= set(SOURCES)
    for model, by_method in paper.scores.items():
        assert set(by_method) == {"base", "sft", "lightreasoner"}
        for method, scores in by_method.items():
            assert all(0 < value < 1 for value in scores.values())
            mean = sum(scores.values()) / len(scores)
            assert mean == pytest.approx(paper.averages[model][method], abs=0.0007), (model, method)
    for model, by_method in paper.costs.items():
        for method, cost in by_method.items():
            gain = paper.averages[model][method] - paper.averages[model]["base"]
            assert cost["gain"] == pytest.approx(gain, abs=0.0011), (model, method)
