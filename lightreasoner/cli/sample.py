"""The verb sample: many problems into a dataset of divergent steps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.cluster import add_backend_options
from lightreasoner.errors import UserError
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.progress import ConsoleProgress
from lightreasoner.settings import Settings


def add(verbs) -> None:
    sample = verbs.add_parser(
        "sample",
        help="let the expert solve many problems and keep the steps where the amateur would not have",
        description="Run the same command again to go on after a stop: what is there is kept, nothing is done twice.",
    )
    add_pair_options(sample)
    sample.add_argument("--problems", required=True, metavar="SOURCE", help="gsm8k, math, bundled-train, … or a file")
    sample.add_argument("--split", metavar="S", help="of a benchmark; default: train where there is one")
    sample.add_argument("--limit", type=int, metavar="N", help="the first N problems; default: all")
    sample.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="default 128")
    sample.add_argument("--batch-size", default="auto", metavar="N", help="responses at once; default: auto, by memory")
    sample.add_argument("--seed", type=int, default=0, metavar="S")
    sample.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0, the default, is greedy")
    sample.add_argument("--samples-per-problem", type=int, default=1, metavar="K", help="needs a temperature above 0")
    sample.add_argument(
        "--beta-floor",
        type=float,
        default=BETA_FLOOR,
        metavar="B",
        help="keep details of steps of larger KL (default %(default)s)",
    )
    sample.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="where the dataset goes")
    add_backend_options(sample)
    sample.set_defaults(run=run_sample)


def checked(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """The run's configuration from the options, all that can be checked without reading a model. Raises UserError."""
    from lightreasoner.decoding.generate import Decoding
    from lightreasoner.problems.sources import SOURCES
    from lightreasoner.problems.stream import MAX_ROWS, training_split
    from lightreasoner.sampling.plan import check
    from lightreasoner.validation import number

    _, expert, amateur = pair_refs(options)
    decoding = (options.max_new_tokens, options.temperature, options.seed, options.beta_floor)
    check(Decoding(*decoding), options.samples_per_problem, settings)
    if options.limit is not None:
        number("The number of problems", options.limit, 1, MAX_ROWS, whole=True)
    batch_size = options.batch_size
    if batch_size != "auto":
        try:
            batch_size = number("The batch size", int(batch_size), 1, 4096, whole=True)
        except ValueError:
            raise UserError(f"The batch size is {batch_size[:40]}; give a whole number or auto.") from None
    source = options.problems.strip()
    return {
        "expert": expert,
        "amateur": amateur,
        "problems": source if source in SOURCES else Path(source).name,
        "split": options.split or training_split(source),
        "limit": options.limit,
        "max_new_tokens": options.max_new_tokens,
        "batch_size": batch_size,
        "seed": options.seed,
        "temperature": options.temperature,
        "samples_per_problem": options.samples_per_problem,
        "beta_floor": options.beta_floor,
    }


def run_sample(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.jobs.context import job_context
    from lightreasoner.problems.stream import source_fingerprint
    from lightreasoner.progress import StopRequested
    from lightreasoner.sampling.sampler import sample
    from lightreasoner.storage.runs import add_to_run, read_run

    # Somebody's slip at a terminal leaves no folder behind; in a job it belongs into the log that its page shows.
    if not settings.job:
        checked(options, settings)
        source_fingerprint(options.problems)
    with job_context(options.run_dir, "sample", settings, title=title(options)) as progress:
        console = ConsoleProgress(line, progress)
        run = _prepare(options, settings, console)

        def finish() -> None:
            result = run["tally"].result(options.run_dir) | {"skipped": run["prompts"].skipped()}
            before = read_run(options.run_dir).get("result")
            if before and not run["tally"].fresh:  # all was there: looking at it is not what sampling took
                result["seconds"] = before["seconds"]
            progress.result(**result)
            add_to_run(options.run_dir, result=result)
            finished(result, options.run_dir)

        try:
            sample(**run, progress=console)
        except StopRequested as stopping:
            if stopping.keep:
                run["tally"].recount(options.run_dir)  # it may not have come to all that was there
                finish()
            raise
        finish()


def _prepare(options: argparse.Namespace, settings: Settings, progress: ConsoleProgress) -> dict[str, Any]:
    """Problems, models and run.json: the arguments of `sampling.sample`, except work. Raises UserError."""
    from lightreasoner.datasets.tokenizer import save_tokenizer
    from lightreasoner.datasets.trajectories import shards
    from lightreasoner.decoding.batch_decoder import fitting_rows
    from lightreasoner.decoding.generate import CHUNK, Decoding
    from lightreasoner.models.cache import LoadedModels
    from lightreasoner.models.pairs import describe_pair, load_pair
    from lightreasoner.problems.stream import open_problems, source_fingerprint
    from lightreasoner.sampling.plan import TYPICAL_PROMPT, Prompts
    from lightreasoner.sampling.sampler import Tally
    from lightreasoner.storage.runs import RECORD, begin_run, versions

    config, folder = checked(options, settings), options.run_dir
    if shards(folder) and not (folder / RECORD).exists():
        raise UserError(
            f"{folder} holds shards but no {RECORD}, so it cannot be progress what they are; use another folder."
        )

    def stream():
        limits = {"limit": config["limit"], "max_chars": settings.max_problem_chars, "distinct": True}
        return open_problems(options.problems, split=config["split"], **limits)

    progress.status("Reading the problems")
    total = sum(1 for _ in stream())  # a fault in the last row shows now, not after hours
    name, expert, amateur = pair_refs(options)
    pair = load_pair(expert, amateur, LoadedModels(settings), progress.status, name)
    batch_size = config["batch_size"]
    if batch_size == "auto":
        batch_size = fitting_rows((pair.expert, pair.amateur), TYPICAL_PROMPT + config["max_new_tokens"], CHUNK)
    prints = {"expert": pair.expert.fingerprint, "amateur": pair.amateur.fingerprint}
    if own_file := source_fingerprint(options.problems):
        prints["problem file"] = own_file
    about = {"fingerprints": prints, "versions": versions(), "pair": describe_pair(pair), "batch_size": batch_size}
    about |= {"problems": options.problems, "device": str(pair.expert.device), "title": title(options)}
    dtypes = {str(model.dtype).removeprefix("torch.") for model in (pair.expert, pair.amateur)}
    record = begin_run(folder, "dataset", config | {"dtype": ", ".join(sorted(dtypes))}, about)
    save_tokenizer(pair.expert.tokenizer, folder)  # the dataset stays readable when the model is gone
    decoding = Decoding(config["max_new_tokens"], config["temperature"], config["seed"], config["beta_floor"])
    size, spread = record["about"]["batch_size"], None
    if options.backend == "ray":
        from lightreasoner.sampling.on_cluster import spread as over_the_cluster

        spread = over_the_cluster(pair, name, decoding, size, options.num_workers, settings, progress)
    return {
        "spread": spread,
        "pair": pair,
        "prompts": Prompts(pair, stream(), decoding, settings),
        "folder": folder,
        "decoding": decoding,
        "batch_size": size,
        "total": total,
        "tally": Tally(config["samples_per_problem"]),
    }


def title(options: argparse.Namespace) -> str:
    """What a list of runs calls it."""
    from lightreasoner.problems.sources import SOURCES

    source = options.problems.strip()
    name = SOURCES[source].title if source in SOURCES else Path(source).name[:60]
    return f"Sample {name}" if options.limit is None else f"Sample {options.limit:,} problems of {name}"


def line(done: float, total: float, numbers: dict[str, Any]) -> str:
    """How far it is, for a terminal."""
    rate, steps, above = (numbers[name] for name in ("problems_per_second", "steps", "above_beta"))
    return f"{done:,} of {total:,} responses, {rate:.2f} problems a second, {above:,} of {steps:,} steps above β"


def finished(result: dict[str, Any], folder: Path) -> None:
    """Say what there is now."""
    left_out = sum(result["skipped"][kind] for kind in ("unusable", "duplicates", "unreadable"))
    print(
        f"{result['problems']:,} problems, {result['steps']:,} steps, {result['above_beta']:,} of them above "
        f"{result['beta']:g} nats, {result['bytes'] / 1e6:.1f} MB in {folder}; {left_out:,} rows left out"
    )
    for reason in result["skipped"]["reasons"]:
        print(f"  {reason}")
