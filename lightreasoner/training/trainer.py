"""The training loop: transformers' Trainer around our data and our loss.

One item of the data is one update's lessons. The trainer's own machinery does the optimiser, the schedule, the
clipping, the logging, and checkpoints from which the very same run goes on; what is ours is the packed loss, splitting
an update when memory is short, and checkpoints that count only once they are whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainingArguments

from lightreasoner.compat.transformers import TrainerHooks
from lightreasoner.errors import UserError
from lightreasoner.models.devices import is_out_of_memory, release_memory
from lightreasoner.training.batches import Updates, count
from lightreasoner.training.distributed import meet, rank, shares, sum_gradients, world
from lightreasoner.training.loss import Lesson, collate, step_logits, step_losses

COMPLETE = "complete"  # in a checkpoint's folder, written last


class PackedTrainer(TrainerHooks, Trainer):
    """A Trainer whose items are lists of lessons. `vocabulary`: real tokens of the head; see objective.step_losses."""

    def __init__(self, model: Any, args: TrainingArguments, updates: Updates, vocabulary: int, whole_head: bool, say):
        super().__init__(model=model, args=args, train_dataset=updates, data_collator=_only)
        self.vocabulary, self.whole_head = vocabulary, whole_head
        self.splits, self._say = 1, say
        self.sharded = False  # the base is spread over the processes: all must make the same passes
        self.read_tokens, self.learned = 0, 0  # in this process

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        if world() == 1:
            return super().get_train_dataloader()
        # Accelerate would hand each process other updates; here all have the same, and deal its samples themselves.
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(self, model, inputs: dict, num_items_in_batch=None) -> torch.Tensor:
        """Backward over one update; its mean loss. Raises UserError for a loss that is no number."""
        model.train()
        lessons = inputs["lessons"]
        while True:
            try:
                return self._update(model, lessons)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.sharded:  # another try of one process alone would wait for the others' layers for ever
                    raise UserError(
                        "Memory is short for an update of a sharded model; take more processes, or sample the dataset "
                        "with fewer new tokens."
                    ) from None
                model.zero_grad()
                release_memory()
                if self.splits >= count(lessons):
                    raise UserError(
                        "Memory is short even for one sample at a time; lower the rank, take a smaller model, or "
                        "sample the dataset with fewer new tokens."
                    ) from None
                self.splits *= 2
                self._say(f"Memory is short: each update is now read in {self.splits} parts")

    def _update(self, model, lessons: Sequence[Lesson]) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        samples, alone = count(lessons), world() == 1
        mine = lessons if alone else shares(lessons, world())[rank()]
        parts = [(part, 1.0) for part in (split(mine, self.splits) if mine else ())]
        if self.sharded and not parts:  # the others need this process's part of every layer: it reads along
            parts = [([min(lessons, key=Lesson.length)], 0.0)]
        for part, weight in parts:
            batch = collate(part).to(self.args.device)
            # self.model: what DistributedDataParallel puts around it only sums gradients of its own forward
            logits = step_logits(model if alone else self.model, batch, self.whole_head)
            loss = step_losses(logits, batch, self.vocabulary).sum() * weight / samples
            self.accelerator.backward(loss)
            total += loss.detach()
            self.read_tokens += batch.input_ids.numel()
        if not alone:
            sum_gradients(self.model.parameters())
            torch.distributed.all_reduce(total)
        self.learned += samples
        if not torch.isfinite(total):
            raise UserError(
                f"The loss is no number any more at update {self.state.global_step + 1}: the weights ran away. Lower "
                "the learning rate, or train in float32; the last checkpoint is kept."
            )
        return total

    def floating_point_ops(self, inputs) -> int:
        return 0  # the Trainer's formula asks for the model's own inputs

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """As usual, then the marker that makes it count. Raises UserError when the disk refuses."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            if rank() == 0:
                shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt
            meet()
            write()
            meet()
            if rank() > 0:
                return
            for file in folder.iterdir():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
            (folder / COMPLETE).touch()
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk has many names, by who writes
            shutil.rmtree(folder, ignore_errors=True)
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{folder} could not be written: {reason}. Free some space and resume.") from error


def _only(items: list) -> dict:
    return {"lessons": items[0]}


def split(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """An update's samples in `parts` parts of nearly equal size; a lesson that is cut is read once a part."""
    if parts == 1:
        return [list(lessons)]
    each = math.ceil(count(lessons) / parts)
    out: list[list[Lesson]] = [[]]
    room = each
    for lesson in lessons:
        targets = list(lesson.targets)
        while targets:
            if not room:
                out.append([])
                room = each
            taken, targets = targets[:room], targets[room:]
            out[-1].append(Lesson(lesson.ids, lesson.prompt_length, tuple(taken)))
            room -= len(taken)
    return out


def last_checkpoint(folder: Path, say: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest whole checkpoint. Those that a killed process left half written are removed, and so are damaged ones,
    of which `say` is told."""
    places = sorted(folder.glob("checkpoint-*"), key=lambda place: -int(place.name.rpartition("-")[2]))
    for place in places if folder.is_dir() else ():
        if (place / COMPLETE).exists():
            if not (damaged := damage(place)):
                return place
            say(f"{place.name} is damaged ({damaged}) and left out")
        shutil.rmtree(place, ignore_errors=True)
    return None


def damage(checkpoint: Path) -> str | None:
    """Which file of a checkpoint cannot be read; None where all can."""
    for path in checkpoint.iterdir():
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    file.keys()
            elif path.suffix in (".pt", ".pth", ".bin"):
                with zipfile.ZipFile(path) as file:
                    if file.testzip():
                        return path.name
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile):
            return path.name
    return None


class Reporter(TrainerCallback):
    """Tells `tell(update, **numbers)` what the Trainer logs, with speeds, and runs `check` after each update.

    check(update) may return True: the run then saves and ends in order.
    """

    def __init__(self, tell: Callable[..., None], check: Callable[[int], bool]):
        self._tell, self._check = tell, check
        self.trainer: PackedTrainer | None = None
        self._since, self._mark = time.monotonic(), (0, 0)

    def pause(self, seconds: float) -> None:
        """Time that was spent on something else than training does not count as speed."""
        self._since += seconds

    def on_step_end(self, args, state, control, **kw):
        began = time.monotonic()
        if self._check(state.global_step):
            control.should_save = control.should_training_stop = True
        self.pause(time.monotonic() - began)

    def on_log(self, args, state, control, logs=None, **kw):
        if not logs or "loss" not in logs:
            return
        seconds = max(time.monotonic() - self._since, 1e-9)
        learned, read = self.trainer.learned - self._mark[0], self.trainer.read_tokens - self._mark[1]
        self._since, self._mark = time.monotonic(), (self.trainer.learned, self.trainer.read_tokens)
        self._tell(
            state.global_step,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=float(logs["grad_norm"]) if logs.get("grad_norm") is not None else None,
            samples_per_second=learned / seconds,
            tokens_per_second=read / seconds,
            epoch=self.trainer.train_dataset.passes(state.global_step),
            samples_seen=self.trainer.train_dataset.samples(state.global_step),
        )
