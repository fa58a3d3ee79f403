"""The verbs finetune and merge: train an adapter on a dataset, and make a whole model of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightreasoner.cli.dataset import add_selection_options
from lightreasoner.cluster import add_backend_options
from lightreasoner.errors import UserError
from lightreasoner.progress import ConsoleProgress, SilentProgress
from lightreasoner.settings import Settings
from lightreasoner.training.config import FinetuneConfig, as_json


def add(verbs) -> None:
    finetune = verbs.add_parser(
        "finetune",
        help="fine-tune the expert on a dataset with LoRA",
        description="Defaults are the paper's. Run the same command again to resume.",
    )
    finetune.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="the dataset's run folder")
    finetune.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="where the adapter goes")
    finetune.add_argument("--expert", metavar="REF", help="where the expert is now, if not where it was sampled")
    for name, spec in FinetuneConfig.__dataclass_fields__.items():
        kind = {"int": int, "float": float}.get(spec.type, str)
        choices = spec.metadata["choices"] or None
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else spec.default
        if name != "seed":  # the selection has one already: it serves for both
            flag = "--" + name.replace("_", "-")
            meta = None if choices else "N" if kind is int else "X" if kind is float else "NAMES"
            finetune.add_argument(
                flag,
                type=kind,
                default=default,
                choices=choices,
                metavar=meta,
                help=f"{spec.metadata['says']} (default {default})",
            )
    add_selection_options(finetune)
    finetune.add_argument("--skip-corrupt", action="store_true", help="pass over damaged shards instead of stopping")
    finetune.add_argument(
        "--estimate", action="store_true", help="train nothing: measure a few updates and say what all will take"
    )
    add_backend_options(finetune)
    finetune.add_argument(
        "--shard",
        action="store_true",
        help="with several processes: spread the expert over them (FSDP), for 32B and up",
    )
    finetune.set_defaults(run=run_finetune)

    merge = verbs.add_parser("merge", help="merge a run's adapter into its base model, as one folder")
    merge.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="the fine-tuning run")
    merge.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    merge.set_defaults(run=run_merge)


def config_of(options: argparse.Namespace) -> FinetuneConfig:
    """Raises UserError for values out of bounds."""
    given = {name: getattr(options, name) for name in FinetuneConfig.__dataclass_fields__}
    given["seed"] = options.seed or 0
    given["target_modules"] = tuple(part.strip() for part in options.target_modules.split(",") if part.strip())
    return FinetuneConfig(**given)


def run_finetune(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.cli.dataset import selection_of
    from lightreasoner.datasets.selectors import Selection
    from lightreasoner.jobs.context import job_context
    from lightreasoner.progress import StopRequested
    from lightreasoner.storage.runs import read_run
    from lightreasoner.training.distributed import rank, world

    config = config_of(options)
    selection = selection_of(options, "random" if config.method == "random-steps" else None) or Selection()
    dataset = read_run(options.dataset)
    if dataset["kind"] != "dataset":
        raise UserError(f"{options.dataset} is a {dataset['kind']} run, not a dataset; name a dataset's run folder.")
    expert = options.expert or dataset["config"].get("expert")
    if not expert:
        raise UserError("This dataset was imported and names no expert; say which model to train with --expert.")

    processes = options.num_workers if options.backend == "ray" else world()
    if options.shard and processes == 1:
        raise UserError(
            "--shard spreads the expert over several processes, and this is one; start them with torchrun, or with "
            "--backend ray --num-workers 2."
        )
    if options.estimate and world() > 1:
        raise UserError("--estimate measures one process; run it without torchrun.")
    if options.estimate:
        return estimate(options.dataset, dataset, str(expert), config, selection, settings)
    if options.backend == "ray":
        from lightreasoner.training.on_cluster import train_on_cluster

        return train_on_cluster(options.argv, options.run_dir, options.num_workers, settings)
    what = (options.run_dir, options.dataset, dataset, str(expert), config, selection, settings)
    title = f"Fine-tune on {options.dataset.name} ({config.method})"
    if rank() > 0:  # torchrun and the like: the first process alone writes, reports and is asked to stop
        train(*what, SilentProgress(), sharded=options.shard)
        return
    with job_context(options.run_dir, "finetune", settings, title=title) as progress:
        stopped = train(*what, ConsoleProgress(line, progress), options.skip_corrupt, options.shard)
        finished(read_run(options.run_dir).get("result", {}), options.run_dir)
        if stopped:
            raise StopRequested(keep=True)


def estimate(dataset_dir: Path, dataset: dict, expert: str, config, selection, settings: Settings) -> None:
    """Print what the run would take: time, memory and disk. Raises UserError for what it would refuse."""
    import time

    from lightreasoner.jobs.accelerator import Accelerator
    from lightreasoner.models.loading import load_model
    from lightreasoner.training.estimate import forecast
    from lightreasoner.training.examples import refuse_other_expert, teach

    with Accelerator(settings.workspace).hold("an estimate in a terminal", interactive=True):
        began = time.monotonic()
        loaded = load_model(expert, settings)
        refuse_other_expert(dataset, dataset_dir.name, expert, loaded)
        lessons, _ = teach(dataset_dir, config.method, selection, loaded)
        for sentence in forecast(lessons, config, loaded, time.monotonic() - began).sentences():
            print(sentence)


def line(done: float, total: float, numbers: dict) -> str:
    """How far it is, for a terminal."""
    held = f", held-out loss {numbers['held_out_loss']:.4g}" if "held_out_loss" in numbers else ""
    return f"{done:,} of {total:,} updates, loss {numbers['loss']:.4g} nats{held}"


def finished(result: dict, folder: Path) -> None:
    """Say what there is now."""
    held = result.get("held-out loss")
    print(
        f"{result['updates']:,} updates, {result['samples seen']:,} samples seen in {result['seconds']:,.0f} s, "
        f"loss {result['train loss']:.4g} nats on average"
        + (f", {held:.4g} on what was kept aside" if held is not None else "")
        + f"; the adapter is in {folder / 'adapter'}"
    )


def train(
    folder: Path,
    dataset_dir: Path,
    dataset: dict,
    expert: str,
    config,
    selection,
    settings,
    progress,
    skip_corrupt: bool = False,
    sharded: bool = False,
) -> bool:
    """The whole of a fine-tuning run, inside `job_context`: from the dataset to the saved adapter and its card.

    Returns whether somebody stopped it early. A run that is done already is left as it is, its measurements included.
    """
    from dataclasses import asdict

    from lightreasoner.jobs.events import working_seconds
    from lightreasoner.models.adapters import save_adapter
    from lightreasoner.models.loading import load_model
    from lightreasoner.storage.remote import address_of
    from lightreasoner.storage.runs import add_to_run, begin_run, read_run, versions
    from lightreasoner.training.batches import count, hold_out
    from lightreasoner.training.distributed import join, meet, rank, world
    from lightreasoner.training.examples import load_lessons, refuse_other_expert, save_lessons, teach
    from lightreasoner.training.finetune import finetune
    from lightreasoner.training.model_card import adapter_card

    join()
    first = rank() == 0
    progress.status("Loading the expert")
    loaded = load_model(expert, settings, progress.status, on_host=sharded)
    refuse_other_expert(dataset, dataset_dir.name, expert, loaded)
    chosen = asdict(selection)
    about = {
        "expert": expert,
        "dataset": {"sampled from": expert, "problems": dataset["config"].get("problems")},
        "versions": versions(),
        "device": str(loaded.device),
        "processes": world(),
        "sharded": sharded,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "fingerprints": {"expert": loaded.fingerprint},
    }
    if first:
        begin_run(folder, "finetune", {"dataset": address_of(dataset_dir)} | chosen | as_json(config), about)
    meet()
    begun = read_run(folder)
    done = begun.get("result") or {}
    if done.get("updates", 0) >= config.max_steps and (folder / "adapter" / "adapter_model.safetensors").is_file():
        progress.result(**done)
        return False
    progress.status("Reading the dataset")
    lessons = load_lessons(folder) if first else None
    if lessons is None and first:
        passed = (lambda path, error: progress.event("note", text=f"Passed over: {error}")) if skip_corrupt else None
        lessons, report = teach(dataset_dir, config.method, selection, loaded, passed)
        save_lessons(lessons, folder)
        progress.event("dataset", **asdict(report))
    meet()
    lessons = lessons if first else load_lessons(folder)
    learned, held = hold_out(lessons, config.held_out, config.seed)
    samples, tokens = count(lessons), sum(lesson.length() for lesson in lessons)
    progress.event("lessons", samples=samples, trajectories=len(lessons), held_out=len(held), tokens=tokens)

    tuned = finetune(folder, config, loaded, learned, held, progress, sharded)
    if not first:
        return tuned.stopped
    result = {
        "updates": tuned.updates,
        "samples seen": tuned.samples,
        "samples": samples,
        "trajectories": len(lessons),
        "train loss": mean_loss(folder),
        "held-out loss": tuned.measured.get("held_out_loss"),
        "drift": tuned.measured.get("drift"),
        "seconds": round(working_seconds(folder) or 0.0, 1),  # of all attempts
    }
    progress.status("Saving the adapter")
    save_adapter(tuned.model, folder / "adapter", adapter_card(begun, result), expert)
    add_to_run(folder, result=result)
    progress.result(**result)
    return tuned.stopped


def mean_loss(folder: Path) -> float | None:
    """Mean of the losses that the run's log tells, nats: of all its updates, whichever attempt made them."""
    from lightreasoner.training.curves import Curves

    losses = [loss for loss in Curves(folder).refresh().trained.columns["loss"] if loss is not None]
    return sum(losses) / len(losses) if losses else None


def run_merge(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.training.merge import merge_run

    merge_run(options.run_dir, options.out, settings)
    print(f"The merged model is in {options.out}")
