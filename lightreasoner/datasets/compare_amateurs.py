"""The amateurs of a dataset compared: what each of them selects and teaches on the same responses of the expert.

None of these measures says whether an amateur makes the expert better; the previews of `evaluation.amateurs` do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightreasoner.datasets.amateurs import AmateurDataset, amateur_datasets
from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.selectors import Selection, above_beta
from lightreasoner.datasets.step_table import StepTable, compared_share, read_details, read_steps
from lightreasoner.datasets.trajectories import complete_shards, is_across, kl_histogram
from lightreasoner.errors import UserError
from lightreasoner.paper import TEACHES
from lightreasoner.storage.runs import read_run


@dataclass(frozen=True)
class AmateurMeasures:
    """One amateur on the responses that all amateurs have read. KL and signals in nats, shares from 0 to 1."""

    dataset: AmateurDataset
    selected: int  # steps of KL > β
    share: float  # of all steps
    mean_kl: float  # over all steps; infinite where the amateur rules out what the expert holds possible
    histogram: tuple[int, ...]  # steps per bin of trajectories.KL_EDGES
    signal: float  # KL(target ‖ expert), summed over the selected steps that are stored in detail
    idle: int  # of these, steps that teach nothing: a signal below paper.TEACHES
    missing: int  # selected steps that are not stored in detail, so that their signal is unknown
    jaccard: tuple[float, ...]  # agreement with each amateur's selected steps, itself included: |both| / |either|
    #: Of an amateur with another tokenizer, whose KLs are lower bounds: how much of the expert's probability was
    #: compared, over all steps. None for others.
    compared: float | None = None

    @property
    def agreement(self) -> float | None:
        """Mean Jaccard index with the other amateurs' selected steps; None without another one."""
        others = len(self.jaccard) - 1
        return (sum(self.jaccard) - 1) / others if others else None


@dataclass(frozen=True)
class AmateurComparison:
    """The amateurs of a dataset on the same steps, its first one first."""

    alpha: float
    beta: float
    responses: int
    steps: int
    amateurs: tuple[AmateurMeasures, ...]
    left_out: int  # responses that not every one of these amateurs has read yet
    unread: tuple[AmateurDataset, ...]  # amateurs that have read nothing yet
    cap: float | None = None  # on the log ratio of the targets, in nats


def compare_amateurs(folder: Path, selection: Selection | None = None) -> AmateurComparison:
    """Compare the amateurs of a dataset. selection: of it only α, β and the cap count; None: the paper's.

    Annotations are left out: they are decisions about the first amateur's steps. One shard of each amateur is in memory
    at a time. Raises UserError for an imported dataset, damaged shards, and measures of other responses.
    """
    selection = selection or Selection()
    run = read_run(folder, "dataset")
    if is_imported(run):
        raise UserError(
            f"{folder} was imported: it holds the samples of one amateur and no other step, so there is nothing to "
            "compare. Sample a dataset with several --amateur."
        )
    present = {each: {path.name: path for path in complete_shards(each.folder)} for each in amateur_datasets(folder)}
    unread = tuple(each for each, paths in present.items() if not paths)
    present = {each: paths for each, paths in present.items() if paths}
    if not present:
        raise UserError(f"{folder} has no steps yet; resume the job that samples it, then compare.")
    common = sorted(set.intersection(*(set(paths) for paths in present.values())))
    kls, signals = ({each: [np.zeros(0)] for each in present} for _ in range(2))
    responses = 0
    for name in common:
        first = None
        for each, paths in present.items():
            table = read_steps(paths[name], ("kl", "response_ids"), ("problem_id", "sample", "steps"))
            first = first or table
            _check_same(each, first, table, paths[name])
            kl = table.values["kl"]
            taught = read_details(table, paths[name]).teaching(selection.alpha, len(kl), selection.cap)
            kls[each].append(kl)
            signals[each].append(taught[above_beta(kl, selection.beta)])
        responses += first.rows
    kl = {each: np.concatenate(parts) for each, parts in kls.items()}
    selected = {each: above_beta(values, selection.beta) for each, values in kl.items()}
    uneven = any(len(paths) > len(common) for paths in present.values())
    left_out = max(_rows(paths) for paths in present.values()) - responses if uneven else 0
    amateurs = tuple(
        AmateurMeasures(
            each,
            *_measures(kl[each], selected[each], np.concatenate(signals[each])),
            jaccard=tuple(_jaccard(selected[each], other) for other in selected.values()),
            compared=compared_share(paths[name] for name in common) if is_across(read_run(each.folder)) else None,
        )
        for each, paths in present.items()
    )
    numbers = responses, len(next(iter(kl.values()))), amateurs, left_out, unread, selection.cap
    return AmateurComparison(selection.alpha, selection.beta, *numbers)


def _measures(kl: np.ndarray, selected: np.ndarray, signals: np.ndarray) -> tuple:
    """From `selected` to `missing` of AmateurMeasures. signals: of the selected steps."""
    known, taught = kl[~np.isnan(kl)], signals[~np.isnan(signals)]
    return (
        int(selected.sum()),
        float(selected.mean()) if len(selected) else 0.0,
        float(known.mean(dtype=np.float64)) if len(known) else 0.0,
        tuple(kl_histogram(known).tolist()),
        float(taught.sum(dtype=np.float64)),
        int((taught < TEACHES).sum()),
        len(signals) - len(taught),
    )


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """|both| / |either|; 1 where neither selects a step."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _check_same(each: AmateurDataset, first: StepTable, table: StepTable, path: Path) -> None:
    """Raises UserError unless both tables are of the same responses."""
    same = all(table.table[name].equals(first.table[name]) for name in ("problem_id", "sample"))
    lengths = np.array_equal(table.starts, first.starts)
    if not (same and lengths and np.array_equal(table.values["response_ids"], first.values["response_ids"])):
        raise UserError(
            f"The shard {path} of the amateur {each.amateur} is of other responses than the first amateur's, so their "
            f"steps cannot be compared. Delete {each.folder} and name this amateur again to sample."
        )


def _rows(paths: dict[str, Path]) -> int:
    return sum(read_steps(path, ("kl",)).rows for path in paths.values())
