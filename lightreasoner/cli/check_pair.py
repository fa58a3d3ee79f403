"""The verb check-pair: does a pair suit these problems, and what would sampling a dataset with it take?"""

import argparse

from lightreasoner.cli.decoding import add_stop_option, stop_strings
from lightreasoner.cli.options import Once, add_run_dir, add_skip_option, first_problem, given
from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.settings import Settings


def add(verbs) -> None:
    help = "check a pair on a few problems before building a dataset with it"
    for visible, name in ((True, "check-pair"), (False, "preflight")):  # the verb's name in version 0.2
        check = verbs.add_parser(
            name,
            **({"help": help} if visible else {}),
            description="Both models solve a few problems. The check reports the gap in accuracy, the divergence and "
            "the cost of sampling more problems, and assesses the pair.",
        )
        add_pair_options(check)
        check.add_argument("--problems", action=Once, required=True, metavar="SOURCE", help="as for the verb sample")
        check.add_argument(
            "--split", action=Once, metavar="S", help="split of a benchmark (default: train, if it has one)"
        )
        add_skip_option(check)
        check.add_argument("--limit", type=int, default=24, metavar="N", help="problems to try (default 24)")
        check.add_argument(
            "--target", type=int, default=1000, metavar="N", help="problems to estimate for (default 1000)"
        )
        check.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="per response (default 128)")
        add_stop_option(check)
        add_run_dir(check, "run folder of the result")
        add_prompt_options(check)
        check.set_defaults(run=run_check_pair)


def run_check_pair(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.jobs.context import job_context
    from lightreasoner.problems.stream import training_split
    from lightreasoner.sampling.pair_check import KIND, PairCheckJob, run_pair_check

    name, expert, amateur = pair_refs(options)
    job = PairCheckJob(
        *(options.run_dir, expert, amateur, options.problems),
        pair_name=name,
        split=options.split or training_split(options.problems),
        **given(options, "limit", "target", "max_new_tokens", "skip_unreadable"),
        stop=stop_strings(options),
        prompt=prompt_settings(options),
    )
    job.check(settings)
    if options.show_prompt:
        print_prompt(expert, first_problem(options, job.split, settings), job.prompt)
        return
    with job_context(options.run_dir, KIND, settings, title=job.title) as progress:
        result = run_pair_check(job, settings, progress)
    for sentence in (*result.assessment, result.estimate.sentence()):
        print(sentence)
