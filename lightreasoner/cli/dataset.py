"""The verbs export and import: write a dataset's training samples to a file, and make a dataset of such a file."""

import argparse
import sys
from pathlib import Path

from lightreasoner.cli.options import add_run_dir
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.settings import Settings


def add(verbs) -> None:
    export = verbs.add_parser(
        "export",
        help="write a dataset's training samples to a file",
        description="α, β and the selector are applied at export; changing them needs no new sampling.",
    )
    add_run_dir(export, "run folder of the dataset")
    export.add_argument(
        "--format",
        type=lambda name: "paper" if name == "released" else name,  # its name in version 0.2
        choices=("paper", "parquet"),
        required=True,
        help="paper: JSON lines in the format of the paper's released samples",
    )
    export.add_argument("--out", type=Path, required=True, metavar="F", help="the file to write")
    add_selection_options(export)
    export.add_argument("--skip-corrupt", action="store_true", help="skip damaged shards instead of stopping")
    export.set_defaults(run=run_export)

    imports = verbs.add_parser(
        "import",
        help="import a file of samples in the paper's format as a dataset",
        description="Lines that cannot be read are listed; all others are imported.",
    )
    imports.add_argument("file", type=Path, metavar="F", help="JSON lines in the paper's format")
    add_run_dir(imports, "run folder of the new dataset")
    imports.set_defaults(run=run_import)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `selection_of`: which steps to train on."""
    parser.add_argument("--alpha", type=float, metavar="A", help=f"α of the plausible set (default {ALPHA})")
    parser.add_argument(
        "--beta", type=float, metavar="B", help=f"select steps with a larger KL, in nats (default {BETA})"
    )
    parser.add_argument("--selector", metavar="NAME", help="kl (default), top-percent, random, every-k, …")
    parser.add_argument(
        "--budget", type=float, metavar="X", help="share of all steps to select, for selectors other than kl"
    )
    parser.add_argument(
        "--tau", type=float, metavar="T", help="with --selector teaching: only steps with a larger signal, in nats"
    )
    parser.add_argument("--cap", type=float, metavar="C", help="cap on the targets' log ratio, in nats (default none)")
    parser.add_argument(
        "--box",
        metavar="E:E:K:K",
        help="select only steps inside: the expert's entropy from and to, and the KL from and to, in nats; such as "
        "0:1:0.4:inf",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the random selector (default 0)")


def selection_of(options: argparse.Namespace, selector: str | None = None):
    """The Selection that the options describe, or None without any of them. Raises UserError.

    selector: used if the options name none.
    """
    from lightreasoner.datasets.selectors import Selection

    names = ("alpha", "beta", "selector", "budget", "seed", "tau", "box", "cap")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if given and selector:
        given = {"selector": selector} | given
    return Selection(**given) if given else None


def run_export(options: argparse.Namespace, settings: Settings) -> None:
    selection = selection_of(options)

    from lightreasoner.datasets.export import export_samples
    from lightreasoner.datasets.imported import is_imported
    from lightreasoner.storage.runs import read_run

    if is_imported(read_run(options.run_dir)) and options.alpha is not None:
        raise UserError("The targets of an imported dataset have a fixed α; leave out --alpha.")
    skipped: list[str] = []
    on_corrupt = (lambda path, error: skipped.append(str(error))) if options.skip_corrupt else None
    report = export_samples(options.run_dir, options.out, options.format, selection, on_corrupt)
    for sentence in skipped:
        print(f"Skipped: {sentence}", file=sys.stderr)
    print(f"{report.usable:,} samples of {report.steps:,} steps written to {options.out}")
    if report.kept_by_annotation or report.dropped_by_annotation:
        print(f"by annotations: {report.kept_by_annotation:,} kept, {report.dropped_by_annotation:,} dropped")
    if report.unknown:
        print(f"{report.unknown:,} steps were not stored in detail, so their teaching signal is unknown: not selected")
    if report.missing:
        print(
            f"{report.missing:,} selected steps were not stored in detail and are left out; sample again to "
            "store every step in detail, which is the default"
        )


def run_import(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.datasets.imported import import_samples

    print(import_samples(options.file, options.run_dir).sentences())
