"""A whole fine-tuning run, from a dataset to the saved adapter and its model card."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lightreasoner.datasets.trajectories import is_across
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.context import job_context
from lightreasoner.jobs.events import working_seconds
from lightreasoner.models.adapters import default_targets, linear_names, save_adapter
from lightreasoner.models.identity import describe_models
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.progress import Progress, SilentProgress, StopRequested, while_loading
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import (
    RECORD,
    add_to_run,
    begin_run,
    flat_config,
    note_versions,
    read_run,
    stored_run,
    versions,
)
from lightreasoner.training.batches import count_samples, hold_out
from lightreasoner.training.best_checkpoint import forget_others, keep_if_best, use_best
from lightreasoner.training.config import as_json, named_targets
from lightreasoner.training.curves import Curves
from lightreasoner.training.distributed import barrier, init_process_group, rank, world_size
from lightreasoner.training.estimate import ResourceEstimate, estimate_resources
from lightreasoner.training.examples import build_examples, load_examples, refuse_other_expert, save_examples
from lightreasoner.training.finetune import finetune
from lightreasoner.training.job import FinetuneJob
from lightreasoner.training.loss import PackedExample
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.runs import ADAPTER, WEIGHTS

ACROSS = "those of expert and amateur differ: every KL is a lower bound, and steps without a known target are left out"


def run_as_job(
    job: FinetuneJob, settings: Settings, console: Callable[[Progress], Progress] = lambda progress: progress
) -> FinetuneResult:
    """`run_finetune` in this process. The first process (rank 0) locks the run folder and writes its log.

    console: wraps the progress of the first process, for example to print it. Raises UserError, and StopRequested
    when the run was cancelled, or stopped before there was a result.
    """
    init_process_group(settings)
    if rank() > 0:
        return run_finetune(job, settings, SilentProgress())
    result = None
    try:
        with job_context(job.run_dir, "finetune", settings, title=job.title) as progress:
            result = run_finetune(job, settings, console(progress))
            if result.stopped:
                raise StopRequested(keep=True)
    except StopRequested:
        if result is None:
            raise
    return result


def run_finetune(job: FinetuneJob, settings: Settings, progress: Progress) -> FinetuneResult:
    """Train the adapter, save it with its model card, and store the result in run.json.

    Every process of a distributed run calls this; only the first one writes. A run that has ended is not repeated:
    its stored result is returned. Raises UserError, and StopRequested when the run was cancelled.
    """
    settings = init_process_group(settings)
    barrier()  # the first one may wait for its accelerator; until then the others take no memory
    dataset = read_run(job.dataset.local)
    progress.status("Loading the expert")
    resumed = (job.run_dir / RECORD).exists() or world_size() > 1  # one of several processes cannot stop alone
    loaded = load_model(job.expert, settings, while_loading(progress, resumed), on_host=job.sharded)
    refuse_other_expert(dataset, job.dataset.local.name, job.expert, loaded)
    job, record = _begin(job, loaded, dataset)
    done = FinetuneResult.from_record(record)
    ended = done and (done.early or (done.updates or 0) >= job.config.max_steps)
    if ended and (job.run_dir / ADAPTER / WEIGHTS).is_file():
        progress.result(**done.as_json())
        return done
    first = rank() == 0
    if first and (changed := note_versions(job.run_dir)):
        progress.status(changed)
    progress.status("Reading the dataset")
    examples = _examples(job, loaded, progress)
    train, held_out = hold_out(examples, job.config.held_out, job.config.seed)
    samples, tokens = count_samples(examples), sum(example.length() for example in examples)
    progress.event("lessons", samples=samples, trajectories=len(examples), held_out=len(held_out), tokens=tokens)

    def on_measured(model, update: int, measured: dict[str, float]) -> None:
        if first and update:
            keep_if_best(job.run_dir, model, job.expert, update, measured)

    sets = train, held_out, progress
    model, result = finetune(job.run_dir, job.config, loaded, *sets, job.sharded, on_measured=on_measured)
    result = replace(
        result,
        samples=samples,
        trajectories=len(examples),
        train_loss=mean_loss(job.run_dir),
        seconds=round(working_seconds(job.run_dir) or 0.0, 1),
    )
    if first:
        progress.status("Saving the adapter")
        card = adapter_card(record | {"result": result.as_json()})
        save_adapter(model, job.run_dir / ADAPTER, card, job.expert)
        forget_others(job.run_dir, result.updates)
        add_to_run(job.run_dir, result=result.as_json())
        if job.config.patience:
            use_best(job.run_dir)
        progress.result(**result.as_json())
    return result


def _begin(job: FinetuneJob, loaded: LoadedModel, dataset: dict) -> tuple[FinetuneJob, dict]:
    """(the job with its target modules, the run's record), which the first process writes."""
    stored = stored_run(job.run_dir)
    targets = named_targets(job.config) or stored["config"].get("target_modules")  # a resumed run keeps its own
    targets = targets or default_targets(loaded.model.config.model_type, linear_names(loaded.model))
    job = replace(job, config=replace(job.config, target_modules=tuple(targets)))
    if rank() == 0:
        about = {
            "expert": job.expert,
            "dataset": {"sampled from": job.expert, "problems": dataset["config"].get("problems")}
            | prompt_of_dataset(dataset)
            | ({"tokenizers": ACROSS} if is_across(dataset) else {}),
            "versions": versions(),
            "device": str(loaded.device),
            "processes": world_size(),
            "sharded": job.sharded,
            "dtype": str(loaded.dtype).removeprefix("torch."),
        }
        about |= describe_models({"expert": loaded}, stored["about"])
        settled = {"dataset": job.dataset.address} | job.selection.as_json() | as_json(job.config)
        begin_run(job.run_dir, "finetune", settled, about)
    barrier()
    return job, read_run(job.run_dir)


def _examples(job: FinetuneJob, loaded: LoadedModel, progress: Progress) -> list[PackedExample]:
    """What the run trains on: from the dataset at its first start, then as saved. The first process builds it."""

    def note(text: str) -> None:
        progress.event("note", text=text)
        progress.status(f"{text}.")  # a terminal shows no notes

    examples = load_examples(job.run_dir) if rank() == 0 else None
    if examples is None and rank() == 0:
        skip = lambda path, error: progress.event("note", text=f"Skipped: {error}")  # noqa: E731
        dataset = (job.dataset.local, job.config.method, job.selection)
        examples, report = build_examples(*dataset, loaded, skip if job.skip_corrupt else None, note)
        save_examples(examples, job.run_dir)
        progress.event("dataset", **report.as_json())
    barrier()
    return load_examples(job.run_dir) if examples is None else examples


def prompt_of_dataset(dataset: dict) -> dict:
    """The settings of the prompt that a dataset was sampled with, one by one; none for the paper's."""
    return {name: value for name, value in flat_config(dataset["config"]).items() if name.startswith("the prompt's")}


def mean_loss(run_dir: Path) -> float | None:
    """Mean training loss over all updates of a run, nats, read from its log. None for a log without losses."""
    losses = [loss for loss in Curves(run_dir).refresh().trained.columns["loss"] if loss is not None]
    return sum(losses) / len(losses) if losses else None


def estimate_finetune(job: FinetuneJob, settings: Settings) -> ResourceEstimate:
    """Time, memory and disk that the run will take. Raises UserError for a run that would be refused."""
    with AcceleratorLock(settings.workspace, settings.device).acquire("an estimate in a terminal", interactive=True):
        began = time.monotonic()
        loaded = load_model(job.expert, settings)
        refuse_other_expert(read_run(job.dataset.local), job.dataset.local.name, job.expert, loaded)
        notes: list[str] = []
        dataset = (job.dataset.local, job.config.method, job.selection)
        skip = (lambda path, error: None) if job.skip_corrupt else None  # a note says how many
        examples, _ = build_examples(*dataset, loaded, skip, notes.append)
        found = estimate_resources(examples, job.config, loaded, time.monotonic() - began)
        return replace(found, notes=(*notes, *found.notes))
