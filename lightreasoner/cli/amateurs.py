"""The verb amateurs: the amateurs of a dataset beside each other, and which of them a preview recommends."""

import argparse
import json
from itertools import pairwise
from pathlib import Path

from lightreasoner.cli.console import print_json
from lightreasoner.formatting import in_points, percent, printable
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path

#: Edges of the printed histogram, in nats, of trajectories.KL_EDGES; the last bin includes everything above.
SHOWN_EDGES = (0.01, 0.1, 0.316228, 1.0, 3.16228)


def add(verbs) -> None:
    amateurs = verbs.add_parser(
        "amateurs",
        help="compare the amateurs of a dataset",
        description="What each amateur of a dataset selects and teaches on the same responses, without a model. "
        "Previews and pair checks beside the dataset add the gain and the gap in accuracy, and the recommendation.",
    )
    amateurs.add_argument("--dataset", type=run_path, required=True, metavar="DIR", help="the dataset's run folder")
    amateurs.add_argument(
        "--results",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a preview or a pair check that lies elsewhere; repeatable",
    )
    amateurs.add_argument("--alpha", type=float, default=ALPHA, metavar="A", help=f"α of the target (default {ALPHA})")
    amateurs.add_argument("--beta", type=float, default=BETA, metavar="B", help=f"KL threshold, nats (default {BETA})")
    amateurs.add_argument(
        "--cap", type=float, metavar="C", help="cap on the target's log ratio, in nats (default none)"
    )
    amateurs.add_argument("--json", action="store_true", help="print JSON")
    amateurs.set_defaults(run=run_amateurs)


def run_amateurs(options: argparse.Namespace, settings: Settings) -> None:
    from dataclasses import asdict

    from lightreasoner.datasets.compare_amateurs import compare_amateurs
    from lightreasoner.datasets.selectors import Selection
    from lightreasoner.datasets.trajectories import KL_EDGES
    from lightreasoner.evaluation.amateurs import recommendation, results_of

    selection = Selection(alpha=options.alpha, beta=options.beta, cap=options.cap)
    found = compare_amateurs(options.dataset.local, selection)
    datasets = [each.dataset for each in found.amateurs]
    previews, gaps = results_of(datasets, options.results)
    advice = recommendation(datasets, previews)
    if options.json:
        document = asdict(found) | {"edges": KL_EDGES, "recommendation": advice}
        for row, each in zip(document["amateurs"], found.amateurs, strict=True):
            preview, gap = previews.get(each.dataset.amateur), gaps.get(each.dataset.amateur)
            row["agreement"] = each.agreement
            row["gap"], row["preview"] = gap and asdict(gap), None
            if preview:
                row["preview"] = asdict(preview.best) | {"folder": preview.folder, "problems_of": preview.problems}
        plain = json.dumps(document, default=str)  # an infinite KL becomes null
        print_json(json.loads(plain, parse_constant=lambda name: None), 2)
        return
    print("\n".join([*table(found, previews, gaps), *notes(found)]))
    print(printable(advice))


def table(found, previews: dict, gaps: dict) -> list[str]:
    """The comparison for a terminal: what is selected and taught, then the histograms of KL."""
    names = [printable(each.dataset.name)[:32] for each in found.amateurs]
    head = f"{'':32} {'above β':>16} {'taught':>11} {'idle':>6} {'agree':>6} {'gap':>7} {'preview':>24}"
    numbers = f"α = {found.alpha:g}, β = {found.beta:g} nats"
    numbers += "" if found.cap is None else f", cap {found.cap:g} nats"
    lines = [f"{found.responses:,} responses, {found.steps:,} steps; {numbers}", head]
    for name, each in zip(names, found.amateurs, strict=True):
        preview, gap = previews.get(each.dataset.amateur), gaps.get(each.dataset.amateur)
        usable = each.selected - each.missing
        gain = "–"
        if preview:
            best = preview.best
            gain = f"{100 * best.difference:+.1f} ({in_points(best.low, best.high)})"
        lines.append(
            f"{name:32} {f'{least(each)}{each.selected:,}':>8} {100 * each.share:5.1f} % {each.signal:6,.0f} nats "
            f"{f'{100 * each.idle / usable:.0f} %' if usable else '–':>6} "
            f"{'–' if each.agreement is None else f'{each.agreement:.2f}':>6} "
            f"{'–' if gap is None else f'{100 * gap.value:+.1f}':>7} {gain:>24}"
        )
    bounds = ["0", *(f"{edge:.2g}" for edge in SHOWN_EDGES)]
    lines.append(f"{'share of the steps with KL from':32} " + " ".join(f"{bound:>7}" for bound in bounds))
    for name, each in zip(names, found.amateurs, strict=True):
        lines.append(f"{name:32} " + " ".join(f"{100 * share:5.1f} %" for share in shares(each.histogram)))
    return lines


def least(each) -> str:
    """The mark of numbers that are known from below only: of an amateur with another tokenizer."""
    return "" if each.compared is None else "≥ "


def shares(histogram: tuple[int, ...]) -> list[float]:
    """The share of the steps between SHOWN_EDGES."""
    from lightreasoner.datasets.trajectories import KL_EDGES

    cuts = [0, *map(KL_EDGES.index, SHOWN_EDGES), len(histogram)]
    counts = [sum(histogram[low:high]) for low, high in pairwise(cuts)]
    return [count / max(1, sum(counts)) for count in counts]


def notes(found) -> list[str]:
    """What the table leaves out."""
    lines = [
        "taught: KL(target ‖ expert) summed over the steps above β; idle: the share of them that teach nothing; agree: "
        "mean Jaccard index with the others' steps; gap and preview: points, of pair checks and previews"
    ]
    for each in found.amateurs:
        if each.compared is not None:
            lines.append(
                f"{printable(each.dataset.name)} has another tokenizer than the expert, so its KLs are lower bounds "
                f"(≥): {percent(each.compared)} of the expert's mass was compared."
            )
        if each.missing and each.compared is not None:
            lines.append(
                f"{printable(each.dataset.name)}: {each.missing:,} of its steps above β have no target, since not all "
                "of the expert's plausible tokens were compared, or are not stored in detail; their signal is left out."
            )
        elif each.missing:
            lines.append(
                f"{printable(each.dataset.name)}: {each.missing:,} of its steps above β are not stored in detail, so "
                "their signal is left out."
            )
    if found.left_out:
        lines.append(f"{found.left_out:,} responses are left out: not every amateur has read them; resume the dataset.")
    lines += [f"{printable(each.name)} has read no response yet; resume the dataset." for each in found.unread]
    if len(found.amateurs) == 1:
        lines.append("This dataset has one amateur; repeat its sample command with one more --amateur to add another.")
    return lines
