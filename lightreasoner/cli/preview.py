"""The verb preview: would fine-tuning with this pair help on these problems, and at which α and β?"""

import argparse
import sys

from lightreasoner.cli.decoding import add_contrast_options, add_stop_option, contrasts, stop_strings
from lightreasoner.cli.options import Once, add_run_dir, add_skip_option, first_problem, given, workers_of
from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.cluster import add_backend_options
from lightreasoner.formatting import in_points
from lightreasoner.paper import ALPHA, PREVIEW_BETAS
from lightreasoner.settings import Settings

USUAL = (f"{ALPHA:g}", PREVIEW_BETAS)


def add(verbs) -> None:
    preview = verbs.add_parser(
        "preview",
        help="tell without training whether fine-tuning with a pair would help",
        description="The expert solves the problems, alone and with the contrastive target in its place wherever KL is "
        "above β: what training would come to if it reached its target. The run folder is an evaluation's. Run the "
        "same command again to resume.",
    )
    add_pair_options(preview)
    preview.add_argument(
        "--problems", action=Once, required=True, metavar="SOURCE_OR_FILE", help="see the command sample"
    )
    preview.add_argument("--split", action=Once, metavar="S", help="split of a benchmark (default: test)")
    add_skip_option(preview)
    preview.add_argument("--limit", type=int, default=100, metavar="N", help="the first N problems (default 100)")
    preview.add_argument(
        "--max-new-tokens", type=int, default=128, metavar="N", help="tokens per response (default 128)"
    )
    add_contrast_options(preview, *USUAL)
    add_stop_option(preview)
    add_run_dir(preview, "folder for the results")
    add_prompt_options(preview)
    add_backend_options(preview)
    preview.set_defaults(run=run_preview)


def run_preview(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.evaluation.preview import preview_cells, verdict
    from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
    from lightreasoner.validation import number

    _, expert, amateur = pair_refs(options)
    job = EvaluationJob(
        **given(options, "run_dir", "problems", "split", "skip_unreadable"),
        model=expert,
        adapters=(),
        limit=number("--limit", options.limit, 2, 1_000_000, whole=True),
        max_new_tokens=number("--max-new-tokens", options.max_new_tokens, 1, settings.max_new_tokens, whole=True),
        stop=stop_strings(options),
        prompt=prompt_settings(options),
        amateur=amateur,
        contrasts=contrasts(options, *USUAL),
        workers=workers_of(options),
    )
    if options.show_prompt:
        print_prompt(expert, first_problem(options, job.split, settings), job.prompt)
        return
    run_evaluation(job, settings, lambda sentence: print(sentence, file=sys.stderr))
    alone, cells = preview_cells(job.run_dir, job.variants())
    print("\n".join([*table(alone, cells), verdict(cells)]))


def table(expert: float | None, cells: list) -> list[str]:
    """The cells of a preview for a terminal. expert: its pass@1; None where no answers are known."""
    if expert is None and cells:
        lines = [f"expert alone: {cells[0].problems:,} problems, {cells[0].base_length:.1f} tokens per response"]
        lines.append(f"{'':28} {'same answer':>12} {'changed':>9} {'tokens':>8}")
        return lines + [
            f"{cell.contrast.title:28} {100 * cell.same_answer:10.1f} % {100 * cell.changed:7.1f} % "
            f"{cell.mean_length:8.1f}"
            for cell in cells
        ]
    lines = [f"expert alone: {100 * expert:.1f} % of {cells[0].problems:,} problems" if cells else ""]
    lines.append(f"{'':28} {'pass@1':>7} {'gain':>7} {'95 % interval':>16} {'gained':>7} {'lost':>5} {'changed':>8}")
    for cell in cells:
        interval = in_points(cell.low, cell.high)
        lines.append(
            f"{cell.contrast.title:28} {100 * cell.pass_at_1:5.1f} % {100 * cell.difference:+7.1f} {interval:>16} "
            f"{cell.gained:7,} {cell.lost:5,} {100 * cell.changed:6.1f} %"
        )
    return lines
