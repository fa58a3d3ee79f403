"""Builds the training examples of a dataset for each fine-tuning method, and stores them in the run folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import OnCorrupt, complete_shards, rows
from lightreasoner.errors import UserError
from lightreasoner.grading.grading import grade
from lightreasoner.models.identity import differences
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.models.turn_ends import ResponseEnds, finished_text
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.runs import read_run, stored_run
from lightreasoner.training.batches import group_by_trajectory
from lightreasoner.training.loss import PackedExample, Target

#: In the run folder, so that a resumed run trains on the same examples even if the dataset has changed.
FILE, OLD_FILE = "examples.parquet", "lessons.parquet"  # the latter until version 0.2
SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),  # prompt and response, up to the token before the last step
        ("prompt_length", pa.int32()),
        ("steps", pa.list_(pa.int32())),  # positions in the response, from 0
        ("token_ids", pa.list_(pa.list_(pa.int32()))),  # of each step's target
        ("weights", pa.list_(pa.list_(pa.float32()))),
    ]
)


class TurnCutter:
    """Finds responses that run on past the end of the expert's turn, and counts what they hold after it.

    Versions until 0.4 did not stop a model at an end that its chat template alone names, such as <|im_end|> with
    Qwen2.5's base models. What such a model wrote after the end of its turn is nothing to learn from.
    """

    def __init__(self, loaded: LoadedModel):
        self.loaded, self._trajectories, self._steps = loaded, 0, 0

    def end(self, ids: Sequence[int]) -> int | None:
        """The number of ids up to the first end of a turn, and with it; None without one."""
        ends = ResponseEnds(self.loaded)
        return next((n for n, id in enumerate(ids, 1) if ends.ended(id)), None)

    def cut(self, example: PackedExample) -> PackedExample | None:
        """The example without the steps after an end; None where none is left."""
        end = self.end(example.ids[example.prompt_length :])
        kept = tuple(target for target in example.targets if end is None or target.step < end)
        self.count(len(example.targets) - len(kept))
        return replace(example, targets=kept) if kept else None

    def count(self, steps: int) -> None:
        """Note that a trajectory has so many steps after an end."""
        self._trajectories += steps > 0
        self._steps += steps

    @property
    def note(self) -> str:
        """What was left out, in a sentence; empty for nothing."""
        if not self._steps:
            return ""
        ends = ", ".join(dict.fromkeys(end.text.strip() or repr(end.text) for end in self.loaded.ends))
        return (
            f"{self._trajectories:,} trajectories of this dataset run on past the end of the turn ({ends}), as "
            f"versions until 0.4 sampled some models; the {self._steps:,} steps after it are left out"
        )


def build_examples(
    folder: Path,
    method: str,
    selection: Selection,
    loaded: LoadedModel,
    on_corrupt: OnCorrupt = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> tuple[list[PackedExample], SelectionReport]:
    """The training examples of a dataset for one of config.METHODS, and the counts of their selection.

    selection: α and β, and the selector for methods that leave it open. on_corrupt: receives the error of a damaged or
    lost shard, which is skipped; without it the error is raised. on_note: gets what was left out, in a sentence
    without its full stop. Raises UserError when the dataset lacks data that the method needs.
    """
    cutter, skipped = TurnCutter(loaded), []

    def skip(path: Path, error: UserError) -> None:
        skipped.append(path)
        on_corrupt(path, error)

    on_damage = None if on_corrupt is None else skip
    if method == "sft":
        examples, report = right_answers(folder, cutter, on_damage)
    else:
        examples, report = _selected(folder, method, selection, loaded, on_damage)
        examples = [kept for example in examples if (kept := cutter.cut(example))]
        if not examples:
            raise UserError(f"Nothing is left to train on: {cutter.note}. Sample a new dataset.")
    if cutter.note:
        on_note(cutter.note)
    if skipped:
        shards = len(complete_shards(folder, lambda path, error: None))
        on_note(
            f"{len(skipped):,} of the {shards:,} shards of this dataset are damaged or lost and are skipped; "
            f"{report.usable:,} samples are left"
        )
    return examples, report


def _selected(
    folder: Path, method: str, selection: Selection, loaded: LoadedModel, on_corrupt: OnCorrupt
) -> tuple[list[PackedExample], SelectionReport]:
    imported = is_imported(read_run(folder))
    selection = selection_for(method, selection, imported)
    reports: list[SelectionReport] = []
    chosen = training_samples(folder, selection, reports.append, on_corrupt, contrast=method != "no-contrast")
    examples = group_by_trajectory(_with_ids(chosen, loaded) if imported else chosen)
    refuse_missing(method, reports[0])
    return examples, reports[0]


def selection_for(method: str, selection: Selection, imported: bool) -> Selection:
    """The steps on which a method (other than sft) trains; `selection` where it leaves that open. Raises UserError."""
    if imported and method == "no-contrast":
        raise UserError("An imported dataset holds contrastive targets only, so no-contrast cannot be trained on it.")
    if method == "no-contrast" and selection.cap is not None:
        raise UserError(
            "no-contrast trains towards the expert's own distribution, in which there is no log ratio to cap; "
            "leave the cap out."
        )
    fixed = {"all-steps": "all", "random-steps": "random"}.get(method)
    if not fixed:
        return selection
    return replace(selection, selector=fixed, budget=None if fixed == "all" else selection.budget, tau=None)


def refuse_missing(method: str, report: SelectionReport) -> None:
    """Raises UserError when more than 1 % of the selected steps have no stored details."""
    if report.missing > 0.01 * (report.usable + report.missing):
        raise UserError(
            f"{report.missing:,} of the {report.usable + report.missing:,} steps that {method} selects have no stored "
            "details, because this dataset holds those of divergent steps only; sample the problems again with the "
            "details of every step, which is the default."
        )


def refuse_other_expert(dataset: dict, name: str, expert: str, loaded: LoadedModel) -> None:
    """Raises UserError when the dataset, given by its record, was sampled from another model than `loaded`."""
    different = differences(dataset["about"], "expert", loaded)
    if different:
        raise UserError(
            f"The dataset {name} was sampled from another expert than {expert}: the {' and the '.join(different)} "
            f"{'differ' if different[1:] or different == ['weights'] else 'differs'}. Its steps do not apply to this "
            "model; sample a new dataset with it."
        )


def right_answers(
    folder: Path, cutter: TurnCutter | None = None, on_corrupt: OnCorrupt = None
) -> tuple[list[PackedExample], SelectionReport]:
    """Rejection sampling: every token of each response that ended with the known answer."""
    examples, steps, known = [], 0, 0
    opening = (stored_run(folder)["about"].get("prompt") or {}).get("opening") or ""
    columns = ["answer", "prompt_ids", "response_ids", "response", "finish_reason"]
    for row in rows(folder, columns, on_corrupt):
        steps += len(row["response_ids"])
        known += row["answer"] is not None
        if row["answer"] is None:
            continue
        ids, text, reason = row["response_ids"], row["response"], row["finish_reason"]
        if cutter and (end := cutter.end(ids)) and end < len(ids):
            cutter.count(len(ids) - end)
            ids = ids[:end]
            text, reason = finished_text(cutter.loaded, ids)
        if reason == "length" or not grade(opening + text, row["answer"]).right:
            continue
        targets = tuple(Target(step, (token,), (1.0,)) for step, token in enumerate(ids))
        # the last token is a target only
        examples.append(PackedExample([*row["prompt_ids"], *ids[:-1]], len(row["prompt_ids"]), targets))
    if not known:
        raise UserError(
            "This dataset has no known answers, so no response can be graded; choose a method other than sft."
        )
    if not examples:
        raise UserError(
            "None of the expert's responses is correct, so sft has nothing to train on; choose another method."
        )
    usable = sum(len(example.targets) for example in examples)
    return examples, SelectionReport(steps=steps, selected=usable, usable=usable)


def _with_ids(chosen: Iterator[Sample], loaded: LoadedModel) -> Iterator[Sample]:
    """Imported samples with the expert's token ids for their prompt and prefix, which they hold as text."""
    prompts: dict[str, list[int]] = {}
    for n, sample in enumerate(chosen):
        if unknown := [token for token in sample.token_ids if not 0 <= token < len(loaded.tokenizer)]:
            raise UserError(
                f"The imported set asks for the token {unknown[0]:,}, but {loaded.ref} has {len(loaded.tokenizer):,}; "
                "choose the expert whose tokenizer made these samples."
            )
        if sample.question not in prompts:
            prompts[sample.question] = prompt_ids(loaded, sample.question)
        prompt = prompts[sample.question]
        prefix = list(loaded.tokenizer(sample.prefix, add_special_tokens=False)["input_ids"])
        # A prefix tokenized again need not be a prefix of the next one, so each sample becomes its own trajectory.
        yield replace(sample, sample=n, step=len(prefix), prefix_ids=prompt + prefix, prompt_tokens=len(prompt))


def save_examples(examples: list[PackedExample], folder: Path) -> None:
    """Store the examples in the run folder. Raises UserError when the file cannot be written."""
    table = pa.Table.from_pylist(
        [
            {
                "ids": example.ids[: example.length()],
                "prompt_length": example.prompt_length,
                "steps": [target.step for target in example.targets],
                "token_ids": [list(target.token_ids) for target in example.targets],
                "weights": [list(target.weights) for target in example.targets],
            }
            for example in examples
        ],
        SCHEMA,
    )
    with atomic_file(folder / FILE) as file:
        pq.write_table(table, file, compression="zstd")


def load_examples(folder: Path) -> list[PackedExample] | None:
    """The examples that a run stored, or None. Raises UserError for a damaged file."""
    path = next((folder / name for name in (FILE, OLD_FILE) if (folder / name).exists()), None)
    if not path:
        return None
    try:
        found = pq.read_table(path).cast(SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({str(error)[:100]}); start a new run in another folder.") from None
    return [
        PackedExample(
            row["ids"], row["prompt_length"], tuple(map(Target, row["steps"], row["token_ids"], row["weights"]))
        )
        for row in found
    ]
