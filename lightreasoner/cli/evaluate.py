"""The command evaluate: pass@1 of a model, alone or with adapters, on problems with known answers."""

import argparse
import sys
from functools import partial
from pathlib import Path

from lightreasoner.cli.decoding import add_contrast_options, add_stop_option, contrasts, stop_strings
from lightreasoner.cli.options import Once, add_run_dir, add_skip_option, first_problem, given, workers_of
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.cluster import add_backend_options
from lightreasoner.formatting import plural
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path

USUAL = (f"{ALPHA:g}", f"{BETA:g}")  # of a contrast


def add(verbs) -> None:
    evaluate = verbs.add_parser(
        "evaluate",
        help="measure pass@1 of a model, and whether adapters improve it",
        description="Zero-shot, in the chat template; greedy, or several responses per problem at a temperature. "
        "Adapters share one base model and are compared with it problem by problem. Run the same command again to "
        "resume.",
    )
    evaluate.add_argument(
        "--regrade",
        type=run_path,
        metavar="RUN",
        help="judge the stored responses of this evaluation again, without a model, and list what changed",
    )
    evaluate.add_argument("--model", action=Once, metavar="REF", help="the base model")
    evaluate.add_argument(
        "--responses",
        action=Once,
        metavar="FILE",
        help="grade the responses in this file, which something else wrote, without any model; --model then names the "
        "tokenizer of token ids without a text; see score",
    )
    evaluate.add_argument(
        "--adapter", action="append", default=[], metavar="DIR", help="an adapter or a fine-tuning run; repeatable"
    )
    evaluate.add_argument("--no-base", action="store_true", help="evaluate the adapters only")
    evaluate.add_argument(
        "--amateur",
        action=Once,
        metavar="REF",
        help="also decode by contrast with this weaker model, a preview of fine-tuning; see preview",
    )
    add_contrast_options(evaluate, *USUAL)
    evaluate.add_argument("--problems", action=Once, metavar="SOURCE_OR_FILE", help="see the command sample")
    evaluate.add_argument("--split", action=Once, metavar="S", help="split of a benchmark (default: test)")
    add_skip_option(evaluate)
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
    evaluate.add_argument(
        "--samples", type=int, default=1, metavar="K", help="responses per problem: avg@k, pass@k, maj@k (default 1)"
    )
    evaluate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default 0)")
    evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="of sampling (default 0)")
    add_run_dir(evaluate, "folder for the results", required=False)
    add_prompt_options(evaluate)
    add_backend_options(evaluate)
    evaluate.set_defaults(run=partial(run_evaluate, evaluate))


def run_evaluate(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    if options.regrade is not None:
        return print_regraded(options.regrade)
    if options.responses is not None:
        return run_grading(parser, options, settings)
    missing = [f"--{name}" for name in ("model", "problems", "run-dir") if not vars(options)[name.replace("-", "_")]]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    contrast = (options.alpha, options.beta, options.cap)
    if not options.amateur and (options.takeover or any(value is not None for value in contrast)):
        parser.error("--alpha, --beta, --cap and --takeover decode with an amateur; name one with --amateur")
    from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
    from lightreasoner.validation import number

    if options.max_new_tokens is not None:
        number("--max-new-tokens", options.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    size = None
    if options.batch_size != "auto":
        asked = int(options.batch_size) if options.batch_size.isdecimal() else options.batch_size
        size = number("--batch-size", asked, 1, 4096, whole=True)
    job = EvaluationJob(
        **given(options, "run_dir", "model", "problems", "split", "limit", "max_new_tokens", "samples", "temperature"),
        **given(options, "seed", "amateur", "skip_unreadable"),
        adapters=tuple(map(Path, options.adapter)),
        base=not options.no_base,
        batch_size=size,
        stop=stop_strings(options),
        prompt=prompt_settings(options),
        contrasts=contrasts(options, *USUAL) if options.amateur else (),
        workers=workers_of(options),
    )
    if options.show_prompt:
        print_prompt(job.model, first_problem(options, job.split, settings), job.prompt)
        return
    print("\n".join(report(run_evaluation(job, settings, lambda sentence: print(sentence, file=sys.stderr)))))


def run_grading(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    """Grade a file of responses. Raises UserError."""
    if options.adapter or options.amateur or options.samples != 1 or options.temperature or options.no_base:
        parser.error("--responses grades what was written; --adapter, --amateur, --samples and the like write anew")
    if not options.run_dir:
        parser.error("the following arguments are required: --run-dir")
    from lightreasoner.evaluation.given_responses import GradingJob, grade_responses
    from lightreasoner.formatting import printable

    job = GradingJob(
        *(options.run_dir, options.responses, options.problems, options.model, options.split, options.limit),
        *(prompt_settings(options), stop_strings(options), options.skip_unreadable),
    )
    summaries, left_out = grade_responses(job, settings)
    print("\n".join([*report(summaries), *map(printable, left_out)]))


def print_regraded(folder: Path) -> None:
    from lightreasoner.evaluation.verdicts import regrade
    from lightreasoner.formatting import printable

    changes = regrade(folder)
    flipped = [change for change in changes if change.flipped]
    for change in changes:
        before, after = (f"{'right' if right else 'wrong'} ({found})" for right, found in (change.before, change.after))
        place = f"{change.model} · {change.problem_id}" + (f" · sample {change.sample}" if change.sample else "")
        by_hand = f"; set by hand: {'right' if change.by_hand else 'wrong'}" if change.by_hand is not None else ""
        print(printable(f"{place}: {before} → {after}; the reference answer is {change.answer}{by_hand}"))
    print(f"{len(flipped):,} verdicts changed, and {len(changes) - len(flipped):,} answers were read in another way.")


def report(summaries: list) -> list[str]:
    lines = [f"{'model':24} {'pass@1':>8}  {'95 % interval':>15}  {'no answer':>9}  {'cut off':>7}  {'tokens':>6}"]
    for s in summaries:
        known = s.pass_at_1 is not None
        interval = f"{100 * s.low:.1f} – {100 * s.high:.1f} %" if known else ""
        share = f"{100 * s.pass_at_1:.1f} %" if known else "–"
        lines.append(
            f"{s.name[:24]:24} {share:>8}  {interval:>15}  {s.extraction_failures:9}  "
            f"{s.truncations:7}  {'' if s.mean_length is None else f'{s.mean_length:.1f}':>6}"
        )
    for s in summaries:
        if s.samples > 1:
            numbers = [(f"avg@{s.samples}", (s.pass_at_1, s.low, s.high))]
            numbers += [(f"pass@{k}", (of.value, of.low, of.high)) for k, of in s.pass_at.items() if k > 1]
            numbers.append((f"maj@{s.samples}", (s.majority.value, s.majority.low, s.majority.high)))
            lines += [f"{s.name[:24]:24} {name:>8}  {_with_interval(*of)}" for name, of in numbers]
        lines += [
            f"{s.name[:24]:24} {grouping} {group['name']}: "
            f"{_with_interval(group['pass_at_1'], *group['interval'])} of {group['problems']:,}"
            for grouping, groups in s.groups.items()
            for group in groups
        ]
        if s.by_hand:
            lines.append(f"{s.name[:24]:24} {plural(s.by_hand, 'verdict')} set by hand, counted")
    return lines


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} % ({100 * low:.1f} – {100 * high:.1f} %)"
