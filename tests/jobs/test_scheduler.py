"""The queue with real processes: each job runs once, in its order, and what people ask for is what happens."""

from __future__ import annotations

import os
import sys

import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs import accelerator
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import ACTIVE, FINISHED, JobStore
from lightreasoner.jobs.view import job_view
from lightreasoner.settings import ROOT, Settings
from tests.support.job_bench import Bench, make_scheduler, until


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def output(bench, job):
    return (bench.store.folder(job.id) / OUTPUT_FILE).read_text()


def test_a_job_runs_in_a_session_of_its_own_and_ends_with_its_true_state(bench):
    job = bench.submit("steps", "--steps", "10")
    assert job.state == "queued" and job.argv[0] == "steps" and job.argv[-1] == str(job.run_dir)
    start = bench.running(job)
    running = bench.get(job)
    assert running.state == "running" and (start["pid"], start["mark"]) == (running.pid, running.mark)
    assert start["job"] == job.id and start["attempt"] == 1 and start["by"] == f"{job.id}/1"
    assert os.getsid(running.pid) == running.pid != os.getsid(0)
    assert os.readlink(f"/proc/{running.pid}/fd/0") == "/dev/null"
    done = bench.finished(job)
    assert done.state == "succeeded" and done.ended >= done.started and not done.kept


def test_a_mistake_fails_with_its_sentence(bench):
    job = bench.finished(bench.submit("mistake"))
    assert job.state == "failed" and job.message == "The file problems.jsonl is empty; name another."


def test_a_mistake_before_the_work_began_fails_with_its_sentence(bench):
    job = bench.finished(bench.submit("early"))
    assert job.state == "failed" and job.message == "There is no file nowhere.jsonl; check the path."


def test_a_crash_before_the_work_began_fails_and_its_traceback_is_kept(bench):
    job = bench.finished(bench.submit("crash"))
    assert job.state == "failed" and "before any work began" in job.message
    assert "Traceback" in output(bench, job)


def test_a_bug_fails_with_an_apology_and_its_traceback_is_kept(bench):
    job = bench.finished(bench.submit("bug"))
    assert job.state == "failed" and "An unexpected error occurred" in job.message
    assert "ZeroDivisionError: a bug" in output(bench, job)


def test_a_program_that_is_not_there_fails_the_job_and_not_the_queue(bench):
    bench.scheduler.backends["local"] = LocalBackend(("/nowhere/python",))
    job = bench.finished(bench.submit("steps"))
    assert job.state == "failed" and "could not be started: No such file" in job.message
    bench.scheduler.backends["nowhere"] = bench.scheduler.backends.pop("local")
    job = bench.finished(bench.scheduler.submit("steps", [], "steps", bench.workspace / "lost", backend="local"))
    assert job.state == "failed" and "has no backend 'local'" in job.message


def test_jobs_run_one_after_the_other_in_the_order_of_the_queue(bench):
    jobs = [bench.submit("log", run=name) for name in "abcd"]
    bench.store.move(jobs[3].id, "first")
    while any(bench.get(job).state not in FINISHED for job in jobs):
        bench.scheduler.tick()
        assert len([job for job in bench.store.jobs(active=True) if job.state in ACTIVE]) <= 1
    assert (bench.settings.runs / "ran.txt").read_text().split() == ["d", "a", "b", "c"]


def test_two_servers_on_one_workspace_run_each_job_exactly_once(bench):
    """And a third looks on from here. Each job writes its name into one file."""
    jobs = [bench.submit("log", run=f"job{n:02}") for n in range(16)]
    bench.server()
    bench.server()
    scheduler = bench.scheduler.start()
    try:
        until(lambda: all(bench.get(job).state in FINISHED for job in jobs), "the end of the queue")
    finally:
        scheduler.close()
    assert {(bench.get(job).state, bench.get(job).attempt) for job in jobs} == {("succeeded", 1)}
    ran = (bench.settings.runs / "ran.txt").read_text().split()
    assert ran == [f"job{n:02}" for n in range(16)]
    assert len({bench.get(job).claimed_by for job in jobs}) > 1  # they did share the work


def test_the_queue_is_bounded(tmp_path):
    bench = Bench(tmp_path, max_queued=2)
    first, _ = bench.submit("steps"), bench.submit("steps")
    with pytest.raises(UserError, match="2 jobs are queued already"):
        bench.submit("steps")
    bench.scheduler.cancel(first.id)
    bench.submit("steps")
    with pytest.raises(UserError, match="queued already"):
        bench.scheduler.resume(first.id)
    with pytest.raises(UserError, match="queued already"):
        bench.scheduler.retry(first.id)


def test_stop_and_keep_then_resume_does_the_rest(bench):
    job = bench.submit("steps", "--steps", "40", "--pause", "0.05")
    bench.running(job, "progress")
    assert bench.scheduler.keep(job.id).state == "running"
    kept = bench.finished(job)
    assert kept.state == "succeeded" and kept.kept and kept.message.startswith("Stopped early")
    counted = len((job.run_dir / "counted.txt").read_text().split())
    assert 0 < counted < 40
    again = bench.scheduler.resume(job.id)
    assert again.id == job.id and again.state == "queued" and again.message == "" and not again.kept
    done = bench.finished(job)
    assert done.state == "succeeded" and not done.kept and done.attempt == 2
    assert (job.run_dir / "counted.txt").read_text().split() == [str(n) for n in range(40)]
    assert output(bench, job).count("=== attempt") == 2
    with pytest.raises(UserError, match="cannot be resumed"):
        bench.scheduler.resume(job.id)


def test_a_stop_that_came_too_late_does_not_stop_the_next_attempt(bench):
    job = bench.finished(bench.submit("mistake"))
    (job.run_dir / "stop").write_text("cancel")  # written as the process ended
    bench.scheduler.resume(job.id)
    assert bench.finished(job).state == "failed"


def test_retry_is_a_new_job_with_a_folder_of_its_own(bench):
    job = bench.finished(bench.submit("steps", "--steps", "2", "--pause", "0"))
    again = bench.scheduler.retry(job.id)
    assert again.retry_of == job.id and again.id != job.id and again.title == job.title
    assert again.run_dir != job.run_dir and again.run_dir.parent == job.run_dir.parent
    assert again.argv == tuple(str(again.run_dir) if w == str(job.run_dir) else w for w in job.argv)
    assert bench.finished(again).state == "succeeded"
    assert (again.run_dir / "counted.txt").exists() and bench.get(job) == job


def test_what_makes_no_sense_is_refused_with_a_sentence(bench):
    job = bench.submit("steps", "--steps", "300")
    scheduler = bench.scheduler
    for ask, word in ((scheduler.keep, "queued"), (scheduler.retry, "queued"), (scheduler.resume, "queued")):
        with pytest.raises(UserError, match=word):
            ask(job.id)
    with pytest.raises(UserError, match="is queued; cancel it first"):
        scheduler.delete(job.id)
    bench.running(job)
    for ask in (scheduler.retry, scheduler.resume, scheduler.delete):
        with pytest.raises(UserError, match="running"):
            ask(job.id)
    scheduler.cancel(job.id)
    scheduler.cancel(job.id)  # asking twice is no mistake
    assert bench.finished(job).state == "cancelled"
    scheduler.cancel(job.id)  # nor is asking for what has happened
    done = bench.finished(bench.submit("steps", "--steps", "1"))
    with pytest.raises(UserError, match=r"ended already \(succeeded\)"):
        scheduler.cancel(done.id)
    for ask in (scheduler.cancel, scheduler.keep, scheduler.retry, scheduler.resume, scheduler.delete):
        with pytest.raises(UserError, match="no job"):
            ask("x" * 22)


def test_deleting_forgets_the_job_and_keeps_the_run(bench):
    job = bench.finished(bench.submit("steps", "--steps", "1"))
    assert bench.store.folder(job.id).exists()
    bench.scheduler.delete(job.id)
    assert not bench.store.folder(job.id).exists() and (job.run_dir / "counted.txt").exists()
    assert bench.store.jobs() == []


def test_titles_and_arguments_of_any_kind_arrive_as_they_are(bench):
    strange = ["--pause", "0", "--steps", "1"]
    folder = bench.settings.runs / "with space; $(touch x) 'and' ünïcode"
    job = bench.scheduler.submit("steps", strange, "A\x1b[2Jtitle\n" + "x" * 500, folder)
    assert "\x1b" not in job.title and "\n" not in job.title and len(job.title) == 200
    assert bench.finished(job).state == "succeeded" and (folder / "counted.txt").exists()
    nul = bench.scheduler.submit("steps", ["--pause", "a\0b"], "NUL", bench.settings.runs / "nul")
    assert bench.finished(nul).state == "failed"


def test_a_closed_scheduler_leaves_its_job_running_and_the_next_one_finds_it(bench):
    job = bench.submit("steps", "--steps", "20")
    bench.scheduler.start()
    until(lambda: bench.said(bench.get(job), "progress"))
    bench.scheduler.close()
    pid = bench.get(job).pid
    bench.scheduler = make_scheduler(bench.workspace)
    assert bench.get(job).pid == pid
    assert bench.finished(job).state == "succeeded" and bench.get(job).attempt == 1


def test_the_scheduler_survives_a_list_that_breaks_and_says_so(bench, caplog):
    bench.scheduler.start()
    try:
        job = bench.submit("steps", "--steps", "1")
        until(lambda: bench.get(job).state == "succeeded")
        whole, aside = bench.store.path, bench.workspace / "aside"
        bench.scheduler._one_at_a_time.acquire()  # between two ticks
        os.replace(whole, aside)
        whole.write_bytes(b"garbage " * 1000)
        bench.scheduler._one_at_a_time.release()
        trouble = until(lambda: bench.scheduler.trouble)
        assert "jobs.sqlite is damaged" in trouble and caplog.text.count("is blocked") == 1
        os.replace(aside, whole)
        until(lambda: bench.scheduler.trouble is None)
        assert bench.get(job).state == "succeeded"
    finally:
        bench.scheduler.close()


def test_jobs_see_the_settings_of_their_server(tmp_path):
    code = "import os; print({k: v for k, v in os.environ.items() if k.startswith('LIGHTREASONER_')})"
    relative = os.path.relpath(tmp_path, os.getcwd())
    bench = Bench(tmp_path, max_queued=7)
    backend = LocalBackend((sys.executable, "-c", code))
    bench.scheduler = make_scheduler(type(tmp_path)(relative), backend, max_queued=7, dtype="float32")
    job = bench.finished(bench.submit("anything"))
    assert job.state == "succeeded"  # no events, but its exit status is 0
    printed = eval(output(bench, job).splitlines()[-1])
    assert printed["LIGHTREASONER_WORKSPACE"] == str(tmp_path)  # jobs run in ROOT, wherever the server was started
    assert printed["LIGHTREASONER_DTYPE"] == "float32" and printed["LIGHTREASONER_JOB"] == f"{job.id}/1"
    assert str(ROOT) not in job.argv


def test_every_gpu_of_a_machine_runs_a_job_of_its_own(tmp_path, monkeypatch):
    """One lease and one job ran at a time, whatever the number of GPUs. CUDA_VISIBLE_DEVICES hides some from torch."""
    monkeypatch.setattr(accelerator, "NVIDIA", tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    started = {}

    class Backend:
        def submit(self, job, folder, env):
            started[job.id] = env["LIGHTREASONER_DEVICE"]
            return 1, "mark"

        def alive(self, job):
            return job.id not in ended

        def status(self, job):
            return 0

        def kill(self, job):
            pass

        def logs(self, folder, size):
            return ""

    monkeypatch.setattr("lightreasoner.jobs.scheduler.runs_elsewhere", lambda job: None)
    settings, ended = Settings(workspace=tmp_path), []
    jobs = Scheduler(JobStore(settings.jobs / "jobs.sqlite"), {"local": Backend()}, settings)
    first, second, third = (jobs.submit("sample", [], title) for title in "abc")
    for _ in range(4):
        jobs.tick()
    assert started == {first.id: "cuda:1,cuda:0", second.id: "cuda:0,cuda:1"}  # its own, and for what has no room there
    view = job_view(jobs.store, jobs.store.get(first.id))
    assert view["device"] == "cuda:1" and view["status"].endswith("(on cuda:1)")
    ended.append(first.id)
    jobs.tick(), jobs.tick()
    assert started[third.id] == "cuda:1,cuda:0"
    locks = {
        AcceleratorLock(tmp_path, device).path.name
        for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:1,cuda:0")
    }
    assert locks == {"accelerator.lock", "accelerator-1.lock"}
    with AcceleratorLock(tmp_path, "cuda:0").acquire("a"), AcceleratorLock(tmp_path, "cuda:1").acquire("b"):
        pass
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert accelerator.job_devices(settings) == ("auto",)
    assert accelerator.job_devices(Settings(device="cuda:1")) == ("cuda:1",)
