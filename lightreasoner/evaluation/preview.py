"""The preview: what fine-tuning would come to at each α and β, measured by decoding with the contrastive target itself.

It is an evaluation of the expert and of a grid of contrasts. Each cell is compared with the expert problem by problem.
A training that reaches its target ends near its cell; a small learning rate or few updates reach less. Where no answers
are known, a cell tells how far the contrast departs from the expert, and not whether to the better.
"""

from dataclasses import dataclass
from pathlib import Path

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.evaluation.results import Variant, open_results
from lightreasoner.formatting import in_points
from lightreasoner.grading.grading import answer_key


@dataclass(frozen=True)
class Cell:
    """One contrast beside the expert. Shares from 0 to 1, differences from −1 to 1 with their paired 95 % interval.

    pass_at_1, differences, gained and lost are None where no answers are known.
    """

    contrast: Contrast
    problems: int
    pass_at_1: float | None
    difference: float | None
    low: float | None
    high: float | None
    gained: int | None  # problems that only the contrast solves
    lost: int | None  # problems that only the expert solves
    changed: float  # share of the tokens that are not the writer's own choice
    same_answer: float  # share of the problems to which both give the same answer, or none
    mean_length: float  # tokens
    base_length: float | None = None  # tokens of the expert's own responses

    @property
    def graded(self) -> bool:
        return self.difference is not None


def preview_cells(folder: Path, variants: list[Variant]) -> tuple[float | None, list[Cell]]:
    """(the expert's pass@1, a cell per contrast that has answers), from an evaluation whose first variant is the base.

    Raises UserError for a damaged file of answers.
    """
    reader = open_results(folder, variants)
    summaries = {summary.name: summary for summary in reader.summaries()}
    comparisons = {comparison["after"]: comparison for comparison in reader.results()["comparisons"]}
    base, cells = reader.rows[0], []
    for variant, rows in zip(variants, reader.rows, strict=True):
        found = comparisons.get(variant.name)
        both = base.keys() & rows.keys()
        if variant.contrast is None or not both:
            continue
        same = sum(_key(base[problem].extracted) == _key(rows[problem].extracted) for problem in both)
        summary, differences = summaries[variant.name], [None] * 5
        if found:
            differences = [*(found[name] for name in ("difference", "low", "high"))]
            differences += [len(found[side]) for side in ("gained", "lost")]
        cells.append(
            Cell(
                variant.contrast,
                len(both),
                summary.pass_at_1,
                *differences,
                summary.changed or 0.0,
                same / len(both),
                summary.mean_length,
                summaries[variants[0].name].mean_length,
            )
        )
    expert = summaries.get(variants[0].name)
    return expert and expert.pass_at_1, cells


def best_cell(cells: list[Cell]) -> Cell | None:
    """The cell that solves the most; of equal ones the one that changes the fewest tokens. None where none gains."""
    gaining = [cell for cell in cells if cell.graded and cell.difference > 0]
    return max(gaining, key=lambda cell: (cell.pass_at_1, -cell.changed), default=None)


def verdict(cells: list[Cell]) -> str:
    """A sentence on whether fine-tuning with this pair can help on these problems, or on what takeovers reach."""
    if not cells[0].graded:
        return _departure(cells)
    if cells[0].contrast.takeover:
        return _takeover_verdict(cells)
    best = best_cell(cells)
    if best is None:
        return "No cell solves more problems than the expert alone: training with this pair has nothing to reach here."
    points = f"{100 * best.difference:+.1f} points (95 % interval {in_points(best.low, best.high)})"
    where = _where(best.contrast)
    best_of = "" if len(cells) == 1 else f", the best of {len(cells)} cells"
    if best.low <= 0:
        return f"At {where}{best_of}, the gain is {points}: too few problems to be sure of it."
    return f"If training reached its target at {where}{best_of}, the expert would gain {points} on these problems."


def _where(contrast: Contrast) -> str:
    if contrast.takeover:
        return f"β = {contrast.beta:g}"
    capped = "" if contrast.cap is None else f" with a cap of {contrast.cap:g} nats"
    return f"β = {contrast.beta:g} and α = {contrast.alpha:g}{capped}"


def _departure(cells: list[Cell]) -> str:
    most = max(cells, key=lambda cell: (1 - cell.same_answer, cell.changed))
    where = _where(most.contrast)
    most_of = "" if len(cells) == 1 else f", of {len(cells)} cells the farthest"
    changed, other = f"{100 * most.changed:.1f} %", f"{100 * (1 - most.same_answer):.1f} %"
    return (
        "No answers are known, so accuracy cannot be told, only how far the contrast departs from the expert: at "
        f"{where}{most_of}, {changed} of the tokens are changed and {other} of {most.problems:,} problems get "
        "another answer."
    )


def _takeover_verdict(cells: list[Cell]) -> str:
    """Of the takeovers that are not significantly worse than the expert alone, the one that takes the fewest tokens."""
    close = [cell for cell in cells if cell.high >= 0]
    cell = min(close, key=lambda cell: cell.changed) if close else max(cells, key=lambda cell: cell.pass_at_1)
    alone = 100 * (cell.pass_at_1 - cell.difference)
    return (
        f"With {100 * cell.changed:.1f} % of the tokens taken over (β = {cell.contrast.beta:g}) the amateur's text "
        f"solves {100 * cell.pass_at_1:.1f} %; the expert alone solves {alone:.1f} %."
    )


def _key(extracted: str | None) -> str | None:
    return None if extracted is None else answer_key(extracted)
