"""What a dataset teaches under each fine-tuning method: the same trajectories, other steps or other targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.external import is_imported
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.select_steps import OnCorrupt, training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import rows
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.problems.grading import grade
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.runs import read_run
from lightreasoner.training.batches import gather
from lightreasoner.training.loss import Lesson, Target

FILE = "lessons.parquet"  # in the run folder: what this run learns, even if the dataset changes later
SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),  # prompt and response, as far as they are read
        ("prompt_length", pa.int32()),
        ("steps", pa.list_(pa.int32())),  # positions in the response, from 0
        ("token_ids", pa.list_(pa.list_(pa.int32()))),  # of each step's target
        ("weights", pa.list_(pa.list_(pa.float32()))),
    ]
)


def teach(
    folder: Path, method: str, selection: Selection, loaded: LoadedModel, on_corrupt: OnCorrupt = None
) -> tuple[list[Lesson], SelectionReport]:
    """The lessons of a dataset for one of finetune_config.METHODS, and how many steps were selected for them.

    `selection` gives α and β, and the selector for the methods that leave one open. Raises UserError when the dataset
    has not what the method needs.
    """
    if method == "sft":
        return right_answers(folder)
    imported = is_imported(read_run(folder))
    selection = selection_for(method, selection, imported)
    reports: list[SelectionReport] = []
    chosen = training_samples(folder, selection, reports.append, on_corrupt, contrast=method != "no-contrast")
    lessons = gather(_with_ids(chosen, loaded) if imported else chosen)
    refuse_missing(method, reports[0])
    return lessons, reports[0]


def selection_for(method: str, selection: Selection, imported: bool) -> Selection:
    """What a method (any but sft) trains on; `selection` where it leaves that open. Raises UserError."""
    if imported and method == "no-contrast":
        raise UserError("An imported dataset holds contrastive targets only, so no-contrast cannot be trained on it.")
    fixed = {"all-steps": "all", "random-steps": "random"}.get(method)
    if not fixed:
        return selection
    return replace(selection, selector=fixed, budget=None if fixed == "all" else selection.budget)


def refuse_missing(method: str, report: SelectionReport) -> None:
    """Raises UserError where more than one in a hundred of the steps wanted have no stored details."""
    if report.missing > 0.01 * (report.usable + report.missing):
        raise UserError(
            f"{report.missing:,} of the {report.usable + report.missing:,} steps that {method} wants have no stored "
            "details, because their KL was below the β floor of the sampling; sample again with --beta-floor 0."
        )


def refuse_other_expert(dataset: dict, name: str, expert: str, loaded: LoadedModel) -> None:
    """Raises UserError where a dataset (its run.json) was sampled with other weights than those of `loaded`."""
    sampled_with = dataset["about"].get("fingerprints", {}).get("expert")
    if sampled_with and sampled_with != loaded.fingerprint:
        raise UserError(
            f"The dataset {name} was sampled from another expert than {expert}: their fingerprints differ. "
            "Its steps say nothing about this model; sample anew with it."
        )


def right_answers(folder: Path) -> tuple[list[Lesson], SelectionReport]:
    """Rejection sampling: every token of the responses that ended and whose final answer is the known one."""
    lessons, steps, known = [], 0, 0
    columns = ["answer", "prompt_ids", "response_ids", "response", "finish_reason"]
    for row in rows(folder, columns):
        steps += len(row["response_ids"])
        known += row["answer"] is not None
        if row["answer"] is None or row["finish_reason"] != "stop" or not grade(row["response"], row["answer"]).right:
            continue
        targets = tuple(Target(step, (token,), (1.0,)) for step, token in enumerate(row["response_ids"]))
        # the last token is learned, not read
        lessons.append(Lesson([*row["prompt_ids"], *row["response_ids"][:-1]], len(row["prompt_ids"]), targets))
    if not known:
        raise UserError("This dataset has no known answers, so right ones cannot be told; sft needs them.")
    if not lessons:
        raise UserError("None of the expert's responses has the right answer, so there is nothing to fine-tune on.")
    usable = sum(len(lesson.targets) for lesson in lessons)
    return lessons, SelectionReport(steps=steps, selected=usable, usable=usable)


def _with_ids(chosen: Iterator[Sample], loaded: LoadedModel) -> Iterator[Sample]:
    """Imported samples have texts only: give each the expert's ids for its prompt and its prefix."""
    prompts: dict[str, list[int]] = {}
    for n, sample in enumerate(chosen):
        if strange := [token for token in sample.token_ids if not 0 <= token < len(loaded.tokenizer)]:
            raise UserError(
                f"The imported set asks for the token {strange[0]:,}, but {loaded.ref} has {len(loaded.tokenizer):,}; "
                "name the expert whose tokenizer made these samples."
            )
        if sample.question not in prompts:
            prompts[sample.question] = prompt_ids(loaded, sample.question)
        prompt = prompts[sample.question]
        prefix = list(loaded.tokenizer(sample.prefix, add_special_tokens=False)["input_ids"])
        # Tokenized again, a prefix need not be the start of the next one: each is a trajectory of its own.
        yield replace(sample, sample=n, step=len(prefix), prefix_ids=prompt + prefix, prompt_tokens=len(prompt))


def save_lessons(lessons: list[Lesson], folder: Path) -> None:
    """Keep what a run learns in its folder. Raises UserError when the disk refuses."""
    table = pa.Table.from_pylist(
        [
            {
                "ids": lesson.ids[: lesson.length()],
                "prompt_length": lesson.prompt_length,
                "steps": [target.step for target in lesson.targets],
                "token_ids": [list(target.token_ids) for target in lesson.targets],
                "weights": [list(target.weights) for target in lesson.targets],
            }
            for lesson in lessons
        ],
        SCHEMA,
    )
    with atomic_file(folder / FILE) as file:
        pq.write_table(table, file, compression="zstd")


def load_lessons(folder: Path) -> list[Lesson] | None:
    """What `save_lessons` kept, or None. Raises UserError for a damaged file."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = pq.read_table(path).cast(SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({str(error)[:100]}); start the run anew in another folder.") from None
    return [
        Lesson(
            row["ids"],
            row["prompt_length"],
            tuple(map(Target, row["steps"], row["token_ids"], row["weights"])),
        )
        for row in found
    ]
