"""Shards: written atomically, read one at a time, and damaged ones are named."""

from __future__ import annotations

import errno
import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.datasets import trajectories
from lightreasoner.datasets.trajectories import (
    KL_EDGES,
    SCHEMA,
    kl_histogram,
    read_shard,
    remove_leftovers,
    rows,
    shards,
    write_shard,
)
from lightreasoner.errors import UserError
from lightreasoner.storage.checksums import FILE as CHECKSUMS

STEP = {"index": 1, "token_id": 7, "kl": 0.5, "ids": [7, 9], "expert_logprobs": [-0.5, -1.0]}
ROW = {
    "problem_id": "p-1",
    "sample": 0,
    "question": "1 + 1?",
    "context": None,
    "answer": None,
    "prompt_ids": [1, 2],
    "response_ids": [3, 7],
    "response": "2",
    "finish_reason": "stop",
    "kl": [0.0, 0.5],
    "reverse_kl": [0.0, math.inf],
    "js": [0.0, 0.125],
    "expert_entropy": [1.0, 1.0],
    "amateur_entropy": [1.0, 1.0],
    "expert_logprob": [None, -0.5],
    "amateur_logprob": [None, -0.25],
    "expert_rank": [None, 1],
    "amateur_rank": [None, 2],
    "agree": [True, False],
    "steps": [STEP | {"amateur_logprobs": [-0.25, -math.inf]}],
}


def table(*ids):
    return pa.Table.from_pylist([ROW | {"problem_id": i} for i in ids], SCHEMA)


def test_what_is_written_is_read_again_nulls_and_infinities_too(tmp_path):
    path = write_shard(tmp_path, "000000", table("p-1"))
    assert path == tmp_path / "trajectories" / "000000.parquet"
    assert read_shard(path).to_pylist() == [ROW]
    assert read_shard(path, ["kl", "problem_id"]).to_pylist() == [{"kl": [0.0, 0.5], "problem_id": "p-1"}]
    assert pq.read_schema(path).equals(SCHEMA)


def test_rows_come_in_the_order_of_the_shards_and_one_shard_at_a_time(tmp_path, monkeypatch):
    for name, ids in (("000010", "ef"), ("000002", "cd"), ("000000", "ab")):
        write_shard(tmp_path, name, table(*ids))
    read = []
    real = trajectories.read_shard
    monkeypatch.setattr(trajectories, "read_shard", lambda path, columns: read.append(path) or real(path, columns))
    stream = rows(tmp_path, ["problem_id"])
    assert [next(stream)["problem_id"], next(stream)["problem_id"]] == ["a", "b"]
    assert len(read) == 1
    assert [row["problem_id"] for row in stream] == list("cdef")


def test_a_folder_without_shards_has_none(tmp_path):
    assert shards(tmp_path) == [] and list(rows(tmp_path / "gone")) == []


def damage(path, how):
    whole = path.read_bytes()
    at = len(whole) // 3
    path.write_bytes(
        {
            "empty": b"",
            "cut short": whole[: len(whole) // 2],
            "a flipped byte": whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :],
            "text": b"not a shard",
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut short", "a flipped byte", "text"])
def test_a_damaged_shard_is_named_and_can_be_passed_over(tmp_path, how):
    for name, ids in (("000000", "ab"), ("000001", "cd"), ("000002", "ef")):
        write_shard(tmp_path, name, table(*ids))
    bad = shards(tmp_path)[1]
    damage(bad, how)
    with pytest.raises(UserError, match=r"000001\.parquet is damaged .*Resume") as caught:
        list(rows(tmp_path))
    assert "\n" not in str(caught.value)
    met = []
    found = [row["problem_id"] for row in rows(tmp_path, on_corrupt=lambda path, error: met.append((path, str(error))))]
    assert found == list("abef") and [path for path, _ in met] == [bad]


def test_a_parquet_file_of_something_else_is_no_shard(tmp_path):
    (tmp_path / "trajectories").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "trajectories" / "000000.parquet")
    for columns in (None, ["kl"]):
        with pytest.raises(UserError, match="damaged"):
            list(rows(tmp_path, columns))


def test_a_shard_that_vanished_is_said(tmp_path):
    with pytest.raises(UserError, match="no longer exists"):
        read_shard(tmp_path / "trajectories" / "000000.parquet")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there_and_no_half_file(tmp_path, monkeypatch, call):
    write_shard(tmp_path, "000000", table("a"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    for name in ("000000", "000001"):
        with pytest.raises(UserError, match=r"No space left on device.*Free some space"):
            write_shard(tmp_path, name, table("b"))
    monkeypatch.undo()
    names = sorted(path.name for path in (tmp_path / "trajectories").iterdir())
    assert names == ["000000.parquet", CHECKSUMS]
    assert [row["problem_id"] for row in rows(tmp_path)] == ["a"]


def test_leftovers_of_killed_writers_are_no_shards_and_can_be_removed(tmp_path):
    write_shard(tmp_path, "000000", table("a"))
    folder = tmp_path / "trajectories"
    (folder / ".000001.parquet.0123abcd").write_bytes(b"half")
    (tmp_path / ".run.json.0123abcd").write_text("half")
    (tmp_path / ".lock").touch()
    assert [path.name for path in shards(tmp_path)] == ["000000.parquet"]
    assert remove_leftovers(tmp_path) == 2 and remove_leftovers(tmp_path) == 0
    assert (tmp_path / ".lock").exists() and len(shards(tmp_path)) == 1


def test_one_flipped_bit_of_a_shard_is_noticed_and_shards_of_earlier_versions_open(tmp_path):
    """5 of 400 such flips changed what was read, in spite of Parquet's own checksums."""
    path = write_shard(tmp_path, "000000", table("a"))
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 50):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"000000.parquet is damaged .*Resume the run"):
            read_shard(path)
    path.write_bytes(whole)
    assert len(read_shard(path)) == 1
    (path.parent / CHECKSUMS).unlink()
    assert len(read_shard(path)) == 1
    (path.parent / CHECKSUMS).mkdir()  # it was said of the file that an export writes
    assert len(read_shard(path)) == 1


def test_the_histogram_counts_every_number_once():
    assert list(KL_EDGES) == sorted(set(KL_EDGES)) and (KL_EDGES[0], KL_EDGES[-1]) == (0.0, 20.0)
    values = [0.0, 0.0004, 0.001, 0.4, 19.999, 20.0, 55.0, math.inf]
    counts = kl_histogram(values)
    assert len(counts) == len(KL_EDGES) - 1 and counts.sum() == len(values)
    assert (counts[0], counts[1], counts[-1]) == (2, 1, 4)
    assert kl_histogram([math.nan]).sum() == 0 and kl_histogram([]).sum() == 0
    inside = next(n for n, edge in enumerate(KL_EDGES) if edge > 0.4) - 1
    assert counts[inside] == 1
