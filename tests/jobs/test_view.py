"""What is shown of a job: told from its log alone, right at once after a reload, and right whatever the clocks do."""

from __future__ import annotations

import json
import time

import pytest

from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.context import STOP_FILE
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.jobs.view import LOOK_BACK, job_view, log_tail
from tests.support.job_bench import Bench


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def job(bench):
    """A job that a scheduler has claimed, attempt 1, without a process: its log is written by the test."""
    job = bench.submit("steps", "--steps", "5")
    bench.store.claim("me")
    return bench.get(job)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def begin(job, **more):
    log = EventLog(job.run_dir / EVENTS_FILE, by=job.token)
    log.append("start", pid=1, mark="x", attempt=job.attempt, **{"keeps": True, "resumes": True} | more)
    return log


def view(bench, job):
    seen = job_view(bench.store, bench.get(job))
    json.dumps(seen, allow_nan=False)
    return seen


def test_a_running_job(bench, job, clock):
    log = begin(job)
    assert view(bench, job)["status"] == "Starting" and view(bench, job)["fraction"] is None
    log.append("status", text="Loading the expert")
    assert view(bench, job)["status"] == "Loading the expert"
    clock.now += 40
    for done in (0, 10, 20, 30):
        log.append("progress", done=done, total=100, status="Sampling", samples=done * 20)
        clock.now += 5
    seen = view(bench, job)
    assert (seen["done"], seen["total"], seen["fraction"], seen["status"]) == (30, 100, 0.3, "Sampling")
    assert seen["rate"] == pytest.approx(2.0) and seen["eta"] == pytest.approx(35.0)  # loading does not count
    assert seen["numbers"] == {"samples": 600} and seen["elapsed"] == pytest.approx(55.0)
    assert seen["state"] == "running" and seen["actions"] == ["keep", "cancel"] and seen["waiting_for"] is None
    assert seen["run"] == job.run_dir.name and seen["position"] is None and seen["attempt"] == 1


def test_a_job_that_ends_early_has_no_time_left(bench, job, clock):
    """After "Stop and keep" the page still said "about 2 min left"."""
    log = begin(job)
    for done in (0, 10, 20, 30):
        log.append("progress", done=done, total=100)
        clock.now += 5
    assert view(bench, job)["eta"]
    (job.run_dir / STOP_FILE).write_text("keep")
    seen = view(bench, job)
    assert seen["eta"] is None and seen["status"] == "Stopping at the next checkpoint"


def test_a_wall_clock_that_jumps_changes_neither_rate_nor_eta(bench, job, clock, monkeypatch):
    log = begin(job)
    for n, wall in enumerate((2e9, 1.0, 3e9, 2.0)):
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        log.append("progress", done=n * 10, total=100)
        clock.now += 5
    seen = view(bench, job)
    assert seen["rate"] == pytest.approx(2.0) and seen["eta"] == pytest.approx(35.0)


def test_a_resumed_job_is_not_as_fast_as_what_it_found_done(bench, job, clock):
    """500 problems done before this attempt began, one a second since: the rate is 1, not 50."""
    log = begin(job)
    clock.now += 10
    for done in (500, 501, 502):
        log.append("progress", done=done, total=1000)
        clock.now += 1
    assert view(bench, job)["rate"] == pytest.approx(1.0)


def test_the_log_of_an_earlier_attempt_is_not_this_ones(bench, job, clock):
    log = begin(job)
    log.append("progress", done=50, total=100, status="Sampling")
    log.append("end", state="failed", message="x", result={"old": 1}, kept=False)
    bench.store.change(job.id, ("running",), attempt=2)
    seen = view(bench, job)
    assert seen["status"] == "Starting" and seen["done"] is None and seen["result"] == {} and seen["eta"] is None
    begin(bench.get(job)).append("progress", done=51, total=100)
    assert view(bench, job)["done"] == 51 and view(bench, job)["rate"] is None


def test_a_long_log_is_not_read_from_the_start(bench, job, clock):
    log = begin(job)
    for done in range(LOOK_BACK * 3):
        log.append("progress", done=done * (1 if done < LOOK_BACK else 2), total=10**6)
        clock.now += 1
    assert view(bench, job)["rate"] == pytest.approx(2.0)  # what counts is how fast it is now
    assert "keep" in view(bench, job)["actions"]  # although its start is out of sight


def test_odd_numbers_in_a_log_do_not_break_the_view(bench, job, clock):
    log = begin(job)
    for done, total in ((1, 0), (None, 5), ("x", "y"), (float("nan"), 3), (7, 5), (True, 2)):
        log.append("progress", done=done, total=total)
    seen = view(bench, job)
    assert seen["fraction"] in (None, 1.0) and seen["rate"] is None
    (job.run_dir / EVENTS_FILE).write_bytes(b"\x00garbage\n[]\n{}\n")
    assert view(bench, job)["status"] == "Starting"


def test_who_is_waited_for(bench, job):
    log = begin(job)
    log.append("waiting", holder={"who": "inspector", "job": None, "pid": 1, "since": 0})
    seen = view(bench, job)
    assert (
        seen["waiting_for"] == "a trace in the inspector" and seen["status"] == "Waiting for a trace in the inspector"
    )
    log.append("status", text="Sampling")
    assert view(bench, job)["waiting_for"] is None
    queued = bench.submit("steps")
    assert view(bench, queued)["waiting_for"] == "the job “Test steps”"


def test_places_in_the_queue_and_what_can_be_done_there(bench, job):
    first, second, third = (bench.submit("steps") for _ in range(3))
    seen = [view(bench, j) for j in (first, second, third)]
    assert [v["position"] for v in seen] == [1, 2, 3] and {v["status"] for v in seen} == {
        "Waiting for the job “Test steps”"
    }
    assert seen[0]["actions"] == ["down", "cancel"] and seen[2]["actions"] == ["up", "first", "cancel"]
    assert seen[1]["actions"] == ["up", "first", "down", "cancel"]


def test_what_can_be_done_with_what_has_ended(bench, job):
    begin(job)
    expected = {"failed": True, "interrupted": True, "cancelled": True, "succeeded": False}
    for state, resumes in expected.items():
        bench.store.change(job.id, ("running", *expected), state=state, message="why")
        assert ("resume" in view(bench, job)["actions"]) is resumes and view(bench, job)["message"] == "why"
        assert view(bench, job)["actions"][-2:] == ["retry", "delete"] and view(bench, job)["status"] == ""
    bench.store.change(job.id, ("succeeded",), kept=True)
    assert "resume" in view(bench, job)["actions"]
    bench.store.change(job.id, ("succeeded",), state="stopping")
    assert view(bench, job)["actions"] == [] and view(bench, job)["status"] == "Stopping"


def test_a_verb_that_cannot_keep_or_resume_is_not_asked_to(bench, job):
    assert view(bench, job)["actions"] == ["cancel"]  # not known yet
    begin(job, keeps=False, resumes=False)
    assert view(bench, job)["actions"] == ["cancel"]
    bench.store.change(job.id, ("running",), state="failed")
    assert view(bench, job)["actions"] == ["retry", "delete"]


def test_a_job_asked_to_stop_and_keep_says_so(bench, job):
    begin(job).append("status", text="Sampling")
    bench.scheduler.keep(job.id)
    assert view(bench, job)["status"] == "Stopping at the next checkpoint"


def test_the_result_of_a_job_that_has_ended(bench, job):
    log = begin(job)
    log.append("progress", done=5, total=5)
    log.append("end", state="succeeded", message="", result={"samples": 9}, kept=False)
    bench.store.change(job.id, ("running",), state="succeeded", ended=1.0)
    seen = view(bench, job)
    assert seen["result"] == {"samples": 9} and seen["fraction"] == 1.0 and seen["eta"] is None


def test_the_command_is_what_a_person_would_type(bench):
    folder = bench.settings.runs / "a folder"
    job = bench.scheduler.submit("sample", ["--problems", "it's.jsonl", "--limit", "5"], "x", folder)
    command = view(bench, job)["command"]
    assert command == f"python -m lightreasoner sample --problems 'it'\"'\"'s.jsonl' --limit 5 --run-dir '{folder}'"


def test_the_tail_of_the_output(bench, job):
    assert log_tail(bench.store, job) == ""
    path = bench.store.folder(job.id) / OUTPUT_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes("".join(f"line {n}\n" for n in range(5000)).encode())
    assert log_tail(bench.store, job, lines=3) == "line 4997\nline 4998\nline 4999\n"
    path.write_bytes("ä".encode() * 3 + b"\xff\r\n10%\r50%\r100%\nno newline")
    assert log_tail(bench.store, job) == "äää\ufffd\n100%\nno newline"
    path.write_bytes(b"x" * 3_000_000)  # one endless line: a bounded part of it
    assert len(log_tail(bench.store, job, lines=200)) <= 200 * 2000
