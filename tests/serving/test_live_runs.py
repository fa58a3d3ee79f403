"""Runs in threads: one at a time, in order, stoppable at any moment, and nothing lost when they break."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch

from lightreasoner.decoding.forward_pass import forward, known_pass
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.errors import UserError
from lightreasoner.jobs.accelerator import AcceleratorLock, WaitCancelled
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.progress import check_interruption, interruptible
from lightreasoner.serving.live_runs import LiveRun, RunQueue
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import EndEvent
from lightreasoner.tracing.records import Trace, load_record
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import save_tiny


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture
def settings(tmp_path):
    return Settings(workspace=tmp_path, device="cpu")


def start(refs, settings, queue=None, patience=None, **request):
    record = Trace({"expert": refs[0], "amateur": refs[1]}, TraceRequest(**{"question": "2 + 2?"} | request))
    load = lambda say: load_pair(*refs, LoadedModels(settings), on_status=say)  # noqa: E731
    return LiveRun(record, load, queue or RunQueue(4), settings, patience=patience).start()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_a_run_ends_and_is_on_disk(refs, settings):
    live = start(refs, settings, max_new_tokens=9)
    assert live.done.wait(30) and live.error is None
    record = load_record(live.trace.id, settings.traces)
    assert len(record["steps"]) == len(live.trace.steps) > 0
    assert record["finish_reason"] in ("stop", "length")
    assert record["pair"]["expert_fingerprint"] != record["pair"]["amateur_fingerprint"]
    assert set(record["tokens"]) >= {str(i) for s in record["steps"] for i in s["candidates"]["ids"]}


def test_a_stopped_run_keeps_what_it_wrote(refs, settings):
    live = start(refs, settings, max_new_tokens=800, temperature=10.0)
    until(lambda: live.trace.steps)
    live.stop.set()
    assert live.done.wait(10)
    record = load_record(live.trace.id, settings.traces)
    assert record["finish_reason"] in ("stopped", "stop")
    assert 0 < len(record["steps"]) == len(live.trace.steps)
    assert record["response"]


def test_a_run_is_stopped_while_its_models_load(refs, settings):
    """Stop waited for both models, minutes on a large pair."""
    models, go = LoadedModels(settings), threading.Event()

    def load(say):
        go.wait(10)
        return load_pair(*refs, models, on_status=say)

    live = LiveRun(Trace({}, TraceRequest("2 + 2?")), load, RunQueue(4), settings).start()
    live.stop.set()
    go.set()
    assert live.done.wait(10) and live.error is None and live.trace.finish_reason == "stopped"
    assert [models.cached(ref) for ref in refs] == [None, None]


def test_a_run_is_stopped_while_it_reads_a_long_prompt(refs, settings, monkeypatch):
    """A closed tab kept the accelerator until the models had read the prompt: with large ones on a CPU, for minutes."""
    reads = threading.Event()

    def long_read(*_):
        reads.set()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            check_interruption()
            time.sleep(0.01)
        yield from ()

    monkeypatch.setattr("lightreasoner.serving.live_runs.trace", long_read)
    live = start(refs, settings)
    assert reads.wait(20)
    live.stop.set()
    assert live.done.wait(10) and live.error is None and live.trace.finish_reason == "stopped"


@pytest.mark.parametrize("lean", [True, False])
def test_a_long_read_ends_in_the_middle_and_a_short_one_does_not(refs, settings, lean):
    loaded, asked = load_model(refs[0], replace(settings, lean=lean)), []
    check_reading(loaded)
    assert bool(known_pass(loaded).lean) == lean
    long, short = [[5] * 80], [[5] * 8]
    whole = forward(loaded, long, keep=1)

    def check():
        asked.append(1)
        if len(asked) >= 4:
            raise WaitCancelled

    with interruptible(check):
        with pytest.raises(WaitCancelled):
            forward(loaded, long, keep=1)
        forward(loaded, short, keep=1)
    assert len(asked) == 4
    assert torch.equal(forward(loaded, long, keep=1), whole) and len(asked) == 4


@pytest.mark.parametrize("calls", [1, 8, 40])
def test_a_check_of_a_model_that_was_ended_in_the_middle_is_made_again(refs, settings, calls):
    """It took 58 s of the 1.1 B model, which a closed tab waited for; and half of a check must not count as one."""
    loaded, asked = load_model(refs[0], settings), iter(range(calls - 1))

    def check():
        if next(asked, None) is None:
            raise WaitCancelled

    with interruptible(check), pytest.raises(WaitCancelled):
        check_reading(loaded)
    assert known_pass(loaded) is None
    check_reading(loaded)
    assert known_pass(loaded).lean


def test_a_run_that_nobody_looks_at_is_stopped_and_not_kept(refs, settings, monkeypatch):
    """Scoring for a comparison has no stream that a closed tab would end, so it went on to its end."""

    def endless(*given):
        yield from (event for event in trace(*given) if not isinstance(event, EndEvent))
        while True:
            check_interruption()
            time.sleep(0.01)

    monkeypatch.setattr("lightreasoner.serving.live_runs.trace", endless)
    live = start(refs, settings, patience=0.5, max_new_tokens=4)
    until(lambda: live.looked() or live.trace.steps)
    assert not live.given_up
    assert live.done.wait(30) and live.given_up and live.trace.finish_reason == "stopped"
    assert not (settings.traces / f"{live.trace.id}.json").exists()


def test_a_user_error_becomes_the_runs_error(refs, settings):
    live = start(refs, settings, max_new_tokens=1900)
    assert live.done.wait(30)
    assert "lower the token limit" in live.error and live.trace.finish_reason == "error"


def test_a_bug_is_an_apology_with_a_code_and_a_traceback_in_the_log(refs, settings, caplog):
    live = LiveRun(Trace({}, TraceRequest("2 + 2?")), lambda say: 1 / 0, RunQueue(4), settings).start()
    assert live.done.wait(10)
    code = live.error.rsplit(" ", 1)[-1].rstrip(".")
    assert "division" not in live.error
    assert code in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_second_run_waits_and_is_told_so(refs, settings):
    queue, free = RunQueue(4), threading.Event()
    blocker = LiveRun(Trace({}, TraceRequest("x")), lambda say: free.wait(30) and 1 / 0, queue, settings).start()
    until(lambda: queue._waiting)
    second = start(refs, settings, queue, max_new_tokens=4)
    until(lambda: second.status == "Waiting: 1 run before this one")
    assert not second.trace.steps
    free.set()
    assert second.done.wait(30) and second.error is None and second.trace.steps
    assert blocker.error  # and its failure freed the queue


def test_a_run_waits_for_a_job_and_goes_first_at_its_checkpoint(refs, settings):
    accelerator = AcceleratorLock(settings.workspace)
    with accelerator.acquire("job Sample 10 problems", job="j" * 22) as job:
        live = start(refs, settings, max_new_tokens=4)
        until(lambda: live.status == "Waiting for the job “Sample 10 problems” to reach a checkpoint")
        assert not live.trace.steps
        assert job.yield_to_interactive()
        assert live.trace.steps  # it had the accelerator in between
        assert live.done.wait(30) and live.error is None


def test_a_run_that_waits_for_a_job_can_be_stopped(refs, settings):
    with AcceleratorLock(settings.workspace).acquire("job Sample 10 problems"):
        live = start(refs, settings)
        until(lambda: live.status.startswith("Waiting for the job"))
        live.stop.set()
        assert live.done.wait(10) and live.error is None and live.trace.finish_reason == "stopped"


def test_the_page_shows_who_computes(refs, settings):
    free = threading.Event()
    live = LiveRun(Trace({}, TraceRequest("x")), lambda say: free.wait(30) and 1 / 0, RunQueue(4), settings).start()
    until(lambda: (AcceleratorLock(settings.workspace).holder() or {}).get("who") == "inspector")
    free.set()
    assert live.done.wait(30) and AcceleratorLock(settings.workspace).holder() is None


def test_a_waiting_run_can_be_stopped_and_leaves_the_line(settings):
    queue, stop = RunQueue(4), threading.Event()
    with queue.turn(threading.Event(), lambda n: None):
        stop.set()
        with pytest.raises(WaitCancelled), queue.turn(stop, lambda n: None):
            pytest.fail("it must not get its turn")
        assert len(queue._waiting) == 1
    assert not queue._waiting


def test_the_queue_is_first_come_first_served():
    queue, order, threads = RunQueue(8), [], []
    gate = threading.Event()

    def take(name):
        with queue.turn(threading.Event(), lambda n: None):
            order.append(name)

    with queue.turn(threading.Event(), lambda n: None):
        for name in range(5):
            threads.append(threading.Thread(target=take, args=(name,)))
            threads[-1].start()
            until(lambda name=name: len(queue._waiting) == name + 2)
        gate.set()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def wait_in_vain(queue, stop):
    with pytest.raises(WaitCancelled), queue.turn(stop, lambda n: None):
        pytest.fail("it must not get its turn")


def test_more_than_may_wait_are_turned_away():
    queue, never = RunQueue(1), threading.Event()
    stop = threading.Event()
    with queue.turn(never, lambda n: None):
        waiting = threading.Thread(target=wait_in_vain, args=(queue, stop))
        waiting.start()
        until(lambda: len(queue._waiting) == 2)
        with pytest.raises(UserError, match="waiting already"), queue.turn(never, lambda n: None):
            pytest.fail("it must be turned away")
        stop.set()
        waiting.join(10)
