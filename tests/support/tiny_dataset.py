"""Run folders of small consistent datasets: random logits through the real scorer, written by the real shard writer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch

from lightreasoner.datasets.samples import SelectionReport
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import SCHEMA, write_shard
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.scoring.divergence import score_steps
from lightreasoner.scoring.measures import STEP_MEASURES
from lightreasoner.storage.runs import begin_run
from tests.support.tiny_models import save_tiny, tiny_tokenizer

ANSWERS = ("3 + 4 = 7\nThe answer is 7.", "She has 12 apples, so 20 - 12 = 8.", "Well … 5?")


def trajectory(n: int, steps: int, vocabulary: int, generator: torch.Generator, tokenizer=None, **fields) -> dict:
    """One row, as sampling writes it. Where there is a tokenizer, the response is a real text of it."""
    if tokenizer is None:
        response = torch.randint(0, vocabulary, (steps,), generator=generator).tolist()
        text, prompt = f"response {n}", [1, 2, 3]
    else:
        text = fields.get("response", f"{ANSWERS[n % len(ANSWERS)]} ({n})")
        response = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
        prompt = tokenizer(f"How many, {n}?")["input_ids"]
    expert = 3 * torch.randn(len(response), vocabulary, generator=generator)
    closeness = torch.rand(len(response), 1, generator=generator) * 1.2  # some steps hardly diverge, others much
    amateur = expert + closeness**2 * torch.randn(len(response), vocabulary, generator=generator)
    scores = score_steps(expert, amateur, response)
    floor = fields.pop("beta_floor", BETA_FLOOR)
    kept = [(i, s) for i, s in enumerate(scores) if floor == 0 or s.kl > floor]
    row = {
        "problem_id": f"p{n}",
        "sample": 0,
        "question": f"How many, {n}?",
        "answer": None,
        "prompt_ids": prompt,
        "response_ids": response,
        "response": text,
        "finish_reason": "stop",
        **{name: [getattr(s, name) for s in scores] for name in STEP_MEASURES},
        "steps": [
            {
                "index": i,
                "token_id": response[i],
                "kl": s.kl,
                "ids": list(s.ids),
                "expert_logprobs": list(s.expert_logprobs),
                "amateur_logprobs": list(s.amateur_logprobs),
            }
            for i, s in kept
        ],
    }
    return row | fields


def make_dataset(
    folder: Path, problems: int = 6, per_shard: int = 2, steps: int = 20, vocabulary: int = 300, tokens=False, **kw
) -> list[dict]:
    """Write a dataset; its rows. `tokens`: with a tiny expert whose tokenizer knows the ids. kw: of each row."""
    generator = torch.Generator().manual_seed(problems * 1000 + steps)
    tokenizer = tiny_tokenizer() if tokens else None
    expert = str(save_tiny(folder.parent / "expert", seed=1)) if tokens else "./nowhere/expert"
    config = {"expert": expert, "amateur": "./nowhere/amateur", "beta_floor": kw.get("beta_floor", BETA_FLOOR)}
    begin_run(folder, "dataset", config, {})
    rows = [trajectory(n, steps, vocabulary, generator, tokenizer, **kw) for n in range(problems)]
    for n in range(0, problems, per_shard):
        write_rows(folder, n // per_shard, rows[n : n + per_shard])
    return rows


def selection_report(folder: Path, selection: Selection | None = None) -> SelectionReport:
    """What is counted while training samples are made."""
    reports: list[SelectionReport] = []
    for _ in training_samples(folder, selection, on_report=reports.append):
        pass
    return reports[0]


def write_rows(folder: Path, batch: int, rows: list[dict]) -> Path:
    return write_shard(folder, f"{batch:06d}", pa.Table.from_pylist(rows, SCHEMA))
