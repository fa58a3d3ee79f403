"""The commands finetune, use-adapter and merge: train an adapter on a dataset, choose which of its training is used,
and merge it into its base model."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from lightreasoner.cli.dataset import add_selection_options
from lightreasoner.cli.options import Once, add_report_option, add_run_dir, reporting
from lightreasoner.cluster import add_backend_options
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_duration
from lightreasoner.progress import ConsoleProgress
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path
from lightreasoner.training.config import FinetuneConfig


def add(verbs) -> None:
    finetune = verbs.add_parser(
        "finetune",
        help="fine-tune the expert on a dataset with LoRA",
        description="Defaults are the paper's. Run the same command again to resume.",
    )
    option = finetune.add_argument
    option("--dataset", action=Once, type=run_path, required=True, metavar="DIR", help="the dataset's run folder")
    add_run_dir(finetune, "folder for the adapter and the log")
    option("--expert", metavar="REF", help="the expert, if it is not where the dataset names it")
    for name, spec in FinetuneConfig.__dataclass_fields__.items():
        kind = {"int": int, "float": float}.get(spec.type, str)
        choices = spec.metadata["choices"] or None
        default = ",".join(spec.default) if isinstance(spec.default, tuple) else spec.default
        if name != "seed":  # the seed of the selection serves for both
            flag = "--" + name.replace("_", "-")
            meta = None if choices else "N" if kind is int else "X" if kind is float else "NAMES"
            option(flag, type=kind, choices=choices, metavar=meta, help=f"{spec.metadata['help']} (default {default})")
    option(  # its name until version 0.2
        "--group", type=int, dest="max_samples_per_trajectory", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    option(
        "--quick",
        action="store_true",
        help="few updates at a higher rate, as the pair's quick preset has them; other options change it",
    )
    add_selection_options(finetune)
    option("--skip-corrupt", action="store_true", help="skip damaged and lost shards instead of stopping")
    option(
        "--estimate", action="store_true", help="estimate time, memory and disk from a few updates, without training"
    )
    add_backend_options(finetune)
    option(
        "--shard", action="store_true", help="spread the expert over the processes (FSDP), for models of 32B and more"
    )
    option(
        "--preset",
        metavar="NAME",
        help="settings saved by save-preset, by name or as a .toml file; options that are given count more",
    )
    add_report_option(finetune)
    finetune.set_defaults(run=run_finetune)

    merge = _verb_on_run(verbs, "merge", run_merge, "merge a run's adapter into its base model, as one folder")
    merge.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    merge.add_argument("--dtype", default="auto", metavar="D", help="of the weights (default auto: the base's on disk)")

    save = _verb_on_run(verbs, "save-preset", run_save, "save the settings of a fine-tuning run under a name")
    save.add_argument("name", help="for finetune --preset, and for the form of the Fine-tune tab")

    words = "choose which adapter of a run is used: the best one or the last one"
    use = _verb_on_run(verbs, "use-adapter", run_use, words)
    use.add_argument("which", choices=("best", "last"), help="best: of the lowest held-out loss")


def _verb_on_run(verbs, name: str, run: Callable, words: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words)
    add_run_dir(parser, "the fine-tuning run")
    parser.set_defaults(run=run)
    return parser


def config_of(options: argparse.Namespace, usual: dict | None = None) -> FinetuneConfig:
    """The settings that the options give. usual: those that no option gives, if they are not the paper's.

    Raises UserError for values out of bounds.
    """
    given = {name: getattr(options, name) for name in FinetuneConfig.__dataclass_fields__}
    given = (usual or {}) | {name: value for name, value in given.items() if value is not None}
    if isinstance(modules := given.get("target_modules"), str):
        given["target_modules"] = tuple(part.strip() for part in modules.split(",") if part.strip())
    return FinetuneConfig(**given)


def run_finetune(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.training.distributed import rank, world_size
    from lightreasoner.training.run import estimate_finetune, run_as_job

    settings = reporting(options, settings)
    if options.preset:
        take_preset(options, settings)
    job = job_of(options)
    processes = options.num_workers if options.backend == "ray" else world_size()
    if job.sharded and processes == 1:
        raise UserError(
            "--shard spreads the expert over several processes, and this is one; start them with torchrun, or with "
            "--backend ray --num-workers 2."
        )
    if options.estimate and world_size() > 1:
        raise UserError("--estimate measures one process; run it without torchrun.")
    if options.estimate:
        print("\n".join(estimate_finetune(job, settings).sentences()))
    elif options.backend == "ray":
        from lightreasoner.training.on_cluster import train_on_cluster

        train_on_cluster(job, options.num_workers, settings)
    else:
        result = run_as_job(job, settings, lambda progress: ConsoleProgress(line, progress))
        if rank() == 0:
            print(summary(result, job.run_dir / "adapter"))


def job_of(options: argparse.Namespace):
    """The FinetuneJob that the options describe. Raises UserError."""
    from lightreasoner.cli.dataset import selection_of
    from lightreasoner.datasets.selectors import Selection
    from lightreasoner.storage.runs import read_run
    from lightreasoner.training.job import FinetuneJob, quick_config
    from lightreasoner.training.runs import pair_of

    config_of(options)  # may refuse
    dataset = read_run(options.dataset.local)
    if dataset["kind"] != "dataset":
        raise UserError(
            f"{options.dataset.address} is a {dataset['kind']} run, not a dataset; name the run of a dataset."
        )
    config = config_of(options, quick_config(pair_of(dataset)) if options.quick else None)
    selection = selection_of(options, "random" if config.method == "random-steps" else None) or Selection()
    expert = options.expert or dataset["config"].get("expert")
    if not expert:
        raise UserError("This dataset was imported and names no expert; name the model to train with --expert.")
    return FinetuneJob(
        run_dir=options.run_dir,
        dataset=options.dataset,
        expert=str(expert),
        config=config,
        selection=selection,
        skip_corrupt=options.skip_corrupt,
        sharded=options.shard,
    )


def line(done: float, total: float, numbers: dict) -> str:
    held = f", held-out loss {numbers['held_out_loss']:.4g}" if "held_out_loss" in numbers else ""
    return f"{done:,} of {total:,} updates, loss {numbers['loss']:.4g} nats{held}"


def summary(result, adapter: Path) -> str:
    """One sentence about a finished run, from its FinetuneResult."""
    held = f", {result.held_out_loss:.4g} on the held-out part" if result.held_out_loss is not None else ""
    return (
        f"{result.updates:,} updates, {result.samples_seen:,} samples seen in {format_duration(result.seconds)}, "
        f"mean loss {result.train_loss:.4g} nats{held}; the adapter is in {adapter}"
    )


def run_merge(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.training.merge import merge_run

    merge_run(options.run_dir, options.out, settings, options.dtype)
    print(f"The merged model is in {options.out}")


def take_preset(options: argparse.Namespace, settings: Settings) -> None:
    """Put the settings of a preset into the options that were not given. Raises UserError."""
    from lightreasoner.training.presets import load_preset

    for name, value in load_preset(settings, options.preset).items():
        if getattr(options, name) is None:
            setattr(options, name, tuple(value) if isinstance(value, list) else value)


def run_save(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.storage.runs import read_run
    from lightreasoner.training.presets import save_preset

    name = save_preset(settings, options.name, read_run(options.run_dir))
    print(f"The preset is saved; use it by --preset {shlex.quote(name)}")


def run_use(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.training.best_checkpoint import use_adapter

    chosen = use_adapter(options.run_dir, options.which)
    loss = chosen["held_out_loss"]
    held = "" if loss is None else f", with a held-out loss of {loss:.4g} nats"
    print(f"{options.run_dir / 'adapter'} is the adapter of update {chosen['update']:,}{held}")
