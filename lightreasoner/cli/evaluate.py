"""The command evaluate: pass@1 of a model, alone or with adapters, on problems with known answers."""

import argparse
import sys
from pathlib import Path

from lightreasoner.cli.decoding import add_stop_option, stop_strings
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.cluster import add_backend_options
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path


def add(verbs) -> None:
    evaluate = verbs.add_parser(
        "evaluate",
        help="measure pass@1 of a model, and whether adapters improve it",
        description="Greedy decoding, zero-shot, in the chat template. Adapters share one base model and are compared "
        "with it problem by problem. Run the same command again to resume.",
    )
    evaluate.add_argument("--model", required=True, metavar="REF", help="the base model")
    evaluate.add_argument(
        "--adapter", action="append", default=[], metavar="DIR", help="an adapter or a fine-tuning run; repeatable"
    )
    evaluate.add_argument("--no-base", action="store_true", help="evaluate the adapters only")
    evaluate.add_argument("--problems", required=True, metavar="SOURCE_OR_FILE", help="see the command sample")
    evaluate.add_argument("--split", metavar="S", help="split of a benchmark (default: test)")
    evaluate.add_argument(
        "--skip-unreadable", action="store_true", help="use the rest of a file that has rows which cannot be read"
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="evaluate the first N problems only")
    evaluate.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="tokens per response (default: 512, or fewer for a model with a short context)",
    )
    evaluate.add_argument(
        "--batch-size", default="auto", metavar="N", help="problems per batch (default: as many as fit into memory)"
    )
    add_stop_option(evaluate)
    evaluate.add_argument("--run-dir", type=run_path, required=True, metavar="DIR", help="folder for the results")
    add_prompt_options(evaluate)
    add_backend_options(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
    from lightreasoner.validation import number

    if options.max_new_tokens is not None:
        number("--max-new-tokens", options.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    size = None
    if options.batch_size != "auto":
        given = int(options.batch_size) if options.batch_size.isdecimal() else options.batch_size
        size = number("--batch-size", given, 1, 4096, whole=True)
    job = EvaluationJob(
        run_dir=options.run_dir,
        model=options.model,
        adapters=tuple(map(Path, options.adapter)),
        problems=options.problems,
        base=not options.no_base,
        split=options.split,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        batch_size=size,
        stop=stop_strings(options),
        prompt=prompt_settings(options),
        workers=options.num_workers if options.backend == "ray" else None,
        skip_unreadable=options.skip_unreadable,
    )
    if options.show_prompt:
        from lightreasoner.problems.stream import open_problems

        limits = {"limit": 1, "max_chars": settings.max_problem_chars, "skip_unreadable": options.skip_unreadable}
        print_prompt(job.model, next(iter(open_problems(job.problems, split=job.split, **limits))), job.prompt)
        return
    print("\n".join(report(run_evaluation(job, settings, lambda sentence: print(sentence, file=sys.stderr)))))


def report(summaries: list) -> list[str]:
    """A table of Summaries for a terminal."""
    lines = [f"{'model':24} {'pass@1':>8}  {'95 % interval':>15}  {'no answer':>9}  {'cut off':>7}  {'tokens':>6}"]
    for s in summaries:
        interval = f"{100 * s.low:.1f} – {100 * s.high:.1f} %"
        lines.append(
            f"{s.name[:24]:24} {100 * s.pass_at_1:6.1f} %  {interval:>15}  {s.extraction_failures:9}  "
            f"{s.truncations:7}  {s.mean_length:6.1f}"
        )
    return lines
