"""The verb jobs: the same queue from a terminal, with and without a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lightreasoner.cli.main import main
from lightreasoner.jobs import ray as ray_jobs
from lightreasoner.jobs import scheduler
from lightreasoner.jobs.local import LocalBackend
from tests.support.job_bench import SCRIPT, Bench, until


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def jobs(bench, capsys, monkeypatch):
    """jobs("list") runs the command line here; what it starts are the tests' scripts."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(bench.workspace))
    monkeypatch.setattr(ray_jobs, "LocalBackend", lambda: LocalBackend(SCRIPT))

    def run(*arguments):
        try:
            code = main(["jobs", *arguments])
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def test_an_empty_workspace(jobs):
    assert jobs("list").out == "No jobs yet.\n" and json.loads(jobs("list", "--json").out) == []


def test_list_and_show(jobs, bench):
    done = bench.finished(bench.submit("steps", "--steps", "2", "--pause", "0"))
    waiting = bench.submit("steps")
    lines = jobs("list").out.splitlines()
    assert lines[0].startswith(waiting.id[:8]) and "queued" in lines[0]
    assert lines[1].startswith(done.id[:8]) and "succeeded" in lines[1] and "100%" in lines[1]
    assert [view["id"] for view in json.loads(jobs("list", "--json").out)] == [waiting.id, done.id]
    view = json.loads(jobs("show", done.id[:10], "--json").out)
    assert view["result"] == {"counted": 2} and view["command"].startswith("python -m lightreasoner steps")
    plain = jobs("show", done.id).out
    assert view["command"] in plain and "succeeded" in plain


def test_an_id_that_is_none_or_several_is_a_sentence(jobs, bench):
    bench.submit("steps")
    for command in ("show", "logs", "cancel", "retry", "resume"):
        done = jobs(command, "!")
        assert done.code == 2 and "No job's id begins with" in done.err and len(done.err.splitlines()) == 1
    bench.submit("steps")
    assert "2 jobs begin with" in jobs("show", "").err


def test_retry_and_resume_say_when_nobody_will_run_the_queue(jobs, bench):
    failed = bench.finished(bench.submit("mistake"))
    done = jobs("resume", failed.id)
    assert done.code == 0 and f"{failed.id}  queued" in done.out and "jobs run" in done.err
    assert jobs("cancel", failed.id).out == f"{failed.id}  cancelled\n"
    bench.scheduler.start()
    try:
        done = jobs("retry", failed.id)
        assert done.code == 0 and done.err == ""
    finally:
        bench.scheduler.close()
    new = bench.store.get(done.out.split()[0])
    assert new.retry_of == failed.id


def test_run_works_the_queue_off_in_the_foreground(jobs, bench):
    first, second = bench.submit("steps", "--steps", "1"), bench.submit("mistake")
    done = jobs("run")
    assert done.code == 0 and bench.get(first).state == "succeeded" and bench.get(second).state == "failed"
    assert "succeeded" in done.out and "is empty; name another" in done.out
    assert not list((bench.settings.jobs / "servers").iterdir())


def test_cancel_ends_a_job_without_any_server(jobs, bench, monkeypatch):
    monkeypatch.setattr(scheduler, "TERM_AFTER", 0.2)
    job = bench.submit("deaf")
    server = bench.server()
    until(lambda: bench.said(bench.get(job), "status"))
    server.kill()
    server.wait()
    assert jobs("cancel", job.id).out == f"{job.id}  cancelled\n"


def test_logs_follow_until_the_end(jobs, bench):
    job = bench.submit("steps", "--steps", "5")
    bench.server()
    until(lambda: bench.get(job).pid)
    followed = jobs("logs", job.id, "--follow").out
    assert followed.count("=== attempt 1") == 1 and bench.get(job).state == "succeeded"
    assert jobs("logs", job.id).out == followed + "\n"


def test_a_jobs_control_characters_do_not_reach_the_terminal(jobs, bench):
    job = bench.finished(bench.submit("steps", "--steps", "1"))
    with open(bench.store.folder(job.id) / "output.log", "a") as file:
        file.write("\x1b[2J\x07")
    for follow in ((), ("--follow",)):
        out = jobs("logs", job.id, *follow).out
        assert "\x1b" not in out and "\\x1b[2J" in out


def test_a_state_that_nobody_noticed_is_put_right(jobs, bench):
    job = bench.submit("steps", "--steps", "1000")
    server = bench.server()
    until(lambda: bench.said(bench.get(job), "progress"))
    server.kill()
    server.wait()
    bench.scheduler.backends["local"]._signal(bench.get(job), signal.SIGKILL)
    assert until(lambda: json.loads(jobs("show", job.id, "--json").out)["state"] != "running")
    assert bench.get(job).state == "interrupted"


def test_it_does_not_wait_for_the_model_libraries():
    """Nor do push and pull: a constant that they share with adapters once brought in two seconds of imports."""
    modules = "lightreasoner.cli.jobs, lightreasoner.publishing.push, lightreasoner.publishing.pull"
    code = f"import sys, {modules}; print({{'torch', 'gradio', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
