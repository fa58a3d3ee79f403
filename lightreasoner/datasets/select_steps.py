"""From trajectories to training samples: α, β and the selector are applied when a dataset is used.

Moving them needs no new sampling, as long as the details of the steps were stored; those that were not (KL at or below
the run's β floor) are counted, never invented. One shard is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lightreasoner.datasets.annotations import Marks, load_marks
from lightreasoner.datasets.external import imported_samples, is_imported
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.selectors import Selection, above, select, selector_named
from lightreasoner.datasets.step_table import Details, StepTable, read_details, read_steps
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.scoring.divergence import contrastive_target, plausible
from lightreasoner.storage.runs import read_run

OnCorrupt = Callable[[Path, UserError], None] | None
OnReport = Callable[[SelectionReport], None] | None


def samples(
    folder: Path,
    selection: Selection | None = None,
    on_report: OnReport = None,
    on_corrupt: OnCorrupt = None,
    contrast: bool = True,
) -> Iterator[Sample]:
    """The training samples of a dataset, in the order of its rows and steps; marks applied.

    contrast: False makes the target the expert's own distribution, renormalised on the plausible set (an ablation).

    selection: None is the paper's on trajectories and everything on an imported set (whose α was settled when it was
    made, so a selection's α changes nothing there). `on_report` gets the SelectionReport after the last sample. A
    damaged shard raises its UserError, or goes to `on_corrupt` and is passed over. Raises UserError.
    """
    folder = Path(folder)
    if is_imported(read_run(folder)):
        yield from imported_samples(folder, selection, on_report)
        return
    selection = selection or Selection()
    counted = SelectionReport()
    for path, chosen, part in _chosen(folder, selection, on_corrupt, ("problem_id", "sample", "steps")):
        details = part.details
        which = np.flatnonzero(chosen[details.step])
        if len(which):
            yield from _shard_samples(path, part.table, details, which, selection.alpha, contrast)
        counted = counted + replace(part.report, usable=len(which), missing=int(chosen.sum()) - len(which))
    if on_report:
        on_report(counted)


def report(folder: Path, selection: Selection | None = None, on_corrupt: OnCorrupt = None) -> SelectionReport:
    """What `samples` would report, without making the samples. Raises UserError."""
    reports: list[SelectionReport] = []
    folder = Path(folder)
    if is_imported(read_run(folder)):
        for _ in imported_samples(folder, selection, reports.append):
            pass
        return reports[0]
    counted = SelectionReport()
    for _, chosen, part in _chosen(folder, selection or Selection(), on_corrupt, ("problem_id", "sample", "steps")):
        usable = int(chosen[part.details.step].sum())
        counted = counted + replace(part.report, usable=usable, missing=int(chosen.sum()) - usable)
    return counted


@dataclass(frozen=True)
class _Part:
    """A shard on its way: its columns, its details, and what was counted before these were looked at."""

    table: StepTable
    details: Details
    report: SelectionReport


def _chosen(folder: Path, selection: Selection, on_corrupt: OnCorrupt, others: tuple[str, ...]):
    """(path, chosen steps as booleans, _Part) of each readable shard: selected, then as the marks will have it."""
    marks = load_marks(folder)
    paths, corrupt = shards(folder), set()

    def skip(path: Path, error: UserError) -> None:
        if on_corrupt is None:
            raise error
        if path not in corrupt:
            on_corrupt(path, error)
        corrupt.add(path)

    ahead = None if selection.selector == "kl" else _look_ahead(paths, selection, skip)
    for path in paths:
        if path in corrupt:
            continue
        try:
            table = read_steps(path, ("kl",), others)
            details = read_details(table, path)
        except UserError as error:
            skip(path, error)
            continue
        selected = above(table.values["kl"], selection.beta) if ahead is None else ahead.pop(path)
        if len(selected) != table.starts[-1]:
            raise UserError(f"The shard {path} changed while it was read; start again.")
        chosen = _with_marks(selected, table, marks)
        counted = SelectionReport(
            steps=len(selected),
            selected=int(selected.sum()),
            kept_by_mark=int((chosen & ~selected).sum()),
            dropped_by_mark=int((selected & ~chosen).sum()),
        )
        yield path, chosen, _Part(table, details, counted)


def _look_ahead(paths: list[Path], selection: Selection, skip: Callable) -> dict[Path, np.ndarray]:
    """The selected steps of each shard, for selectors that have to see every step's score before they choose."""
    needs = selector_named(selection.selector).needs
    parts: dict[Path, dict[str, np.ndarray]] = {}
    for path in paths:
        try:
            parts[path] = read_steps(path, needs).values
        except UserError as error:
            skip(path, error)
    if not parts:
        return {}
    values = {name: np.concatenate([part[name] for part in parts.values()]) for name in needs}
    ends = np.cumsum([len(part["kl"]) for part in parts.values()])
    return dict(zip(parts, np.split(select(values, selection), ends[:-1]), strict=True))


def _with_marks(selected: np.ndarray, table: StepTable, marks: Marks) -> np.ndarray:
    """keep: always in. drop: never in. pin changes nothing."""
    if not marks.by_step:
        return selected
    chosen = selected.copy()
    names = zip(table.table["problem_id"].to_pylist(), table.table["sample"].to_pylist(), strict=True)
    rows = {name: row for row, name in enumerate(names)}
    for (problem_id, sample, step), mark in marks.by_step.items():
        row = rows.get((problem_id, sample))
        if mark != "pin" and row is not None and step < table.starts[row + 1] - table.starts[row]:
            chosen[table.starts[row] + step] = mark == "keep"
    return chosen


def targets(
    details: Details, which: np.ndarray, alpha: float, contrast: bool = True
) -> list[tuple[list[int], list[float]]]:
    """(token ids, weights) of the target at these details: `divergence.support`, many steps at once."""
    log_e = torch.from_numpy(details.padded(details.expert_logprobs, which, -np.inf))  # (which, most candidates)
    log_a = torch.from_numpy(details.padded(details.amateur_logprobs, which, 0.0))
    keep = plausible(log_e, alpha).numpy()
    own = torch.softmax(torch.where(torch.from_numpy(keep), log_e, -torch.inf), -1)
    weights = (contrastive_target(log_e, log_a, alpha) if contrast else own).numpy()[keep].tolist()
    ids = details.padded(details.ids, which, -1)[keep].tolist()
    bounds = [0, *np.cumsum(keep.sum(-1)).tolist()]
    return [(ids[start:end], weights[start:end]) for start, end in pairwise(bounds)]


def _shard_samples(
    path: Path, table: StepTable, details: Details, which: np.ndarray, alpha: float, contrast: bool
) -> Iterator[Sample]:
    steps = details.step[which]
    texts = read_steps(path, ("response_ids",), ("question", "prompt_ids"))
    questions, prompts = texts.table["question"], texts.table["prompt_ids"]
    problem_ids, numbers = table.table["problem_id"], table.table["sample"]
    kls = table.values["kl"][steps].tolist()
    rows, indices, row = table.row[steps].tolist(), table.index[steps].tolist(), None
    for n, (token_ids, weights) in enumerate(targets(details, which, alpha, contrast)):
        if rows[n] != row:
            row = rows[n]
            question, prompt = questions[row].as_py(), prompts[row].as_py()
            problem_id, sample = problem_ids[row].as_py(), numbers[row].as_py()
            response = texts.values["response_ids"][texts.starts[row] : texts.starts[row + 1]].tolist()
        index = indices[n]
        prefix = prompt + response[:index]
        yield Sample(problem_id, sample, question, index, prefix, token_ids, weights, kls[n], len(prompt))
