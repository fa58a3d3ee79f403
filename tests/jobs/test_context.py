"""What a verb wraps itself in: one process a folder, an end for every start, and a stop that loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs import context as work_file
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.context import job_context
from lightreasoner.jobs.events import EVENTS_FILE, EventLog, read_events
from lightreasoner.processes import mark
from lightreasoner.progress import StopRequested, while_loading
from lightreasoner.settings import ROOT, Settings
from tests.support.job_bench import SCRIPT, until


@pytest.fixture
def settings(tmp_path):
    return Settings(workspace=tmp_path)


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "runs" / "a"


@pytest.fixture
def script(run_dir, tmp_path):
    """Starts tests/support/job_script.py in a process of its own, which does not outlive the test."""
    children = []

    def start(verb, *arguments, wait=False):
        env = os.environ | {"LIGHTREASONER_WORKSPACE": str(tmp_path)}
        command = [*SCRIPT, verb, "--run-dir", str(run_dir), *arguments]
        how = {"cwd": ROOT, "env": env, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        # A suite that was started in a shell's background ignores SIGINT, and so would its children.
        child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **how)
        children.append(child)
        if wait:
            child.errors = child.communicate(timeout=60)[1]
        return child

    yield start
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stderr.close()


def events(run_dir, kind=None):
    return [e for e in read_events(run_dir / EVENTS_FILE) if kind in (None, e["kind"])]


def end(run_dir):
    last = read_events(run_dir / EVENTS_FILE)[-1]
    assert last["kind"] == "end"
    return last


def test_a_run_from_start_to_end(run_dir, settings):
    with job_context(run_dir, "sample", settings, title="Sample 10") as work:
        assert AcceleratorLock(settings.workspace).holder()["who"] == "job Sample 10"
        work.status("Loading")
        work.event("histogram", counts=[1, 2])
        work.checkpoint()
        work.result(samples=3)
        work.result(steps=4)
    start, status, histogram, last = events(run_dir)
    assert (start["pid"], start["mark"], start["attempt"]) == (os.getpid(), mark(os.getpid()), 1)
    assert start["job"] is None and start["verb"] == "sample"
    assert status["text"] == "Loading" and histogram["counts"] == [1, 2]
    assert last["state"] == "succeeded" and last["result"] == {"samples": 3, "steps": 4} and last["kept"] is False
    assert AcceleratorLock(settings.workspace).holder() is None


def test_progress_is_thinned_out_but_its_last_word_never_is(run_dir, settings):
    with job_context(run_dir, "sample", settings) as work:
        for done in range(5001):
            work.update(done, 5000)
        for done in range(100):
            work.update(done, None)  # nobody knows the total: the last is written all the same
        work.event("note")
        work.update(7, 10)
        work.update(8, 10)
    written = [e["done"] for e in events(run_dir, "progress")]
    kinds = [e["kind"] for e in events(run_dir)]
    assert written[0] == 0 and 5000 in written and written[-1] == 8 and len(written) < 500
    assert events(run_dir, "progress")[-2]["done"] in (99, 7) and 99 in written
    assert kinds[0] == "start" and kinds[-1] == "end"


def test_a_mistake_is_its_sentence_and_is_raised_again(run_dir, settings):
    with pytest.raises(UserError, match="empty"), job_context(run_dir, "sample", settings):
        raise UserError("The file is empty.")
    assert end(run_dir)["state"] == "failed" and end(run_dir)["message"] == "The file is empty."


def test_a_bug_is_an_apology_with_a_code_and_a_traceback_in_the_output(run_dir, script):
    child = script("bug", wait=True)
    message = end(run_dir)["message"]
    code = message.rsplit(" ", 1)[-1].rstrip(".")
    assert child.returncode == 1 and end(run_dir)["state"] == "failed"
    assert "bug" not in message and code in child.errors and "ZeroDivisionError: a bug" in child.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_in_order(run_dir, script, number, tmp_path):
    child = script("deaf")
    until(lambda: events(run_dir, "status"))
    child.send_signal(number)
    child.wait(30)
    assert end(run_dir)["state"] == "cancelled"
    assert AcceleratorLock(tmp_path).holder() is None


def test_sigterm_is_what_it_was_afterwards(run_dir, settings):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(StopRequested), job_context(run_dir, "sample", settings):
            raise StopRequested(keep=False)
        with job_context(run_dir, "sample", settings):
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("wish", ["cancel", "", "rubbish"])
def test_a_stop_file_cancels_at_the_next_checkpoint(run_dir, settings, wish):
    with pytest.raises(StopRequested) as stopping, job_context(run_dir, "sample", settings) as work:
        work.checkpoint()
        (run_dir / "stop").write_text(wish)
        work.update(3, 10)
        work.checkpoint()
        pytest.fail("it must not go on")
    assert stopping.value.keep is False
    assert end(run_dir)["state"] == "cancelled" and not (run_dir / "stop").exists()


def test_stop_and_keep_lets_the_verb_finish_what_it_has(run_dir, settings):
    with pytest.raises(StopRequested), job_context(run_dir, "sample", settings) as work:
        (run_dir / "stop").write_text("keep\n")
        try:
            work.checkpoint()
            pytest.fail("it must not go on")
        except StopRequested as stopping:
            assert stopping.keep
            work.checkpoint()  # what finishing calls does not stop the finishing
            work.result(samples=2)
            raise
    last = end(run_dir)
    assert last["state"] == "succeeded" and last["kept"] is True and last["result"] == {"samples": 2}
    assert last["message"].startswith("Stopped early")


@pytest.mark.parametrize(("wish", "said"), [("keep", "Stopped while a model was loading"), ("cancel", "Cancelled.")])
def test_a_stop_while_a_model_loads_ends_the_job_and_says_so(run_dir, settings, wish, said):
    """Stop waited until the models were loaded; "keep" then called a run with nothing in it a success."""
    with pytest.raises(StopRequested), job_context(run_dir, "sample", settings) as work:
        on_status = while_loading(work)
        for text in ("Loading", "Loading", "Loading: 10 %"):
            on_status(text)
        (run_dir / "stop").write_text(wish)
        on_status("Loading: 10 %")
        pytest.fail("it must not go on")
    last = end(run_dir)
    assert (last["state"], last["kept"]) == ("cancelled", False) and last["message"].startswith(said)
    texts = [event["text"] for event in read_events(run_dir / "events.jsonl") if event["kind"] == "status"]
    assert texts == ["Loading", "Loading: 10 %"]


def test_results_of_an_earlier_attempt_are_kept_by_a_stop_while_the_model_loads(run_dir, settings):
    """They are saved with the loaded model, so the request waits for it."""
    with pytest.raises(StopRequested) as stopping, job_context(run_dir, "sample", settings) as work:
        (run_dir / "stop").write_text("keep")
        while_loading(work, resumed=True)("Loading")
        work.checkpoint()
    assert stopping.value.keep and end(run_dir)["kept"]


def test_a_cancellation_ends_the_finishing_too(run_dir, settings):
    with pytest.raises(StopRequested), job_context(run_dir, "sample", settings) as work:
        (run_dir / "stop").write_text("keep")
        with pytest.raises(StopRequested):
            work.checkpoint()
        (run_dir / "stop").write_text("cancel")
        work.checkpoint()
    assert end(run_dir)["state"] == "cancelled"


def test_what_breaks_while_it_is_cancelled_is_no_failure(run_dir, settings):
    """TERM goes to the whole group: a data loader that dies of it makes the work raise something else."""
    with pytest.raises(RuntimeError), job_context(run_dir, "sample", settings):
        (run_dir / "stop").write_text("cancel")
        raise RuntimeError("DataLoader worker (pid 7) was killed by signal: Terminated.")
    assert end(run_dir)["state"] == "cancelled"


def test_a_stale_stop_file_does_not_stop_the_next_run(run_dir, settings):
    run_dir.mkdir(parents=True)
    (run_dir / "stop").write_text("cancel")
    with job_context(run_dir, "sample", settings) as work:
        work.checkpoint()
    assert end(run_dir)["state"] == "succeeded"


def test_a_job_obeys_a_stop_file_that_was_there_before_it_had_begun(run_dir, tmp_path):
    """Stop-and-keep while the models' libraries were being imported must not get lost."""
    run_dir.mkdir(parents=True)
    (run_dir / "stop").write_text("keep")
    with pytest.raises(StopRequested), job_context(run_dir, "sample", Settings(workspace=tmp_path, job="x/2")) as work:
        work.checkpoint()
    assert end(run_dir)["kept"] is True
    assert {(e["by"], e.get("attempt", 2)) for e in events(run_dir)} == {("x/2", 2)}


def test_a_second_process_in_the_folder_is_told_who_works_there(run_dir, script):
    first = script("deaf")
    until(lambda: events(run_dir, "status"))
    second = script("steps", wait=True)
    assert second.returncode == 2 and f"process {first.pid}" in second.errors
    assert len(second.errors.splitlines()) == 1 and len(events(run_dir, "start")) == 1
    first.kill()
    first.wait()
    assert script("steps", wait=True).returncode == 0  # killed with -9, it left nothing in the way
    assert [e["attempt"] for e in events(run_dir, "start")] == [1, 2]


def test_a_process_killed_while_it_writes_leaves_a_log_that_goes_on(run_dir, script):
    child = script("steps", "--steps", "1000", "--pause", "0")
    until(lambda: events(run_dir, "progress"))
    child.kill()
    child.wait()
    with open(run_dir / EVENTS_FILE, "ab") as file:
        file.write(b'{"seq": 9999, "kind": "progr')
    assert script("steps", "--steps", "3", wait=True).returncode == 0
    seqs = [e["seq"] for e in events(run_dir)]
    assert seqs == sorted(set(seqs)) and end(run_dir)["state"] == "succeeded"


def test_a_full_disk_is_a_sentence_and_no_traceback(run_dir, settings, monkeypatch):
    real = os.write
    with pytest.raises(UserError, match="No space left"), job_context(run_dir, "sample", settings) as work:
        log = work._log._file

        def full(file, data):
            if file == log:
                raise OSError(28, "No space left on device")
            return real(file, data)

        monkeypatch.setattr(os, "write", full)
        work.status("Writing")
    monkeypatch.undo()
    assert [e["kind"] for e in events(run_dir)] == ["start"]
    with job_context(run_dir, "sample", settings):  # nothing is locked, nothing is held
        assert AcceleratorLock(settings.workspace).holder()


def test_a_disk_that_fills_up_at_the_very_end_is_not_passed_off_as_success(run_dir, settings, monkeypatch):
    def full(self, kind, **data):
        if kind == "end":
            raise UserError("No space left on device")
        return real(self, kind, **data)

    real = EventLog.append
    monkeypatch.setattr(EventLog, "append", full)
    with pytest.raises(UserError, match="No space left"), job_context(run_dir, "sample", settings):
        pass


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, settings):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not writable"), job_context(tmp_path / "file", "sample", settings):
        pytest.fail("it must not begin")


def test_a_person_goes_first_at_a_checkpoint(run_dir, settings):
    accelerator, has = AcceleratorLock(settings.workspace), threading.Event()

    def person():
        with accelerator.acquire("inspector", interactive=True):
            has.set()
            # the lock is taken a moment before the name is written: the first event may say "another process"
            until(lambda: any((e["holder"] or {}).get("who") == "inspector" for e in events(run_dir, "waiting")))

    thread = threading.Thread(target=person, daemon=True)
    with job_context(run_dir, "sample", settings) as work:
        work.status("Sampling")
        thread.start()
        until(accelerator.wanted)
        assert not has.is_set()
        work.checkpoint()
        assert has.is_set() and accelerator.holder()["who"] == "job sample"
    thread.join(30)
    kinds = [e["kind"] for e in events(run_dir)]
    assert kinds[1] == "status" and kinds[-3:] == ["waiting", "status", "end"]
    assert events(run_dir, "waiting")[-1]["holder"]["who"] == "inspector"
    assert [e["text"] for e in events(run_dir, "status")] == ["Sampling", "Sampling"]  # and it is said again


@pytest.mark.parametrize("wish, state", [("cancel", "cancelled"), ("keep", "succeeded")])
def test_work_that_waits_for_the_accelerator_can_be_stopped(run_dir, settings, wish, state):
    outcome = []

    def begin():
        try:
            with job_context(run_dir, "sample", settings):
                outcome.append("began")
        except StopRequested as stopping:
            outcome.append(stopping.keep)

    with AcceleratorLock(settings.workspace).acquire("inspector", interactive=True):
        thread = threading.Thread(target=begin, daemon=True)
        thread.start()
        until(lambda: events(run_dir, "waiting"))
        (run_dir / "stop").write_text(wish)
        thread.join(30)
    assert outcome == [wish == "keep"] and end(run_dir)["state"] == state


def test_work_that_does_not_compute_needs_no_accelerator(run_dir, settings):
    with (
        AcceleratorLock(settings.workspace).acquire("inspector", interactive=True),
        job_context(run_dir, "export", settings, accelerator=False) as work,
    ):
        work.checkpoint()
    assert end(run_dir)["state"] == "succeeded"


def test_a_second_signal_does_not_tear_the_end(run_dir, settings, monkeypatch):
    """Ctrl+C twice, or Ctrl+C and the scheduler's TERM, must leave an end event behind."""
    real = work_file._end

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        real(*arguments)

    monkeypatch.setattr(work_file, "_end", interrupted)
    with pytest.raises(KeyboardInterrupt), job_context(run_dir, "sample", settings):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert end(run_dir)["state"] == "cancelled"


def test_every_line_is_json_that_any_reader_takes(run_dir, settings):
    with job_context(run_dir, "sample", settings) as work:
        work.update(1, 2, loss=float("nan"))
    for line in (run_dir / EVENTS_FILE).read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
