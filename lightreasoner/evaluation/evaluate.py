"""Measures pass@1 of a base model and its adapters on the same problems, and compares them in pairs.

The base model is loaded once, and adapters are switched on it. Each batch of graded responses is one Parquet shard; a
resumed evaluation skips the batches that have one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.decoding.batch_decoder import fitting_rows
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.errors import UserError
from lightreasoner.models.devices import DoesNotFit, run_with_oom_backoff
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.problems.grading import grade
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import Progress
from lightreasoner.scoring.significance import compare, wilson
from lightreasoner.storage.atomic import atomic_file, write_text

FOLDER, RESULTS = "answers", "results.json"
#: (key, request for a Solver) of each missing batch → (key, what the Solver returns), in any order.
ParallelMap = Callable[[Iterable[tuple[Any, Any]]], Iterable[tuple[Any, Any]]]
SCHEMA = pa.schema(
    [
        ("model", pa.string()),  # name of the variant
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("response_ids", pa.list_(pa.int32())),
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # "stop" or "length"
        ("extracted", pa.string()),  # final answer found in the response; null without one
        ("right", pa.bool_()),
        ("seconds", pa.float32()),  # of the batch, divided by its rows
    ]
)


@dataclass(frozen=True)
class Variant:
    """A model to evaluate: the base alone, or the base with an adapter."""

    name: str
    adapter: Path | None = None


@dataclass(frozen=True)
class Summary:
    """Results of one variant. Shares from 0 to 1, lengths in tokens."""

    name: str
    problems: int
    right: int
    pass_at_1: float
    low: float  # 95 % interval
    high: float
    extraction_failures: int
    truncations: int
    mean_length: float
    tokens_per_second: float
    seconds: float


def batches(prompts: list[list[int]], size: int) -> list[list[int]]:
    """Indices of the problems in each batch, sorted by prompt length. The same on every attempt."""
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
    return [order[start : start + size] for start in range(0, len(order), size)]


def evaluate(
    folder: Path,
    loaded: LoadedModel,
    variants: list[Variant],
    problems: list[Problem],
    max_new_tokens: int,
    batch_size: int | None,
    progress: Progress,
    parallel_map: ParallelMap | None = None,
) -> list[Summary]:
    """Solve every problem with every variant; write the shards and results.json. Raises UserError, StopRequested.

    problems: all with a known answer. batch_size: None for as many as fit into memory. parallel_map: solves the missing
    batches elsewhere, in any order; None for this process.
    """
    prompts = [prompt_ids(loaded, problem.question) for problem in problems]
    longest = max(map(len, prompts)) + max_new_tokens
    if loaded.max_positions and longest > loaded.max_positions:
        raise UserError(
            f"The longest problem and {max_new_tokens} new tokens need {longest:,} positions, but {loaded.ref} reads "
            f"{loaded.max_positions:,}; lower --max-new-tokens."
        )
    size = batch_size or fitting_rows([loaded], longest, 1)
    plan = batches(prompts, size)
    set_aside_damaged(folder, progress)
    todo = [(n, b) for n in range(len(variants)) for b in range(len(plan)) if not shard(folder, n, b).exists()]
    done = len(variants) * len(problems) - sum(len(plan[b]) for _, b in todo)
    requests = (((n, b), (n, [prompts[i] for i in plan[b]])) for n, b in todo)
    solver = Solver(loaded, variants, max_new_tokens, progress)
    right, answered = [0] * len(variants), [0] * len(variants)
    solved = parallel_map(requests) if parallel_map else ((key, solver(request)) for key, request in requests)
    for (n, batch), (responses, seconds) in solved:
        rows = graded_rows(loaded, variants[n].name, [problems[i] for i in plan[batch]], responses, seconds)
        with atomic_file(shard(folder, n, batch)) as file:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="zstd")
        done, answered[n] = done + len(rows), answered[n] + len(rows)
        right[n] += sum(row["right"] for row in rows)
        numbers = {"model": variants[n].name, "pass_at_1": right[n] / answered[n]}
        progress.update(done, len(variants) * len(problems), **numbers)
        progress.checkpoint()
    return write_results(folder, variants)


class Solver:
    """Solves batches with the base model and its adapters: (index of the variant, prompts) → (responses, seconds)."""

    def __init__(self, loaded: LoadedModel, variants: list[Variant], max_new_tokens: int, progress: Progress):
        self._loaded, self._variants, self._max_new_tokens, self._progress = loaded, variants, max_new_tokens, progress
        self._model, self._active = None, None
        self._rows: int | None = None  # that fit into memory, once a batch did not

    def __call__(self, request: tuple[int, list[list[int]]]) -> tuple[list[list[int]], float]:
        n, prompts = request
        variant = self._variants[n]
        if self._active != n:
            self._progress.status(f"Solving with {variant.name}")
            self._model, self._active = activate_adapter(self._loaded, self._model, variant), n
        began = time.monotonic()
        with base_only(self._model, variant):
            used = replace(self._loaded, model=self._model if self._model is not None else self._loaded.model)
            responses = self._solved(used, prompts)
        return responses, time.monotonic() - began

    def _solved(self, used: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
        def attempt(part: list[list[int]], _first: int) -> list[list[int]]:
            return greedy_generate(used, part, self._max_new_tokens, self._progress.checkpoint)

        def halved(rows: int) -> None:
            self._rows = rows
            self._progress.event("halved", rows=rows)

        try:
            parts, _ = run_with_oom_backoff(prompts, self._rows or len(prompts), attempt, halved)
        except DoesNotFit:
            raise UserError(
                f"A single problem needs more memory than {used.device} has free; close programs that use it, lower "
                "--max-new-tokens, or choose a smaller model. The results so far are saved."
            ) from None
        return [ids for part in parts for ids in part]


def activate_adapter(loaded: LoadedModel, model: Any, variant: Variant) -> Any:
    """The model with the variant's adapter active. model: what the call before returned, or None.

    Raises UserError for an adapter that does not fit the base model.
    """
    if variant.adapter is None:
        return model
    import peft  # slow, and reading results does not need it

    name = variant.name.replace(".", "_")
    try:
        if model is None:
            model = peft.PeftModel.from_pretrained(loaded.model, variant.adapter, adapter_name=name)
        else:
            model.load_adapter(variant.adapter, adapter_name=name)
    except (ValueError, RuntimeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[1:2] or lines or [type(error).__name__])[0][:200]  # the first line only names the class
        raise UserError(f"The adapter {variant.adapter} does not fit {loaded.ref}: {reason}") from None
    model.set_adapter(name)
    return model.eval()


def base_only(model: Any, variant: Variant):
    """A context in which the base model computes without its adapters, if that is what the variant needs."""
    return model.disable_adapter() if model is not None and variant.adapter is None else nullcontext()


def graded_rows(
    loaded: LoadedModel, name: str, problems: list[Problem], responses: list[list[int]], seconds: float
) -> list[dict]:
    """The graded responses of a batch as rows of SCHEMA."""
    rows = []
    for problem, ids in zip(problems, responses, strict=True):
        ended = bool(ids) and ids[-1] in loaded.end_ids
        text = loaded.tokenizer.decode(ids[:-1] if ended else ids)
        found = grade(text, problem.answer)
        rows.append(
            {
                "model": name,
                "problem_id": problem.id,
                "question": problem.question,
                "answer": problem.answer,
                "response_ids": ids,
                "response": text,
                "finish_reason": "stop" if ended else "length",
                "extracted": found.extracted,
                "right": found.right,
                "seconds": seconds / len(problems),
            }
        )
    return rows


def shard(folder: Path, variant: int, batch: int) -> Path:
    return folder / FOLDER / f"{variant:02d}-{batch:06d}.parquet"


def set_aside_damaged(folder: Path, progress: Progress) -> None:
    """Rename unreadable shards, so that their batches are computed again."""
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        try:
            pq.read_table(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            os.replace(path, path.with_name(f"{path.name}.corrupt"))
            progress.event("corrupt", shard=path.name, message=(str(error).splitlines() or [""])[0][:200])


def read_rows(folder: Path, variant: int, columns: list[str] | None = None) -> list[dict]:
    """A variant's rows, one per problem. Raises UserError for a damaged shard."""
    rows = []
    for path in sorted((folder / FOLDER).glob(f"{variant:02d}-[0-9]*.parquet")):
        try:
            rows += pq.read_table(path, columns=columns).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0][:100]
            raise UserError(f"{path} is damaged ({reason}); delete it and resume the evaluation.") from None
    return rows


def summarise(name: str, rows: list[dict]) -> Summary:
    n, right = len(rows), sum(row["right"] for row in rows)
    tokens, seconds = sum(len(row["response_ids"]) for row in rows), sum(row["seconds"] for row in rows)
    return Summary(
        name,
        n,
        right,
        right / n,
        *wilson(right, n),
        extraction_failures=sum(row["extracted"] is None for row in rows),
        truncations=sum(row["finish_reason"] == "length" for row in rows),
        mean_length=tokens / n,
        tokens_per_second=tokens / max(seconds, 1e-9),
        seconds=seconds,
    )


def write_results(folder: Path, variants: list[Variant]) -> list[Summary]:
    """Write results.json: a summary per variant and each later variant compared with the first. The last variant's
    numbers also stand at the top level."""
    found = [read_rows(folder, n) for n in range(len(variants))]
    summaries = [summarise(variant.name, rows) for variant, rows in zip(variants, found, strict=True)]
    right = [{row["problem_id"]: row["right"] for row in rows} for rows in found]
    comparisons = [compared(variants, right, n) for n in range(1, len(variants))]
    results = {"models": [as_json(s) for s in summaries], "comparisons": comparisons}
    write_text(folder / RESULTS, json.dumps(as_json(summaries[-1]) | results, indent=1, ensure_ascii=False) + "\n")
    return summaries


def as_json(summary: Summary) -> dict:
    numbers = asdict(summary)
    return numbers | {"interval": [numbers.pop("low"), numbers.pop("high")]}


def compared(variants: list[Variant], right: list[dict[str, bool]], n: int) -> dict:
    found = compare(right[0], right[n])
    return {"before": variants[0].name, "after": variants[n].name, "difference": found.difference} | {
        name: value for name, value in asdict(found).items() if name not in ("before", "after")
    }
