"""Stage 2: fine-tune the expert on a dataset's samples with LoRA, and the baselines on the same code path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from lightreasoner.compat.transformers import use_one_device
from lightreasoner.models.adapters import add_lora
from lightreasoner.models.loading import LoadedModel
from lightreasoner.progress import StopRequested
from lightreasoner.training import distributed as parallel
from lightreasoner.training.batches import Updates
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.loss import Lesson, Target, collate, gathers, step_logits, step_losses
from lightreasoner.training.trainer import PackedTrainer, Reporter, last_checkpoint

HELD_OUT_STEPS = 256  # at most, for held-out loss and drift each


@dataclass(frozen=True)
class Tuned:
    """What came out: the peft model in eval mode, how many updates it had, and whether somebody stopped it there."""

    model: Any
    updates: int
    samples: int  # learned from, repeats counted
    stopped: bool
    measured: dict[str, float]  # the last held_out_loss and drift


def finetune(
    folder: Path,
    config: FinetuneConfig,
    loaded: LoadedModel,
    train: list[Lesson],
    held: list[Lesson],
    progress: Any,
    sharded: bool = False,
) -> Tuned:
    """Train an adapter for `loaded`, whose model is changed; resumes from the folder's last whole checkpoint.

    progress: Asked to stop and keep, it
    writes a checkpoint and returns early. sharded: spread the base over the processes, see sharding.py. Raises
    UserError, and StopRequested when asked to stop and throw away.
    """
    model = add_lora(loaded.model, config.rank, config.lora_alpha, config.dropout, config.target_modules, config.seed)
    if sharded:
        from lightreasoner.training.sharding import frozen_bytes, shard

        shard(model, loaded.device, parallel.world())
        progress.event("sharded", **frozen_bytes(model))
    model = model.to(loaded.device)
    updates = Updates(train, config.max_steps, config.samples_per_update, config.group, config.seed)
    vocabulary = len(loaded.tokenizer)
    whole_head = not gathers(model, collate(updates[0][:2]).to(loaded.device))
    if whole_head:
        progress.event("note", text="This architecture changes its logits after the head: every position is computed")
    args = _arguments(folder, config, loaded)
    trainer = PackedTrainer(
        model, args, updates, vocabulary, whole_head, lambda text: progress.event("note", text=text)
    )
    trainer.sharded = sharded
    measured: dict[str, float] = {}
    stops: list[StopRequested] = []

    def measure(update: int) -> None:
        if held:
            measured.update(measure_held_out(model, held, vocabulary, whole_head, loaded.device))
            progress.event("held_out", update=update, **measured)

    def check(update: int) -> bool:
        if update % config.evaluate_every == 0 or update == config.max_steps:
            measure(update)
        wish, stopping = parallel.GO_ON, None
        try:
            progress.checkpoint()
        except StopRequested as asked:
            wish, stopping = (parallel.KEEP if asked.keep else parallel.THROW_AWAY), asked
        if parallel.world() > 1:
            wish = parallel.agreed(wish, loaded.device)
        if wish == parallel.THROW_AWAY:
            raise stopping or StopRequested(keep=False)
        if wish == parallel.KEEP:
            stops.append(stopping or StopRequested(keep=True))
        return bool(stops)

    def tell(update: int, **numbers: float) -> None:
        progress.event("metrics", update=update, **numbers)
        progress.update(update, config.max_steps, **numbers, **measured)

    reporter = Reporter(tell, check)
    reporter.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # it would print every log line
    trainer.add_callback(reporter)
    if parallel.rank() == 0:  # it also removes what is half written
        last_checkpoint(Path(trainer.args.output_dir), lambda text: progress.event("note", text=text))
    parallel.meet()
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    if checkpoint is None:
        progress.status("Measuring before the first update")
        measure(0)
    progress.status(
        "Training" if checkpoint is None else f"Training resumes at update {checkpoint.name.rpartition('-')[2]}"
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    done = trainer.state.global_step
    if stops and done % config.evaluate_every:
        measure(done)
    return Tuned(model.eval(), done, updates.samples(done), bool(stops), measured)


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
    use_one_device(args)
    return args


@torch.no_grad()
def measure_held_out(
    model: Any, held: list[Lesson], vocabulary: int, whole_head: bool, device: torch.device
) -> dict[str, float]:
    """`held_out_loss`: mean KL(target ‖ π_θ) at selected steps kept aside, nats. `drift`: mean KL(π_E ‖ π_θ) at the
    steps of the same trajectories that were not selected, E being the untouched expert, nats."""
    was_training = model.training
    model.eval()
    losses, drifts = [], []
    for lesson in held:
        if sum(map(len, losses)) < HELD_OUT_STEPS:
            batch = collate([lesson]).to(device)
            losses.append(step_losses(step_logits(model, batch, whole_head), batch, vocabulary))
        if (other := _unselected(lesson)) and sum(map(len, drifts)) < HELD_OUT_STEPS:
            batch = collate([other]).to(device)
            ours = torch.log_softmax(step_logits(model, batch, whole_head)[:, :vocabulary].float(), -1)
            with model.disable_adapter():
                expert = torch.log_softmax(step_logits(model, batch, whole_head)[:, :vocabulary].float(), -1)
            drifts.append((expert.exp() * (expert - ours)).sum(-1))
    model.train(was_training)
    numbers = {"held_out_loss": losses, "drift": drifts}
    return {name: float(torch.cat(found).mean()) for name, found in numbers.items() if found}


def _unselected(lesson: Lesson) -> Lesson | None:
    """The steps of a trajectory, as far as it is read, at which nothing is to be learned."""
    chosen = {target.step for target in lesson.targets}
    steps = [step for step in range(len(lesson.ids) - lesson.prompt_length + 1) if step not in chosen]
    if not steps:
        return None
    return Lesson(lesson.ids, lesson.prompt_length, tuple(Target(step, (0,), (1.0,)) for step in steps))
