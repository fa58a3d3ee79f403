"""A run folder that is deleted, moved or replaced while its job works in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from lightreasoner.datasets.tokenizer import save_tokenizer
from lightreasoner.datasets.trajectories import SCHEMA, write_shard
from lightreasoner.errors import UserError
from lightreasoner.evaluation import results
from lightreasoner.jobs.context import job_context
from lightreasoner.jobs.view import job_view
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import RemoteFolder, SyncedFolder
from lightreasoner.storage.runs import begin_run
from tests.support.job_bench import Bench
from tests.support.tiny_models import tiny_tokenizer


def library(run: Path) -> None:
    """As a library may: it makes its folders again, and fails or succeeds as it likes."""
    (run / "checkpoints/checkpoint-1").mkdir(parents=True)
    raise RuntimeError("Parent directory checkpoints does not exist")


#: What a job may do next.
NEXT = {
    "progress": lambda run, work: work.update(1, 1),
    "an event": lambda run, work: work.event("metrics", loss=1.0),
    "a checkpoint of the command": lambda run, work: work.checkpoint(),
    "a shard": lambda run, work: write_shard(run, "000000", SCHEMA.empty_table()),
    "answers": lambda run, work: results.write_shard(results.shard(run, 0, 0), pa.table({"a": [1]})),
    "its record": lambda run, work: begin_run(run, "dataset", {}, {}),
    "a tokenizer": lambda run, work: save_tokenizer(tiny_tokenizer(), run),
    "what a library writes": lambda run, work: library(run),
    "nothing more": lambda run, work: None,
}
WAYS = {
    "deleted": shutil.rmtree,
    "moved": lambda run: run.rename(run.with_name("moved")),
    "replaced": lambda run: (shutil.rmtree(run), run.mkdir(), (run / "events.jsonl").write_text("")),
}


@pytest.mark.parametrize(
    ("way", "what"), [*[("deleted", what) for what in NEXT], ("moved", "a shard"), ("replaced", "a shard")]
)
def test_a_job_whose_folder_is_gone_stops_with_one_sentence_and_does_not_make_it_again(tmp_path, way, what):
    """It ran on to its end, made the folder again, and ended in "is not a run folder"."""
    run = tmp_path / "runs/a"
    with (
        pytest.raises(UserError, match=r"^The run folder .*/a was deleted or moved while its job worked in it.*Retry"),
        job_context(run, "sample", Settings(workspace=tmp_path), accelerator=False) as work,
    ):
        (run / "trajectories").mkdir()
        work.status("Sampling")
        WAYS[way](run)
        NEXT[what](run, work)
    assert [path.name for path in run.rglob("*")] == (["events.jsonl"] if way == "replaced" else [])
    assert run.exists() == (way == "replaced")


def test_the_page_says_at_once_that_a_folder_was_deleted(tmp_path):
    """It said "running" until the end, and "keep" made the folder again."""
    bench = Bench(tmp_path)
    try:
        job = bench.submit("steps", "--steps", "60", "--pause", "0.7")
        bench.running(job, "status")
        shutil.rmtree(job.run_dir)
        job = bench.get(job)
        assert job_view(bench.store, job)["status"].startswith("Its run folder was deleted")
        with pytest.raises(UserError, match="was deleted, so there are no results to save"):
            bench.scheduler.keep(job.id)
        ended = bench.finished(job)
        assert ended.state == "failed" and ended.message.startswith(f"The run folder {job.run_dir} was deleted")
        assert not job.run_dir.exists()
    finally:
        bench.close()


def test_a_remote_copy_survives_the_deletion_of_the_local_one(tmp_path):
    """The last upload deleted remotely whatever was gone here: all of it."""
    (tmp_path / "bucket").mkdir()
    synced = SyncedFolder(RemoteFolder(f"file://{tmp_path}/bucket/run"), tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/shard").write_text("rows")
    synced.push()
    shutil.rmtree(tmp_path / "copy")
    synced.push()
    assert (tmp_path / "bucket/run/shard").read_text() == "rows"
