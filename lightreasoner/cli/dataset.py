"""The verbs export and import: a dataset's training samples as a file, and such a file as a dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path


def add(verbs) -> None:
    export = verbs.add_parser(
        "export",
        help="write a dataset's training samples to a file",
        description="α, β and the selector are applied now: no new sampling is needed to change them.",
    )
    export.add_argument("--run-dir", type=run_path, required=True, metavar="DIR", help="the dataset's run folder")
    export.add_argument("--format", choices=("released", "parquet"), required=True, help="released: JSON lines")
    export.add_argument("--out", type=Path, required=True, metavar="F", help="the file to write")
    add_selection_options(export)
    export.add_argument("--skip-corrupt", action="store_true", help="pass over damaged shards instead of stopping")
    export.set_defaults(run=run_export)

    imports = verbs.add_parser(
        "import",
        help="make a dataset of a file of samples in the released format",
        description="Lines that cannot be read are counted and shown; the rest is imported.",
    )
    imports.add_argument("file", type=Path, metavar="F", help="JSON lines in the released format")
    imports.add_argument("--run-dir", type=run_path, required=True, metavar="DIR", help="the new dataset's run folder")
    imports.set_defaults(run=run_import)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """How to select the steps to train on; see selection_of."""
    parser.add_argument("--alpha", type=float, metavar="A", help=f"α of the plausible set (default {ALPHA})")
    parser.add_argument("--beta", type=float, metavar="B", help=f"selects steps of larger KL, nats (default {BETA})")
    parser.add_argument("--selector", metavar="NAME", help="kl (default), top-percent, random, every-k, …")
    parser.add_argument("--budget", type=float, metavar="X", help="share of all steps that another selector takes")
    parser.add_argument("--seed", type=int, metavar="S", help="of the random selector (default 0)")


def selection_of(options: argparse.Namespace, selector: str | None = None):
    """The Selection that the options name, or None where they name nothing. Raises UserError.

    selector: what is taken where no selector is named.
    """
    from lightreasoner.datasets.selectors import Selection

    names = ("alpha", "beta", "selector", "budget", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if given and selector:
        given = {"selector": selector} | given
    return Selection(**given) if given else None


def run_export(options: argparse.Namespace, settings: Settings) -> None:
    selection = selection_of(options)

    from lightreasoner.datasets.export import export_samples
    from lightreasoner.datasets.external import is_imported
    from lightreasoner.storage.runs import read_run

    if is_imported(read_run(options.run_dir)) and options.alpha is not None:
        raise UserError("α of an imported dataset was settled when it was made; leave --alpha out.")
    skipped: list[str] = []
    on_corrupt = (lambda path, error: skipped.append(str(error))) if options.skip_corrupt else None
    report = export_samples(options.run_dir, options.out, options.format, selection, on_corrupt)
    for sentence in skipped:
        print(f"Passed over: {sentence}", file=sys.stderr)
    print(f"{report.usable:,} samples of {report.steps:,} steps written to {options.out}")
    if report.kept_by_mark or report.dropped_by_mark:
        print(f"by marks: {report.kept_by_mark:,} kept, {report.dropped_by_mark:,} dropped")
    if report.missing:
        print(
            f"{report.missing:,} selected steps have no stored details and are left out; sample with --beta-floor 0 to "
            "keep the details of every step"
        )


def run_import(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.datasets.external import import_samples

    print(import_samples(options.file, options.run_dir).sentences())
