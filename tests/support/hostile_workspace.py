"""A workspace in which everything that has a text has a hostile one: models' tokens, problems, names, titles, logs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from lightreasoner.cli.main import main
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.models.loading import load_tokenizer
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import begin_run
from tests.support.browser_jobs import JobsApp
from tests.support.browser_models import HOSTILE, ODD
from tests.support.tiny_dataset import trajectory, write_rows
from tests.support.tiny_evaluation import make_evaluation
from tests.support.tiny_tuning import make_run

TEXTS = (*HOSTILE, *ODD)
ALL = " ".join(TEXTS)


@dataclass(frozen=True)
class Furnished:
    """Ids of what is there."""

    trace: str  # in which each text is a token
    dataset: str
    tuning: str
    evaluation: str
    jobs: dict[str, str]  # a text → the job that has it in its title, its message and its log


def furnish(app: JobsApp, models: tuple[Path, Path]) -> Furnished:
    """models: of browser_models.save_hostile_pair."""
    runs, file = app.workspace / "runs", f"/srv/{HOSTILE[0]} {HOSTILE[4]} {ODD[0]}.jsonl"
    dataset = runs / new_id()
    names = {"expert": str(models[0]), "amateur": str(models[1]), "problems": file}
    about = {"problems": file, "title": ALL, "note": ALL, "device": HOSTILE[1], "pair": {"name": HOSTILE[0]}}
    begin_run(dataset, "dataset", names | {"beta_floor": 0.2}, about)
    tokenizer, generator = load_tokenizer(models[0]), torch.Generator().manual_seed(1)
    fields = {"response": ALL, "answer": ALL, "question": ALL}
    rows = [
        trajectory(n, 0, len(tokenizer), generator, tokenizer, problem_id=f"{text}{n}", **fields)
        for n, text in enumerate(TEXTS)
    ]
    write_rows(dataset, 0, rows)
    card = f"---\nbase_model: x\n---\n# {HOSTILE[0]}\n\n{ALL}\n\n| | |\n|---|---|\n| {HOSTILE[0]} | {HOSTILE[1]} |\n"
    about = {"expert": HOSTILE[0], "dataset": {"problems": ALL}, "device": HOSTILE[1]}
    tuning = make_run(runs / new_id(), dataset, card=card, about=about)
    marks = ["1100x0", "1111x0"]
    evaluation = make_evaluation(runs, models[0], [tuning], marks, problems=file, question=ALL)
    return Furnished(
        traced(app, models), dataset.name, tuning.name, evaluation.name, {text: past(app, text) for text in TEXTS}
    )


def traced(app: JobsApp, models: tuple[Path, Path]) -> str:
    (problem := app.workspace / "problem.txt").write_text(ALL)
    words = ["trace", "--expert", str(models[0]), "--amateur", str(models[1]), "--problem-file", str(problem)]
    record = app.workspace / "record.json"
    assert main([*words, "--response", ALL, "--json", str(record)]) == 0
    id = json.loads(record.read_text())["id"]
    place = app.workspace / "traces" / f"{id}.json"
    place.parent.mkdir(exist_ok=True)
    record.rename(place)
    return id


def past(app: JobsApp, text: str) -> str:
    job = app.past(text, "failed", text)
    folder = app.jobs().store.folder(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OUTPUT_FILE).write_bytes(f"{text}\n{text}\r\n\xff".encode("utf-8", "surrogatepass") + b"\xff\xfe\n")
    return job.id
