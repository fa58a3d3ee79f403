"""Run folders in remote storage, mostly on fsspec's in-memory file system."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import fsspec
import pytest

from lightreasoner.cli.main import build_parser, main
from lightreasoner.datasets.trajectories import read_shard, shards
from lightreasoner.errors import UserError
from lightreasoner.sampling import sampler as sampling
from lightreasoner.storage import remote as storage
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.remote import RemoteFolder, RunLocation, SyncedFolder, file_states, open_run, run_path
from tests.support.tiny_models import save_tiny
from tests.support.tiny_sampling import QUESTIONS


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """This machine's workspace."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.delenv("LIGHTREASONER_JOB", raising=False)
    return tmp_path


@pytest.fixture
def bucket() -> str:
    return f"memory://{new_id()}/runs"


def sample(models: list[str], here: Path, folder: str | Path) -> int:
    problems = here / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": q, "answer": "4"}) + "\n" for q in QUESTIONS))
    pair = ["--expert", models[0], "--amateur", models[1], "--max-new-tokens", "12", "--batch-size", "2"]
    return main(["sample", "--problems", str(problems), *pair, "--run-dir", str(folder)])


def rows(folder: Path) -> list[dict]:
    return [row for path in shards(folder) for row in read_shard(path).to_pylist()]


def fetched(address: str, to: Path) -> Path:
    """A copy of a remote folder, made without our code."""
    fs, path = fsspec.core.url_to_fs(address)
    fs.get(path, str(to), recursive=True)
    return to


def forget_here(here: Path) -> None:
    """As on another machine."""
    shutil.rmtree(here / "workspace" / "mirrors")


def test_a_dataset_and_its_adapter_lie_in_a_bucket(models, here, bucket, monkeypatch):
    assert sample(models, here, here / "local") == 0 and sample(models, here, f"{bucket}/data") == 0
    forget_here(here)
    assert rows(fetched(f"{bucket}/data", here / "copy")) == rows(here / "local") != []
    words = ["finetune", "--dataset", f"{bucket}/data", "--run-dir", f"{bucket}/tuned", "--rank", "2"]
    assert main([*words, "--max-steps", "2", "--beta", "0"]) == 0
    tuned = fetched(f"{bucket}/tuned", here / "tuned")
    assert (tuned / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((tuned / "run.json").read_text())["result"]["updates"] == 2
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(here / "another"))  # as on another machine
    assert main([*words, "--max-steps", "2", "--beta", "0"]) == 0
    assert json.loads((tuned / "run.json").read_text())["config"]["dataset"] == f"{bucket}/data"


def test_what_one_machine_left_another_finishes(models, here, bucket, monkeypatch):
    """The first is stopped after its second batch; nothing of its disk is there when the second begins."""
    done = sampling.sample_batch
    calls = []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return done(*args)

    monkeypatch.setattr(sampling, "sample_batch", stopped)
    assert sample(models, here, f"{bucket}/data") != 0
    forget_here(here)
    assert len(rows(fetched(f"{bucket}/data", here / "half"))) == 4
    assert sample(models, here, f"{bucket}/data") == 0
    assert len(calls) == 3 + 2, "what was sampled is not sampled again"
    monkeypatch.undo()
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(here / "other"))
    assert sample(models, here, here / "local") == 0
    assert rows(fetched(f"{bucket}/data", here / "whole")) == rows(here / "local")


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        place = folder / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def test_whoever_is_further_is_right(here, bucket):
    """A machine killed before its last upload resumes from its own copy, unless the remote run is ahead by now."""
    ahead = write(here / "ahead", events_jsonl="1\n2\n3\n", run_json="{}", data__x="new")
    SyncedFolder(RemoteFolder(bucket), ahead).push()
    behind = write(here / "behind", events_jsonl="1\n", run_json="{}", data__x="old", data__y="old")
    SyncedFolder(RemoteFolder(bucket), behind).pull()
    assert sorted(p.name for p in behind.rglob("*") if p.is_file()) == ["events.jsonl", "run.json", "x"]
    assert (behind / "data" / "x").read_text() == "new"
    further = write(here / "further", events_jsonl="1\n2\n3\n4\n", run_json="{}", data__x="newest")
    SyncedFolder(RemoteFolder(bucket), further).pull()
    assert (further / "data" / "x").read_text() == "newest"


def test_a_dataset_that_is_read_is_as_it_is_there(here, bucket):
    with pytest.raises(UserError, match="There is nothing at"), open_run(bucket, here, read_only=True):
        pass
    folder = write(here / "run", run_json="{}", events_jsonl="1\n", marks_json="{}")
    SyncedFolder(RemoteFolder(bucket), folder).push()
    with open_run(bucket, here, read_only=True) as run:
        assert (run.local / "marks.json").read_text() == "{}"
    SyncedFolder(RemoteFolder(bucket), write(folder, marks_json='{"a": 1}')).push()
    with open_run(bucket, here, read_only=True) as run:
        assert (run.local / "marks.json").read_text() == '{"a": 1}'


def test_what_says_that_files_are_whole_goes_after_them(here, bucket, monkeypatch):
    files = {"run_json": "{}", "checkpoints__checkpoint-1__complete": "", "zz_bin": "1", "_half": "x"}
    folder = write(here / "run", **files)
    sent, send = [], RemoteFolder.upload
    monkeypatch.setattr(RemoteFolder, "upload", lambda self, file, name: (sent.append(name), send(self, file, name)))
    synced = SyncedFolder(RemoteFolder(bucket), folder)
    synced.push()
    assert sent == ["zz.bin", "checkpoints/checkpoint-1/complete", "run.json"] and ".half" not in sent
    write(folder, zz_bin="22")
    shutil.rmtree(folder / "checkpoints")
    synced.push()
    assert sent[3:] == ["zz.bin"] and set(RemoteFolder(bucket).files()) == {"run.json", "zz.bin"}


def test_it_is_sent_while_it_lasts(here, bucket, monkeypatch):
    monkeypatch.setattr(storage, "INTERVAL", 0.01)
    with open_run(bucket, here) as run:
        write(run.local, events_jsonl="1\n")
        until = time.monotonic() + 60
        while "events.jsonl" not in RemoteFolder(bucket).files():
            assert time.monotonic() < until
            time.sleep(0.01)
    assert run.address == bucket and run.local.is_relative_to(here)


@pytest.mark.parametrize(
    "address, says",
    [
        ("s3://bucket/run", "s3://bucket/run cannot be reached from here: Install s3fs"),
        ("nowhere://bucket/run", "in no known kind of storage"),
        ("file:///proc/nobody/writes/here", "cannot be used: "),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(models, here, capsys, address, says):
    assert sample(models, here, address) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said and "Traceback" not in said


def test_a_place_that_fails_at_the_end_is_told(here, bucket, monkeypatch):
    """What was computed stays here, and the next try sends it."""

    def full(self, file, name):
        raise UserError(f"{self.address} cannot be used: it is full.")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="it is full"):
        patch.setattr(RemoteFolder, "upload", full)
        with open_run(bucket, here) as run:
            write(run.local, events_jsonl="1\n")
    with open_run(bucket, here):
        pass
    assert RemoteFolder(bucket).files() == {"events.jsonl": 2}


@pytest.mark.parametrize("word", ["--run-dir=", "--run-dir"])
def test_however_it_is_written(here, bucket, word):
    """As --run-dir=s3://… it once made a folder of that name here, and sent nothing."""
    words = [word + bucket] if word.endswith("=") else [word, bucket]
    options = build_parser().parse_args(["sample", "--problems", "gsm8k", *words])
    with open_run(options.run_dir, here) as run:
        assert run.address == bucket and run.local.is_relative_to(here)
    with pytest.raises(UserError, match="is no address"), open_run(run_path("://b c"), here):
        pass
    with open_run(run_path("a/folder"), here) as run:
        assert run == RunLocation(Path("a/folder"), "a/folder")


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800", "x" * 300])
def test_what_is_no_name_of_a_folder_is_refused(here, name, capsys):
    """An empty name, as of an unset variable, was the present folder, and filled it; the others were tracebacks."""
    with pytest.raises((UserError, SystemExit)):
        options = build_parser().parse_args(["sample", "--problems", "gsm8k", f"--run-dir={name}"])
        with open_run(options.run_dir, here):
            pass
    assert name.strip() or "it is empty; name a folder" in capsys.readouterr().err


def test_what_was_fetched_in_part_is_not_taken_for_whole(here, bucket, monkeypatch):
    """Once the log was there, the rest was never fetched, and the next send put a new run in the old one's place."""
    SyncedFolder(RemoteFolder(bucket), write(here / "there", events_jsonl="1\n", run_json="{}", data__x="1")).push()
    bring, seen = RemoteFolder.download, []

    def once(self, name, to):
        if len(seen) == 2:
            raise UserError("the line is cut")
        seen.append(name)
        bring(self, name, to)

    synced = SyncedFolder(RemoteFolder(bucket), here / "coming")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="cut"):
        patch.setattr(RemoteFolder, "download", once)
        synced.pull()
    assert not (here / "coming").exists()
    synced.pull()
    assert sorted(file_states(here / "coming")) == ["data/x", "events.jsonl", "run.json"]


@pytest.mark.parametrize("name", ["../../outside", "a/../../outside"])
def test_names_that_lead_out_are_refused(here, bucket, name):
    fs, path = fsspec.core.url_to_fs(bucket)
    fs.store[f"{path}/{name}"] = fsspec.implementations.memory.MemoryFile(fs, f"{path}/{name}", b"x")
    fs.pipe(f"{path}/events.jsonl", b"1\n")
    with pytest.raises(UserError, match="not a safe file name"):
        SyncedFolder(RemoteFolder(bucket), here / "run").pull()


def test_a_listing_that_fails_is_not_an_empty_place(here, bucket, monkeypatch):
    remote = RemoteFolder(bucket)
    monkeypatch.setattr(type(remote._fs), "info", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("gone")))
    with pytest.raises(UserError, match="cannot be used: gone"):
        remote.files()


def test_one_command_at_a_time_and_one_process(here, bucket, monkeypatch):
    with (
        open_run(bucket, here),
        pytest.raises(UserError, match="Another command on this machine uses"),
        open_run(bucket, here),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="need a folder that all of them see"), open_run(bucket, here):
        pass


def test_a_password_is_not_shown():
    with pytest.raises(UserError, match=r"^nowhere://host/x is in no known kind"):
        RemoteFolder("nowhere://user:secret@host/x")
