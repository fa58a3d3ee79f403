"""The verb sample: generate responses to many problems and record where expert and amateur diverge."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightreasoner.cli.decoding import add_stop_option, stop_strings
from lightreasoner.cli.options import Once, add_run_dir, add_skip_option, workers_of
from lightreasoner.cli.pairs import add_pair_options, expert_and_amateurs
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.cluster import add_backend_options
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes
from lightreasoner.progress import ConsoleProgress, StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path


def add(verbs) -> None:
    sample = verbs.add_parser(
        "sample",
        help="generate responses to many problems and record where expert and amateur diverge",
        description="If interrupted, run the same command again to resume: finished batches are not sampled again.",
    )
    add_sampling_options(sample)
    add_run_dir(sample, "run folder of the dataset", required=False)
    sample.add_argument(
        "--add-amateur",
        action=AddAmateur,
        nargs="+",
        metavar=("MODEL", "RUN"),
        help="let one more amateur read the responses of the dataset RUN, and nothing else; without the expert where "
        "the candidates of every step are stored",
    )
    sample.add_argument(
        "--with-expert", action="store_true", help="with --add-amateur: the expert reads along, for exact numbers"
    )
    sample.set_defaults(run=lambda options, settings: run_sample(sample, options, settings))


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sampling_job` but the run folder."""
    add_pair_options(parser, several=True)
    parser.add_argument("--problems", action=Once, metavar="SOURCE", help="gsm8k, math, bundled-train, … or a file")
    parser.add_argument(
        "--split", action=Once, metavar="S", help="split of a benchmark (default: train, if it has one)"
    )
    add_skip_option(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N problems (default: all)")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="per response (default 128)")
    add_batch_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of sampling at a temperature (default 0)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default 0)")
    parser.add_argument(
        "--samples-per-problem", type=int, default=1, metavar="K", help="needs a temperature above 0 (default 1)"
    )
    add_stop_option(parser)
    add_prompt_options(parser)
    add_backend_options(parser)


class AddAmateur(argparse.Action):
    """Stores the model as add_amateur, and the run as run_dir, which `main` opens."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if namespace.add_amateur:
            raise argparse.ArgumentError(self, "given twice; add one amateur after the other")
        if len(values) > 2:
            raise argparse.ArgumentError(self, f"takes a model and a dataset's run folder, not {len(values)} values")
        namespace.add_amateur = values[0]
        if values[1:]:
            namespace.run_dir = run_path(values[1])


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", default="auto", metavar="N", help="responses per batch (default: auto, by memory)"
    )
    parser.add_argument(
        "--beta-floor",
        type=float,
        metavar="B",
        help="save the candidates of steps with a larger KL only, in nats (default: of every step)",
    )


def read_batch_size(text: str) -> int | None:
    """The number of --batch-size; None for auto. Raises UserError."""
    try:
        return None if text == "auto" else int(text)
    except ValueError:
        raise UserError(f"The batch size is {text[:40]}; give a whole number or auto.") from None


def read_beta_floor(options: argparse.Namespace) -> float:
    """The --beta-floor; of a run that versions until 0.4 began, which stored less, the one it began with."""
    from lightreasoner.storage.runs import stored_run

    if options.beta_floor is not None:
        return options.beta_floor
    return stored_run(options.run_dir)["config"].get("beta_floor", 0.0)


def sampling_job(options: argparse.Namespace):
    """The SamplingJob that the options describe. Raises UserError."""
    from lightreasoner.decoding.generate import DecodingConfig
    from lightreasoner.problems.stream import training_split
    from lightreasoner.sampling.job import SamplingJob

    name, expert, (amateur, *others) = expert_and_amateurs(options)
    problems = options.problems.strip()
    return SamplingJob(
        *(options.run_dir, expert, amateur, problems),
        decoding=DecodingConfig(
            options.max_new_tokens, options.temperature, options.seed, read_beta_floor(options), stop_strings(options)
        ),
        pair_name=name,
        split=options.split or training_split(problems),
        limit=options.limit,
        samples_per_problem=options.samples_per_problem,
        batch_size=read_batch_size(options.batch_size),
        prompt=prompt_settings(options),
        num_workers=workers_of(options),
        skip_unreadable=options.skip_unreadable,
        other_amateurs=tuple(others),
    )


def run_sample(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.sampling.job import sampling_title

    if options.add_amateur:
        return run_add_amateur(parser, options, settings)
    missing = [name for name in ("problems", "run_dir") if not getattr(options, name)]
    if missing:
        parser.error(f"the following arguments are required: --{', --'.join(missing).replace('_', '-')}")
    if options.with_expert:
        parser.error("--with-expert belongs to --add-amateur")
    if options.show_prompt:
        job = sampling_job(options)
        print_prompt(job.expert, next(iter(job.open_problems(settings))), job.prompt)
        return
    run_as_job(options, sampling_job, sampling_title(options.problems.strip(), options.limit), settings)


def run_add_amateur(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.datasets.amateurs import model_title
    from lightreasoner.jobs.context import job_context
    from lightreasoner.sampling.add_amateur import add_amateur, readable_dataset

    if not options.run_dir:
        parser.error("--add-amateur needs the dataset: --add-amateur MODEL RUN")
    for name, value in vars(options).items():
        if name not in ("verb", "run", "run_dir", "add_amateur", "with_expert") and value != parser.get_default(name):
            parser.error(f"the dataset decides --{name.replace('_', '-')}; leave it out beside --add-amateur")
    readable_dataset(options.run_dir)  # before anything is written into its folder
    title = f"Add the amateur {model_title(options.add_amateur)[:60]}"
    with job_context(options.run_dir, options.verb, settings, title=title, keeps=False) as progress:
        console = ConsoleProgress(lambda done, total, numbers: f"{done:,} of {total:,} shards", progress)
        found = add_amateur(options.run_dir, options.add_amateur, settings, console, options.with_expert)
    print("\n".join(found.sentences))


def run_as_job(options: argparse.Namespace, read: Callable, title: str, settings: Settings) -> None:
    """Run the SamplingJob that read(options) describes, and print its result. Raises UserError, StopRequested."""
    from lightreasoner.jobs.context import job_context
    from lightreasoner.sampling.run import read_result, run_sampling

    if not settings.job:  # a mistake made in a terminal leaves no folder behind; a job's mistake belongs in its log
        read(options).check(settings)
    with job_context(options.run_dir, options.verb, settings, title=title) as progress:
        job = read(options)
        try:
            result = run_sampling(job, settings, ConsoleProgress(progress_line, progress))
        except StopRequested as stop:
            if stop.keep:
                print_result(read_result(job), options.run_dir)
            raise
        print_result(result, options.run_dir)


def progress_line(done: float, total: float, numbers: dict[str, Any]) -> str:
    rate, steps, above = (numbers[name] for name in ("problems_per_second", "steps", "above_beta"))
    return f"{done:,} of {total:,} responses, {rate:.2f} problems/s, {above:,} of {steps:,} steps above β"


def print_result(result, folder: Path) -> None:
    skipped = result.skipped
    print(
        f"{result.problems:,} problems, {result.steps:,} steps, {result.above_beta:,} of them above {result.beta:g} "
        f"nats, {format_bytes(result.bytes)} in {folder}; "
        f"{skipped.unusable + skipped.duplicates + skipped.unreadable:,} rows left out"
    )
    for reason in skipped.reasons:
        print(f"  {reason}")
