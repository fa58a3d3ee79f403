"""The engine on a GPU: trace, sample, fine-tune and evaluate the bundled pair there, against the CPU in float32.

Skipped without CUDA. LIGHTREASONER_GPU_TEST=cpu runs the tests on the CPU, to test them themselves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import read_shard, shards
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.evaluation.results import FOLDER as ANSWERS
from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair
from lightreasoner.problems.stream import load_problems
from lightreasoner.progress import SilentProgress
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.run import run_sampling
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import RunLocation
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.job import FinetuneJob
from lightreasoner.training.run import run_as_job

PLACE = os.environ.get("LIGHTREASONER_GPU_TEST") or ("cuda" if torch.cuda.is_available() else "")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not PLACE, reason="needs a CUDA GPU")]

EXPERT, AMATEUR = "lightreasoner-expert-4m", "lightreasoner-amateur-1m"
#: What rounding may do, by dtype, in nats: to the mean |ΔKL| of the same steps; to a loss.
ROUNDING = {"float32": (1e-4, 1e-3), "float16": (0.005, 0.01), "bfloat16": (0.02, 0.03)}
dtypes = pytest.mark.parametrize("dtype", ROUNDING)


def settings(folder: Path, device: str, dtype: str) -> Settings:
    return Settings(workspace=folder / "workspace", device=device, dtype=dtype)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A dataset, an adapter and an evaluation made on the CPU in float32."""
    return whole(tmp_path_factory.mktemp("reference"), "cpu", "float32")


def whole(folder: Path, device: str, dtype: str, dataset: Path | None = None, adapter: Path | None = None) -> Path:
    """Sample, fine-tune and evaluate; the later steps on a given dataset and adapter, so that they can be compared."""
    here = settings(folder, device, dtype)
    decoding = DecodingConfig(max_new_tokens=64, beta_floor=0.0)
    run_sampling(
        SamplingJob(folder / "dataset", EXPERT, AMATEUR, "bundled-train", decoding, limit=24), here, SilentProgress()
    )
    dataset = dataset or folder / "dataset"
    config = FinetuneConfig(learning_rate=1e-3, dropout=0.0, max_steps=12, evaluate_every=12, held_out=0.1)
    job = FinetuneJob(folder / "tuned", RunLocation(dataset, str(dataset)), EXPERT, config, Selection())
    run_as_job(job, here)
    adapters = (adapter or folder / "tuned" / "adapter",)
    run_evaluation(EvaluationJob(folder / "evaluated", EXPERT, adapters, "bundled-test", limit=24), here)
    return folder


@pytest.fixture(scope="module")
def made(reference, tmp_path_factory):
    """made(dtype): the same on the GPU."""
    known: dict[str, Path] = {}

    def make(dtype: str) -> Path:
        if dtype not in known:
            folder = tmp_path_factory.mktemp(dtype)
            known[dtype] = whole(folder, PLACE, dtype, reference / "dataset", reference / "tuned" / "adapter")
        return known[dtype]

    return make


def traced(device: str, dtype: str, folder: Path, questions: list[str], responses: list[str | None]) -> list[list]:
    here = settings(folder, device, dtype)
    pair = load_pair(EXPERT, AMATEUR, LoadedModels(here))
    assert pair.expert.device.type == torch.device(device).type and str(pair.expert.dtype) == f"torch.{dtype}"
    found = []
    for question, response in zip(questions, responses, strict=True):
        events = trace(pair, TraceRequest(question, response=response, max_new_tokens=48), here)
        found.append([step for event in events if isinstance(event, StepsEvent) for step in event.steps])
    return found


@dtypes
def test_a_trace(dtype, tmp_path):
    questions = [problem.question for problem in load_problems("bundled-test", limit=4).problems]
    ours, theirs = (traced(*which, tmp_path, questions, [None] * 4) for which in ((PLACE, dtype), ("cpu", "float32")))
    if dtype == "float32":
        assert [[s.token_id for s in steps] for steps in ours] == [[s.token_id for s in steps] for steps in theirs]
    texts = ["".join(step.text for step in steps[:-1]) for steps in theirs]
    given = [traced(*which, tmp_path, questions, texts) for which in ((PLACE, dtype), ("cpu", "float32"))]
    kls = [np.array([step.score.kl for steps in run for step in steps]) for run in given]
    assert len(kls[0]) == len(kls[1]) > 40
    assert np.abs(kls[0] - kls[1]).mean() < ROUNDING[dtype][0]


@dtypes
def test_a_dataset(dtype, reference, made):
    ours, theirs = (
        [row for path in shards(run / "dataset") for row in read_shard(path).to_pylist()]
        for run in (made(dtype), reference)
    )
    ours, theirs = ({row["problem_id"]: row for row in rows} for rows in (ours, theirs))
    assert ours.keys() == theirs.keys()
    apart, same = [], 0
    for name, row in theirs.items():
        pairs = list(zip(row["response_ids"], ours[name]["response_ids"], strict=False))
        common = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
        same += row["response_ids"] == ours[name]["response_ids"]
        apart += [abs(a - b) for a, b in zip(row["kl"][:common], ours[name]["kl"][:common], strict=True)]
    assert np.mean(apart) < ROUNDING[dtype][0]
    assert same == len(theirs) if dtype == "float32" else same > len(theirs) // 2


@dtypes
def test_fine_tuning(dtype, reference, made):
    ours, theirs = (
        [json.loads(line) for line in (run / "tuned" / "events.jsonl").read_text().splitlines()]
        for run in (made(dtype), reference)
    )
    for kind, name in (("metrics", "loss"), ("held_out", "held_out_loss")):
        losses = [[event[name] for event in run if event["kind"] == kind] for run in (ours, theirs)]
        assert len(losses[0]) == len(losses[1]) > 1
        for loss, right in zip(*losses, strict=True):
            assert abs(loss - right) < ROUNDING[dtype][1]


@dtypes
def test_an_evaluation(dtype, reference, made):
    import pyarrow.parquet as pq

    ours, theirs = (
        {
            (row["model"], row["problem_id"]): row["response_ids"]
            for path in sorted((run / "evaluated" / ANSWERS).glob("*.parquet"))
            for row in pq.read_table(path).to_pylist()
        }
        for run in (made(dtype), reference)
    )
    assert len(ours) == len(theirs) == 48
    same = sum(ours[("base", name)] == ids for (model, name), ids in theirs.items() if model == "base")
    tuned, mine = (next(model for model, _ in run if model != "base") for run in (theirs, ours))
    same_tuned = sum(ours[mine, name] == ids for (model, name), ids in theirs.items() if model == tuned)
    least = 24 if dtype == "float32" else 16
    assert min(same, same_tuned) >= least


def test_a_temperature_draws_the_same_tokens(tmp_path):
    """Draws depend on seed, problem and sample alone, so a GPU samples what a CPU samples."""
    rows = []
    for device in ("cpu", PLACE):
        decoding = DecodingConfig(max_new_tokens=24, temperature=0.7)
        job = SamplingJob(tmp_path / f"{len(rows)}", EXPERT, AMATEUR, "bundled-train", decoding, limit=8)
        run_sampling(job, settings(tmp_path, device, "float32"), SilentProgress())
        rows.append([row["response_ids"] for path in shards(job.run_dir) for row in read_shard(path).to_pylist()])
    assert sum(a == b for a, b in zip(*rows, strict=True)) >= 7  # a draw at a boundary may fall to either side
