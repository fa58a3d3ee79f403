"""Run folders as evaluations and fine-tuning leave them, with answers made up to order: no model has to run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.evaluation.results import FOLDER, SCHEMA, Variant, shard, write_results
from lightreasoner.jobs.events import EVENTS_FILE
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import add_to_run, begin_run
from tests.support.tiny_models import save_tiny, save_tiny_adapter, tiny_model, tiny_tokenizer


def make_base(folder: Path) -> Path:
    return save_tiny(folder / "tiny-base", seed=1)


def write_events(folder: Path, *attempts: list[tuple[float, str]]) -> None:
    """A log of attempts, each a list of (elapsed seconds, kind)."""
    lines, seq = [], 0
    for n, events in enumerate(attempts, 1):
        for elapsed, kind in events:
            seq += 1
            lines.append({"seq": seq, "time": 1e9 + seq, "elapsed": elapsed, "kind": kind, "by": f"{n}.x"})
    if lines:
        lines[-1] |= {"state": "succeeded"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVENTS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_tuned(
    runs: Path, base: Path, dataset: Path | str = "/nowhere", method: str = "lightreasoner", **config
) -> Path:
    """A fine-tuning run with an adapter that changes the base noticeably; it took 40 s."""
    folder = runs / new_id()
    about = {"expert": str(base), "dataset": {"problems": "bundled-train"}, "device": "cpu"}
    begin_run(folder, "finetune", {"dataset": str(dataset), "method": method, "seed": 0} | config, about)
    save_tiny_adapter(folder / "adapter", tiny_model(seed=1))
    add_to_run(folder, result={"samples": 900, "samples_seen": 1600, "updates": 100})
    write_events(folder, [(0.0, "start"), (40.0, "end")])
    return folder


def make_evaluation(
    runs: Path,
    base: Path,
    adapters: list[Path],
    right: list[str],
    *,
    problems: str = "bundled-test",
    batch: int = 8,
    whole: bool = True,
    question: str = "Tom has {n} apples and buys {n} more. How many?",
    contrasts: tuple[Contrast, ...] = (),
    amateur: Path | None = None,
) -> Path:
    """An evaluation. right: for each model a string with "1" where it solved the problem, "0" where it answered wrong,
    "x" where it found no answer and was cut off, "?" where no answer to any problem is known; contrasts come last.
    whole: with results.json, as when it has ended."""
    folder, tokenizer = runs / new_id(), tiny_tokenizer()
    places = [None, *(run / "adapter" for run in adapters)]
    variants = [Variant("base" if place is None else place.parent.name, place) for place in places]
    variants += [Variant(contrast.title, contrast=contrast) for contrast in contrasts]
    count = len(right[0])
    config = {"model": str(base), "adapters": [str(place) for place in places[1:]], "base": True, "split": None}
    config |= {"problems": problems, "limit": count, "max_new_tokens": 64, "batch_size": None}
    if contrasts:
        config |= {"amateur": str(amateur or base), "contrasts": [asdict(contrast) for contrast in contrasts]}
    about = {"problems": count, "without answer": 0, "models": [v.name for v in variants], "device": "cpu"}
    about |= {"graded": False} if "?" in right[0] else {}
    begin_run(folder, "evaluation", config, about | {"dtype": "float32"})
    (folder / FOLDER).mkdir(parents=True)
    for n, marks in enumerate(right):
        rows = [row(variants[n].name, i, mark, question, tokenizer) for i, mark in enumerate(marks)]
        if variants[n].contrast:
            rows = [row | {"changed": 1, "decoded": 2} for row in rows]
        for at in range(0, len(rows), batch):
            pq.write_table(pa.Table.from_pylist(rows[at : at + batch], SCHEMA), shard(folder, n, at // batch))
    if whole:
        write_results(folder, variants)
        write_events(folder, [(0.0, "start"), (12.0, "end")])
    return folder


def row(model: str, n: int, mark: str, question: str, tokenizer) -> dict:
    said = {"1": f"{n} + {n} = {2 * n}\nThe answer is {2 * n}.", "0": f"{n} + {n} = {n}\nThe answer is {n}."}
    text = said.get(mark, f"{n} + {n} + {n} + {n} and so on")
    return {
        "model": model,
        "problem_id": f"p{n}",
        "question": question.replace("{n}", str(n)),
        "answer": None if mark == "?" else str(2 * n),
        "response_ids": tokenizer(text)["input_ids"] + ([2] if mark in "01" else []),
        "response": text,
        "finish_reason": "stop" if mark in "01" else "length",
        "extracted": {"1": str(2 * n), "0": str(n)}.get(mark),
        "right": None if mark == "?" else mark == "1",
        "seconds": 0.05,
    }
