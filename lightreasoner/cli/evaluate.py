"""The verb evaluate: pass@1 of a model, alone or with adapters, on problems with known answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightreasoner.cluster import add_backend_options
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings

USUAL = 512  # new tokens


def add(verbs) -> None:
    evaluate = verbs.add_parser(
        "evaluate",
        help="measure pass@1 of a model, and whether its adapters make it better",
        description="Greedy, zero-shot, in the chat template. Adapters share one base model and are compared with it, "
        "problem by problem. Run the same command again to resume.",
    )
    evaluate.add_argument("--model", required=True, metavar="REF", help="the base model")
    evaluate.add_argument(
        "--adapter", action="append", default=[], metavar="DIR", help="an adapter, or a fine-tuning run; repeatable"
    )
    evaluate.add_argument("--no-base", action="store_true", help="leave out the base model without an adapter")
    evaluate.add_argument("--problems", required=True, metavar="SOURCE_OR_FILE", help="see the verb sample")
    evaluate.add_argument("--split", metavar="S", help="of a benchmark (default: its test split)")
    evaluate.add_argument("--limit", type=int, metavar="N", help="the first N problems only")
    evaluate.add_argument("--max-new-tokens", type=int, metavar="N", help="default: 512, or what the model can read")
    evaluate.add_argument("--batch-size", default="auto", metavar="N", help="problems at once (default: what fits)")
    evaluate.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="where the results go")
    add_backend_options(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.evaluation.evaluate import Variant, evaluate
    from lightreasoner.jobs.context import job_context
    from lightreasoner.models.loading import load_model
    from lightreasoner.problems.stream import open_problems, source_fingerprint
    from lightreasoner.storage.runs import begin_run, versions
    from lightreasoner.validation import number

    if options.max_new_tokens is not None:
        number("--max-new-tokens", options.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    size = None
    if options.batch_size != "auto":
        given = int(options.batch_size) if options.batch_size.isdecimal() else options.batch_size
        size = number("--batch-size", given, 1, 4096, whole=True)
    adapters = [adapter_of(Path(name)) for name in options.adapter]
    if options.no_base and not adapters:
        raise UserError("--no-base leaves nothing to evaluate; give an --adapter or leave --no-base out.")
    variants = [Variant(name_of(place), place) for place in adapters]
    names = [variant.name for variant in variants] + ([] if options.no_base else ["base"])
    variants = [
        Variant(f"{v.name}-{n}", v.adapter) if names.count(v.name) > 1 else v for n, v in enumerate(variants, 1)
    ]
    if not options.no_base:
        variants.insert(0, Variant("base"))

    title = f"Evaluate {options.model.rpartition('/')[2]} on {Path(options.problems).name}"
    with job_context(options.run_dir, "evaluate", settings, title=title) as progress:
        progress.status("Reading the problems")
        stream = open_problems(
            options.problems,
            split=options.split,
            limit=options.limit,
            max_chars=settings.max_problem_chars,
            distinct=True,  # one problem twice is no second observation
        )
        read = list(stream)
        problems = [problem for problem in read if problem.answer]
        if not problems:
            raise UserError(
                f"None of the {len(read):,} problems of {stream.title} has a known answer, so nothing can be marked "
                "right or wrong; give problems with answers."
            )
        progress.status("Loading the model")
        loaded = load_model(options.model, settings, progress.status)
        tokens = options.max_new_tokens or usual_tokens(loaded, problems)
        config = {
            "model": options.model,
            "adapters": [str(place) for place in adapters],
            "base": not options.no_base,
            "problems": options.problems,
            "split": options.split,
            "limit": options.limit,
            "max_new_tokens": tokens,
            "batch_size": size,
        }
        fingerprints = {"model": loaded.fingerprint, "file of problems": source_fingerprint(options.problems)}
        fingerprints |= {f"adapter {v.name}": adapter_fingerprint(v.adapter) for v in variants if v.adapter}
        about = {
            "problems": len(problems),
            "without answer": len(read) - len(problems),
            "duplicates": stream.duplicates,
            "models": [variant.name for variant in variants],
            "versions": versions(),
            "device": str(loaded.device),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "fingerprints": fingerprints,
        }
        begin_run(options.run_dir, "evaluation", config, about)
        spread = None
        if options.backend == "ray":
            from lightreasoner.evaluation.on_cluster import spread as over_the_cluster

            spread = over_the_cluster(loaded, variants, tokens, options.num_workers, settings)
        summaries = evaluate(options.run_dir, loaded, variants, problems, tokens, size, progress, spread)
        progress.result(**{summary.name: round(summary.pass_at_1, 4) for summary in summaries})
    for line in report(summaries):
        print(line)


def usual_tokens(loaded, problems: list) -> int:
    """USUAL new tokens, or fewer where the model reads no more than its prompts and these."""
    from lightreasoner.models.prompts import prompt_ids

    longest = max(len(prompt_ids(loaded, problem.question)) for problem in problems)
    return max(1, min(USUAL, loaded.max_positions - longest)) if loaded.max_positions else USUAL


def adapter_of(place: Path) -> Path:
    """An adapter folder, or the one of a fine-tuning run. Raises UserError."""
    from lightreasoner.models.weights import check_adapter
    from lightreasoner.storage.runs import RECORD
    from lightreasoner.training.runs import adapter_folder

    if (place / RECORD).is_file():
        return adapter_folder(place)
    check_adapter(place)
    return place


def name_of(adapter: Path) -> str:
    """What people call it: the run's folder name, or the adapter's own."""
    return adapter.parent.name if adapter.name == "adapter" else adapter.name


def adapter_fingerprint(adapter: Path) -> str:
    import hashlib

    with open(adapter / "adapter_model.safetensors", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def report(summaries: list) -> list[str]:
    """A table for a terminal."""
    lines = [f"{'model':24} {'pass@1':>8}  {'95 % interval':>15}  {'no answer':>9}  {'cut off':>7}  {'tokens':>6}"]
    for s in summaries:
        interval = f"{100 * s.low:.1f} – {100 * s.high:.1f} %"
        lines.append(
            f"{s.name[:24]:24} {100 * s.pass_at_1:6.1f} %  {interval:>15}  {s.extraction_failures:9}  "
            f"{s.truncations:7}  {s.mean_length:6.1f}"
        )
    return lines
