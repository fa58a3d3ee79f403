"""Trains a LoRA adapter for the expert on packed examples, and measures held-out loss and drift."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from lightreasoner.compat.transformers import use_one_device
from lightreasoner.models.adapters import add_lora, check_reach
from lightreasoner.models.devices import free_bytes
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.lora_input import keep_inputs_narrow
from lightreasoner.progress import Progress, StopRequested
from lightreasoner.training import distributed
from lightreasoner.training.batches import BatchSampler, count_samples
from lightreasoner.training.config import FinetuneConfig, named_targets
from lightreasoner.training.curves import Curves
from lightreasoner.training.loss import PackedExample, Target, can_gather_before_head, collate, step_logits, step_losses
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.saved_tensors import measure_saved_tensors, storages
from lightreasoner.training.trainer import MetricsCallback, PackedTrainer, last_checkpoint

MEASURED_TOKENS, MEASURED_UPDATES = 128, 500
LOGIT_COPIES = 4  # logits of a sample, their log-probabilities, and the gradients of both
ACTIVATIONS_SHARE = 0.8  # of the free memory; the rest is for what the backward pass makes
HELD_OUT_STEPS = 256  # steps measured, about: for held-out loss and for drift each


@dataclass
class _Training:
    """A training in progress: measures on held-out trajectories, reports, and decides whether it goes on."""

    model: Any
    config: FinetuneConfig
    held_out: list[PackedExample]
    vocabulary: int
    whole_head: bool  # see step_logits
    device: torch.device
    progress: Progress
    on_measured: Callable[[Any, int, dict[str, float]], None]
    measured: dict[str, float] = field(default_factory=dict)  # the last held_out_loss and drift, nats
    losses: list[float] = field(default_factory=list)  # on the held-out trajectories, also before a resumed checkpoint
    stopped: bool = False
    early: bool = False

    def measure(self, update: int) -> None:
        if self.held_out:
            found = measure_held_out(self.model, self.held_out, self.vocabulary, self.whole_head, self.device)
            self.measured.update(found)
            self.losses.append(self.measured.get("held_out_loss", math.inf))
            self.progress.event("held_out", update=update, **self.measured)
            self.on_measured(self.model, update, dict(self.measured))

    def after_update(self, update: int) -> bool:
        """Whether the training ends here. All processes decide alike. Raises StopRequested when it is cancelled."""
        if update % self.config.evaluate_every == 0 or update == self.config.max_steps:
            self.measure(update)
        enough = update < self.config.max_steps and has_stopped_falling(self.losses, self.config.patience)
        decision, request = distributed.STOP_EARLY if enough else distributed.CONTINUE, None
        try:
            self.progress.checkpoint()
        except StopRequested as stop:
            decision, request = (distributed.STOP_AND_SAVE if stop.keep else distributed.STOP_AND_DISCARD), stop
        if distributed.world_size() > 1:
            decision = distributed.broadcast(decision)
        if decision == distributed.STOP_AND_DISCARD:
            raise request or StopRequested(keep=False)
        self.stopped |= decision == distributed.STOP_AND_SAVE
        if decision == distributed.STOP_EARLY:
            self.early = True
            text = f"Training ends at update {update:,}: the held-out loss has stopped falling"
            self.progress.event("note", text=text)
        return self.stopped or self.early

    def log(self, update: int, **numbers: float) -> None:
        self.progress.event("metrics", update=update, **numbers)
        self.progress.update(update, self.config.max_steps, **numbers, **self.measured)


def finetune(
    folder: Path,
    config: FinetuneConfig,
    loaded: LoadedModel,
    train: list[PackedExample],
    held_out: list[PackedExample],
    progress: Progress,
    sharded: bool = False,
    on_start: Callable[[], None] = lambda: None,
    on_measured: Callable[[Any, int, dict[str, float]], None] = lambda model, update, measured: None,
) -> tuple[Any, FinetuneResult]:
    """Train an adapter on `loaded`, whose model is modified; resumes from the last complete checkpoint in `folder`.

    Returns the peft model in eval mode, and what its training counted and measured. When the user stops the run and
    keeps its results, this writes a checkpoint and returns early. sharded: spread the base over the processes, see
    sharding.py. on_start: called once, before the first update. on_measured(model, update, measured): called after each
    measurement. Raises UserError, and StopRequested when the run was cancelled.
    """
    model = _with_lora(config, loaded, progress, sharded)
    if not sharded:
        check_reach(model, train[0].ids)
    sampler = BatchSampler(
        train, config.max_steps, config.samples_per_update, config.max_samples_per_trajectory, config.seed
    )

    def notify(text: str) -> None:
        progress.event("note", text=text)

    whole_head = not can_gather_before_head(model, collate(sampler[0][:2]).to(loaded.device))
    if whole_head:
        notify("This architecture changes its logits after the head: the logits of every position are computed")
    vocabulary = len(loaded.tokenizer)
    trainer = PackedTrainer(model, _arguments(folder, config, loaded), sampler, vocabulary, whole_head, notify)
    trainer.sharded = sharded
    if loaded.device.type == "cuda":
        fit_activations(trainer, lambda: not sharded and activations_fit(model, sampler, whole_head, loaded))
    training = _Training(model, config, held_out, vocabulary, whole_head, loaded.device, progress, on_measured)
    trainer.remove_callback(PrinterCallback)  # it would print every log line
    trainer.add_callback(MetricsCallback(trainer, training.log, training.after_update))
    checkpoints = Path(trainer.args.output_dir)
    if distributed.rank() == 0:
        last_checkpoint(checkpoints, notify)  # removes the incomplete ones
    distributed.barrier()
    checkpoint = last_checkpoint(checkpoints)
    if checkpoint is None:
        progress.status("Measuring before the first update")
        training.measure(0)
        progress.status("Training")
    else:
        update = int(checkpoint.name.rpartition("-")[2])
        training.losses += measured_until(folder, update) if config.patience else []
        progress.status(f"Training resumes at update {update}")
    on_start()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    updates = trainer.state.global_step
    if training.stopped and updates % config.evaluate_every:
        training.measure(updates)
    early, seen = updates if training.early else None, sampler.samples_seen(updates)
    return model.eval(), FinetuneResult(updates, seen, early=early, stopped=training.stopped, **training.measured)


def _with_lora(config: FinetuneConfig, loaded: LoadedModel, progress: Progress, sharded: bool) -> Any:
    """The model with a new adapter, on its device; sharded: its base spread over the processes."""
    lora = (config.rank, config.lora_alpha, config.dropout, named_targets(config), config.seed)
    model = add_lora(loaded.model, *lora)
    if sharded:
        from lightreasoner.training.sharding import frozen_bytes, shard

        shard(model, loaded.device, distributed.world_size())
        progress.event("sharded", **frozen_bytes(model))
    return model.to(loaded.device)


def has_stopped_falling(losses: list[float], patience: int) -> bool:
    """Whether none of the last `patience` held-out losses is below all before; never with a patience of 0."""
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def measured_until(folder: Path, update: int) -> list[float]:
    """The held-out losses in a run's log up to an update."""
    curve = Curves(folder).refresh().measured
    known = zip(curve.updates, curve.columns["held_out_loss"], strict=True)
    return [loss for at, loss in known if at <= update and loss is not None]


def fit_activations(trainer: PackedTrainer, fits: Callable[[], bool]) -> None:
    """Give up time for memory until what autograd saves fits: at first adapters keep their inputs in 16 bits, which
    costs up to 30 % (docs/gpu.md), then activations are computed again. fits: whether it does now."""
    if fits():
        return
    keep_inputs_narrow(trainer.model)
    if not fits():
        trainer.checkpoint_activations()


def activations_fit(
    model: Any, sampler: BatchSampler, whole_head: bool, loaded: LoadedModel, free: int | None = None
) -> bool:
    """Whether what autograd saves for the largest update fits into the memory that is free now.

    Measured on the beginning of one trajectory: all that is saved grows with the tokens, and logits with the samples.
    free: bytes; by default the device's.
    """
    ids = sampler[0][0].ids[:MEASURED_TOKENS]
    last = Target(len(ids) - 1, (0,), (1.0,))
    batch = collate([PackedExample(ids, 1, (last,))]).to(loaded.device)
    model.train()
    with measure_saved_tensors(storages(model)) as saved:
        logits = step_logits(model, batch, whole_head)
    logit_bytes = LOGIT_COPIES * 4 * logits.shape[-1]
    del logits
    most = max(
        len(update) * max(example.length() for example in update) * saved.peak / batch.input_ids.numel()
        + count_samples(update) * logit_bytes
        for update in (sampler[n] for n in range(min(MEASURED_UPDATES, len(sampler))))
    )
    return most <= ACTIVATIONS_SHARE * (free_bytes(loaded.device) if free is None else free)


def _arguments(folder: Path, config: FinetuneConfig, loaded: LoadedModel) -> TrainingArguments:
    constant = "constant_with_warmup" if config.warmup else "constant"
    args = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=config.max_steps,
        per_device_train_batch_size=1,  # one item is one update
        learning_rate=config.learning_rate,
        lr_scheduler_type=constant if config.schedule == "constant" else config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        seed=config.seed,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=max(1, config.max_steps // 200),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=loaded.device.type == "cpu",
    )
    use_one_device(args, loaded.device)
    return args


@torch.no_grad()
def measure_held_out(
    model: Any, held_out: list[PackedExample], vocabulary: int, whole_head: bool, device: torch.device
) -> dict[str, float]:
    """`held_out_loss`: mean KL(target ‖ π_θ) at the selected steps of held-out trajectories, nats. `drift`: mean
    KL(π_E ‖ π_θ) at their other steps, where π_E is the expert before fine-tuning, nats."""
    was_training = model.training
    model.eval()
    losses, drifts = [], []
    for example in held_out:
        if sum(map(len, losses)) < HELD_OUT_STEPS:
            batch = collate([measured_steps(example, device)]).to(device)
            losses.append(step_losses(step_logits(model, batch, whole_head), batch, vocabulary))
        if (other := _unselected(example)) and sum(map(len, drifts)) < HELD_OUT_STEPS:
            batch = collate([measured_steps(other, device)]).to(device)
            tuned = torch.log_softmax(step_logits(model, batch, whole_head)[:, :vocabulary].float(), -1)
            with model.disable_adapter():
                expert = torch.log_softmax(step_logits(model, batch, whole_head)[:, :vocabulary].float(), -1)
            drifts.append((expert.exp() * (expert - tuned)).sum(-1))
    model.train(was_training)
    numbers = {"held_out_loss": losses, "drift": drifts}
    return {name: float(torch.cat(found).mean()) for name, found in numbers.items() if found}


def measured_steps(example: PackedExample, device: torch.device) -> PackedExample:
    """The example, with at most HELD_OUT_STEPS of its steps on a GPU: the logits of thousands fill its memory there."""
    count = len(example.targets)
    if device.type == "cpu" or count <= HELD_OUT_STEPS:
        return example
    picked = (round(n * (count - 1) / (HELD_OUT_STEPS - 1)) for n in range(HELD_OUT_STEPS))
    return replace(example, targets=tuple(example.targets[n] for n in picked))


def _unselected(example: PackedExample) -> PackedExample | None:
    """The steps of a trajectory that were not selected, up to the last one that was."""
    chosen = {target.step for target in example.targets}
    steps = [step for step in range(len(example.ids) - example.prompt_length + 1) if step not in chosen]
    if not steps:
        return None
    return PackedExample(example.ids, example.prompt_length, tuple(Target(step, (0,), (1.0,)) for step in steps))
