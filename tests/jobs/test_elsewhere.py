"""One workspace, several machines: what runs elsewhere is left alone, and is told by its lock and its heartbeat."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from lightreasoner import processes
from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.jobs import context, store
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.backend import HEARTBEAT
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.jobs.outcome import is_in_progress
from lightreasoner.jobs.scheduler import servers
from lightreasoner.jobs.store import JobStore
from lightreasoner.jobs.view import job_view
from lightreasoner.settings import ROOT
from lightreasoner.storage import mounts
from lightreasoner.storage.runs import BEATING, LOCK
from tests.support.job_bench import SCRIPT, Bench, until

THERE = "gpu-box@another-boot.4026531836@77"  # the mark of a process of another machine


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def job(bench):
    """A job that a server of another machine has started, whose pid is by chance that of this very process."""
    job = bench.submit("steps")
    server = f"12.aaaa.{THERE}"
    bench.store.claim(server)
    bench.store.change(job.id, ("running",), pid=os.getpid(), mark=THERE)
    processes.announce(servers(bench.settings), server)
    bench.store.folder(job.id).mkdir()
    (bench.store.folder(job.id) / HEARTBEAT).touch()
    log = EventLog(job.run_dir / EVENTS_FILE, by=f"{job.id}/1")
    log.append("start", pid=12, mark=THERE, keeps=True, resumes=True)
    log.close()
    return bench.get(job)


def grow_old(*paths):
    for path in paths:
        os.utime(path, (time.time() - 100, time.time() - 100))


def test_a_job_of_another_machine_is_left_alone_while_it_is_heard_of(bench, job):
    """Its pid is not looked up here: one server marked the other's running job interrupted."""
    heart, server = bench.store.folder(job.id) / HEARTBEAT, next(servers(bench.settings).iterdir())
    for stale in ((heart,), (server,)):  # its server sees to it; and without its server it still beats
        grow_old(*stale)
        bench.scheduler.tick()
        assert bench.get(job).state == "running"
        heart.touch(), server.touch()
    grow_old(heart, server)
    with FileLock(job.run_dir / LOCK):
        bench.scheduler.tick()
        assert bench.get(job).state == "running"
    bench.scheduler.tick()
    lost = bench.get(job)
    assert lost.state == "interrupted" and "It ran on gpu-box" in lost.message


def test_a_claim_of_another_machine_without_a_recorded_process_is_not_started_a_second_time(bench, job):
    bench.store.change(job.id, ("running",), pid=None, mark=None)
    grow_old(next(servers(bench.settings).iterdir()))
    bench.scheduler.tick()
    assert bench.get(job).state == "running" and bench.get(job).pid is None


def test_a_job_of_another_machine_that_ended_after_its_server_has_its_end(bench, job):
    log = EventLog(job.run_dir / EVENTS_FILE, by=job.token)
    log.append("end", state="succeeded", message="", kept=False)
    log.close()
    grow_old(next(servers(bench.settings).iterdir()))
    bench.scheduler.tick()
    assert bench.get(job).state == "succeeded"


def test_cancelling_a_job_of_another_machine_asks_and_never_kills(bench, job, monkeypatch):
    monkeypatch.setattr("lightreasoner.jobs.scheduler.TERM_AFTER", 0)
    monkeypatch.setattr("lightreasoner.jobs.scheduler.KILL_AFTER", 0)
    monkeypatch.setattr(bench.scheduler.backends["local"], "_signal", lambda *_: pytest.fail("it was signalled"))
    bench.scheduler.cancel(job.id)
    bench.scheduler.tick()
    assert (job.run_dir / "stop").read_text() == "cancel\n" and bench.get(job).state == "stopping"


def test_where_a_job_runs_is_said(bench, job, monkeypatch, capsys):
    assert job_view(bench.store, job)["host"] == "gpu-box"
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(bench.workspace))
    assert main(["jobs", "list"]) == 0 and "Test steps · runs on gpu-box" in capsys.readouterr().out
    (job.run_dir / BEATING).touch()
    assert is_in_progress(job.run_dir)  # a run of the command line, likewise
    grow_old(job.run_dir / BEATING)
    assert not is_in_progress(job.run_dir)


def test_the_second_starter_of_a_run_folder_is_refused_with_the_first_ones_place(bench, job, monkeypatch):
    monkeypatch.setattr(context, "BRIEFLY", 0)
    with (
        FileLock(job.run_dir / LOCK),
        pytest.raises(UserError, match=r"in use by process 12 on gpu-box; wait"),
        context.job_context(job.run_dir, "steps", bench.settings),
    ):
        pass


def test_a_trace_that_waits_on_another_machine_keeps_its_turn(tmp_path):
    waiting = AcceleratorLock(tmp_path).folder / "waiting"
    path = processes.announce(waiting, f"12.aaaa.{THERE}")
    assert AcceleratorLock(tmp_path).wanted()
    grow_old(path)
    assert not AcceleratorLock(tmp_path).wanted() and not path.exists()


def test_marks_of_earlier_versions_are_read():
    own = os.getpid()
    host, place, start = processes.mark(own).split("@")
    assert place == processes.place() and host and not processes.elsewhere(processes.mark(own))
    former = f"{processes._boot()}-{start}"
    assert processes.alive(own, former) and not processes.alive(own, former + "0") and not processes.elsewhere(former)
    assert processes.owner_alive(f"{own}.abcd.{former}", None)
    here = processes.mark(own).replace(place, "other.1")
    assert processes.elsewhere(here) == f"{host} (in another container)" and not processes.alive(own, here)


def namespaces() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux" or not namespaces(), reason="no PID namespaces here")
def test_a_job_in_another_pid_namespace_is_neither_killed_nor_declared_interrupted(bench, tmp_path):
    """A container and its host: the host sees the container's processes under other pids, and killed a healthy job."""
    server = "from pathlib import Path; from tests.support.job_bench import *; s = make_scheduler(Path(sys.argv[1]));"
    code = server + "\nwhile True: s.tick(); time.sleep(0.05)"
    inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", code, str(tmp_path)]
    job = bench.submit("steps", "--steps", "1000")
    container = subprocess.Popen(inside, cwd=ROOT)
    try:
        until(lambda: bench.said(bench.get(job), "progress"), "the job's progress")
        for _ in range(3):
            bench.scheduler.tick()
        bench.scheduler.backends["local"].kill(bench.get(job))
        seen = bench.get(job)
        assert seen.state == "running" and processes.elsewhere(seen.mark)
        second = subprocess.run(
            [*SCRIPT, "steps", "--run-dir", str(job.run_dir)], cwd=ROOT, capture_output=True, text=True
        )
        assert second.returncode == 2 and "in use by process" in second.stderr
        before = bench.said(seen, "progress")["done"]
        until(lambda: bench.said(seen, "progress")["done"] > before, "more progress")
    finally:
        container.kill()
        container.wait()


# ---- the job list on a network file system


def test_the_job_list_on_a_network_file_system_has_no_write_ahead_log(tmp_path, monkeypatch):
    """Its readers share memory, which machines do not. A list of an earlier version is changed over."""

    def mode():
        connection = sqlite3.connect(tmp_path / "jobs" / "jobs.sqlite")
        found = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
        return found

    JobStore(tmp_path / "jobs" / "jobs.sqlite").jobs()
    assert mode() == "wal"
    (tmp_path / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\nserver:/a {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    assert JobStore(tmp_path / "jobs" / "jobs.sqlite").jobs() == [] and mode() == "delete"
    monkeypatch.undo()
    assert JobStore(tmp_path / "jobs" / "jobs.sqlite").jobs() == [] and mode() == "delete"  # others may need it


def test_a_network_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        error = sqlite3.OperationalError("locking protocol")
        error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
        raise error

    monkeypatch.setattr(store, "is_local", lambda path: False)
    monkeypatch.setattr(JobStore, "_open", refuse)
    with pytest.raises(UserError, match=r"network file system that does not lock files\. Set LIGHTREASONER_WORKSPACE"):
        JobStore(tmp_path / "jobs.sqlite").jobs()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/data/my runs/a", "nfs4"), ("/data", "xfs"), ("/database", "ext4"), ("/data/ü/x", "fuse.sshfs"), ("/t", "9p")],
)
def test_the_file_system_of_a_path(path, kind, tmp_path, monkeypatch):
    lines = ["/dev/vda / ext4 rw", "/dev/vdb /data xfs rw", r"server:/b /data/my\040runs nfs4 rw", "tmpfs /t tmpfs rw"]
    lines += ["broken", "me@x: /data/ü fuse.sshfs rw", "share /t 9p rw"]
    (tmp_path / "mounts").write_text("\n".join(lines))
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    assert mounts.file_system(path) == kind
