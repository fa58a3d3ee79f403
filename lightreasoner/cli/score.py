"""The verb score: read responses that something else wrote and record where expert and amateur diverge on them."""

import argparse
import json
from pathlib import Path

from lightreasoner.cli.decoding import add_stop_option, stop_strings
from lightreasoner.cli.options import add_run_dir, add_skip_option, first_problem, workers_of
from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.cli.sample import add_batch_options, read_batch_size, read_beta_floor, run_as_job
from lightreasoner.cluster import add_backend_options
from lightreasoner.settings import Settings


def add(verbs) -> None:
    score = verbs.add_parser(
        "score",
        help="record where expert and amateur diverge on responses that something else wrote",
        description="Reads responses of vLLM, SGLang, llama.cpp, an API or a person, as texts or token ids, and makes "
        "the dataset that sample makes. If interrupted, run the same command again to resume.",
    )
    add_pair_options(score)
    score.add_argument("--responses", metavar="FILE", help="JSON lines, JSON, CSV or Parquet; see docs/scale.md")
    score.add_argument(
        "--problems", metavar="SOURCE", help="the problems that were answered (default: those in the file of responses)"
    )
    score.add_argument("--split", metavar="S", help="split of a benchmark (default: train, if it has one)")
    add_skip_option(score)
    score.add_argument("--limit", type=int, metavar="N", help="the first N rows (default: all)")
    add_batch_options(score)
    add_stop_option(score)
    add_run_dir(score, "run folder of the dataset", required=False)
    score.add_argument(
        "--write-prompts",
        type=Path,
        metavar="FILE",
        help="write the token ids of each problem's prompt as JSON lines, for the program that is to answer, and end",
    )
    add_prompt_options(score)
    add_backend_options(score)
    score.set_defaults(run=lambda options, settings: run_score(score, options, settings))


def scoring_job(options: argparse.Namespace):
    """The SamplingJob that the options describe. Raises UserError."""
    from lightreasoner.decoding.generate import DecodingConfig
    from lightreasoner.problems.stream import training_split
    from lightreasoner.sampling.job import SamplingJob

    name, expert, amateur = pair_refs(options)
    problems = options.problems.strip() if options.problems is not None else None
    return SamplingJob(
        *(options.run_dir, expert, amateur, problems),
        decoding=DecodingConfig(beta_floor=read_beta_floor(options), stop=stop_strings(options)),
        pair_name=name,
        split=options.split or (problems and training_split(problems)),
        limit=options.limit,
        batch_size=read_batch_size(options.batch_size),
        prompt=prompt_settings(options),
        num_workers=workers_of(options),
        skip_unreadable=options.skip_unreadable,
        responses=options.responses,
    )


def run_score(parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.problems.stream import training_split
    from lightreasoner.sampling.job import scoring_title

    if options.write_prompts or options.show_prompt:
        if not options.problems:
            parser.error("the following arguments are required: --problems")
        options.split = options.split or training_split(options.problems)
        if options.show_prompt:
            expert = pair_refs(options)[1]
            return print_prompt(expert, first_problem(options, options.split, settings), prompt_settings(options))
        return write_prompts(options, settings)
    missing = [name for name in ("responses", "run_dir") if not getattr(options, name)]
    if missing:
        parser.error(f"the following arguments are required: --{', --'.join(missing).replace('_', '-')}")
    run_as_job(options, scoring_job, scoring_title(options.responses), settings)
    print_origin(options.run_dir)


def print_origin(folder: Path) -> None:
    """Print where the responses of a dataset come from."""
    from lightreasoner.datasets.origin import origin_sentences
    from lightreasoner.storage.runs import read_run

    print(" ".join(origin_sentences(read_run(folder))))


def write_prompts(options: argparse.Namespace, settings: Settings) -> None:
    """Write the prompts of the problems, one line each. Raises UserError."""
    from lightreasoner.problems.stream import open_problems
    from lightreasoner.sampling.given_responses import prompt_lines
    from lightreasoner.storage.atomic import atomic_file

    limits = {"limit": options.limit, "max_chars": settings.max_problem_chars, "distinct": True}
    limits["skip_unreadable"] = options.skip_unreadable
    problems = open_problems(options.problems, split=options.split, **limits)
    count = 0
    with atomic_file(options.write_prompts) as file:
        for line in prompt_lines(pair_refs(options)[1], iter(problems), prompt_settings(options)):
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            count += 1
    print(f"{count:,} prompts written to {options.write_prompts}")
