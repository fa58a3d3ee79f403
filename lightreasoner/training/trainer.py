"""The training loop: transformers' Trainer with packed examples, our loss, and crash-safe checkpoints.

One item of the data holds one update's examples. The Trainer runs the optimiser, schedule, clipping, logging and
resuming. This file adds the packed loss, splitting an update when memory is short, and the completion marker of
checkpoints.
"""

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

from lightreasoner import threads
from lightreasoner.compat.transformers import TrainerHooks
from lightreasoner.decoding.batch_decoder import length_buckets
from lightreasoner.errors import UserError, disk_trouble, first_line
from lightreasoner.models.devices import is_out_of_memory, release_memory
from lightreasoner.storage.checksums import note_checksum, verify
from lightreasoner.storage.working_run import check_held
from lightreasoner.training.batches import BatchSampler, count_samples
from lightreasoner.training.distributed import all_reduce_gradients, barrier, partition_by_length, rank, world_size
from lightreasoner.training.loss import PackedExample, collate, step_logits, step_losses

COMPLETE = "complete"  # file in a checkpoint folder, written last


class PackedTrainer(TrainerHooks, Trainer):
    """A Trainer whose items are the packed examples of one update. vocabulary: see `step_losses`."""

    def __init__(
        self, model: Any, args: TrainingArguments, sampler: BatchSampler, vocabulary: int, whole_head: bool, notify
    ):
        super().__init__(model=model, args=args, train_dataset=sampler, data_collator=_first)
        self.vocabulary, self.whole_head = vocabulary, whole_head
        self.splits, self._notify = 1, notify
        self.checkpointing = False  # activations are computed again in the backward pass
        self.sharded = False  # the base is spread over the processes: all must make the same forward passes
        self.tokens_processed, self.samples_processed = 0, 0  # in this process

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        if world_size() == 1:
            return super().get_train_dataloader()
        # Accelerate would give each process other updates; here all have the same ones and partition each.
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_first)

    def training_step(self, model, inputs: dict, num_items_in_batch=None) -> torch.Tensor:
        """Forward and backward pass of one update; its mean loss, nats. Raises UserError where it is not finite."""
        threads.follow()
        model.train()
        examples = inputs["examples"]
        while True:
            try:
                return self._update(model, examples)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.sharded:  # a retry in one process would wait forever for the other processes' layers
                    raise UserError(
                        "There is not enough memory for an update of the sharded model; use more processes, or sample "
                        "the dataset with fewer new tokens."
                    ) from None
                model.zero_grad()
                release_memory()
                if self.args.device.type == "cuda" and not self.checkpointing and self.checkpoint_activations():
                    continue
                if self.splits >= count_samples(examples):
                    raise UserError(
                        "There is not enough memory even for one sample at a time; lower the rank, choose a smaller "
                        "model, or sample the dataset with fewer new tokens."
                    ) from None
                self.splits *= 2
                self._notify(f"Memory is short: each update is now computed in {self.splits} parts")

    def checkpoint_activations(self) -> bool:
        """Keep the input of each layer only, and compute it again in the backward pass, about a third more work.

        False for an architecture that cannot.
        """
        base = self.model.get_base_model()
        if not getattr(base, "supports_gradient_checkpointing", False):
            return False
        base.gradient_checkpointing_enable({"use_reentrant": False})
        self.checkpointing = True
        self._notify("Memory is short: activations are computed again in the backward pass")
        return True

    def _update(self, model, examples: Sequence[PackedExample]) -> torch.Tensor:
        total = torch.zeros((), device=self.args.device)
        samples, alone = count_samples(examples), world_size() == 1
        mine = examples if alone else partition_by_length(examples, world_size())[rank()]
        divided = split_update(mine, self.splits) if mine else ()
        if self.args.device.type == "cpu" and not self.sharded:  # on a GPU passes take launches: see docs/gpu.md
            divided = [rows for part in divided for rows in of_like_length(part)]
        parts = [(part, 1.0) for part in divided]
        if self.sharded and not parts:  # the others need this process's part of every layer
            parts = [([min(examples, key=PackedExample.length)], 0.0)]
        for part, weight in parts:
            batch = collate(part).to(self.args.device)
            # self.model: DistributedDataParallel around it would sum the gradients of its own forward pass only
            logits = step_logits(model if alone else self.model, batch, self.whole_head)
            loss = step_losses(logits, batch, self.vocabulary).sum() * weight / samples
            self.accelerator.backward(loss)
            total += loss.detach()
            self.tokens_processed += batch.input_ids.numel()
        if not alone:
            all_reduce_gradients(self.model.parameters())
            torch.distributed.all_reduce(total)
        self.samples_processed += samples
        if not torch.isfinite(total):
            raise UserError(
                f"The loss is not finite at update {self.state.global_step + 1}: training diverged. Lower the learning "
                "rate, or train in float32; the last checkpoint is saved."
            )
        return total

    def floating_point_ops(self, inputs) -> int:
        return 0  # the Trainer's formula needs the model's own inputs

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Call `write`, then add the completion marker. Raises UserError when the checkpoint cannot be written."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        check_held(folder)
        try:
            if rank() == 0:
                shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt
            barrier()
            write()
            barrier()
            if rank() > 0:
                return
            for file in sorted(folder.iterdir()):
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
                note_checksum(file)
            (folder / COMPLETE).touch()
            check_held(folder)  # the Trainer makes its folders again
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk has another error in each writer
            shutil.rmtree(folder, ignore_errors=True)
            check_held(folder)
            advice = "Free some space and resume."
            trouble = disk_trouble(error, advice, writing=True) or f"{first_line(error)}. {advice}"
            raise UserError(f"{folder} could not be written: {trouble}") from error


def _first(items: list) -> dict:
    return {"examples": items[0]}


def of_like_length(examples: Sequence[PackedExample]) -> list[list[PackedExample]]:
    """The same examples, in parts of like length, which a pass reads with little padding (see `length_buckets`)."""
    ordered = sorted(examples, key=PackedExample.length)
    return [ordered[rows] for rows in length_buckets([example.length() for example in ordered])]


def split_update(examples: Sequence[PackedExample], parts: int) -> list[list[PackedExample]]:
    """An update's samples in `parts` parts of nearly equal size. A divided example needs a forward pass per part."""
    if parts == 1:
        return [list(examples)]
    each = math.ceil(count_samples(examples) / parts)
    out: list[list[PackedExample]] = [[]]
    room = each
    for example in examples:
        targets = list(example.targets)
        while targets:
            if not room:
                out.append([])
                room = each
            taken, targets = targets[:room], targets[room:]
            out[-1].append(PackedExample(example.ids, example.prompt_length, tuple(taken)))
            room -= len(taken)
    return out


def last_checkpoint(folder: Path, notify: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest complete checkpoint. Removes incomplete and damaged ones; notify: gets a sentence on each damaged."""
    places = sorted(folder.glob("checkpoint-*"), key=lambda place: -int(place.name.rpartition("-")[2]))
    for place in places if folder.is_dir() else ():
        if (place / COMPLETE).exists():
            if not (damaged := damaged_file(place)):
                return place
            notify(f"{place.name} is damaged ({damaged}) and was removed")
        shutil.rmtree(place, ignore_errors=True)
    return None


def damaged_file(checkpoint: Path) -> str | None:
    """The name of a file that cannot be read, or is not as it was written; None where all are sound."""
    for path in checkpoint.iterdir():
        try:
            verify(path)
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    file.keys()
            elif path.suffix in (".pt", ".pth", ".bin"):
                with zipfile.ZipFile(path) as file:
                    if file.testzip():
                        return path.name
        except (OSError, ValueError, RecursionError, SafetensorError, zipfile.BadZipFile):
            return path.name
    return None


class MetricsCallback(TrainerCallback):
    """Passes the Trainer's metrics and measured speeds to `log(update, **numbers)`, and calls `after_update`.

    after_update(update) may return True: the run then saves a checkpoint and ends.
    """

    def __init__(self, trainer: PackedTrainer, log: Callable[..., None], after_update: Callable[[int], bool]):
        self._trainer, self._log, self._after_update = trainer, log, after_update
        self._since, self._samples, self._tokens = time.monotonic(), 0, 0

    def on_step_end(self, args, state, control, **kw):
        began = time.monotonic()
        if self._after_update(state.global_step):
            control.should_save = control.should_training_stop = True
        self._since += time.monotonic() - began  # evaluation does not count as training time

    def on_log(self, args, state, control, logs=None, **kw):
        if not logs or "loss" not in logs:
            return
        trainer, seconds = self._trainer, max(time.monotonic() - self._since, 1e-9)
        samples, tokens = trainer.samples_processed - self._samples, trainer.tokens_processed - self._tokens
        self._since, self._samples, self._tokens = time.monotonic(), trainer.samples_processed, trainer.tokens_processed
        self._log(
            state.global_step,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=float(logs["grad_norm"]) if logs.get("grad_norm") is not None else None,
            samples_per_second=samples / seconds,
            tokens_per_second=tokens / seconds,
            epoch=trainer.train_dataset.epochs(state.global_step),
            samples_seen=trainer.train_dataset.samples_seen(state.global_step),
        )
