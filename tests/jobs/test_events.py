"""The event log: lines that stay readable whatever happens to who writes them."""

from __future__ import annotations

import json
import os
import threading
import time

import numpy as np
import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs import events
from lightreasoner.jobs.events import EventLog, EventTail, last_event, read_events, reversed_events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "events.jsonl"


def test_events_come_back_in_order_with_their_clocks(path):
    log = EventLog(path, by="a/1")
    log.append("start", pid=7)
    log.append("progress", done=1, total=None)
    log.append("note", text="ein\nZeilenumbruch  und \ud800")
    found = read_events(path)
    assert [e["seq"] for e in found] == [1, 2, 3] and [e["kind"] for e in found] == ["start", "progress", "note"]
    assert found[0]["by"] == "a/1" and found[0]["pid"] == 7 and found[1]["total"] is None
    assert found[2]["text"].startswith("ein\nZeilenumbruch")
    assert 0 <= found[0]["elapsed"] <= found[1]["elapsed"] and abs(found[0]["time"] - time.time()) < 60
    assert len(path.read_bytes().splitlines()) == 3
    assert read_events(path, after=2) == found[2:]


def test_data_cannot_pass_itself_off_as_the_head(path):
    event = EventLog(path).append("status", seq=99, elapsed=-1, text="x")
    assert event["seq"] == 1 and event["elapsed"] >= 0 and event["text"] == "x"


def test_numbers_that_are_not_finite_become_null_and_arrays_lists(path):
    EventLog(path).append(
        "progress",
        nan=float("nan"),
        inf=-np.inf,
        nested={"x": [1.5, float("inf")]},
        counts=np.array([1.0, np.nan]),
        n=np.int64(3),
    )
    event = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert event["nan"] is None and event["inf"] is None and event["nested"] == {"x": [1.5, None]}
    assert event["counts"] == [1.0, None] and event["n"] == 3


def test_a_new_writer_goes_on_counting_after_a_torn_last_line(path):
    log = EventLog(path)
    log.append("start")
    log.append("progress", done=1)
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.index(b"\n"), -1):  # torn anywhere in the second line
        path.write_bytes(whole[:cut])
        assert [e["seq"] for e in read_events(path)] == ([1, 2] if cut == len(whole) - 1 else [1])
        EventLog(path).append("start")
        found = read_events(path)
        assert found[-1]["kind"] == "start" and found[-1]["seq"] == found[-2]["seq"] + 1, cut
        assert [e["seq"] for e in found] == sorted({e["seq"] for e in found})


def test_lines_that_are_no_events_are_skipped(path):
    EventLog(path).append("start")
    with open(path, "ab") as file:
        file.write(
            b'\x00\x00\x00\n[1, 2]\n{"seq": "x", "kind": "y"}\n\xff\xfe\n{"seq": NaN}\n' + b"[" * 100_000 + b"\n"
        )
    EventLog(path).append("end")
    assert [e["kind"] for e in read_events(path)] == ["start", "end"]
    assert [e["kind"] for e in reversed_events(path)] == ["end", "start"]
    assert [e["seq"] for e in read_events(path)] == [1, 2]


def test_a_missing_file_has_no_events(path):
    assert read_events(path) == [] and EventTail(path).new() == [] and last_event(path) is None


def test_backwards_crosses_its_blocks(path, monkeypatch):
    log = EventLog(path)
    for n in range(50):
        log.append("progress", done=n, text="x" * (n * 7 % 90))
    for block in (1, 7, 100, 1000, 1 << 16):
        monkeypatch.setattr(events, "BLOCK", block)
        assert [e["done"] for e in reversed_events(path)] == list(range(49, -1, -1)), block
        assert [e["done"] for e in read_events(path)] == list(range(50)), block


def test_a_tail_reads_each_event_once_and_only_what_is_new(path):
    log, tail = EventLog(path), EventTail(path)
    log.append("start")
    assert [e["seq"] for e in tail.new()] == [1] and tail.new() == []
    log.append("progress")
    with open(path, "ab") as file:
        file.write(b'{"seq": 3, "ki')
    assert [e["seq"] for e in tail.new()] == [2] and tail.new() == []
    with open(path, "ab") as file:
        file.write(b'nd": "end"}')
    assert [e["seq"] for e in tail.new()] == [3] and tail.new() == []  # all there but the newline
    with open(path, "ab") as file:
        file.write(b"\n")
    assert tail.new() == []
    path.write_bytes(b"")
    EventLog(path).append("start")
    assert [e["seq"] for e in tail.new()] == [1]  # another file took its place


def test_a_tail_does_not_read_what_it_has_seen(path):
    log, tail = EventLog(path), EventTail(path)
    for n in range(2000):
        log.append("progress", done=n)
    tail.new()
    size = path.stat().st_size
    with open(path, "r+b") as file:  # what was seen may rot: nobody looks at it again
        file.write(b"x" * (size - 1))
    log.append("end")
    assert [e["kind"] for e in tail.new()] == ["end"]


def test_threads_do_not_mix_their_lines(path):
    log = EventLog(path)
    threads = [
        threading.Thread(target=lambda t=t: [log.append("progress", who=t, text="x" * 500) for _ in range(100)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e["seq"] for e in read_events(path)] == list(range(1, 401))


def test_the_wall_clock_jumping_back_changes_neither_seq_nor_elapsed(path, monkeypatch):
    log = EventLog(path)
    log.append("start")
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)  # somewhere in 1970
    log.append("progress", done=1)
    EventLog(path).append("start")
    found = read_events(path)
    assert [e["seq"] for e in found] == [1, 2, 3] and found[1]["time"] == 1_000_000.0
    assert found[1]["elapsed"] >= found[0]["elapsed"]


def test_a_full_disk_is_a_sentence_and_what_stood_stays_readable(path, monkeypatch):
    log = EventLog(path)
    log.append("start")
    real = os.write

    def half(file, line):  # the disk takes half a line, then nothing
        return real(file, line[: len(line) // 2])

    def full(*_):
        raise OSError(28, "No space left on device")

    for broken in (half, full):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", broken)
            with pytest.raises(UserError, match=r"events\.jsonl cannot be written: No space left"):
                log.append("progress", done=1)
    log.append("end")  # somebody made room
    assert [e["kind"] for e in read_events(path)] == ["start", "end"]
    seqs = [e["seq"] for e in read_events(path)]
    assert seqs == sorted(set(seqs))


def test_a_device_that_is_really_full():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs Linux's /dev/full")
    with pytest.raises(UserError, match="No space left"):
        EventLog("/dev/full").append("start")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        EventLog(tmp_path / "run" / "events.jsonl")
