"""Interrupted and failing runs: nothing is lost, nothing is sampled twice, and the rest stays usable."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightreasoner.cli.main import main
from lightreasoner.datasets.trajectories import read_shard, rows, shards
from lightreasoner.errors import UserError
from lightreasoner.jobs.events import read_events
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair
from lightreasoner.sampling import sampler
from lightreasoner.settings import Settings
from lightreasoner.storage.checksums import FILE as CHECKSUMS
from lightreasoner.storage.runs import read_run
from tests.support import warm_app
from tests.support.damage import DAMAGES
from tests.support.tiny_models import Broken, save_tiny
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress, build


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture(scope="module")
def pair(folders):
    return load_pair(*folders, LoadedModels(Settings(device="cpu")))


@pytest.fixture
def sample(folders, tmp_path, monkeypatch, capsys):
    """sample(*options) runs the verb on a file of seven problems: (exit status, standard output, standard error)."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.delenv("LIGHTREASONER_JOB", raising=False)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))
    expert, amateur = folders

    def run(*options):
        argv = ["sample", "--expert", expert, "--amateur", amateur]
        argv += [] if "--problems" in options else ["--problems", problems]
        argv += ["--max-new-tokens", 12, "--batch-size", 2, "--run-dir", tmp_path / "run", *options]
        status = main([str(a) for a in argv])
        return status, *capsys.readouterr()

    run.problems, run.folder = problems, tmp_path / "run"
    return run


def tables(folder):
    return {path.name: read_shard(path) for path in shards(folder)}


def test_killed_at_random_moments_and_resumed_it_is_the_same_dataset(folders, tmp_path):
    """Released code, mistake 9: prompts were marked as done while their samples lived in memory."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{n} + {q}"}) + "\n" for n in range(5) for q in QUESTIONS))
    expert, amateur = folders
    environment = os.environ | {
        "LIGHTREASONER_WORKSPACE": str(tmp_path / "workspace"),
        "LIGHTREASONER_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }

    def killed(kills: int, name: str) -> list[int]:
        argv = ["sample", "--expert", expert, "--amateur", amateur, "--problems", str(problems), "--batch-size", "3"]
        argv += ["--max-new-tokens", "20", "--run-dir", str(tmp_path / name)]
        words = ["11", str(kills), str(tmp_path / name), "--", *argv]
        done = warm_app.command(environment, *words, module="tests.support.kill_sampling")
        assert done.returncode == 0, done.stderr
        status, *left = (int(number) for number in done.stdout.splitlines()[-1].split())
        assert status == 0, done.stderr
        return left

    assert killed(0, "whole") == []
    left = killed(10, "resumed")
    assert len(left) >= 6 and left == sorted(left) and left[-1] > 0  # or nothing was killed halfway
    whole, resumed = tables(tmp_path / "whole"), tables(tmp_path / "resumed")
    assert list(whole) == list(resumed) and len(whole) == 12
    for name, table in whole.items():
        assert table.equals(resumed[name]), name
    keys = [(row["problem_id"], row["sample"]) for row in rows(tmp_path / "resumed", ["problem_id", "sample"])]
    assert len(keys) == len(set(keys)) == 35
    assert [p.name for p in (tmp_path / "resumed").rglob(".*") if p.is_file()] == [".lock"]  # no leftovers
    result = [read_run(tmp_path / name)["result"] for name in ("whole", "resumed")]
    for name in ("problems", "steps", "above_beta", "skipped"):
        assert result[0][name] == result[1][name]


def test_the_verb_writes_what_it_promises_and_goes_on(sample):
    status, out, err = sample()
    assert (status, out.startswith("7 problems, ")) == (0, True), err
    record = read_run(sample.folder)
    assert record["kind"] == "dataset" and record["about"]["batch_size"] == 2
    assert set(record["about"]["fingerprints"]) == {"expert", "amateur", "problem file"}
    assert record["config"]["problems"] == "problems.jsonl" and record["result"]["problems"] == 7
    events = read_events(sample.folder / "events.jsonl")
    assert events[0]["kind"] == "start" and events[-1]["kind"] == "end"
    assert events[-1]["state"] == "succeeded" and events[-1]["result"]["steps"] == record["result"]["steps"]
    last = [e for e in events if e["kind"] == "progress"][-1]
    assert (last["done"], last["total"]) == (7, 7) and last["samples"] == last["above_beta"] <= last["steps"]
    assert sum([e for e in events if e["kind"] == "histogram"][-1]["counts"]) == last["steps"]

    before = {path.name: path.stat().st_mtime_ns for path in shards(sample.folder)}
    assert sample()[0] == 0
    assert {path.name: path.stat().st_mtime_ns for path in shards(sample.folder)} == before  # nothing twice


def test_another_configuration_is_refused_with_the_difference(sample):
    assert sample()[0] == 0
    status, _, err = sample("--limit", 5, "--seed", 3)
    assert status == 2 and "limit was not set, now 5" in err and "seed was 0, now 3" in err
    assert err.count("\n") - err.count("Loading") - err.count("Reading") == 1
    sample.problems.write_text('{"question": "Another?"}\n')
    status, _, err = sample()
    assert status == 2 and "the problem file has changed" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--samples-per-problem", 4], "temperature"),
        (["--limit", 0], "number of problems"),
        (["--batch-size", "many"], "whole number or auto"),
        (["--batch-size", 0], "batch size"),
        (["--beta-floor", -1], "floor"),
        (["--problems", "gsm9k"], "neither a problem source"),
        (["--pair", "bundled"], "either --pair or"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(sample, options, says):
    status, _, err = sample(*options)
    assert status == 2 and says in err and err.count("\n") == 1
    assert not sample.folder.exists()


def test_the_default_dataset_stores_every_step_and_an_older_one_goes_on_as_it_began(sample):
    """Random steps and All steps were refused on a dataset of the default settings."""
    assert sample("--beta-floor", 3)[0] == 0  # as versions until 0.4 began it, at another floor
    shards(sample.folder)[0].unlink()
    assert sample()[0] == 0
    assert read_run(sample.folder)["config"]["beta_floor"] == 3
    shutil.rmtree(sample.folder)
    assert sample()[0] == 0
    assert all(len(row["steps"]) == len(row["response_ids"]) for row in rows(sample.folder))


def test_a_damaged_shard_is_put_aside_and_sampled_again(sample):
    assert sample()[0] == 0
    whole = tables(sample.folder)
    first, second, *_ = shards(sample.folder)
    first.write_bytes(first.read_bytes()[:500])
    middle = second.read_bytes()
    at = len(middle) // 3
    second.write_bytes(middle[:at] + bytes(b ^ 0xFF for b in middle[at : at + 20]) + middle[at + 20 :])
    (first.parent / ".000000.parquet.1234abcd").write_bytes(b"half a shard")  # a writer was killed
    assert sample()[0] == 0
    assert {name: t.to_pylist() for name, t in tables(sample.folder).items()} == {
        name: t.to_pylist() for name, t in whole.items()
    }
    events = [e for e in read_events(sample.folder / "events.jsonl") if e["kind"] == "corrupt"]
    assert [e["shard"] for e in events] == [first.name, second.name]
    assert sorted(p.name for p in sample.folder.glob("*.corrupt")) == [f"{p.name}.corrupt" for p in (first, second)]
    assert not list(first.parent.glob(".*"))


def test_shards_of_other_problems_are_not_taken_for_these(pair, tmp_path):
    build(pair, tmp_path)
    with pytest.raises(UserError, match="the source has changed"):
        build(pair, tmp_path, [{"question": q} for q in reversed(QUESTIONS[:4])])


@pytest.mark.parametrize("stop_at", [1, 7, 30])
def test_stopping_at_a_safe_point_leaves_whole_shards(pair, tmp_path, stop_at):
    class Stop(Exception):
        pass

    with pytest.raises(Stop):
        build(pair, tmp_path / "run", progress=RecordingProgress(stop_at, Stop()))
    there = len(shards(tmp_path / "run"))
    assert there < 3 and not list((tmp_path / "run" / "trajectories").glob(".*"))
    counts = build(pair, tmp_path / "run")
    assert (counts.new_responses, counts.responses) == (7 - 3 * there, 7)
    build(pair, tmp_path / "whole")
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")


def test_a_safe_point_comes_at_every_step(pair, tmp_path):
    progress = RecordingProgress()
    build(pair, tmp_path, batch_size=7, progress=progress, max_new_tokens=20)
    assert progress.checkpoints >= 20
    done = [event["done"] for event in progress.of("progress")]
    assert done == sorted(done) and done[-1] == 7


def test_stop_and_keep_ends_with_what_is_there(sample):
    """The stop file may come before the run has looked at the shards that are there."""
    assert sample()[0] == 0
    for path in shards(sample.folder)[2:]:
        path.unlink()
    sample.problems.parent.joinpath("run", "stop").write_text("keep")
    import lightreasoner.jobs.context as jobs_work

    unlink = Path.unlink
    with pytest.MonkeyPatch.context() as patch:  # a job's stop file is not removed at the start
        patch.setattr(Path, "unlink", lambda p, **kw: None if p.name == jobs_work.STOP_FILE else unlink(p, **kw))
        status, out, _ = sample()
    assert status == 0
    (sample.folder / "stop").unlink(missing_ok=True)
    end = read_events(sample.folder / "events.jsonl")[-1]
    assert (end["state"], end["kept"], end["result"]["problems"]) == ("succeeded", True, 4)
    assert read_run(sample.folder)["result"]["problems"] == 4
    assert out.startswith("4 problems, ")


# --- models and machines that fail


class Hungry(torch.nn.Module):
    """A model that is out of memory when more than `most` rows are read at once."""

    def __init__(self, model, most, error):
        super().__init__()
        self.model, self.config, self.most, self.error = model, model.config, most, error

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def forward(self, **kwargs):
        if len(kwargs["input_ids"]) > self.most:
            raise self.error
        return self.model(**kwargs)


def with_expert(pair, model):
    return replace(pair, expert=replace(pair.expert, model=model))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_goes_on(pair, tmp_path, error):
    progress = RecordingProgress()
    build(with_expert(pair, Hungry(pair.expert.model, 2, error)), tmp_path / "hungry", batch_size=7, progress=progress)
    assert [data["rows"] for data in progress.of("halved")] == [3, 1]  # once, not at every batch
    build(pair, tmp_path / "whole", batch_size=7)
    assert [p.name for p in shards(tmp_path / "hungry")] == [p.name for p in shards(tmp_path / "whole")]
    for a, b in zip(rows(tmp_path / "hungry"), rows(tmp_path / "whole"), strict=True):
        assert (a["problem_id"], a["response_ids"]) == (b["problem_id"], b["response_ids"])
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)


def test_a_single_row_that_does_not_fit_is_said(pair, tmp_path):
    hungry = Hungry(pair.expert.model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(UserError, match=r"alone needs more memory than cpu has free"):
        build(with_expert(pair, hungry), tmp_path)
    with pytest.raises(RuntimeError, match="shapes"):  # other errors are bugs and stay what they are
        build(with_expert(pair, Hungry(pair.expert.model, 0, RuntimeError("shapes do not match"))), tmp_path)


class LateNaN(Hungry):
    """A model whose logits become NaN in one row after a while."""

    def forward(self, **kwargs):
        output = self.model(**kwargs)
        self.most -= 1
        if self.most < 0:
            output.logits[-1] = float("nan")
        return output


def test_a_model_that_puts_out_nan_is_named_with_the_problem_and_the_rest_is_kept(pair, tmp_path):
    with pytest.raises(
        UserError, match=r"step \d+ of the problem \w+ a model's output is not a distribution"
    ) as caught:
        build(with_expert(pair, LateNaN(pair.expert.model, 40, None)), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(shards(tmp_path)) == 1  # the first batch takes 25 reads
    held = {row["problem_id"] for row in rows(tmp_path)}
    assert str(caught.value).split("problem ")[1].split(" ")[0] not in held
    assert build(pair, tmp_path).responses == 7
    with pytest.raises(UserError, match="step 0 of the problem"):
        build(replace(pair, amateur=replace(pair.amateur, model=Broken(pair.amateur.model))), tmp_path / "amateur")


def test_a_full_disk_is_said_and_leaves_no_half_file(pair, tmp_path, monkeypatch):
    real, written = os.fsync, []

    def fsync(handle):
        written.append(handle)
        if len(written) > 3:  # the first shard, its checksum and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="No space left on device"):
        build(pair, tmp_path)
    names = sorted(p.name for p in (tmp_path / "trajectories").iterdir())
    assert names == ["000000.parquet", CHECKSUMS]
    monkeypatch.undo()
    assert build(pair, tmp_path).new_responses == 4


@pytest.mark.parametrize("damage", ["deleted", "cut", "another"])
def test_shards_that_are_lost_meanwhile_are_named_at_the_end_and_sampled_again(pair, tmp_path, monkeypatch, damage):
    """The run succeeded, with fewer problems than its record said."""
    real = sampler.write_shard

    def write(folder, name, table):
        path = real(folder, name, table)
        if len(found := shards(folder)) == 2:
            DAMAGES[damage](*found)
        return path

    monkeypatch.setattr(sampler, "write_shard", write)
    with pytest.raises(UserError, match=r"\d of the 3 shards in .* were deleted or changed meanwhile; resume"):
        build(pair, tmp_path)
    monkeypatch.undo()
    assert build(pair, tmp_path).responses == 7


def test_a_model_that_vanishes_does_no_harm_until_it_is_needed_again(folders, tmp_path, sample):
    copies = [str(shutil.copytree(folder, tmp_path / Path(folder).name)) for folder in folders]
    pair = load_pair(*copies, LoadedModels(Settings(device="cpu")))
    for copy in copies:
        shutil.rmtree(copy)
    assert build(pair, tmp_path / "other").responses == 7  # loaded weights stay
    for name, folder in zip(("expert", "amateur"), folders, strict=True):
        shutil.copytree(folder, tmp_path / name)
    assert sample("--expert", tmp_path / "expert", "--amateur", tmp_path / "amateur", "--limit", 2)[0] == 0
    shutil.rmtree(tmp_path / "expert")
    status, _, err = sample("--expert", tmp_path / "expert", "--amateur", tmp_path / "amateur", "--limit", 2)
    assert status == 2 and str(tmp_path / "expert") in err.splitlines()[-1]
    assert "Traceback" not in err
    assert read_events(sample.folder / "events.jsonl")[-1]["state"] == "failed"
