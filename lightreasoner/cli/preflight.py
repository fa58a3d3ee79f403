"""The verb preflight: is this pair any good on these problems, and what would a dataset cost?"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.settings import Settings

RESULT = "preflight.json"


def add(verbs) -> None:
    preflight = verbs.add_parser(
        "preflight",
        help="try a pair on a few problems before a dataset is built",
        description="Both models solve a few problems. It tells the gap between them, how they diverge, what sampling "
        "more problems would bring and cost, and what to think of the pair.",
    )
    add_pair_options(preflight)
    preflight.add_argument("--problems", required=True, metavar="SOURCE_OR_FILE", help="see the verb sample")
    preflight.add_argument("--split", metavar="S", help="of a benchmark (default: its training split)")
    preflight.add_argument("--limit", type=int, default=24, metavar="N", help="problems to try (default 24)")
    preflight.add_argument("--target", type=int, default=1000, metavar="N", help="problems to forecast (default 1000)")
    preflight.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="default 128")
    preflight.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="where the result goes")
    preflight.set_defaults(run=run_preflight)


def run_preflight(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.decoding.generate import Decoding
    from lightreasoner.jobs.context import job_context
    from lightreasoner.models.cache import LoadedModels
    from lightreasoner.models.pairs import describe_pair, load_pair
    from lightreasoner.problems.stream import open_problems, source_fingerprint, training_split
    from lightreasoner.sampling.pair_check import preflight
    from lightreasoner.storage.atomic import write_atomically
    from lightreasoner.storage.runs import begin_run, versions
    from lightreasoner.validation import number

    limit = number("--limit", options.limit, 2, 200, whole=True)
    target = number("--target", options.target, 1, 10_000_000, whole=True)
    tokens = number("--max-new-tokens", options.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    name, expert, amateur = pair_refs(options)
    split = options.split or training_split(options.problems)
    with job_context(options.run_dir, "preflight", settings, title=f"Try the pair {name or expert}") as progress:
        progress.status("Reading the problems")
        stream = open_problems(options.problems, split=split, max_chars=settings.max_problem_chars, distinct=True)
        problems = list(itertools.islice(stream, limit))
        pair = load_pair(expert, amateur, LoadedModels(settings), progress.status, name)
        config = {"expert": expert, "amateur": amateur, "problems": options.problems, "split": split, "limit": limit}
        prints = {"expert": pair.expert.fingerprint, "amateur": pair.amateur.fingerprint}
        prints |= {"file of problems": source_fingerprint(options.problems)}
        about = {"fingerprints": prints, "versions": versions(), "pair": describe_pair(pair)}
        config |= {"target": target, "max_new_tokens": tokens}
        begin_run(options.run_dir, "preflight", config, about)
        found = preflight(pair, problems, Decoding(tokens), target, progress.checkpoint, progress.status)
        result = found.as_json()
        write_atomically(options.run_dir / RESULT, json.dumps(result, indent=1) + "\n")
        progress.result(tone=found.tone, verdict=list(found.verdict), sentence=found.probe.sentence())
    for sentence in (*found.verdict, found.probe.sentence()):
        print(sentence)
