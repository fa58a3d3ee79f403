"""A full disk is one sentence from every library, and what killed writers left is removed by whoever comes next."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from lightreasoner.datasets.trajectories import SCHEMA
from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.jobs.context import job_context
from lightreasoner.jobs.store import Job, JobStore
from lightreasoner.processes import new_owner
from lightreasoner.settings import Settings
from lightreasoner.storage import atomic
from lightreasoner.storage.atomic import atomic_file, atomic_folder, remove_leftovers, write_text
from tests.support.tiny_models import tiny_tokenizer

SENTENCE = r"could not be written: No space left on device\. Free some space"
BIG = torch.zeros(100_000)


def parquet(place: Path) -> None:
    with open(place / "f", "wb") as file:
        pq.write_table(SCHEMA.empty_table(), file)


def sqlite(place: Path) -> None:
    connection = sqlite3.connect(place / "f")
    connection.execute("PRAGMA max_page_count=2")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (zeroblob(100000))")


#: What fills the disk, by the libraries that write.
WRITERS = {
    "Python": lambda place: (place / "f").write_bytes(b"x" * 100_000),
    "safetensors": lambda place: save_file({"a": BIG}, place / "f"),
    "torch": lambda place: torch.save(BIG, place / "f"),
    "tokenizers": lambda place: tiny_tokenizer().save_pretrained(place),
    "pyarrow": parquet,
    "SQLite": sqlite,
}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A disk of 4 kB that is full. Skipped where none can be mounted."""
    place = tmp_path_factory.mktemp("disk")
    if ctypes.CDLL(None, use_errno=True).mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=4k") != 0:
        pytest.skip("no file system can be mounted here")
    (place / "filler").write_bytes(b"x" * 4096)
    yield place
    ctypes.CDLL(None).umount2(bytes(place), 2)


def context(folder: Path, disk: Path, write) -> None:
    with job_context(folder / "run", "finetune", Settings(workspace=folder), accelerator=False):
        write(disk)


def folder(folder: Path, disk: Path, write) -> None:
    with atomic_folder(folder / "adapter") as place:
        (place / "half").write_text("x")
        write(disk)


def file(folder: Path, disk: Path, write) -> None:
    with atomic_file(folder / "file"):
        write(disk)


def page(folder: Path, disk: Path, write) -> None:
    try:
        write(disk)
    except Exception:
        raise UserError(log_unexpected("call save")) from None


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("where", [context, folder, file, page])
def test_a_full_disk_is_the_same_sentence_from_every_library_everywhere(tmp_path, full, where, writer):
    """It was a traceback while a tokenizer was saved: tokenizers, safetensors and SQLite keep no errno."""
    with pytest.raises(UserError, match=SENTENCE):
        where(tmp_path, full, WRITERS[writer])
    assert not list(tmp_path.glob("**/half"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        Exception("No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/1"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_what_libraries_say_of_a_full_disk(error):
    try:
        raise ValueError("wrapped") from error
    except ValueError:
        assert "Free some space and try again." in log_unexpected("a test")


def test_what_is_no_full_disk_stays_a_bug(tmp_path):
    for error in (ValueError("there is no space between the words"), RuntimeError("disk")):
        with pytest.raises(type(error)), atomic_folder(tmp_path / "a"):
            raise error


def test_a_full_disk_under_the_job_list_is_not_asked_to_be_tried_again_in_a_moment(tmp_path, monkeypatch):
    store = JobStore(tmp_path / "jobs/jobs.sqlite")
    store.add(Job("a", "sample", "A", (), tmp_path), 5)

    def small(self, connection):
        connection.execute("PRAGMA max_page_count=2")

    monkeypatch.setattr(JobStore, "_set_journal", small)
    with pytest.raises(UserError, match=r"job list .*" + SENTENCE):
        store.add(Job("b", "sample", "B" * 100_000, (), tmp_path), 5)
    monkeypatch.undo()
    assert [job.id for job in store.jobs()] == ["a"]


def test_what_killed_processes_left_is_removed_by_whoever_comes_next(tmp_path):
    """Half-written files stayed for ever. Those of living processes, and others' files, stay."""
    script = f"""
import os, signal
from lightreasoner.storage.atomic import atomic_file, atomic_folder
with atomic_file({str(tmp_path / "run.json")!r} and __import__("pathlib").Path({str(tmp_path / "run.json")!r})) as file:
    with atomic_folder(__import__("pathlib").Path({str(tmp_path / "adapter")!r})):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 2
    elsewhere = tmp_path / f".marks.json.{new_owner().rpartition('-')[0]}-00000000-00000000.part"
    kept = [tmp_path / ".lock", tmp_path / ".notes.part", elsewhere]
    for path in kept:
        path.touch()
    atomic._looked.clear()
    with atomic_file(tmp_path / "mine") as mine:
        write_text(tmp_path / "other", "x")
        assert Path(mine.name).exists() and not left & {path.name for path in tmp_path.iterdir()}
    assert all(path.exists() for path in kept)
    os.utime(elsewhere, (0, time.time() - 90_000))
    assert remove_leftovers(tmp_path) == 1 and not elsewhere.exists()


def test_a_job_removes_what_an_earlier_one_left_in_its_folder(tmp_path):
    left = tmp_path / f"run/adapter/.f.{new_owner().replace('-', '-9', 1)}-00000000.part"
    left.mkdir(parents=True)
    with job_context(tmp_path / "run", "finetune", Settings(workspace=tmp_path), accelerator=False):
        assert not left.exists()
    shutil.rmtree(tmp_path / "run")


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    """`trace --export /dev/full` put a file in the place of the device, for every program of the machine."""
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(UserError, match="a device or a pipe"):
        write_text(pipe, "text")
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]
