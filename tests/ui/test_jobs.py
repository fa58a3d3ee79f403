"""The calls of the Jobs tab as plain functions, also with forged arguments."""

from __future__ import annotations

import json
import re
import time

import pytest

from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.context import STOP_FILE
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.settings import ASSETS
from lightreasoner.storage.atomic import new_id
from tests.support.job_bench import Bench
from ui.jobs.calls import ACTIONS, LINE, Jobs

FORGED = [None, 7, 1.5, True, [], ["a"], {}, {"a": 1}, "", " ", "x" * 22, "../../../etc/passwd", "a" * 10_000, "\x00"]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def jobs(bench):
    return Jobs(bench.scheduler)


def call(jobs, name, *arguments):
    """A call as from the page, with the answer through JSON."""
    answer = dict(zip(("look", "act", "header_status"), jobs.calls, strict=True))[name](list(arguments))
    return json.loads(json.dumps(answer, allow_nan=False))


def look(jobs, limit=50, opened=None, seen=None):
    return call(jobs, "look", limit, opened, seen)


def act(jobs, job_id, action, opened=None):
    return call(jobs, "act", job_id, action, 50, opened, {})


def begin(bench, job, done=2, total=5, **numbers):
    """A job that runs according to its row and log, without a process."""
    assert bench.store.claim("me").id == job.id
    log = EventLog(job.run_dir / EVENTS_FILE, by=bench.get(job).token)
    log.append("start", pid=1, mark="m", keeps=True, resumes=True)
    log.append("progress", done=done, total=total, status="Counting", **numbers)
    log.close()


def end(bench, job, state="succeeded", message=""):
    begin(bench, job)
    bench.store.change(job.id, ("running",), state=state, message=message, ended=time.time())


def ids(views):
    return [view["id"] for view in views]


def test_an_empty_workspace_has_an_answer(jobs):
    answer = look(jobs)
    assert answer["active"] == answer["past"] == [] and not answer["more"]
    assert answer["summary"] == {"running": None, "queued": 0, "holder": None, "ended": []}
    assert call(jobs, "header_status", None) == answer["summary"]


def test_the_list_is_running_then_queued_then_finished(jobs, bench):
    old, failed, running, first, second = (bench.submit("steps") for _ in range(5))
    end(bench, old)
    end(bench, failed, "failed", "The disk is full; free some space.")
    begin(bench, running)
    answer = look(jobs)
    assert ids(answer["active"]) == [running.id, first.id, second.id]
    assert [view["position"] for view in answer["active"]] == [None, 1, 2]
    assert ids(answer["past"]) == [failed.id, old.id]
    assert answer["past"][0]["message"] == "The disk is full; free some space."
    assert answer["active"][0]["fraction"] == 0.4
    assert all(view.keys() == set(LINE) for view in answer["active"] + answer["past"])
    summary = answer["summary"]
    assert (summary["running"]["id"], summary["running"]["fraction"], summary["queued"]) == (running.id, 0.4, 2)
    assert call(jobs, "header_status", None) == summary


def test_the_header_learns_which_jobs_have_ended(jobs, bench):
    job = bench.submit("steps")
    end(bench, job, "failed", "The disk is full.")
    (told,) = call(jobs, "header_status", None)["ended"]
    assert (told["id"], told["state"], told["message"]) == (job.id, "failed", "The disk is full.") and told["ended"]
    assert look(jobs)["summary"]["ended"] == [told]


def test_a_line_has_the_actions_of_its_job(jobs, bench):
    """Move and Cancel were hidden until a job's row was opened."""
    running, first, second = (bench.submit("steps") for _ in range(3))
    begin(bench, running)
    actions = {view["id"]: view["actions"] for view in look(jobs)["active"]}
    assert actions[running.id] == ["keep", "cancel"]
    assert (actions[first.id], actions[second.id]) == (["down", "cancel"], ["up", "first", "cancel"])


def test_the_history_comes_in_pages(jobs, bench):
    made = [bench.submit("steps") for _ in range(5)]
    for job in made:
        end(bench, job)
    answer = look(jobs, limit=3)
    assert ids(answer["past"]) == ids_of(made[:1:-1]) and answer["more"]
    answer = look(jobs, limit=5)
    assert ids(answer["past"]) == ids_of(made[::-1]) and not answer["more"]


def ids_of(made):
    return [job.id for job in made]


def test_the_opened_job_comes_in_full_with_the_end_of_its_log(jobs, bench):
    job = bench.submit("steps", "--steps", "5")
    begin(bench, job, square=4)
    folder = bench.store.folder(job.id)
    folder.mkdir(parents=True)
    (folder / OUTPUT_FILE).write_text("<b>{{x}}</b>\nlast line\n")
    answer = look(jobs, opened=job.id)
    assert answer["log"].endswith("<b>{{x}}</b>\nlast line\n")
    assert answer["opened"]["numbers"] == {"square": 4}
    assert answer["opened"]["command"].startswith("python -m lightreasoner steps --steps 5")
    assert answer["opened"]["actions"] == ["keep", "cancel"]


def test_a_job_without_a_run_offers_nothing_to_open(jobs, bench):
    """Regression: a job that failed at once offered its dataset, which did not exist."""
    job = bench.submit("sample", "--problems", "nowhere.jsonl")
    end(bench, job, "failed", "There is no file nowhere.jsonl.")
    assert look(jobs, opened=job.id)["opened"]["made"] is False
    (job.run_dir / "run.json").write_text("{}")
    assert look(jobs, opened=job.id)["opened"]["made"] is True


def test_unchanged_parts_are_not_sent_again(jobs, bench):
    job = bench.submit("steps")
    end(bench, job)
    folder = bench.store.folder(job.id)
    folder.mkdir(parents=True)
    (folder / OUTPUT_FILE).write_text("one\n")
    first = look(jobs, opened=job.id)
    again = look(jobs, opened=job.id, seen=first["marks"])
    assert "past" in first and "past" not in again and "log" in first and "log" not in again
    (folder / OUTPUT_FILE).write_text("one\ntwo\n")
    grown = look(jobs, opened=job.id, seen=first["marks"])
    assert grown["log"] == "one\ntwo\n" and "past" not in grown


def test_a_link_to_a_deleted_job_gets_an_error_beside_the_list(jobs, bench):
    job = bench.submit("steps")
    for opened in (new_id(), "../x", "<img src=x>", ["a"], 7):
        answer = look(jobs, opened=opened)
        assert "job" in answer["missing"] and "opened" not in answer
        assert ids(answer["active"]) == [job.id]


@pytest.mark.parametrize("forged", FORGED)
def test_forged_calls_get_an_error_and_change_nothing(jobs, bench, forged):
    job = bench.submit("steps")
    before = bench.get(job)
    for answer in (
        act(jobs, forged, "cancel"),
        act(jobs, job.id, forged),
        *(call(jobs, name, forged) for name in ("look", "act")),
        *([] if forged in (7, True) else [look(jobs, limit=forged)]),
    ):
        assert isinstance(answer["error"], str) and len(answer["error"]) < 300
        assert "unexpected error" not in answer["error"] and str(bench.workspace) not in answer["error"]
    assert "error" not in look(jobs, seen=forged)
    assert bench.get(job) == before


@pytest.mark.parametrize("limit", [0, -1, 10**9, 1.5, float("nan"), float("inf"), True, "7"])
def test_invalid_limits_get_an_error(jobs, limit):
    answer = jobs.calls[0]([limit, None, {}])
    assert "number of jobs" in answer["error"]


def test_every_action_is_known_to_the_page():
    """Every action has a label in the script, and every label an action."""
    text = (ASSETS / "js" / "jobs" / "states.js").read_text(encoding="utf-8")
    table = text[text.index("const ACTIONS = {") :].partition("};")[0]
    assert set(re.findall(r"^  (\w+): \{", table, re.MULTILINE)) == set(ACTIONS)


def test_the_queue_can_be_reordered(jobs, bench):
    a, b, c = (bench.submit("steps") for _ in range(3))
    assert ids(act(jobs, c.id, "first")["active"]) == ids_of([c, a, b])
    assert ids(act(jobs, b.id, "up")["active"]) == ids_of([c, b, a])
    assert ids(act(jobs, c.id, "down")["active"]) == ids_of([b, c, a])
    assert "error" in act(jobs, b.id, "up") and "error" in act(jobs, a.id, "down")


def test_cancel_keep_and_delete(jobs, bench):
    running, queued = bench.submit("steps"), bench.submit("steps")
    begin(bench, running)
    assert "error" in act(jobs, running.id, "delete")
    assert ids(act(jobs, queued.id, "cancel")["past"]) == [queued.id]
    answer = act(jobs, queued.id, "delete", opened=queued.id)
    assert answer["past"] == [] and "missing" not in answer
    answer = act(jobs, running.id, "keep", opened=running.id)
    assert answer["opened"]["actions"] == ["cancel"]
    assert answer["opened"]["status"] == "Stopping at the next checkpoint"
    assert (running.run_dir / STOP_FILE).read_text() == "keep\n"
    [view] = act(jobs, running.id, "cancel")["active"]
    assert view["state"] == "stopping"
    assert "no longer possible" in act(jobs, running.id, "cancel")["error"]


def test_run_again_opens_the_new_job_and_resume_the_old_one(jobs, bench):
    job = bench.submit("steps", "--steps", "9")
    end(bench, job, "interrupted", "Its process is gone.")
    answer = act(jobs, job.id, "retry", opened=job.id)
    assert answer["made"] != job.id and answer["opened"]["id"] == answer["made"]
    assert answer["opened"]["command"].count(answer["opened"]["run"]) == 1
    answer = act(jobs, job.id, "resume", opened=job.id)
    assert answer["made"] is None and answer["opened"]["state"] == "queued"
    assert len(answer["active"]) == 2 and answer["past"] == []


def test_a_full_queue_is_an_error(tmp_path):
    bench = Bench(tmp_path, max_queued=1)
    job = bench.submit("steps")
    end(bench, job)
    bench.submit("steps")
    assert "queued already" in act(Jobs(bench.scheduler), job.id, "retry")["error"]


def test_the_holder_of_the_accelerator_is_named_also_if_it_is_the_inspector(jobs):
    with jobs.accelerator.acquire("inspector", interactive=True):
        assert look(jobs)["summary"]["holder"]["who"] == "a trace in the inspector"
    assert look(jobs)["summary"]["holder"] is None


def test_a_damaged_list_and_a_stalled_queue_are_reported(jobs, bench):
    bench.scheduler.trouble = "The disk is full; free some space."
    assert look(jobs)["trouble"] == "The disk is full; free some space."
    bench.store.path.write_bytes(b"not a database" * 1000)
    assert "damaged" in look(jobs)["error"] and "damaged" in call(jobs, "header_status", None)["error"]
