"""Stage 2: fine-tune the expert on a dataset's samples with LoRA, and the baselines on the same code path."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from lightreasoner.adapters import add_lora
from lightreasoner.errors import UserError
from lightreasoner.jobs.work import Stopping
from lightreasoner.lessons import Updates
from lightreasoner.loading import LoadedModel
from lightreasoner.objective import Lesson, Target, collate, gathers, step_logits, step_losses
from lightreasoner.tracing import number
from lightreasoner.training import PackedTrainer, Reporter, last_checkpoint

METHODS = {
    "lightreasoner": "Contrastive targets at the steps with KL above β: the paper's method.",
    "no-contrast": "The same steps, but the target is the expert's own distribution on the plausible set.",
    "all-steps": "Contrastive targets at every step, selected or not.",
    "random-steps": "Contrastive targets at as many steps, drawn at random: the control.",
    "sft": "Rejection-sampled fine-tuning: every token of the expert's own right answers.",
}
HELD_OUT_STEPS = 256  # at most, for held-out loss and drift each


def _setting(default: Any, says: str, low: float | None = None, high: float | None = None, choices: tuple = ()):
    return field(default=default, metadata={"says": says, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train. The command line's options and the page's form are made from these fields.

    Defaults are the paper's (arXiv 2510.07962), where it says one. Raises UserError for values out of bounds.
    """

    method: str = _setting("lightreasoner", "what to learn, and where", choices=tuple(METHODS))
    rank: int = _setting(8, "LoRA rank", 1, 1024)
    lora_alpha: float = _setting(16.0, "LoRA alpha: the adapter counts alpha / rank times", 0.01, 4096)
    dropout: float = _setting(0.05, "LoRA dropout", 0, 0.9)
    target_modules: tuple[str, ...] = _setting(("q_proj", "v_proj"), "linear layers to adapt")
    learning_rate: float = _setting(5e-5, "peak learning rate", 0, 1)
    schedule: str = _setting("linear", "how the learning rate falls", choices=("linear", "cosine", "constant"))
    warmup: int = _setting(0, "updates until the learning rate is reached", 0, 100_000)
    weight_decay: float = _setting(0.0, "AdamW weight decay", 0, 1)
    samples_per_update: int = _setting(16, "samples an update", 1, 4096)
    max_steps: int = _setting(1000, "updates", 1, 1_000_000)
    group: int = _setting(16, "samples taken together from a trajectory in an update", 1, 4096)
    held_out: float = _setting(0.05, "share of the trajectories kept aside to measure on", 0, 0.5)
    evaluate_every: int = _setting(50, "updates between two measurements on what was kept aside", 1, 1_000_000)
    save_every: int = _setting(100, "updates between two checkpoints", 1, 1_000_000)
    seed: int = _setting(0, "seed of order, adapter and dropout", 0, 2**31 - 1)

    def __post_init__(self):
        for name, spec in self.__dataclass_fields__.items():
            value, bounds = getattr(self, name), spec.metadata
            if bounds["choices"] and value not in bounds["choices"]:
                raise UserError(f"{name} is {str(value)[:40]!r}; choose one of {', '.join(bounds['choices'])}.")
            if bounds["low"] is not None:
                whole = spec.type == "int"
                object.__setattr__(self, name, number(name, value, bounds["low"], bounds["high"], whole=whole))
        names = self.target_modules
        if not isinstance(names, tuple) or not all(isinstance(n, str) and 0 < len(n) <= 100 for n in names):
            raise UserError("target_modules must be names of linear layers, such as q_proj,v_proj.")


@dataclass(frozen=True)
class Tuned:
    """What came out: the peft model in eval mode, how many updates it had, and whether somebody stopped it there."""

    model: Any
    updates: int
    stopped: bool
    measured: dict[str, float]  # the last held_out_loss and drift
    train_loss: float  # nats, mean over the updates of this process


def finetune(
    folder: Path, config: FinetuneConfig, loaded: LoadedModel, train: list[Lesson], held: list[Lesson], work: Any
) -> Tuned:
    """Train an adapter for `loaded`, whose model is changed; resumes from the folder's last whole checkpoint.

    work: jobs.work.Work, or anything with its status, progress, event and safe_point. Asked to stop and keep, it
    writes a checkpoint and returns early. Raises UserError, and Stopping when asked to stop and throw away.
    """
    model = add_lora(
        loaded.model, config.rank, config.lora_alpha, config.dropout, config.target_modules, config.seed
    ).to(loaded.device)
    updates = Updates(train, config.max_steps, config.samples_per_update, config.group, config.seed)
    vocabulary = len(loaded.tokenizer)
    whole_head = not gathers(model, collate(updates[0][:2]).to(loaded.device))
    if whole_head:
        work.event("note", text="This architecture changes its logits after the head: every position is computed")
    args = _arguments(folder, config, loaded)
    trainer = PackedTrainer(model, args, updates, vocabulary, whole_head, lambda text: work.event("note", text=text))
    measured: dict[str, float] = {}
    stops: list[Stopping] = []

    def measure(update: int) -> None:
        if held:
            measured.update(measure_held_out(model, held, vocabulary, whole_head, loaded.device))
            work.event("held_out", update=update, **measured)

    def check(update: int) -> bool:
        if update % config.evaluate_every == 0 or update == config.max_steps:
            measure(update)
        try:
            work.safe_point()
        except Stopping as stopping:
            if not stopping.keep:
                raise
            stops.append(stopping)
        return bool(stops)

    def tell(update: int, **numbers: float) -> None:
        work.event("metrics", update=update, **numbers)
        work.progress(update, config.max_steps, **numbers, **measured)

    reporter = Reporter(tell, check)
    reporter.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # it would print every log line
    trainer.add_callback(reporter)
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    if checkpoint is None:
        work.status("Measuring before the first update")
        measure(0)
    work.status("Training" if checkpoint is None else f"Training on from update {checkpoint.name.rpartition('-')[2]}")
    output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    done = trainer.state.global_step
    if stops and done % config.evaluate_every:
        measure(done)
    return Tuned(model.eval(), done, bool(stops), measured, output.training_loss)


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
    args._n_gpu = min(1, args.n_gpu)  # one device a run: DataParallel would copy the model to every GPU in sight
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


def as_config(config: FinetuneConfig) -> dict:
    """For run.json."""
    return asdict(config) | {"target_modules": list(config.target_modules)}
