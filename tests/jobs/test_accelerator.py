"""The accelerator: one holder over all processes, free when its holder dies, and people before jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs import accelerator as module
from lightreasoner.jobs.accelerator import AcceleratorLock, WaitCancelled, describe_holder
from lightreasoner.settings import ROOT
from tests.support.job_bench import until

HOLD = """
import sys, threading
from lightreasoner.jobs.accelerator import AcceleratorLock
with AcceleratorLock(sys.argv[1]).acquire("job From elsewhere", job="j" * 22):
    print("held", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A process that holds the accelerator of tmp_path."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


class Waiter(threading.Thread):
    """Waits for the accelerator, holds it until told, and remembers what it saw."""

    def __init__(self, accelerator, who="inspector", interactive=True):
        super().__init__(daemon=True)
        self.accelerator, self.who, self.interactive = accelerator, who, interactive
        self.stop, self.has, self.let_go, self.seen = threading.Event(), threading.Event(), threading.Event(), []
        self.stopped = False

    def run(self):
        try:
            with self.accelerator.acquire(self.who, self.stop, self.seen.append, self.interactive):
                self.has.set()
                assert self.let_go.wait(60)
        except WaitCancelled:
            self.stopped = True


def waiting(accelerator):
    return list((accelerator.folder / "waiting").iterdir()) if (accelerator.folder / "waiting").exists() else []


def test_the_holder_is_known_while_it_holds_and_only_then(tmp_path):
    accelerator = AcceleratorLock(tmp_path / "new")
    assert accelerator.holder() is None
    with accelerator.acquire("inspector"):
        said = accelerator.holder()
        assert said["who"] == "inspector" and said["job"] is None and said["pid"] == os.getpid()
        assert AcceleratorLock(tmp_path / "new").holder() == said  # anybody can read it
    assert accelerator.holder() is None


def test_another_process_is_waited_for_and_its_death_frees_the_lock(tmp_path, elsewhere):
    accelerator = AcceleratorLock(tmp_path)
    assert accelerator.holder()["who"] == "job From elsewhere" and accelerator.holder()["pid"] == elsewhere.pid
    waiter = Waiter(accelerator)
    waiter.start()
    until(lambda: waiter.seen)
    assert waiter.seen[0]["job"] == "j" * 22 and not waiter.has.is_set()
    elsewhere.send_signal(signal.SIGKILL)
    assert waiter.has.wait(30)
    until(lambda: (accelerator.holder() or {}).get("who") == "inspector")  # not what the dead one had said
    waiter.let_go.set()
    waiter.join(30)
    assert accelerator.holder() is None and not waiting(accelerator)


def test_what_a_dead_process_said_is_not_believed(tmp_path, elsewhere):
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    assert (tmp_path / "accelerator" / "holder.json").exists()
    assert AcceleratorLock(tmp_path).holder() is None


def test_a_lock_whose_holder_said_nothing_readable_is_held_by_somebody(tmp_path, elsewhere):
    for text in ("{", "[]", '{"who": "me"}', json.dumps({"who": "me", "job": None, "pid": 1, "mark": "x", "since": 0})):
        (tmp_path / "accelerator" / "holder.json").write_text(text)
        assert AcceleratorLock(tmp_path).holder() == module.UNKNOWN


def test_a_waiting_run_can_be_stopped(tmp_path, elsewhere):
    accelerator = AcceleratorLock(tmp_path)
    waiter = Waiter(accelerator)
    waiter.start()
    until(lambda: waiting(accelerator))
    waiter.stop.set()
    waiter.join(30)
    assert waiter.stopped and not waiter.has.is_set() and not waiting(accelerator)


def test_threads_of_one_process_exclude_each_other(tmp_path):
    inside, most, lock = [0], [0], threading.Lock()

    def take():
        for _ in range(10):
            with AcceleratorLock(tmp_path).acquire("inspector", interactive=True):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == [1]


def test_a_job_lets_people_go_first_and_comes_back(tmp_path):
    accelerator = AcceleratorLock(tmp_path)
    person = Waiter(accelerator)
    with accelerator.acquire("job Sample", job="a") as held:
        assert not held.yield_to_interactive()  # nobody is there
        person.start()
        until(lambda: waiting(accelerator))
        assert not person.has.is_set()
        back = threading.Event()
        threading.Thread(target=lambda: (held.yield_to_interactive(), back.set()), daemon=True).start()
        assert person.has.wait(30) and not back.is_set()
        assert accelerator.holder()["who"] == "inspector"
        person.let_go.set()
        assert back.wait(30)
        assert accelerator.holder()["who"] == "job Sample"
    assert accelerator.holder() is None


def test_a_job_that_waits_does_not_overtake_people(tmp_path):
    accelerator = AcceleratorLock(tmp_path)
    job, person = Waiter(accelerator, "job Sample", interactive=False), Waiter(accelerator)
    with accelerator.acquire("inspector", interactive=True):
        job.start()
        until(lambda: job.seen)
        person.start()
        until(lambda: waiting(accelerator))
    assert person.has.wait(30)
    assert not job.has.is_set()
    person.let_go.set()
    assert job.has.wait(30)
    job.let_go.set()
    job.join(30)


def test_one_person_does_not_make_way_for_another(tmp_path):
    accelerator = AcceleratorLock(tmp_path)
    person = Waiter(accelerator)
    with accelerator.acquire("inspector", interactive=True) as held:
        person.start()
        until(lambda: waiting(accelerator))
        assert not held.yield_to_interactive()
    person.let_go.set()
    person.join(30)


def test_a_person_who_died_waiting_is_not_waited_for(tmp_path):
    """A server that was killed while a trace waited must not hold jobs up for ever."""
    accelerator = AcceleratorLock(tmp_path)
    folder = accelerator.folder / "waiting"
    folder.mkdir(parents=True)
    (folder / "999999999.aaaa.no-such-boot-1").touch()
    (folder / f"{os.getpid()}.aaaa.another-boot-1").touch()  # the pid lives, but as another process
    (folder / "rubbish").touch()
    with accelerator.acquire("job Sample") as held:
        assert not held.yield_to_interactive()
    assert not waiting(accelerator)


def test_a_failure_inside_gives_the_lock_back(tmp_path):
    accelerator = AcceleratorLock(tmp_path)
    with pytest.raises(ZeroDivisionError), accelerator.acquire("inspector"):
        raise ZeroDivisionError
    assert accelerator.holder() is None


def test_a_full_disk_keeps_nobody_from_computing(tmp_path, monkeypatch):
    def full(*_):
        raise UserError("No space left on device")

    monkeypatch.setattr(module, "write_text", full)
    accelerator = AcceleratorLock(tmp_path)
    with accelerator.acquire("inspector"):
        assert accelerator.holder() == module.UNKNOWN


def test_a_workspace_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="LIGHTREASONER_WORKSPACE"), AcceleratorLock(tmp_path / "file").acquire("trace"):
        pytest.fail("it must not be held")


def test_holders_in_a_sentence():
    assert describe_holder({"who": "job Sample 10"}) == "the job “Sample 10”"
    assert describe_holder({"who": "inspector"}) == "a trace in the inspector"
    assert describe_holder(None) == "the accelerator" and describe_holder(module.UNKNOWN) == "another process"
