"""Step selection: turns a dataset's trajectories into training samples by α, β, a selector and the annotations.

Changing these needs no new sampling for steps that were stored in detail. Selected steps that were not (KL at or below
the run's β floor) are counted as missing. One shard is in memory at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lightreasoner.datasets.annotations import Annotations, load_annotations
from lightreasoner.datasets.imported import is_imported, select_imported
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.selectors import Selection, above_beta, needs_of, select
from lightreasoner.datasets.step_table import Details, StepTable, read_details, read_steps
from lightreasoner.datasets.trajectories import OnCorrupt, complete_shards
from lightreasoner.errors import UserError
from lightreasoner.scoring.divergence import contrastive_target, plausible
from lightreasoner.scoring.measures import TARGET_MEASURES
from lightreasoner.storage.runs import read_run

OnReport = Callable[[SelectionReport], None] | None


def training_samples(
    folder: Path,
    selection: Selection | None = None,
    on_report: OnReport = None,
    on_corrupt: OnCorrupt = None,
    contrast: bool = True,
) -> Iterator[Sample]:
    """The training samples of a dataset in the order of its rows and steps, after applying the annotations.

    selection: None means the paper's, or every sample of an imported dataset (whose targets have a fixed α, so a
    selection's α has no effect there). on_report: receives the SelectionReport after the last sample. on_corrupt:
    receives the error of a damaged or lost shard, which is skipped; without it the error is raised. contrast: False
    makes the target the expert's own distribution, renormalised on the plausible set (an ablation). Raises UserError.
    """
    folder = Path(folder)
    if is_imported(read_run(folder)):
        yield from select_imported(folder, selection, on_report)
        return
    selection = selection or Selection()
    total = SelectionReport()
    for shard in _selected_shards(folder, selection, on_corrupt):
        which = np.flatnonzero(shard.selected[shard.details.step])
        if len(which):
            yield from _shard_samples(shard, which, selection, contrast)
        total = total + shard.report
    if on_report:
        on_report(total)


@dataclass(frozen=True)
class _SelectedShard:
    """One shard with its selected steps, annotations applied."""

    path: Path
    table: StepTable
    details: Details
    selected: np.ndarray  # (steps,) booleans
    report: SelectionReport


def _selected_shards(folder: Path, selection: Selection, on_corrupt: OnCorrupt) -> Iterator[_SelectedShard]:
    """The readable shards in order."""
    annotations = load_annotations(folder)
    corrupt: set[Path] = set()

    def skip(path: Path, error: UserError) -> None:
        if on_corrupt is None:
            raise error
        if path not in corrupt:
            on_corrupt(path, error)
        corrupt.add(path)

    paths = complete_shards(folder, skip)
    alone = selection.selector == "kl" and not selection.box  # no other step decides
    by_shard = None if alone else _select_globally(paths, selection, skip)
    for path in paths:
        if path in corrupt:
            continue
        try:
            table = read_steps(path, ("kl",), ("problem_id", "sample", "steps"))
            details = read_details(table, path)
        except UserError as error:
            skip(path, error)
            continue
        by_selector = above_beta(table.values["kl"], selection.beta) if by_shard is None else by_shard.pop(path)
        if len(by_selector) != table.starts[-1]:
            raise UserError(f"The shard {path} changed while it was read; try again.")
        selected = _annotated(by_selector, table, annotations)
        stored = np.zeros(len(selected), bool)
        stored[details.step] = True
        report = SelectionReport.count(by_selector, selected, stored, selection.selector == "teaching")
        yield _SelectedShard(path, table, details, selected, report)


def _select_globally(paths: list[Path], selection: Selection, skip: Callable) -> dict[Path, np.ndarray]:
    """The selected steps of each shard, by a selector that ranks the steps of the whole dataset."""
    needs = needs_of(selection)
    parts: dict[Path, dict[str, np.ndarray]] = {}
    for path in paths:
        try:
            parts[path] = _measured(path, needs, selection)
        except UserError as error:
            skip(path, error)
    if not parts:
        return {}
    values = {name: np.concatenate([part[name] for part in parts.values()]) for name in needs}
    ends = np.cumsum([len(part["kl"]) for part in parts.values()])
    return dict(zip(parts, np.split(select(values, selection), ends[:-1]), strict=True))


def _measured(path: Path, needs: tuple[str, ...], selection: Selection) -> dict[str, np.ndarray]:
    """The measures that a selector reads, of one shard. Raises UserError where it is damaged."""
    stored = tuple(name for name in needs if name not in TARGET_MEASURES)
    if stored == needs:
        return read_steps(path, needs).values
    table = read_steps(path, stored, ("steps",))
    details, steps = read_details(table, path), int(table.starts[-1])
    return table.values | {"teaching": details.teaching(selection.alpha, steps, selection.cap)}


def _annotated(by_selector: np.ndarray, table: StepTable, annotations: Annotations) -> np.ndarray:
    """The selected steps after keep and drop were applied."""
    if not annotations.by_step:
        return by_selector
    selected = by_selector.copy()
    keys = zip(table.table["problem_id"].to_pylist(), table.table["sample"].to_pylist(), strict=True)
    rows = {key: row for row, key in enumerate(keys)}
    for (problem_id, sample, step), kind in annotations.by_step.items():
        row = rows.get((problem_id, sample))
        if kind != "pin" and row is not None and step < table.starts[row + 1] - table.starts[row]:
            selected[table.starts[row] + step] = kind == "keep"
    return selected


def contrastive_targets(
    details: Details, which: np.ndarray, alpha: float, contrast: bool = True, cap: float | None = None
) -> list[tuple[list[int], list[float]]]:
    """(token ids, weights) of the target at each of these details: `divergence.support`, for many steps at once."""
    log_e = torch.from_numpy(details.padded(details.expert_logprobs, which, -np.inf))  # (which, most candidates)
    log_a = torch.from_numpy(details.padded(details.amateur_logprobs, which, 0.0))
    keep = plausible(log_e, alpha).numpy()
    own = torch.softmax(torch.where(torch.from_numpy(keep), log_e, -torch.inf), -1)
    weights = (contrastive_target(log_e, log_a, alpha, cap) if contrast else own).numpy()[keep].tolist()
    ids = details.padded(details.ids, which, -1)[keep].tolist()
    bounds = [0, *np.cumsum(keep.sum(-1)).tolist()]
    return [(ids[start:end], weights[start:end]) for start, end in pairwise(bounds)]


def _shard_samples(shard: _SelectedShard, which: np.ndarray, selection: Selection, contrast: bool) -> Iterator[Sample]:
    """The samples of a shard. which: indices into its details."""
    table, steps = shard.table, shard.details.step[which]
    texts = read_steps(shard.path, ("response_ids",), ("question", "prompt_ids"))
    questions, prompts = texts.table["question"], texts.table["prompt_ids"]
    problem_ids, numbers = table.table["problem_id"], table.table["sample"]
    kls = table.values["kl"][steps].tolist()
    rows, indices, row = table.row[steps].tolist(), table.index[steps].tolist(), None
    targets = contrastive_targets(shard.details, which, selection.alpha, contrast, selection.cap)
    for n, (token_ids, weights) in enumerate(targets):
        if rows[n] != row:
            row = rows[n]
            question, prompt = questions[row].as_py(), prompts[row].as_py()
            problem_id, sample = problem_ids[row].as_py(), numbers[row].as_py()
            response = texts.values["response_ids"][texts.starts[row] : texts.starts[row + 1]].tolist()
        index = indices[n]
        prefix = prompt + response[:index]
        yield Sample(problem_id, sample, question, index, prefix, token_ids, weights, kls[n], len(prompt))
