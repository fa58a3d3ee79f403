"""How jobs and servers die, for real: what is gone is gone, what lives goes on, and nobody else is hurt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from lightreasoner import processes
from lightreasoner.jobs import scheduler
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.events import EVENTS_FILE, EventLog, read_events
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.store import FINISHED
from tests.support.job_bench import Bench, gone, make_scheduler, until


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def stranger():
    """A process that is none of ours."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


@pytest.fixture
def term_at_once(monkeypatch):
    """A cancelled job gets its SIGTERM after a moment: for jobs that have no checkpoint to wait for."""
    monkeypatch.setattr(scheduler, "TERM_AFTER", 0.2)


# ---- cancelling


def test_a_queued_job_is_cancelled_at_once(bench):
    job = bench.submit("steps")
    assert bench.scheduler.cancel(job.id).state == "cancelled"
    bench.scheduler.tick()
    assert bench.get(job).state == "cancelled" and not job.run_dir.exists()


def test_a_job_with_checkpoints_stops_at_the_next_one(bench):
    job = bench.submit("steps", "--steps", "1000")
    bench.running(job, "progress")
    assert bench.scheduler.cancel(job.id).state == "stopping"
    done = bench.finished(job)
    assert done.state == "cancelled" and done.message == "Cancelled."
    assert read_events(job.run_dir / EVENTS_FILE)[-1]["state"] == "cancelled"
    assert not (job.run_dir / "stop").exists()
    assert "Traceback" not in bench.scheduler.backends["local"].logs(bench.store.folder(job.id), 10_000)


def test_a_job_without_checkpoints_gets_a_term_and_ends_in_order(bench, term_at_once):
    job = bench.submit("deaf")
    bench.running(job, "status")
    bench.scheduler.cancel(job.id)
    assert bench.finished(job).state == "cancelled"
    assert bench.said(bench.get(job), "end")["state"] == "cancelled"


def test_a_job_that_ignores_everything_is_gone_with_its_child_within_ten_seconds(bench, record_property, monkeypatch):
    """The deadline is the promise under test, not a speed: the clock that the scheduler itself counts by, at a fifth of
    its times."""
    job = bench.submit("stubborn")
    child = bench.running(job, "child")["pid"]
    pid = bench.get(job).pid
    assert not gone(pid) and not gone(child) and os.getpgid(child) == pid
    assert scheduler.KILL_AFTER + 2 * scheduler.TICK < 10
    for name in ("TERM_AFTER", "KILL_AFTER", "TICK"):
        monkeypatch.setattr(scheduler, name, getattr(scheduler, name) / 5)
    bench.scheduler.start()
    began = time.monotonic()
    try:
        bench.scheduler.cancel(job.id)
        until(lambda: gone(pid) and gone(child))
        record_property("seconds", time.monotonic() - began)
        until(lambda: bench.get(job).state in FINISHED)
    finally:
        bench.scheduler.close()
    assert bench.get(job).state == "cancelled"
    assert AcceleratorLock(bench.workspace).holder() is None


def test_a_cancellation_is_carried_on_by_the_next_server(bench, term_at_once):
    job = bench.submit("deaf")
    bench.running(job, "status")
    bench.store.change(job.id, ("running",), state="stopping")  # asked for, and then the server died
    bench.scheduler = make_scheduler(bench.workspace)
    assert bench.finished(job).state == "cancelled"


def test_a_wall_clock_that_is_set_back_does_not_put_a_cancellation_off(bench, term_at_once, monkeypatch):
    job = bench.submit("deaf")
    bench.running(job, "status")
    bench.scheduler.cancel(job.id)
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert bench.finished(job).state == "cancelled"


def test_a_job_cancelled_before_its_work_began_is_cancelled(bench, term_at_once):
    bench.scheduler.backends["local"] = LocalBackend((sys.executable, "-c", "import time; time.sleep(600)"))
    job = bench.submit("steps")
    bench.scheduler.tick()
    bench.scheduler.cancel(job.id)
    assert bench.finished(job).state == "cancelled"


def test_a_job_that_succeeded_while_it_was_being_cancelled_has_succeeded(bench):
    job = bench.submit("steps", "--steps", "1", "--pause", "0")
    bench.running(job, "end")
    bench.store.change(job.id, ("running",), state="stopping")
    assert bench.finished(job).state == "succeeded"


# ---- dying


def test_a_job_killed_with_9_is_interrupted_and_resumes(bench):
    job = bench.submit("steps", "--steps", "15")
    bench.running(job, "progress")
    os.kill(bench.get(job).pid, signal.SIGKILL)
    dead = bench.finished(job)
    assert dead.state == "interrupted" and "Resume" in dead.message
    bench.scheduler.resume(job.id)
    done = bench.finished(job)
    assert done.state == "succeeded" and done.attempt == 2
    assert (job.run_dir / "counted.txt").read_text().split() == [str(n) for n in range(15)]


def test_the_end_of_an_earlier_attempt_is_not_taken_for_this_ones(bench):
    """Attempt 1 succeeded early; attempt 2, killed before its first word, did not."""
    job = bench.submit("steps", "--steps", "100")
    bench.running(job, "progress")
    bench.scheduler.keep(job.id)
    assert bench.finished(job).state == "succeeded"
    bench.scheduler.backends["local"] = LocalBackend((sys.executable, "-c", "import time; time.sleep(600)"))
    bench.scheduler.resume(job.id)
    bench.tick_until(lambda: bench.get(job).pid)
    os.kill(bench.get(job).pid, signal.SIGKILL)
    assert bench.finished(job).state == "interrupted"


def test_what_a_dead_job_leaves_behind_is_ended_too(bench):
    for steps in ("0", "1"):  # it ends by itself; it is killed
        job = bench.submit("orphan", "--steps", steps)
        child = bench.running(job, "child")["pid"]
        done = bench.finished(job)
        assert done.state == ("interrupted" if steps == "1" else "succeeded")
        until(lambda child=child: gone(child))


def test_a_killed_server_changes_nothing_for_its_job(bench):
    job = bench.submit("steps", "--steps", "30", "--pause", "0.05")
    server = bench.server()
    until(lambda: bench.said(bench.get(job), "progress"))
    server.kill()
    server.wait()
    pid = bench.get(job).pid
    bench.scheduler.tick()
    assert bench.get(job).state == "running" and bench.get(job).pid == pid
    done = bench.finished(job)  # by a scheduler that is not its parent and cannot know its exit status
    assert done.state == "succeeded" and done.attempt == 1
    assert (job.run_dir / "counted.txt").read_text().split() == [str(n) for n in range(30)]


def test_a_mistake_is_its_sentence_for_the_next_server_too(bench):
    """No parent is there to read the exit status: the output has to tell."""
    job = bench.submit("early")
    server = bench.server()
    until(lambda: bench.get(job).pid)
    server.kill()
    server.wait()
    done = bench.finished(job)
    assert done.state == "failed" and "nowhere.jsonl" in done.message


@pytest.mark.parametrize("death", ["before", "after"])
def test_a_server_that_dies_around_the_spawn_loses_no_job_and_runs_none_twice(bench, death):
    job = bench.submit("steps", "--steps", "15", "--pause", "0.04", run="a")
    server = bench.server(death)
    assert server.wait(60) == -signal.SIGKILL
    claimed = bench.get(job)
    assert claimed.state == "running" and claimed.pid is None
    done = bench.finished(job)
    assert done.state == "succeeded" and done.attempt == 1
    assert [e["kind"] for e in read_events(job.run_dir / EVENTS_FILE)].count("start") == 1
    assert (job.run_dir / "counted.txt").read_text().split() == [str(n) for n in range(15)]


def test_a_job_whose_server_died_after_the_spawn_and_that_has_ended_by_now_is_not_run_again(bench):
    job = bench.submit("steps", "--steps", "1", "--pause", "0")
    bench.server("after").wait(60)
    until(lambda: any(e["kind"] == "end" for e in read_events(job.run_dir / EVENTS_FILE)))
    until(lambda: not bench.scheduler.backends["local"].find(bench.get(job)))
    assert bench.finished(job).state == "succeeded"
    assert [e["kind"] for e in read_events(job.run_dir / EVENTS_FILE)].count("start") == 1


def test_a_job_that_another_server_is_just_starting_is_left_alone(bench):
    job = bench.submit("steps")
    other = make_scheduler(bench.workspace)
    bench.store.claim(other._name)
    for _ in range(5):
        bench.scheduler.tick()
    assert bench.get(job).state == "running" and bench.get(job).pid is None


def test_a_job_cancelled_between_claim_and_spawn_is_not_spawned(bench):
    job = bench.submit("steps")
    bench.server("before").wait(60)
    bench.store.change(job.id, ("running",), state="stopping")
    assert bench.finished(job).state == "cancelled" and not job.run_dir.exists()


# ---- mistaken identity


def test_a_pid_that_belongs_to_somebody_else_is_never_signalled(bench, stranger):
    job = bench.submit("steps")
    bench.store.claim("1.dead.mark")
    mark = processes.mark(stranger.pid)
    bench.store.change(job.id, ("running",), pid=stranger.pid, mark=mark + "0")  # the pid of old, another process now
    backend = bench.scheduler.backends["local"]
    for signalling in (backend.interrupt, backend.kill):
        signalling(bench.get(job))
    assert not backend.alive(bench.get(job))
    bench.store.change(job.id, ("running",), state="stopping")
    assert bench.finished(job).state == "cancelled"
    assert stranger.poll() is None
    backend.interrupt(replace(bench.get(job), mark=mark))  # the very same call does reach a process that is meant
    assert stranger.wait(30) == -signal.SIGTERM


def test_a_job_whose_pid_was_taken_over_is_interrupted(bench, stranger):
    job = bench.submit("steps")
    bench.store.claim("1.dead.mark")
    bench.store.change(job.id, ("running",), pid=stranger.pid, mark="another-boot-77")
    assert bench.finished(job).state == "interrupted" and stranger.poll() is None


def test_a_zombie_is_dead(bench):
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    mark = processes.mark(child.pid)
    until(lambda: processes._stat(child.pid)[0] == "Z", "the child's end")
    assert processes.mark(child.pid) == mark and not processes.alive(child.pid, mark)
    job = bench.submit("steps")
    bench.store.claim("1.dead.mark")
    bench.store.change(job.id, ("running",), pid=child.pid, mark=mark)
    assert bench.finished(job).state == "interrupted"
    child.wait()


def test_jobs_that_have_ended_leave_no_zombies(bench):
    jobs = [bench.submit("early") for _ in range(3)]
    for job in jobs:
        bench.finished(job)
        pid = bench.get(job).pid
        assert not os.path.exists(f"/proc/{pid}") or processes.mark(pid) != bench.get(job).mark


def test_a_mark_does_not_hang_on_the_wall_clock(monkeypatch):
    before = processes.mark(os.getpid())
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert processes.mark(os.getpid()) == before and processes.alive(os.getpid(), before)
    assert processes.mark(2**22 + 1) is None and not processes.alive(2**22 + 1, before)
    assert not processes.alive(None, None) and not processes.alive(os.getpid(), None)


def test_marks_without_proc(monkeypatch):
    """As on a Mac, where psutil knows when a process was created."""
    monkeypatch.setattr(processes, "_boot", lambda: None)
    mark = processes.mark(os.getpid())
    assert mark and processes.alive(os.getpid(), mark) and not processes.alive(os.getpid(), mark + "1")
    assert processes.mark(2**22 + 1) is None


# ---- disks


def test_a_disk_that_is_full_when_a_job_starts_fails_the_job_with_a_sentence(bench, monkeypatch):
    job = bench.submit("steps")
    folder = bench.store.folder(job.id)
    folder.mkdir(parents=True)
    os.symlink("/dev/full", folder / "output.log")
    done = bench.finished(job)
    assert done.state == "failed" and "could not be started: No space left" in done.message


def test_a_cancellation_works_on_a_full_disk(bench, term_at_once, monkeypatch):
    job = bench.submit("deaf")
    bench.running(job, "status")
    real = os.fsync

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    bench.scheduler.cancel(job.id)
    assert not (job.run_dir / "stop").exists()
    monkeypatch.setattr(os, "fsync", real)
    assert bench.finished(job).state == "cancelled"


def test_a_torn_end_is_no_end(bench):
    job = bench.submit("steps")
    bench.store.claim("1.dead.mark")
    log = EventLog(job.run_dir / EVENTS_FILE, by=bench.get(job).token)
    log.append("start", pid=1, mark="x")
    log.append("end", state="succeeded", message="", result={}, kept=False)
    whole = (job.run_dir / EVENTS_FILE).read_bytes()
    (job.run_dir / EVENTS_FILE).write_bytes(whole[:-5])
    bench.store.change(job.id, ("running",), pid=2**22 + 1, mark="x")
    assert bench.finished(job).state == "interrupted"
