"""The engine on a GPU: trace, sample, fine-tune and evaluate the bundled pair there, against the CPU in float32.

Skipped without CUDA. LIGHTREASONER_GPU_TEST=cpu runs the tests on the CPU, to test them themselves.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from benchmarks.across import across, permuted, rows_of
from benchmarks.amateurs import noisy
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import read_shard, rows, shards
from lightreasoner.decoding.contrast import Contrast, contrast_grid, takeover
from lightreasoner.decoding.generate import DecodingConfig, generate_batch
from lightreasoner.evaluation.results import FOLDER as ANSWERS
from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
from lightreasoner.models.adapters import add_lora
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import pair_prompts
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
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses
from lightreasoner.training.run import run_as_job
from lightreasoner.training.sharding import shard

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


def test_what_was_sampled_is_scored_alike(reference, made, tmp_path):
    """Responses read in one pass have the numbers that sampling stored, also where steps are CUDA graphs."""
    source = made("float32") / "dataset"
    sampled = {row["problem_id"]: row for row in rows(source)}
    kept = ("problem_id", "question", "answer", "prompt_ids", "response_ids")
    lines = [json.dumps({name: row[name] for name in kept}) for row in sampled.values()]
    (tmp_path / "responses.jsonl").write_text("\n".join(lines))
    decoding = DecodingConfig(max_new_tokens=64, beta_floor=0.0)
    job = SamplingJob(tmp_path / "scored", EXPERT, AMATEUR, None, decoding, responses=str(tmp_path / "responses.jsonl"))
    run_sampling(job, settings(tmp_path, PLACE, "float32"), SilentProgress())
    scored = {row["problem_id"]: row for row in rows(job.run_dir)}
    assert scored.keys() == sampled.keys()
    for name, row in sampled.items():
        np.testing.assert_allclose(scored[name]["kl"], row["kl"], atol=1e-4)


@dtypes
def test_a_grid_of_contrasts(dtype, tmp_path):
    """Cells that share a row, part, and are copied: the texts of the CPU."""
    found = []
    for device, precision in ((PLACE, dtype), ("cpu", "float32")):
        pair = load_pair(EXPERT, AMATEUR, LoadedModels(settings(tmp_path, device, precision)))
        questions = [problem.question for problem in load_problems("bundled-test", limit=8).problems]
        prompts = [pair_prompts(pair, question) for question in questions]
        cells = [Contrast(0.2, 0.4), Contrast(0.2, 0.05), takeover(0.4)]
        found.append([one.tokens.tolist() for cell in contrast_grid(pair, prompts, cells, 48) for one in cell])
    same = sum(a == b for a, b in zip(*found, strict=True))
    assert len(found[0]) == 24 and same >= (24 if dtype == "float32" else 14)


def test_several_amateurs_and_one_across_tokenizers(tmp_path):
    """An amateur with permuted ids is read across tokenizers, and has the numbers of the same one read by its ids."""
    here = settings(tmp_path, PLACE, "float32")
    pair = load_pair(EXPERT, AMATEUR, LoadedModels(here))
    decoding = DecodingConfig(max_new_tokens=32, beta_floor=0.0)
    questions = load_problems("bundled-test", limit=4).problems
    others = [noisy(pair, 1)]
    usual = generate_batch(pair, rows_of(pair, questions), decoding, lambda ended: None)
    rows_of_both = [replace(row, other_prompts=(row.amateur_prompt,)) for row in rows_of(pair, questions)]
    both = generate_batch(pair, rows_of_both, decoding, lambda ended: None, others)
    alone = generate_batch(others[0], rows_of(others[0], questions), decoding, lambda ended: None)
    other = across(pair, pair.expert, permuted(pair.amateur))
    strange = generate_batch(other, rows_of(other, questions), decoding, lambda ended: None)
    assert usual.tokens == both.tokens == alone.tokens == strange.tokens
    for found, right in ((both, usual), (both.others[0], alone), (strange, usual)):
        np.testing.assert_allclose(found.measures["kl"], right.measures["kl"], atol=1e-4)


def test_a_spread_expert(tmp_path):
    """One process of a group of NCCL's: the expert's layers are shards there, and give what they gave whole."""
    backend = "nccl" if PLACE == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        found = []
        for spread in (False, True):
            loaded = load_model(EXPERT, settings(tmp_path, PLACE, "float32"))
            model = add_lora(loaded.model, 8, 16, 0.0, ("q_proj", "v_proj"), 0).to(loaded.device).train()
            if spread:
                shard(model, loaded.device, 1)
            batch = collate([PackedExample([5] * 40, 10, (Target(3, (3, 4), (0.5, 0.5)),))]).to(loaded.device)
            for _ in range(2):  # the second gathers again
                loss = step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).sum()
                loss.backward()
            grads = [p.grad.cpu() for p in model.parameters() if p.requires_grad]
            found.append((loss.item(), torch.cat([grad.flatten() for grad in grads])))
        (loss, gradient), (spread_loss, spread_gradient) = found
        assert abs(loss - spread_loss) < 1e-5
        assert (gradient - spread_gradient).norm() < 1e-4 * gradient.norm() and gradient.norm() > 0
    finally:
        dist.destroy_process_group()


def test_a_temperature_draws_the_same_tokens(tmp_path):
    """Draws depend on seed, problem and sample alone, so a GPU samples what a CPU samples."""
    drawn = []
    for device in ("cpu", PLACE):
        decoding = DecodingConfig(max_new_tokens=24, temperature=0.7)
        job = SamplingJob(tmp_path / f"{len(drawn)}", EXPERT, AMATEUR, "bundled-train", decoding, limit=8)
        run_sampling(job, settings(tmp_path, device, "float32"), SilentProgress())
        drawn.append([row["response_ids"] for path in shards(job.run_dir) for row in read_shard(path).to_pylist()])
    assert sum(a == b for a, b in zip(*drawn, strict=True)) >= 7  # a draw at a boundary may fall to either side
