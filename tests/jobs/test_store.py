"""The job list: every change is all or nothing, whoever else is at it, and damage is named."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs.store import FINISHED, Job, JobStore


@pytest.fixture
def store(tmp_path):
    return JobStore(tmp_path / "jobs" / "jobs.sqlite")


def add(store, name, limit=100, **more):
    argv = ("sample", "--run-dir", f"/runs/{name}", "a b", "ü")
    return store.add(Job(name, "sample", f"Job {name}", argv, Path(f"/runs/{name}"), **more), limit)


def ids(jobs):
    return [job.id for job in jobs]


def test_a_job_comes_back_as_it_went_in(store):
    made = add(store, "a", backend="ray", retry_of="z")
    assert JobStore(store.path).get("a") == made
    assert made.state == "queued" and made.argv[-1] == "ü" and made.run_dir == Path("/runs/a") and made.created > 0
    with pytest.raises(UserError, match="no job"):
        store.get("b")


def test_the_queue_has_an_end(store):
    for name in "abc":
        add(store, name, limit=3)
    with pytest.raises(UserError, match="3 jobs are queued already"):
        add(store, "d", limit=3)
    assert store.claim("me").id == "a"
    add(store, "d", limit=3)  # the one that runs takes no place
    store.change("a", ("running",), state="failed")
    with pytest.raises(UserError, match="queued already"):
        store.requeue("a", ("failed",), 3)
    assert store.get("a").state == "failed"


def test_the_order_can_be_changed(store):
    for name in "abcd":
        add(store, name)
    store.move("d", "first")
    store.move("b", "up")
    store.move("a", "down")
    store.move("d", "up")  # already first
    store.move("c", "down")  # already last
    assert ids(store.jobs()) == ["d", "b", "a", "c"]
    with pytest.raises(UserError, match="up, down or first"):
        store.move("a", "sideways")
    assert store.claim("me").id == "d"
    with pytest.raises(UserError, match="no longer queued"):
        store.move("d", "up")
    add(store, "e")
    assert ids(store.jobs(active=True)) == ["d", "b", "a", "c", "e"]


def test_only_one_job_is_claimed_however_many_ask(store):
    for name in "abcdef":
        add(store, name)
    claimed, gate = [], threading.Barrier(6)

    def claim(n):
        gate.wait()
        claimed.append(JobStore(store.path).claim(f"server {n}"))

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(filter(None, claimed)) == ["a"]
    job = store.get("a")
    assert job.state == "running" and job.attempt == 1 and job.started and job.claimed_by.startswith("server")


def test_threads_that_open_a_new_list_at_once_all_get_in(tmp_path):
    """The first connections all want to switch the file to WAL, which SQLite does not wait for by itself."""
    failed, gate = [], threading.Barrier(8)

    def first(n):
        gate.wait()
        try:
            add(JobStore(tmp_path / "new" / "jobs.sqlite"), f"job{n}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=first, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(JobStore(tmp_path / "new" / "jobs.sqlite").jobs()) == 8


def test_many_at_once_are_never_turned_away(store):
    """Every call opens the file and closes it: whoever comes while the last one closes must wait, not fail."""
    add(store, "a")
    failed = []

    def use(n):
        mine = JobStore(store.path)
        try:
            for turn in range(40):
                mine.change("a", ("queued",), message=f"{n} {turn}") if turn % 4 == 0 else mine.jobs()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_look_at_the_list_ends_no_transaction_of_the_same_process(store):
    """Opening the file beside SQLite and closing it ended the process's locks: a second server wrote at the same time,
    one of the two changes was lost, and a job could run twice."""
    other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.2).execute(sys.argv[2]).fetchall()"

    def as_another_process(sql: str) -> str:
        command = [sys.executable, "-c", other, str(store.path), sql]
        return subprocess.run(command, capture_output=True, text=True).stderr

    add(store, "a")
    with store._transaction() as connection:
        connection.execute("UPDATE jobs SET message = 'mine'")
        JobStore(store.path).jobs()
        assert as_another_process("SELECT count(*) FROM jobs") == ""  # its end would remove the write-ahead log
        assert "database is locked" in as_another_process("BEGIN IMMEDIATE")
    assert store.get("a").message == "mine"


def test_a_change_needs_the_state_it_expects(store):
    add(store, "a")
    assert not store.change("a", ("running",), state="failed")
    assert store.change("a", ("queued", "running"), state="running", pid=7, mark="m")
    seen = store.get("a")
    assert not store.change("a", ("running",), replace(seen, pid=8), state="failed")
    assert not store.change("a", ("running",), replace(seen, attempt=2), state="failed")
    assert store.change("a", ("running",), seen, state="failed", message="x", kept=True)
    assert store.get("a").kept is True and store.get("a").pid == 7
    for wrong in ({"colour": "red"}, {"state": "asleep"}):
        with pytest.raises(TypeError):
            store.change("a", ("failed",), **wrong)


def test_a_job_that_is_queued_again_keeps_nothing_of_its_last_attempt(store):
    add(store, "a")
    add(store, "b")
    store.claim("me")
    store.change("a", ("running",), state="failed", pid=7, mark="m", ended=5.0, message="broke")
    assert store.requeue("a", ("failed",), 20) and not store.requeue("a", ("failed",), 20)
    job = store.get("a")
    assert (job.state, job.pid, job.mark, job.ended, job.message, job.attempt) == ("queued", None, None, None, "", 1)
    assert ids(store.jobs()) == ["b", "a"]
    assert store.claim("me").id == "b"


def test_the_history_is_newest_first_and_as_long_as_asked(store):
    for n, name in enumerate("abc"):
        add(store, name)
        store.change(name, ("queued",), state=FINISHED[n], ended=100.0 + n)
    add(store, "q")
    assert ids(store.jobs()) == ["q", "c", "b", "a"]
    assert ids(store.jobs(active=False, limit=2)) == ["c", "b"] and ids(store.jobs(active=True)) == ["q"]


def test_only_what_has_ended_is_deleted(store):
    add(store, "a")
    assert not store.delete("a")
    store.change("a", ("queued",), state="cancelled")
    assert store.delete("a") and not store.delete("a") and store.jobs() == []


def test_a_change_that_breaks_off_leaves_everything_as_it_was(store):
    add(store, "a")
    with pytest.raises(ZeroDivisionError), store._transaction() as connection:
        connection.execute("UPDATE jobs SET state = 'failed'")
        raise ZeroDivisionError
    assert store.get("a").state == "queued"


ROWS = {
    "row": "UPDATE jobs SET argv = 'no json'",
    "no arguments": "UPDATE jobs SET argv = NULL",
    "a number": "UPDATE jobs SET argv = '5'",
    "no folder": "UPDATE jobs SET run_dir = NULL",
    "a time in words": "UPDATE jobs SET created = 'yesterday'",
    "a column": "ALTER TABLE jobs RENAME COLUMN kept TO held",
}


@pytest.mark.parametrize("damage", ["garbage", "header", *ROWS])
def test_a_damaged_list_is_named_and_not_touched(store, damage):
    """A cell without a value was a traceback, and of a column that is missing it said “Try again in a moment”."""
    add(store, "a")
    if damage in ROWS:
        with sqlite3.connect(store.path) as connection:
            connection.execute(ROWS[damage])
        connection.close()
    else:
        content = store.path.read_bytes()
        store.path.write_bytes(b"not a database " * 100 if damage == "garbage" else content[:100] + b"\xaa" * 5000)
    before = store.path.read_bytes()
    with pytest.raises(UserError, match=r"jobs\.sqlite is damaged.*Move it away"):
        store.jobs()
    if damage not in ROWS:
        with pytest.raises(UserError, match="damaged"):
            add(store, "b")
    assert store.path.read_bytes() == before


def test_a_list_that_cannot_be_opened_is_a_sentence(tmp_path):
    (tmp_path / "jobs.sqlite").mkdir()
    with pytest.raises(UserError, match=r"jobs\.sqlite cannot be used"):
        JobStore(tmp_path / "jobs.sqlite").jobs()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not writable"):
        JobStore(tmp_path / "file" / "jobs.sqlite").jobs()
