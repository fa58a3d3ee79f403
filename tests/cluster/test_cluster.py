"""Commands on a real Ray cluster on this machine: same results, workers that die, and a missing cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lightreasoner import cluster
from lightreasoner.cli.main import main
from lightreasoner.datasets.trajectories import read_shard, shards
from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import read_rows
from lightreasoner.jobs.events import EVENTS_FILE, read_events
from lightreasoner.models.loading import load_model
from lightreasoner.settings import ROOT, Settings
from lightreasoner.training import on_cluster as cluster_training
from tests.support import warm_app
from tests.support.tiny_cluster import Refusing
from tests.support.tiny_models import save_tiny, save_tiny_adapter, tiny_model

SAMPLE = ["sample", "--problems", "bundled-train", "--limit", "96", "--batch-size", "8", "--max-new-tokens", "48"]
TORCHRUN = ["--standalone", "--nproc-per-node", "2", "--run-path", "--start-method", "fork"]


@pytest.fixture(scope="module")
def ray():
    """One cluster for all tests: starting one takes seconds."""
    found = cluster.connect(Settings(ray_address="local"), workers=2)
    yield found
    found.shutdown()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.setenv("LIGHTREASONER_RAY_ADDRESS", "local")
    monkeypatch.delenv("LIGHTREASONER_JOB", raising=False)


def run(*argv) -> None:
    assert main([str(word) for word in argv]) == 0


def rows(folder: Path) -> list[dict]:
    return [row for path in shards(folder) for row in read_shard(path).to_pylist()]


def workers() -> list[psutil.Process]:
    """The cluster's processes that hold models."""
    return [p for p in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(cmdline(p))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill_one_once(folder: Path, standing: int, killed: list[int]) -> threading.Thread:
    """Kill a worker, as a machine that is taken away would, as soon as a shard has come to those that stand."""

    def progress():
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if len(list(folder.glob("*.parquet"))) > standing and (found := workers()):
                os.kill(found[0].pid, signal.SIGKILL)
                killed.append(found[0].pid)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=progress, daemon=True)
    thread.start()
    return thread


def test_two_workers_one_of_them_killed_finish_what_one_process_began(ray, tmp_path):
    """Nothing is lost or done twice, and the dataset is the one that a single process makes."""
    run(*SAMPLE, "--run-dir", tmp_path / "local")
    shutil.copytree(tmp_path / "local", tmp_path / "ray")
    begun, left = shards(tmp_path / "ray")[:2], shards(tmp_path / "ray")[2:]
    for path in left:
        path.unlink()
    untouched = {path: path.stat().st_mtime_ns for path in begun}
    killed: list[int] = []
    killer = kill_one_once(left[0].parent, len(begun), killed)
    run(*SAMPLE, "--run-dir", tmp_path / "ray", "--backend", "ray", "--num-workers", "2")
    killer.join(1)
    assert killed, "the worker was to die in the middle"
    assert {path: path.stat().st_mtime_ns for path in begun} == untouched
    local, far = rows(tmp_path / "local"), rows(tmp_path / "ray")
    assert [row["problem_id"] for row in far] == [row["problem_id"] for row in local] and len(far) == 96
    for ours, theirs in zip(local, far, strict=True):
        assert theirs["response_ids"] == ours["response_ids"]
        assert theirs["kl"] == pytest.approx(ours["kl"], abs=1e-4)
        assert [s["index"] for s in theirs["steps"]] == [s["index"] for s in ours["steps"]]


def test_evaluation_is_the_same_there(ray, tmp_path):
    base = save_tiny(tmp_path / "base", seed=1)
    save_tiny_adapter(tmp_path / "adapter", tiny_model(1), seed=3)
    argv = ["evaluate", "--model", base, "--adapter", tmp_path / "adapter", "--problems", "bundled-test"]
    argv += ["--limit", "12", "--batch-size", "4", "--max-new-tokens", "8"]
    run(*argv, "--run-dir", tmp_path / "local")
    run(*argv, "--run-dir", tmp_path / "ray", "--backend", "ray", "--num-workers", "2")
    for variant in (0, 1):
        told = [
            {row["problem_id"]: (row["response_ids"], row["right"]) for row in read_rows(tmp_path / place, variant)}
            for place in ("local", "ray")
        ]
        assert told[0] == told[1] and len(told[0]) == 12


def test_a_workers_mistake_is_one_sentence(ray):
    """Not Ray's traceback, and not tried again: it would fail in the same way."""
    with pytest.raises(UserError, match="this is no good"):
        list(cluster.map_over_actors(ray, Refusing, {"why": "this is no good"}, [(0, 1)], 1, 0))


@pytest.mark.parametrize(
    "address, says", [("", "No Ray cluster is named"), ("127.0.0.1:9", "No Ray cluster answers at 127.0.0.1:9")]
)
def test_no_cluster_is_one_sentence(monkeypatch, tmp_path, capsys, address, says):
    monkeypatch.setenv("LIGHTREASONER_RAY_ADDRESS", address)
    status = main([*SAMPLE, "--run-dir", str(tmp_path / "run"), "--backend", "ray"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and says in error


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed"):
        cluster.connect(Settings(ray_address="local"), 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A small real dataset of the bundled pair."""
    folder = tmp_path_factory.mktemp("dataset") / "run"
    options = ["--limit", "24", "--max-new-tokens", "32", "--run-dir", str(folder)]
    assert main(["sample", "--problems", "bundled-train", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main([*tune(dataset), "--run-dir", str(folder)]) == 0
    return folder


def tune(dataset: Path) -> list[str]:
    """Without dropout: it is drawn for each process anew."""
    words = ["finetune", "--dataset", str(dataset), "--learning-rate", "1e-3", "--max-steps", "8", "--dropout", "0"]
    return [*words, "--samples-per-update", "24", "--group", "4", "--save-every", "4", "--evaluate-every", "4"]


def curve(folder: Path, kind: str, field: str) -> dict[int, float]:
    return {event["update"]: event[field] for event in read_events(folder / EVENTS_FILE) if event["kind"] == kind}


def assert_same_run(alone: Path, together: Path) -> None:
    for kind, field in (("metrics", "loss"), ("metrics", "grad_norm"), ("held_out", "held_out_loss")):
        one, two = curve(alone, kind, field), curve(together, kind, field)
        assert one and list(two) == list(one) and two == pytest.approx(one, rel=1e-3, abs=1e-5), (kind, field)
    assert json.loads((together / "run.json").read_text())["about"]["processes"] == 2
    assert (together / "adapter" / "adapter_model.safetensors").is_file()
    starts = [event for event in read_events(together / EVENTS_FILE) if event["kind"] == "start"]
    assert len(starts) == 1, "one process alone speaks for all"


#: So few samples an update that a process often has none of its own to learn.
FEW = ["--samples-per-update", "2", "--group", "64"]


@pytest.fixture(scope="module")
def torchrun(dataset, tmp_path_factory) -> Path:
    """Two runs by two processes: "plain", and "sharded" with few samples an update."""
    folder = tmp_path_factory.mktemp("torchrun")
    plain = [*tune(dataset), "--run-dir", str(folder / "plain")]
    sharded = [*tune(dataset), *FEW, "--shard", "--run-dir", str(folder / "sharded")]
    words = [*TORCHRUN, str(ROOT / "tests" / "support" / "cli_batch.py"), json.dumps([plain, sharded])]
    env = os.environ | {"LIGHTREASONER_WORKSPACE": str(folder / "workspace"), "LIGHTREASONER_DEVICE": "cpu"}
    done = warm_app.command(env, *words, module="torch.distributed.run")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_processes_of_torchrun_have_the_curve_of_one(torchrun, alone):
    assert_same_run(alone, torchrun / "plain")


def test_a_base_that_is_spread_over_two_processes_has_the_curve_of_one(torchrun, dataset, tmp_path):
    assert main([*tune(dataset), *FEW, "--run-dir", str(tmp_path / "one")]) == 0
    assert_same_run(tmp_path / "one", torchrun / "sharded")
    spread = next(event for event in read_events(torchrun / "sharded" / EVENTS_FILE) if event["kind"] == "sharded")
    expert = load_model("lightreasoner-expert-4m", Settings(device="cpu")).model
    layers = sum(p.numel() * 4 for p in expert.model.layers.parameters())
    whole = sum(p.numel() * 4 for p in expert.parameters())
    assert (spread["held"], spread["whole"]) == (whole - layers // 2, whole)


def test_one_process_cannot_share_a_model(dataset, tmp_path, capsys):
    assert main([*tune(dataset), "--shard", "--run-dir", str(tmp_path / "run")]) == 2
    assert "this is one; start them with torchrun" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_workers_of_ray_train_have_the_curve_of_one(ray, dataset, alone, tmp_path):
    run(*tune(dataset), "--run-dir", tmp_path / "run", "--backend", "ray", "--num-workers", "2")
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.parametrize("state, raises", [("failed", False), (None, True)])
def test_a_process_that_gives_up_alone_ends_the_others(tmp_path, monkeypatch, state, raises):
    """With the same mistake in all, the first one's sentence is the end; else it would wait for this one for ever."""
    monkeypatch.setattr(cluster_training, "run_as_job", lambda job, settings: Refusing("no good")(job))
    monkeypatch.setattr(cluster_training, "PATIENCE", 0.2)
    monkeypatch.setenv("RANK", "1")
    if state:
        (tmp_path / EVENTS_FILE).write_text(
            json.dumps({"seq": 1, "time": 1.0, "kind": "end", "state": state, "by": "1"}) + "\n"
        )
    with pytest.raises(RuntimeError, match="gave up") if raises else nullcontext():
        cluster_training._process({"job": SimpleNamespace(run_dir=tmp_path), "env": {}})


@pytest.mark.parametrize(
    ("gpus", "device", "workers", "each"),
    [(4, "auto", 4, 1), (4, "cuda:1,cuda:0", 2, 1), (4, "cpu", 9, 0), (0, "auto", 9, 0), (1, "cuda", 2, "has 1 GPU")],
)
def test_every_worker_has_a_gpu_of_its_own(gpus, device, workers, each):
    """A worker sees one GPU, and was told the number that the driver's has; one worker too many waited for ever."""
    settings, ray = Settings(device=device), SimpleNamespace(cluster_resources=lambda: {"CPU": 9.0, "GPU": float(gpus)})
    if isinstance(each, str):
        with pytest.raises(UserError, match=each):
            cluster.gpus_per_worker(settings, ray, workers)
    else:
        assert cluster.gpus_per_worker(settings, ray, workers) == each
    told = cluster.worker_environment(settings)["LIGHTREASONER_DEVICE"]
    assert told == ("cpu" if device == "cpu" else "auto")


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_is_none_is_a_sentence(workers):
    with pytest.raises(UserError, match=f"The number of workers is {workers}"):
        cluster.connect(Settings(ray_address="local"), workers)
