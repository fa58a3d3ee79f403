"""The verb compare-amateurs: several amateurs of one expert on the same problems, as one job."""

import argparse

from lightreasoner.cli.amateurs import notes, table
from lightreasoner.cli.options import Once, add_run_dir
from lightreasoner.cli.sample import add_sampling_options, sampling_job
from lightreasoner.errors import UserError
from lightreasoner.formatting import printable
from lightreasoner.paper import PREVIEW_BETAS
from lightreasoner.progress import ConsoleProgress
from lightreasoner.settings import Settings


def add(verbs) -> None:
    compare = verbs.add_parser(
        "compare-amateurs",
        help="sample with several amateurs, preview each, and recommend one",
        description="Repeat --amateur. All of them read the same responses of the expert; then each is previewed and "
        "solves the problems alone, in runs beside the dataset. Run the same command again to resume.",
    )
    add_sampling_options(compare)
    compare.add_argument("--preview", type=int, default=100, metavar="N", help="problems of each preview (default 100)")
    compare.add_argument(
        "--beta", action=Once, default=PREVIEW_BETAS, metavar="B,…", help=f"of the previews (default {PREVIEW_BETAS})"
    )
    add_run_dir(compare, "run folder of the dataset")
    compare.set_defaults(run=lambda options, settings: run_compare(compare, options, settings))


def run_compare(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.datasets.compare_amateurs import compare_amateurs
    from lightreasoner.evaluation.amateurs import recommendation, results_of
    from lightreasoner.experiments.compare_amateurs import CompareAmateursJob, run_compare_amateurs

    if not options.problems:
        parser.error("the following arguments are required: --problems")
    job = CompareAmateursJob(sampling_job(options), options.preview, options.beta)
    if len(job.sampling.amateurs) == 1:
        raise UserError("One amateur was named, so there is nothing to compare it with; repeat --amateur.")
    if not settings.job:
        job.check(settings)
    troubles = run_compare_amateurs(job, settings, lambda inner: ConsoleProgress(progress_line, inner))
    found = compare_amateurs(job.sampling.run_dir)
    datasets = [each.dataset for each in found.amateurs]
    previews, gaps = results_of(datasets)
    print("\n".join([*table(found, previews, gaps), *notes(found), *map(printable, troubles)]))
    print(printable(recommendation(datasets, previews)))


def progress_line(done: float, total: float | None, numbers: dict) -> str:
    return f"{100 * done / total:.0f} %" if total else ""
