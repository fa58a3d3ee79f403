"""Jobs that are forks of a process with their imports: as safe as others, and started the ordinary way in doubt."""

from __future__ import annotations

import json
import os
import signal
import socket

import psutil
import pytest

from lightreasoner.jobs import warm_worker
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.warm_worker import VARIABLE, ForkedJob, WarmWorker, worth_it
from lightreasoner.settings import Settings
from tests.support.job_bench import Bench, gone, until
from tests.support.warm_jobs import ForkOfTheServer


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    bench.local = bench.scheduler.backends["local"]
    bench.local.warm = Remembered()
    yield bench
    bench.local.warm.stop()
    bench.close()


class Remembered(WarmWorker):
    """Remembers the forks that it started, None for each job that it left to an ordinary start."""

    def __init__(self, module: str = "tests.support.warm_script"):
        super().__init__(module)
        self._env.pop("PYTEST_CURRENT_TEST")  # pytest changes it
        self.started: list[ForkedJob | None] = []
        until(lambda: self._fits(self._env), "readiness")

    def start(self, argv, env, output) -> ForkedJob | None:
        env.pop("PYTEST_CURRENT_TEST")
        self.started.append(super().start(argv, env, output))
        return self.started[-1]


def test_a_fork_is_a_job_like_another(bench):
    job = bench.submit("steps", "--steps", "1000")
    event = bench.running(job, "progress")
    job = bench.get(job)
    process = psutil.Process(job.pid)
    assert bench.local.alive(job) and bench.local.status(job) is None
    assert job.pid == bench.local.warm.started[0].pid == os.getsid(job.pid) == os.getpgid(job.pid)
    assert job.pid != bench.local.warm.process.pid
    assert process.cmdline()[1:4] == ["-m", "lightreasoner", "steps"] and str(job.run_dir) in process.cmdline()
    assert process.environ()[VARIABLE] == job.token and event["by"] == job.token
    assert bench.local.find(job) == (job.pid, job.mark)  # by another server, which finds no pid in its list
    bench.scheduler.keep(job.id)
    done = bench.finished(job)
    assert done.state == "succeeded" and bench.local.warm.started[0].poll() == 0
    assert bench.local.logs(bench.store.folder(job.id), 1000).startswith("=== attempt 1")


def test_the_jobs_of_test_servers_are_forks_as_well():
    """What they replace once had other names: every job made its imports again, and the tests took a minute more."""
    own = {name for name in vars(ForkOfTheServer) if not name.startswith("__")}
    assert own and own <= vars(WarmWorker).keys()


def test_how_a_fork_ended_is_known(bench):
    early, crash = bench.submit("early"), bench.submit("crash")
    assert "nowhere.jsonl" in bench.finished(early).message and bench.finished(crash).state == "failed"
    assert [fork.poll() for fork in bench.local.warm.started] == [2, 1]


def test_what_a_killed_fork_leaves_behind_is_ended_too(bench):
    job = bench.submit("orphan", "--steps", "1")
    child = bench.running(job, "child")["pid"]
    assert bench.finished(job).state == "interrupted"
    assert bench.local.warm.started[0].poll() == -signal.SIGKILL
    until(lambda: gone(child))


def test_jobs_outlive_the_process_that_they_are_forks_of_and_the_next_ones_start_as_before(bench):
    job = bench.submit("steps", "--steps", "15")
    bench.running(job, "progress")
    os.kill(bench.local.warm.process.pid, signal.SIGKILL)
    assert bench.finished(job).state == "succeeded"
    again = bench.submit("steps")
    assert bench.finished(again).state == "succeeded" and bench.local.warm.started[1:] == [None]


def test_a_killed_server_ends_the_process_and_not_its_jobs(bench):
    job = bench.submit("steps", "--steps", "15")
    bench.running(job, "progress")
    bench.local.warm._asking.close()  # the system does this for a killed server
    assert bench.local.warm.process.wait(10) == 0
    assert bench.local.alive(bench.get(job)) and bench.finished(job).state == "succeeded"


def test_a_server_that_dies_before_it_knows_of_a_job_has_started_none(bench, tmp_path):
    """The list has no process then, so the next server starts the job: it would run twice."""
    waits, go = os.pipe()
    words = ["steps", "--run-dir", str(tmp_path / "run")]
    with open(tmp_path / "output", "w") as output:
        request = json.dumps([words, dict(os.environ)]).encode()
        socket.send_fds(bench.local.warm._asking, [request], [output.fileno(), waits])
    pid = int(bench.local.warm._asking.recv(64))
    os.close(waits)
    assert not gone(pid)
    os.close(go)
    assert until(lambda: bench.local.warm.status(pid) is not None and gone(pid))
    assert not (tmp_path / "run").exists() and not (tmp_path / "output").read_text()


@pytest.mark.parametrize("differs", ["code", "libraries", "length", "imports"])
def test_in_doubt_a_job_starts_the_ordinary_way(bench, monkeypatch, differs):
    bench.finished(bench.submit("steps", "--pause", "0"))
    if differs == "code":
        monkeypatch.setattr(warm_worker, "_code", frozenset)
    elif differs == "libraries":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif differs == "length":
        monkeypatch.setattr(warm_worker, "LARGEST", 100)
    else:
        monkeypatch.setattr(bench.local.warm, "_ready", False)
    job = bench.submit("steps", "--pause", "0")
    assert bench.finished(job).state == "succeeded"
    assert [fork is not None for fork in bench.local.warm.started] == [True, False]


def test_only_jobs_on_the_cpu_of_a_machine_with_memory_are_forks(monkeypatch, tmp_path):
    monkeypatch.setattr(warm_worker, "ACCELERATORS", (tmp_path / "none",))
    monkeypatch.setattr(warm_worker, "SPARE", 0)
    assert worth_it(Settings())
    others = {"device": "cuda"}, {"warm_jobs": False}, {"no_jobs": "Not here."}
    assert not any(worth_it(Settings(**other)) for other in others)
    monkeypatch.setattr(warm_worker, "SPARE", 1e18)
    assert not worth_it(Settings())
    monkeypatch.setattr(warm_worker, "SPARE", 0)
    monkeypatch.setattr(warm_worker, "ACCELERATORS", (tmp_path,))
    assert not worth_it(Settings())


def test_the_real_one_forks_a_job_that_computes_with_several_threads(tmp_path, monkeypatch):
    """A fork of a process that has computed with OpenMP hangs in its first operation."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    bench = Bench(tmp_path, device="cpu")
    local = bench.scheduler.backends["local"] = LocalBackend()
    local.warm = Remembered("lightreasoner.cli.warm_worker")
    try:
        job = bench.submit("sample", "--problems", "bundled-train", "--limit", "2", "--max-new-tokens", "4")
        assert bench.finished(job).state == "succeeded", local.logs(bench.store.folder(job.id), 2000)
        assert all(local.warm.started)
    finally:
        local.warm.stop()
        bench.close()
