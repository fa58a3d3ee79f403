"""From a queued job to a dataset, with the real command line: killed, found interrupted, resumed, whole."""

from __future__ import annotations

import json
import os
import signal

import pytest

from lightreasoner.datasets.trajectories import rows, shards
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.view import job_view
from tests.support.job_bench import Bench, until
from tests.support.tiny_models import save_tiny

PROBLEMS = 24


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, device="cpu")
    bench.scheduler.backends["local"] = LocalBackend()
    yield bench
    bench.close()


def test_a_sampling_job_killed_in_the_middle_resumes_to_a_whole_dataset(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    models = [str(save_tiny(tmp_path / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"How much is {n} + {n}?"}) + "\n" for n in range(PROBLEMS)))
    argv = ["--expert", models[0], "--amateur", models[1], "--problems", str(problems)]
    job = bench.submit("sample", *argv, "--batch-size", "2", "--max-new-tokens", "100", "--beta-floor", "0")

    def some_are_there():
        bench.scheduler.tick()
        return shards(job.run_dir) or bench.get(job).ended

    until(some_are_there, "the first batch")
    os.kill(bench.get(job).pid, signal.SIGKILL)
    dead = bench.finished(job)
    done_before = {path: path.stat().st_mtime_ns for path in shards(job.run_dir)}
    assert dead.state == "interrupted" and 0 < len(done_before) < PROBLEMS // 2

    bench.scheduler.resume(job.id)
    done = bench.finished(job)
    assert (done.state, done.attempt) == ("succeeded", 2), done.message
    assert sorted(row["question"] for row in rows(job.run_dir)) == sorted(
        json.loads(line)["question"] for line in problems.read_text().splitlines()
    )
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before  # nothing was done twice
    view = job_view(bench.store, done)
    assert view["fraction"] == 1.0 and view["result"] and "resume" not in view["actions"]
    assert view["command"].startswith("python -m lightreasoner sample --expert")
