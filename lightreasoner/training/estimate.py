"""What a fine-tuning run will take, measured before it starts: some of its own updates, with its own code, on its data.

Nothing here is a formula for time. Memory on a GPU is what the allocator saw at its fullest; elsewhere it is counted:
the weights, the adapter with its gradients and Adam's two moments, and what the backward pass kept of the largest
update of the run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes, format_duration
from lightreasoner.models.devices import is_out_of_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.progress import StopRequested
from lightreasoner.training.batches import Updates, count, hold_out
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.finetune import finetune
from lightreasoner.training.loss import Lesson, collate, step_logits, step_losses

PROBED = 12  # updates, at most
PATIENCE = 4.0  # seconds of training after which no further update is begun
LOOKED_THROUGH = 500  # updates among which the largest is looked for


@dataclass(frozen=True)
class Forecast:
    """What was measured, and what it makes for the whole run. Seconds, bytes."""

    samples: int  # learned from, once each
    trajectories: int  # that they come from
    held_out: int  # trajectories kept aside
    seen: int  # samples seen, repeats counted
    passes: float  # over the data
    updates: int
    measured: int  # updates that were timed
    update_seconds: float
    seconds: float  # of the whole run, from loading to the last update
    memory_bytes: float
    counted: bool  # rather than seen by the device's allocator
    disk_bytes: float  # two checkpoints and the adapter
    device: str
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """For people, the most important first."""
        memory = "weights, adapter, optimiser and what the backward pass keeps; Python's own comes on top"
        where = f" ({memory})" if self.counted else f" on {self.device}"
        return [
            f"About {format_duration(self.seconds)}, {format_bytes(self.memory_bytes)} of memory{where} and "
            f"{format_bytes(self.disk_bytes)} on disk.",
            f"{self.samples:,} samples from {self.trajectories:,} trajectories, {self.held_out:,} more kept aside; "
            f"{self.updates:,} updates see {self.seen:,}: {self.passes:.2g} passes.",
            f"Measured just now on {self.device}, with {self.measured} "
            f"update{'' if self.measured == 1 else 's'} of this very run: {self.update_seconds:.2g} seconds each.",
            *(f"{note}." for note in self.notes),
        ]


def forecast(
    lessons: list[Lesson],
    config: FinetuneConfig,
    loaded: LoadedModel,
    loading_seconds: float,
    checkpoint: Callable[[], None] = lambda: None,
) -> Forecast:
    """Measure a run of `config` on these lessons with `loaded`, whose model is used up.

    loading_seconds: what came before the training, since it belongs to the run's time. safe_point may raise to end
    the measuring. Raises UserError for what the run itself would refuse.
    """
    learned, held = hold_out(lessons, config.held_out, config.seed)
    updates = Updates(learned, config.max_steps, config.samples_per_update, config.group, config.seed)
    before = _allocated(loaded.device, peak=False) - loaded.memory_bytes
    watch = _Watch(checkpoint)
    short = replace(config, max_steps=min(PROBED, config.max_steps), save_every=1_000_000, evaluate_every=1_000_000)
    with tempfile.TemporaryDirectory(prefix="lightreasoner-") as place:
        folder = Path(place)
        tuned = finetune(folder, short, loaded, learned, held, watch)
        disk = 2 * sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    trained = [p for p in tuned.model.parameters() if p.requires_grad]
    kept = _largest_update(tuned.model, updates, loaded)
    if loaded.device.type == "cuda":
        memory = _allocated(loaded.device, peak=True) - before
    else:
        adapter = sum(p.numel() * p.element_size() for p in trained)
        memory = loaded.memory_bytes + 4 * adapter + kept  # itself, gradient, two moments
    seconds = watch.update_seconds()
    measurings = 1 + config.max_steps // config.evaluate_every
    return Forecast(
        samples=count(learned),
        trajectories=len(learned),
        held_out=len(held),
        seen=updates.samples(config.max_steps),
        passes=updates.passes(config.max_steps),
        updates=config.max_steps,
        measured=watch.timed,
        update_seconds=seconds,
        seconds=loading_seconds + seconds * config.max_steps + watch.measuring * measurings,
        memory_bytes=memory,
        counted=loaded.device.type != "cuda",
        disk_bytes=disk + sum(p.numel() * p.element_size() for p in trained),
        device=device_name(loaded.device),
        notes=tuple(watch.notes),
    )


def device_name(device: torch.device) -> str:
    """The device, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else {"cpu": "the CPU"}.get(device.type, "MPS")


@dataclass
class _Watch:
    """A Progress that notes when each update ended, and ends the training when enough was seen."""

    check: Callable[[], None]
    ends: list[float] = field(default_factory=list)  # the first is when training began
    notes: list[str] = field(default_factory=list)
    measuring: float = 0.0  # seconds of one measurement on what is kept aside
    _since: float = field(default_factory=time.perf_counter)

    def status(self, text: str) -> None:
        self._since = time.perf_counter()
        if text == "Training":
            self.ends.append(self._since)

    def event(self, kind: str, **data: Any) -> None:
        if kind == "held_out" and not self.ends:
            self.measuring = time.perf_counter() - self._since
        elif kind == "note":
            self.notes.append(str(data["text"]))

    def update(self, done: float, total: float, **numbers: Any) -> None:
        pass

    def checkpoint(self) -> None:
        self.ends.append(time.perf_counter())
        self.check()
        if len(self.ends) > 2 and self.ends[-1] - self.ends[0] > PATIENCE:
            raise StopRequested(keep=True)

    @property
    def timed(self) -> int:
        """Updates that count: all but the first, which pays for what is set up once; unless it is the only one."""
        return max(1, len(self.ends) - 2)

    def update_seconds(self) -> float:
        return (self.ends[-1] - self.ends[-1 - self.timed]) / self.timed


def _largest_update(model: Any, updates: Updates, loaded: LoadedModel) -> float:
    """Forward and backward over the update with the most tokens; bytes that were kept for the backward pass."""

    def tokens(n: int) -> int:
        lessons = updates[n]
        return len(lessons) * max(lesson.length() for lesson in lessons)

    lessons = updates[max(range(min(LOOKED_THROUGH, len(updates))), key=tokens)]
    model.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    try:
        with kept_for_backward(own) as kept:
            batch = collate(lessons).to(loaded.device)
            step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).mean().backward()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return float(kept.most)  # the run splits such an update, as it says in a note
    except AttributeError:  # no head where transformers usually has it: finetune took the long way
        raise UserError("The memory of this architecture cannot be measured; start the run to see.") from None
    finally:
        model.zero_grad()
    return float(kept.most)


@dataclass
class Kept:
    """Bytes that autograd holds on to: now, and at most so far."""

    now: int = 0
    most: int = 0
    counts: dict[int, int] = field(default_factory=dict)  # storage → how often it is held

    def take(self, storage: torch.UntypedStorage) -> None:
        pointer = storage.data_ptr()
        self.counts[pointer] = self.counts.get(pointer, 0) + 1
        if self.counts[pointer] == 1:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def give(self, storage: torch.UntypedStorage) -> None:
        pointer = storage.data_ptr()
        self.counts[pointer] -= 1
        if not self.counts[pointer]:
            del self.counts[pointer]
            self.now -= storage.nbytes()


class _Held:
    """A tensor that autograd holds; gone when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor, kept: Kept | None):
        self.tensor, self._kept = tensor, kept
        if kept:
            kept.take(tensor.untyped_storage())

    def __del__(self):
        if self._kept:
            self._kept.give(self.tensor.untyped_storage())


@contextmanager
def kept_for_backward(own: set[int]) -> Iterator[Kept]:
    """Counts what autograd keeps inside the block, each storage once; `own` are storages that are there anyway."""
    kept = Kept()

    def pack(tensor: torch.Tensor) -> _Held:
        return _Held(tensor, None if tensor.untyped_storage().data_ptr() in own else kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        yield kept


def _allocated(device: torch.device, peak: bool) -> int:
    """Bytes of a GPU that this process's tensors take, or took at most since this was asked without `peak`."""
    if device.type != "cuda":
        return 0
    if peak:
        return torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
