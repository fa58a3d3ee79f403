"""Jobs on a real Ray cluster: started, followed, stopped, and not lost when the cluster is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs.ray import RayBackend, backends, gpus_of_a_job
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import JobStore
from lightreasoner.settings import Settings
from tests.support.browser import free_port

SAMPLE = ["--problems", "bundled-train", "--limit", "8", "--max-new-tokens", "16"]
LONG = ["--problems", "bundled-train", "--samples-per-problem", "50", "--temperature", "1", "--batch-size", "1"]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The address of a cluster's dashboard; the cluster is gone afterwards."""
    ports = [free_port() for _ in range(3)]
    place = tmp_path_factory.mktemp("r")
    ray = [str(Path(sys.executable).with_name("ray"))]
    options = ["--head", "--num-cpus", "2", "--port", str(ports[0]), "--dashboard-port", str(ports[1])]
    options += ["--dashboard-agent-listen-port", str(ports[2]), "--disable-usage-stats", "--include-dashboard=true"]
    env = os.environ | {"RAY_TMPDIR": f"/tmp/r{os.getpid()}", "PYTHONPATH": ""}
    with open(place / "ray.log", "w") as log:
        process = subprocess.Popen([*ray, "start", *options, "--block"], env=env, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{ports[1]}"
    process.terminate()
    process.wait(60)


@pytest.fixture
def scheduler(head, tmp_path):
    settings = Settings(workspace=tmp_path / "workspace", device="cpu", ray_address=head)
    return Scheduler(JobStore(settings.jobs / "jobs.sqlite"), backends(settings), settings)


def follow(scheduler: Scheduler, job_id: str, *states: str, seconds: float = 120):
    until = time.monotonic() + seconds
    while (job := scheduler.store.get(job_id)).state not in states:
        assert time.monotonic() < until, (
            job,
            scheduler.backends[job.backend].logs(scheduler.store.folder(job_id), 4000),
        )
        scheduler.tick()
        time.sleep(0.3)
    return job


def test_a_job_runs_there_and_a_cancelled_one_stops(scheduler, head):
    until = time.monotonic() + 90
    while True:  # a dashboard takes its time
        try:
            RayBackend(head)._jobs().list_jobs()
            break
        except (UserError, OSError, RuntimeError):
            assert time.monotonic() < until
            time.sleep(0.5)
    job = scheduler.submit("sample", SAMPLE, "eight problems", scheduler.settings.runs / "one")
    assert job.backend == "ray", "the cluster that is named is where jobs go"
    done = follow(scheduler, job.id, "succeeded", "failed", "interrupted")
    assert done.state == "succeeded", done.message
    assert (done.run_dir / "trajectories" / "000000.parquet").is_file()
    assert "8 problems" in scheduler.backends["ray"].logs(scheduler.store.folder(job.id), 4000)

    endless = scheduler.submit("sample", LONG, "many", scheduler.settings.runs / "two")
    follow(scheduler, endless.id, "running")
    until = time.monotonic() + 60
    while not list((endless.run_dir).glob("trajectories/*.parquet")):
        assert time.monotonic() < until
        time.sleep(0.2)
    scheduler.cancel(endless.id)
    assert follow(scheduler, endless.id, "cancelled", "failed").state == "cancelled"
    assert not scheduler.backends["ray"].alive(scheduler.store.get(endless.id))


def test_a_cluster_that_cannot_be_reached_is_one_sentence(tmp_path):
    settings = Settings(workspace=tmp_path, ray_address="127.0.0.1:9")
    scheduler = Scheduler(JobStore(settings.jobs / "jobs.sqlite"), backends(settings), settings)
    job = scheduler.submit("sample", SAMPLE, "eight problems", settings.runs / "one")
    scheduler.tick()
    job = scheduler.store.get(job.id)
    assert job.state == "failed" and "No Ray cluster answers at 127.0.0.1:9" in job.message


def test_without_a_cluster_jobs_run_here():
    assert list(backends(Settings())) == ["local"] == list(backends(Settings(ray_address="local")))
    with pytest.raises(UserError, match="No Ray cluster answers"):
        RayBackend("127.0.0.1:9")._jobs()


@pytest.mark.parametrize(
    ("device", "nodes", "gpus"),
    [
        ("auto", [{"CPU": 8.0, "GPU": 2.0}], 1),
        ("auto", [{"CPU": 8.0}, {}], None),
        ("cpu", [{"GPU": 2.0}], None),
        ("auto", None, None),
        ("cuda", None, 1),
    ],
)
def test_a_job_asks_for_a_gpu_where_the_cluster_has_one(monkeypatch, device, nodes, gpus):
    """Without asking, Ray hides every GPU from a job, or lets several share one."""
    state = pytest.importorskip("ray.util.state")

    def list_nodes(address, timeout):
        assert address == "http://head:8265"
        if nodes is None:
            raise RuntimeError("no state API")
        return [SimpleNamespace(resources_total=resources) for resources in nodes]

    monkeypatch.setattr(state, "list_nodes", list_nodes)
    assert gpus_of_a_job(device, SimpleNamespace(get_address=lambda: "http://head:8265")) == gpus
