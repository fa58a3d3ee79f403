"""What the page shows of a dataset's amateurs: a row each, two charts, and the one that the previews recommend."""

from collections import Counter
from pathlib import Path

import pandas as pd

from lightreasoner.datasets.amateurs import AmateurDataset, amateur_datasets
from lightreasoner.datasets.compare_amateurs import AmateurComparison, compare_amateurs
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import KL_EDGES, shards
from lightreasoner.errors import UserError
from lightreasoner.evaluation.amateur_figures import amateurs_histogram_figure, gap_gain_figure
from lightreasoner.evaluation.amateurs import Gap, Preview, recommendation, recommended, results_of
from lightreasoner.evaluation.results import FOLDER
from lightreasoner.formatting import percent, plural
from lightreasoner.storage.atomic import stamp
from lightreasoner.storage.runs import RECORD
from ui.components.dataset_catalogue import MARK, Dataset
from ui.components.script_calls import fingerprint


def amateurs_mark(dataset: Dataset, selection: Selection) -> str:
    """A fingerprint of all that `amateurs_view` shows."""
    places = [
        (each.amateur, [(p.name, stamp(p)) for p in shards(each.folder)]) for each in amateur_datasets(dataset.folder)
    ]
    beside = [
        (path.name, stamp(path / FOLDER), stamp(path / "results.json"), stamp(path / RECORD))
        for path in sorted(dataset.folder.parent.glob(f"{dataset.id}-*"))
    ]
    return fingerprint((places, beside, selection.alpha, selection.beta, selection.cap))


def amateurs_view(dataset: Dataset, selection: Selection) -> dict:
    """The rows, the charts and the sentences. Raises UserError for a dataset that cannot be compared."""
    found = compare_amateurs(dataset.folder, selection)
    datasets = [each.dataset for each in found.amateurs]
    previews, gaps = results_of(datasets)
    rows = [row(dataset, found, n, previews, gaps) for n in range(len(datasets))]
    taken: Counter[str] = Counter()
    for own in rows:  # each has its own name, also in the charts
        taken[own["name"]] += 1
        if (again := taken[own["name"]]) > 1:
            own["name"] += f" ({again})"
    best = recommended(previews)
    return {
        "rows": rows,
        "figures": figures(found, rows),
        "sentence": recommendation(datasets, previews),
        "best": next((own for own in rows if best and own["ref"] == best.amateur), None),
        "expert": str(dataset.run["config"].get("expert")),
        "notes": notes(found),
    }


def row(
    dataset: Dataset, found: AmateurComparison, number: int, previews: dict[str, Preview], gaps: dict[str, Gap]
) -> dict:
    each = found.amateurs[number]
    preview, gap = previews.get(each.dataset.amateur), gaps.get(each.dataset.amateur)
    usable, best = each.selected - each.missing, preview and preview.best
    return {
        "id": dataset_id(dataset, each.dataset),
        "ref": each.dataset.amateur,
        "name": each.dataset.name,
        **{key: getattr(each, key) for key in ("selected", "share", "signal", "agreement")},
        "least": each.compared is not None,
        "idle": each.idle / usable if usable else None,
        "gap": gap and gap.value,
        "gap_low": gap and gap.low,
        "gap_high": gap and gap.high,
        "gain": best and best.difference,
        "gain_low": best and best.low,
        "gain_high": best and best.high,
        **{key: best and getattr(best.contrast, key) for key in ("alpha", "beta", "cap")},
        "preview": preview and beside(dataset, preview.folder),
    }


def beside(dataset: Dataset, folder: Path) -> str | None:
    """The id of a run beside a dataset, which the page can open; None for one that lies elsewhere."""
    return folder.name if folder.absolute().parent == dataset.folder.absolute().parent else None


def dataset_id(dataset: Dataset, amateur: AmateurDataset) -> str:
    """The id under which the page opens the measures of an amateur."""
    return dataset.id if amateur.folder == dataset.folder else f"{dataset.id}{MARK}{amateur.folder.name}"


def figures(found: AmateurComparison, rows: list[dict]) -> dict[str, dict]:
    """The charts of a comparison."""
    edges = pd.DataFrame({"low": KL_EDGES[:-1], "high": KL_EDGES[1:]})
    bins = pd.concat(
        edges.assign(name=own["name"], share=[count / max(1, sum(each.histogram)) for count in each.histogram])
        for own, each in zip(rows, found.amateurs, strict=True)
    )
    made = {"gap": gap_gain_figure(pd.DataFrame(rows)), "histogram": amateurs_histogram_figure(bins, found.beta)}
    return {name: figure.to_plotly_json() for name, figure in made.items()}


def notes(found: AmateurComparison) -> list[str]:
    """What the table leaves out."""
    lines = [
        f"{each.dataset.name} has another tokenizer than the expert, so its KLs are lower bounds (≥): "
        f"{percent(each.compared)} of the expert's mass was compared. Steps above β whose plausible tokens were not "
        "all compared have no target."
        for each in found.amateurs
        if each.compared is not None
    ]
    lines += [
        f"{each.dataset.name}: {each.missing:,} of its steps above β "
        f"{'are not stored in detail' if each.compared is None else 'have no target'}, so their signal is left out."
        for each in found.amateurs
        if each.missing
    ]
    if found.left_out:
        lines.append(f"Left out: {plural(found.left_out, 'response')} that not every amateur has read yet.")
    return lines + [f"{each.name} has read no response yet." for each in found.unread]


def add_arguments(dataset: Dataset, ref: str) -> list[str]:
    """The verb's arguments that add an amateur to a dataset. Raises UserError."""
    if dataset.run is None or MARK in dataset.id:
        raise UserError("This is no whole dataset; open the dataset around it, then add the amateur.")
    return ["sample", "--add-amateur", ref]
