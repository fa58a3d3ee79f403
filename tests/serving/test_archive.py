"""Keeping finished runs: in a folder, in a dataset on a small Hub on a local port, and in the app's own start-up."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.datasets.trajectories import rows
from lightreasoner.errors import UserError
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import JobStore
from lightreasoner.serving.archive import RunArchiver, ephemeral_disk_notice, note_deleted
from lightreasoner.serving.archive_backends import (
    FolderArchive,
    HubArchive,
    RemoteArchive,
    archive_backend,
    file_stamps,
)
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import begin_run
from tests.support.hub_stub import TOKEN, hub_stub
from tests.support.tiny_dataset import make_dataset
from ui.components.dataset_catalogue import Datasets


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_stub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield hub


@pytest.fixture(params=["folder", "hub", "bucket"])
def where(request, tmp_path):
    """A place's address, and the token for it."""
    if request.param == "hub":
        request.getfixturevalue("hub")
        return "hf://datasets/me/kept", TOKEN
    if request.param == "bucket":
        return f"memory://{new_id()}/kept", ""
    return str(tmp_path / "mounted"), ""


def server(disk: Path, where: tuple[str, str]) -> RunArchiver:
    """A server's archiver on a disk of its own."""
    settings = Settings(workspace=disk, archive=where[0])
    return RunArchiver(settings, archive_backend(settings, where[1]))


def run(settings: Settings, kind: str = "dataset", state: str | None = "succeeded") -> Path:
    folder = settings.runs / new_id()
    if kind == "dataset":
        make_dataset(folder)
    else:
        begin_run(folder, kind, {}, {})
    end(folder, state)
    return folder


def end(folder: Path, state: str | None) -> None:
    log = EventLog(folder / EVENTS_FILE)
    log.append("start", pid=os.getpid())
    if state:
        log.append("end", state=state, kept=False)
    log.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in file_stamps(folder)}


def test_what_has_finished_comes_back_on_an_empty_disk(tmp_path, where):
    first = server(tmp_path / "one", where)
    dataset = run(first.settings)
    (dataset / "sub" / "deep").mkdir(parents=True)
    (dataset / "sub" / "deep" / "odd [name]*.txt").write_text("x")
    adapter, scores = run(first.settings, "finetune"), run(first.settings, "evaluation")
    (adapter / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (adapter / "checkpoints" / "checkpoint-1" / "optimizer.pt").write_bytes(b"large")
    (adapter / "merged-10").mkdir()
    (adapter / "merged-10" / "model.safetensors").write_bytes(b"larger")
    (adapter / ".lock").write_text("")
    left = [run(first.settings, state=None), run(first.settings, state="failed"), run(first.settings, "preflight")]
    assert first.archive_finished() == 3
    assert first.archive_finished() == 0, "what is kept already is not copied again"

    second = server(tmp_path / "two", where)
    assert second.restore() == 3
    for folder in (dataset, adapter, scores):
        back = second.settings.runs / folder.name
        assert contents(back) == contents(folder) and contents(back)
    assert list(rows(second.settings.runs / dataset.name)) == list(rows(dataset))
    assert not (second.settings.runs / adapter.name / "checkpoints").exists()
    assert not any((second.settings.runs / folder.name).exists() for folder in left)
    assert not [p for p in second.settings.runs.iterdir() if p.name.startswith(".")]
    assert second.restore() == 0 and second.archive_finished() == 0, "nothing goes back and forth"


def test_a_change_is_kept_and_a_file_that_is_gone_goes(tmp_path, where):
    first = server(tmp_path / "one", where)
    folder = run(first.settings)
    (folder / "notes.txt").write_text("one")
    assert first.archive_finished() == 1
    (folder / "marks.json").write_text("{}")
    (folder / "notes.txt").unlink()
    assert first.archive_finished() == 1
    second = server(tmp_path / "two", where)
    second.restore()
    assert contents(second.settings.runs / folder.name) == contents(folder)


def test_what_somebody_deleted_does_not_come_back(tmp_path, where):
    first = server(tmp_path / "one", where)
    folder, other = run(first.settings), run(first.settings)
    first.archive_finished()
    jobs = Scheduler(JobStore(first.settings.jobs / "jobs.sqlite"), {"local": LocalBackend()}, first.settings)
    Datasets(first.settings, jobs).remove(folder.name)
    assert first.archive_finished() == 0
    second = server(tmp_path / "two", where)
    assert second.restore() == 1 and (second.settings.runs / other.name).is_dir()
    assert not (second.settings.runs / folder.name).exists()
    note_deleted(second.settings, new_id())  # one that was never kept
    assert second.archive_finished() == 0 and not any((second.settings.workspace / "kept" / "forgotten").iterdir())


def test_a_run_that_was_lost_here_is_not_deleted_there(tmp_path, where):
    first = server(tmp_path / "one", where)
    folder = run(first.settings)
    first.archive_finished()
    shutil.rmtree(folder)
    assert first.archive_finished() == 0
    assert first.restore() == 1 and folder.is_dir()


def test_half_a_copy_does_not_count(tmp_path):
    first = server(tmp_path / "one", (str(tmp_path / "mounted"), ""))
    folder = run(first.settings)
    first.archive_finished()
    kept = tmp_path / "mounted" / "runs" / folder.name
    (kept / "run.json").unlink()
    damaged = tmp_path / "mounted" / "runs" / new_id()
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    (tmp_path / "mounted" / "runs" / "..strange").mkdir()
    assert server(tmp_path / "two", (str(tmp_path / "mounted"), "")).restore() == 0


def test_a_place_that_fails_is_said_and_tried_again(tmp_path, hub):
    archiver = server(tmp_path, ("hf://datasets/me/kept", TOKEN))
    run(archiver.settings)
    hub.fail = 403
    with pytest.raises(UserError, match=r"are not archived.*\(403"):
        archiver.archive_finished()
    hub.fail = 0
    assert archiver.archive_finished() == 1
    wrong = server(tmp_path / "two", ("hf://datasets/me/other", "hf_wrong"))
    run(wrong.settings)
    with pytest.raises(UserError, match="401") as caught:
        wrong.archive_finished()
    assert "hf_wrong" not in str(caught.value)
    nowhere = server(tmp_path / "three", (str(tmp_path / "file" / "folder"), ""))
    (tmp_path / "file").write_text("")
    run(nowhere.settings)
    with pytest.raises(UserError, match="cannot be written"):
        nowhere.archive_finished()


def test_a_dataset_made_for_keeping_is_private(tmp_path, hub):
    archiver = server(tmp_path, ("hf://datasets/me/kept", TOKEN))
    assert archiver.restore() == 0 and not hub.repos, "looking makes nothing"
    run(archiver.settings)
    archiver.archive_finished()
    said = hub.repos[("datasets", "me/kept")]
    assert said.get("visibility") == "private" or said.get("private")


def test_the_thread_restores_keeps_and_tells_trouble(tmp_path, monkeypatch):
    monkeypatch.setattr("lightreasoner.serving.archive.PAUSE", 0.05)
    address = (str(tmp_path / "mounted"), "")
    first = server(tmp_path / "one", address)
    before = run(first.settings)
    first.archive_finished()
    second = server(tmp_path / "two", address).start()
    try:
        until(lambda: (second.settings.runs / before.name).is_dir())
        later = run(second.settings)
        until(lambda: (tmp_path / "mounted" / "runs" / later.name / "run.json").is_file())
        assert second.trouble is None
        shutil.rmtree(tmp_path / "mounted")
        (tmp_path / "mounted").write_text("now a file")
        run(second.settings)
        until(lambda: second.trouble)
        (tmp_path / "mounted").unlink()
        until(lambda: second.trouble is None)
    finally:
        second.close()


def until(true) -> None:
    import time

    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("archive", "token", "says"),
    [
        ("hf://datasets/me/kept", "", "LIGHTREASONER_ARCHIVE_TOKEN"),
        ("hf://datasets/kept", TOKEN, "hf://datasets/OWNER/NAME"),
        ("hf://models/me/kept", TOKEN, "hf://datasets/OWNER/NAME"),
        ("s3://bucket/kept", "", "s3://bucket/kept cannot be reached from here: Install s3fs"),
        ("nonsense://bucket", "", "no known kind of storage"),
        ("kept", "", "absolute path"),
        ("{workspace}/kept", "", "is inside the workspace"),
    ],
)
def test_a_place_that_is_none(tmp_path, archive, token, says):
    with pytest.raises(UserError, match=says):
        archive_backend(Settings(workspace=tmp_path, archive=archive.format(workspace=tmp_path)), token)


def test_which_place(tmp_path):
    settings = Settings(workspace=tmp_path / "work")
    assert archive_backend(settings) is None
    assert isinstance(archive_backend(replace(settings, archive=str(tmp_path / "kept"))), FolderArchive)
    assert isinstance(archive_backend(replace(settings, archive="memory://kept")), RemoteArchive)
    assert isinstance(archive_backend(replace(settings, archive="hf://datasets/me/kept"), TOKEN), HubArchive)


def test_a_space_says_what_it_forgets(tmp_path):
    settings, space = Settings(workspace=tmp_path), {"SPACE_ID": "me/studio"}
    assert ephemeral_disk_notice(settings, {}) == ""
    assert "disk is ephemeral" in ephemeral_disk_notice(settings, space)
    assert "archives finished datasets" in ephemeral_disk_notice(replace(settings, archive="/data"), space)
