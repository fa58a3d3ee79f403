"""Curves of a run: read once while they grow, right after a resume, small enough for a page."""

from __future__ import annotations

import json
import os

import pytest
from pandas.testing import assert_frame_equal

from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.training.curves import Curves


def metrics(log: EventLog, update: int, loss: float, **more) -> None:
    log.append("metrics", update=update, loss=loss, learning_rate=1e-4, **more)


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / EVENTS_FILE, by="1")
    log.append("start", pid=1)
    yield log
    log.close()


def test_what_comes_is_added_to_what_was_there(log, tmp_path):
    curves = Curves(tmp_path)
    log.append("lessons", samples=100, trajectories=10, held_out=1, tokens=900)
    log.append("held_out", update=0, held_out_loss=2.0, drift=0.0)
    metrics(log, 5, 1.5)
    before = curves.refresh().version
    assert curves.trained.updates == [5]
    assert curves.examples == {"samples": 100, "trajectories": 10, "held_out": 1, "tokens": 900}
    assert curves.refresh().version == before, "nothing new"
    metrics(log, 10, 1.25, grad_norm=None)
    log.append("status", text="no number")
    assert curves.refresh().trained.columns["loss"] == [1.5, 1.25]
    assert curves.version == before + 1
    assert (curves.update, curves.trained.last("loss"), curves.trained.last("grad_norm")) == (10, 1.25, None)
    measured = curves.table().dropna(subset="drift")[["update", "held_out_loss", "drift"]]
    assert measured.to_dict("list") == {"update": [0], "held_out_loss": [2.0], "drift": [0.0]}


def test_a_resumed_run_undoes_what_came_after_its_checkpoint(log, tmp_path):
    """Points of the attempt that was killed used to stay beyond the update that the new one had reached."""
    for update in (5, 10, 15, 20):
        metrics(log, update, 10.0 + update)
    log.append("held_out", update=10, held_out_loss=1.0, drift=0.1)
    log.append("held_out", update=20, held_out_loss=9.0, drift=0.9)
    curves = Curves(tmp_path).refresh()
    again = EventLog(tmp_path / EVENTS_FILE, by="2")
    again.append("start", pid=2)
    metrics(again, 15, 0.5)  # from the checkpoint at 10
    again.close()
    curves.refresh()
    assert curves.trained.updates == [5, 10, 15]
    assert curves.trained.columns["loss"] == [15.0, 20.0, 0.5]
    assert curves.measured.updates == [10]
    fresh = Curves(tmp_path).refresh()
    assert_frame_equal(fresh.table(), curves.table())  # read at once or bit by bit: the same


def test_the_pace_is_that_of_this_attempt(log, tmp_path, monkeypatch):
    path = tmp_path / EVENTS_FILE
    lines = [{"kind": "start", "by": "1"}]
    lines += [{"kind": "metrics", "update": n, "loss": 1.0, "elapsed": 10.0 * n} for n in (1, 2, 3)]
    lines += [{"kind": "start", "by": "2"}, {"kind": "metrics", "update": 4, "loss": 1.0, "elapsed": 5.0}]
    path.write_text("".join(json.dumps({"seq": n} | line) + "\n" for n, line in enumerate(lines, 1)))
    curves = Curves(tmp_path).refresh()
    assert curves.seconds_left(100) is None, "one point has no pace"
    with path.open("a") as file:
        file.write(json.dumps({"seq": 9, "kind": "metrics", "update": 6, "loss": 1.0, "elapsed": 9.0}) + "\n")
    assert curves.refresh().seconds_left(100) == pytest.approx(94 * 2)
    assert curves.seconds_left(6) == 0


def test_time_is_that_of_the_work_over_all_attempts(tmp_path):
    def event(elapsed, kind, **more):
        return {"kind": kind, "elapsed": elapsed} | more

    events = [
        event(0, "start"),
        event(1, "waiting"),
        event(4, "status"),  # three seconds of waiting
        event(5, "held_out", update=0, held_out_loss=1.0, drift=0.0),
        event(10, "metrics", update=5, loss=1.0, samples_seen=80),
        event(15, "metrics", update=10, loss=0.9, samples_seen=160),
        event(20, "metrics", update=15, loss=0.8, samples_seen=240),
        event(0, "start"),
        event(7, "metrics", update=15, loss=0.7, samples_seen=240),  # resumed at 10, after 12 s of work
        event(8, "held_out", update=15, held_out_loss=0.5, drift=0.1),
    ]
    lines = [json.dumps({"seq": n} | one) + "\n" for n, one in enumerate(events, 1)]
    (tmp_path / EVENTS_FILE).write_text("".join(lines))
    table = Curves(tmp_path).refresh().table()
    assert table["seconds"].tolist() == [2, 7, 12, 19, 20]
    assert table["samples_seen"].tolist() == [0, 80, 160, 240, 240]


def test_a_log_without_times_has_none(tmp_path):
    (tmp_path / EVENTS_FILE).write_text('{"seq": 1, "kind": "metrics", "update": 3, "loss": 2.0}\n')
    assert Curves(tmp_path).refresh().table()["seconds"].isna().all()


def test_many_points_become_few_with_both_ends(log, tmp_path):
    for update in range(1, 1001):
        metrics(log, update, 1 / update)
    thin = Curves(tmp_path).refresh().table(most=50)
    assert len(thin) == 50 == thin["loss"].notna().sum()
    assert (thin["update"].iloc[0], thin["update"].iloc[-1]) == (1, 1000)
    assert thin["loss"].iloc[-1] == pytest.approx(0.001)


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "metrics"}', '{"seq": 9, "kind": "metrics", "update": "x"}', ""])
def test_what_is_no_event_is_passed_over(tmp_path, line):
    (tmp_path / EVENTS_FILE).write_text(line + "\n" + '{"seq": 10, "kind": "metrics", "update": 1, "loss": "much"}\n')
    curves = Curves(tmp_path).refresh()
    assert curves.trained.updates == [1]
    assert curves.trained.columns["loss"] == [None]


def test_another_log_in_its_place_is_read_anew(log, tmp_path):
    for update in range(1, 20):
        metrics(log, update, 1.0)
    curves = Curves(tmp_path).refresh()
    os.unlink(tmp_path / EVENTS_FILE)
    assert curves.refresh().update == 19, "gone for a moment"
    (tmp_path / EVENTS_FILE).write_text('{"seq": 1, "kind": "metrics", "update": 3, "loss": 2.0}\n')
    assert curves.refresh().trained.updates == [3]


def test_no_log_has_no_points(tmp_path):
    assert Curves(tmp_path / "nowhere").refresh().table().empty
