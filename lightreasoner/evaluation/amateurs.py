"""What stored previews and pair checks say of a dataset's amateurs, and which amateur they recommend.

A preview is an evaluation of contrasts (`evaluation.preview`). The gap in accuracy is that of an amateur's own answers
to the problems of its preview, else of a pair check (`sampling.pair_check`). Only the preview tells which amateur makes
the expert better.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lightreasoner.datasets.amateurs import AmateurDataset
from lightreasoner.errors import UserError
from lightreasoner.evaluation.preview import Cell, preview_cells
from lightreasoner.evaluation.results import open_results, read_results, variants_of
from lightreasoner.formatting import in_points
from lightreasoner.sampling.pair_check import KIND, RESULT
from lightreasoner.scoring.significance import compare
from lightreasoner.storage.atomic import read_json
from lightreasoner.storage.runs import list_runs, read_run

#: What two previews must share, besides the expert, to be compared: the problems, the grid and the way of answering.
SETTINGS = ("problems", "split", "limit", "max_new_tokens", "stop", "prompt", "contrasts", "base")


@dataclass(frozen=True)
class Preview:
    """The preview of one amateur: its best cell, and which problems that solves."""

    amateur: str  # its reference in the dataset
    folder: Path
    problems: str  # their source
    cells: int
    best: Cell
    right: dict[str, bool]  # problem id → whether the best cell solves it
    settings: str  # previews with the same can be compared
    alone: dict[str, bool] = field(default_factory=dict)  # problem id → whether the expert alone solves it


@dataclass(frozen=True)
class Gap:
    """The expert's accuracy minus an amateur's, from −1 to 1, with its paired 95 % interval."""

    folder: Path
    value: float
    low: float
    high: float


def results_of(
    amateurs: Sequence[AmateurDataset], named: Sequence[Path] = ()
) -> tuple[dict[str, Preview], dict[str, Gap]]:
    """({amateur → its preview}, {amateur → its gap}) of finished runs with the dataset's expert.

    named: folders of such runs. The runs beside the dataset are looked at, too; the newest counts. All previews have
    the same problems and settings: those that most of the amateurs have been previewed with. Raises UserError for a
    named folder that holds no such run.
    """
    about = {each.amateur: read_run(each.folder) for each in amateurs}
    runs = [(Path(folder), read_run(folder)) for folder in named]
    beside = list_runs(amateurs[0].folder.absolute().parent)
    previews: dict[str, dict[str, Preview]] = {}  # settings → amateur → preview
    gaps: dict[str, Gap] = {}
    answers: dict[str, list[tuple[Path, dict]]] = {}  # amateur → evaluations of it alone
    for place, (folder, run) in enumerate([*runs, *beside]):
        of = next((ref for ref, own in about.items() if _same_pair(own, run)), None)
        found = None
        if of and run["kind"] == "evaluation":
            found = _preview(of, folder, run, damaged_is_fatal=place < len(runs))
            if found:
                previews.setdefault(found.settings, {}).setdefault(of, found)
        elif of and run["kind"] == KIND and (found := _gap(folder)):
            gaps.setdefault(of, found)
        elif run["kind"] == "evaluation" and not run["config"].get("contrasts"):
            for ref, own in about.items():
                if _same(own, "amateur", run, "model"):
                    answers.setdefault(ref, []).append((folder, run))
                    found = folder
        if found is None and place < len(runs):
            raise UserError(
                f"{folder} is no finished preview or pair check of this dataset's expert with one of its amateurs, and "
                "no evaluation of one of these; name the run folder of one."
            )
    chosen = max(previews.values(), key=len, default={})
    for ref, preview in chosen.items():
        measured = (_answered_gap(preview, *one) for one in answers.get(ref, ()))
        if (found := next(filter(None, measured), None)) is not None:
            gaps[ref] = found
    return chosen, gaps


def recommendation(amateurs: Sequence[AmateurDataset], previews: dict[str, Preview]) -> str:
    """Which amateur to train with, by the previews; without them, that only they can tell."""
    without = [each.name for each in amateurs if each.amateur not in previews]
    if not previews:
        which = "whether this amateur makes" if len(amateurs) == 1 else "which of these amateurs makes"
        return (
            f"Only a preview can tell {which} the expert better: how many steps are above β does not. Run the command "
            "preview with each amateur."
        )
    names, ranked = {each.amateur: each.name for each in amateurs}, _ranked(previews)
    best = ranked[0]
    unseen = f" Not previewed like it: {', '.join(without)}." if without else ""
    if best.best.difference <= 0:
        return (
            f"Train with none of the previewed amateurs: none lets the expert solve more of the {best.best.problems:,} "
            f"problems of its preview.{unseen}"
        )
    gain = f"{100 * best.best.difference:+.1f} points (95 % interval {in_points(best.best.low, best.best.high)})"
    if best.best.low <= 0:
        return (
            f"{names[best.amateur]} gains most in its preview, {gain}, but {best.best.problems:,} problems are too few "
            f"to be sure of it; preview with more.{unseen}"
        )
    chosen = f"{names[best.amateur]} is recommended: its preview gains {gain}, at {best.best.contrast.title}"
    equal = []
    for other in ranked[1:]:
        seen = compare(other.right, best.right)
        if seen.low <= 0:
            equal.append(f"{names[other.amateur]} ({in_points(seen.low, seen.high)} points)")
    if equal:
        chosen += f". The problems are too few to tell it from {', '.join(equal)}"
    return f"{chosen}.{unseen}"


def recommended(previews: dict[str, Preview]) -> Preview | None:
    """The preview of the amateur that `recommendation` names; None where it recommends none."""
    best = next(iter(_ranked(previews)), None)
    return best if best and best.best.difference > 0 else None


def _ranked(previews: dict[str, Preview]) -> list[Preview]:
    return sorted(previews.values(), key=lambda each: (-each.best.pass_at_1, each.best.changed))


def _preview(of: str, folder: Path, run: dict, damaged_is_fatal: bool) -> Preview | None:
    """The preview in a folder; None where it is none, has not ended, or is damaged."""
    variants = variants_of(run)
    if not variants or not variants[0].is_base or read_results(folder) is None:
        return None
    try:
        _, cells = preview_cells(folder, variants)
        cells = [cell for cell in cells if not cell.contrast.takeover]
        if not cells or not cells[0].graded:  # without known answers it does not tell what an amateur is worth
            return None
        best = max(cells, key=lambda cell: (cell.pass_at_1, -cell.changed))
        reader = open_results(folder, variants)
    except UserError:
        if damaged_is_fatal:
            raise
        return None
    place = next(n for n, variant in enumerate(variants) if variant.contrast == best.contrast)
    right = {problem: row.right for problem, row in reader.rows[place].items()}
    config, prints = run["config"], run["about"].get("fingerprints") or {}
    settings = {name: config.get(name) for name in SETTINGS} | {"file": prints.get("file of problems")}
    problems, alone = str(config.get("problems")), {problem: row.right for problem, row in reader.rows[0].items()}
    return Preview(of, folder, problems, len(cells), best, right, json.dumps(settings, sort_keys=True), alone)


def _answered_gap(preview: Preview, folder: Path, run: dict) -> Gap | None:
    """The gap on the problems of a preview, from the amateur's own answers; None where these are of other problems."""
    asked = ("problems", "split", "max_new_tokens", "stop", "prompt")
    theirs = json.loads(preview.settings)
    prints = run["about"].get("fingerprints") or {}
    variants = variants_of(run)
    same = all(run["config"].get(name) == theirs[name] for name in asked)
    same = same and prints.get("file of problems") == theirs["file"] and not run["config"].get("temperature")
    if not same or not variants or not variants[0].is_base or read_results(folder) is None:
        return None
    with suppress(UserError):
        reader = open_results(folder, variants)
        right = {problem: row.right for problem, row in reader.rows[0].items() if row.right is not None}
        if right.keys() >= preview.alone.keys():
            found = compare({problem: right[problem] for problem in preview.alone}, preview.alone)
            return Gap(folder, found.difference, found.low, found.high)
    return None


def _gap(folder: Path) -> Gap | None:
    """The gap of the pair check in a folder; None where none was measured."""
    with suppress(ValueError, TypeError, KeyError):
        found = read_json(folder / RESULT)
        return Gap(folder, *(float(found[name]) for name in ("gap", "gap_low", "gap_high")))
    return None


def _same_pair(dataset: dict, run: dict) -> bool:
    """Whether the run used the expert and the amateur of this dataset, whatever their files are called now."""
    expert = "model" if run["kind"] == "evaluation" else "expert"
    return _same(dataset, "expert", run, expert) and _same(dataset, "amateur", run, "amateur")


def _same(one: dict, role: str, other: dict, other_role: str) -> bool:
    if other_role not in other["config"]:
        return False
    for known, suffixes in (("marks", ("'s weights", "'s configuration")), ("fingerprints", ("",))):
        sides = [
            [(record["about"].get(known) or {}).get(f"{name}{suffix}") for suffix in suffixes]
            for record, name in ((one, role), (other, other_role))
        ]
        if all(all(side) for side in sides):
            return sides[0] == sides[1]
    return one["config"].get(role) == other["config"][other_role]
