"""Resource estimate of a fine-tuning run: time, memory and disk, measured on some of its own updates.

No formula predicts time. On a GPU, memory is the peak of the allocator. Elsewhere it is the sum of the weights, the
adapter with its gradients and Adam's two moments, and the tensors that autograd saves for the largest update.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes, format_duration
from lightreasoner.models.devices import is_out_of_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.progress import SilentProgress, StopRequested
from lightreasoner.training.batches import BatchSampler, count_samples, hold_out
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.finetune import finetune
from lightreasoner.training.loss import PackedExample, collate, step_logits, step_losses
from lightreasoner.training.saved_tensors import measure_saved_tensors, storages

MAX_TIMED = 12  # updates
TIME_LIMIT = 4.0  # seconds of training after which no further update starts
MAX_SEARCHED = 500  # updates among which the largest is searched


@dataclass(frozen=True)
class ResourceEstimate:
    """Measurements, and what they predict for the whole run."""

    samples: int  # different ones, to train on
    trajectories: int  # of these samples
    held_out: int  # trajectories
    samples_seen: int  # repeats counted
    epochs: float
    updates: int
    updates_timed: int
    update_seconds: float
    seconds: float  # from loading to the last update
    memory_bytes: float
    memory_counted: bool  # summed up here; otherwise the peak of the device's allocator
    disk_bytes: float  # two checkpoints and the adapter
    device: str
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """For the user, the most important first."""
        memory = "weights, adapter, optimiser and saved activations; Python itself needs more"
        where = f" ({memory})" if self.memory_counted else f" on {self.device}"
        return [
            f"About {format_duration(self.seconds)}, {format_bytes(self.memory_bytes)} of memory{where} and "
            f"{format_bytes(self.disk_bytes)} on disk.",
            f"{self.samples:,} samples from {self.trajectories:,} trajectories, {self.held_out:,} more held out; "
            f"{self.updates:,} updates see {self.samples_seen:,}: {self.epochs:.2g} epochs.",
            f"Measured just now on {self.device}, with {self.updates_timed} "
            f"update{'' if self.updates_timed == 1 else 's'} of this run: {self.update_seconds:.2g} seconds each.",
            *(f"{note}." for note in self.notes),
        ]


def estimate_resources(
    examples: list[PackedExample],
    config: FinetuneConfig,
    loaded: LoadedModel,
    loading_seconds: float,
    checkpoint: Callable[[], None] = lambda: None,
) -> ResourceEstimate:
    """Measure some updates of a run with these examples. The model of `loaded` is modified and must not be used again.

    loading_seconds: time spent before, which the run will spend too. checkpoint: called after each update, may raise
    to end the measurement. Raises UserError for a run that would be refused.
    """
    train, held_out = hold_out(examples, config.held_out, config.seed)
    sampler = BatchSampler(
        train, config.max_steps, config.samples_per_update, config.max_samples_per_trajectory, config.seed
    )
    before = _allocated(loaded.device, peak=False) - loaded.memory_bytes
    timer = UpdateTimer(checkpoint)
    short = replace(config, max_steps=min(MAX_TIMED, config.max_steps), save_every=1_000_000, evaluate_every=1_000_000)
    with tempfile.TemporaryDirectory(prefix="lightreasoner-") as place:
        folder = Path(place)
        model, _ = finetune(folder, short, loaded, train, held_out, timer, on_start=timer.start)
        disk = 2 * sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    adapter = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    activations = _largest_update(model, sampler, loaded)
    if loaded.device.type == "cuda":
        memory = _allocated(loaded.device, peak=True) - before
    else:
        memory = loaded.memory_bytes + 4 * adapter + activations  # adapter, gradient, two moments
    seconds, evaluations = timer.update_seconds(), 1 + config.max_steps // config.evaluate_every
    return ResourceEstimate(
        samples=count_samples(train),
        trajectories=len(train),
        held_out=len(held_out),
        samples_seen=sampler.samples_seen(config.max_steps),
        epochs=sampler.epochs(config.max_steps),
        updates=config.max_steps,
        updates_timed=timer.timed,
        update_seconds=seconds,
        seconds=loading_seconds + seconds * config.max_steps + timer.evaluation_seconds * evaluations,
        memory_bytes=memory,
        memory_counted=loaded.device.type != "cuda",
        disk_bytes=disk + adapter,
        device=device_name(loaded.device),
        notes=tuple(timer.notes),
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else {"cpu": "the CPU"}.get(device.type, "MPS")


class UpdateTimer(SilentProgress):
    """A Progress that records when each update ended, and stops the training after TIME_LIMIT seconds."""

    def __init__(self, check: Callable[[], None]):
        self._check = check
        self._times: list[float] = []  # start of the training, then the end of each update
        self._since = time.perf_counter()
        self.notes: list[str] = []
        self.evaluation_seconds = 0.0  # of one evaluation on the held-out examples

    def start(self) -> None:
        self._times.append(time.perf_counter())

    def status(self, text: str) -> None:
        self._since = time.perf_counter()

    def event(self, kind: str, **data: Any) -> None:
        if kind == "held_out" and not self._times:
            self.evaluation_seconds = time.perf_counter() - self._since
        elif kind == "note":
            self.notes.append(str(data["text"]))

    def checkpoint(self) -> None:
        self._times.append(time.perf_counter())
        self._check()
        if len(self._times) > 2 and self._times[-1] - self._times[0] > TIME_LIMIT:
            raise StopRequested(keep=True)

    @property
    def timed(self) -> int:
        """Updates that count: all but the first, which includes one-time costs, unless it is the only one."""
        return max(1, len(self._times) - 2)

    def update_seconds(self) -> float:
        return (self._times[-1] - self._times[-1 - self.timed]) / self.timed


def _largest_update(model: Any, sampler: BatchSampler, loaded: LoadedModel) -> float:
    """Forward and backward pass of the update with the most tokens; bytes that autograd saved in between."""

    def tokens(n: int) -> int:
        examples = sampler[n]
        return len(examples) * max(example.length() for example in examples)

    examples = sampler[max(range(min(MAX_SEARCHED, len(sampler))), key=tokens)]
    model.train()
    try:
        with measure_saved_tensors(storages(model)) as saved:
            batch = collate(examples).to(loaded.device)
            step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).mean().backward()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return float(saved.peak)  # the run splits such an update and says so in a note
    except AttributeError:  # the output head has another name than usual: finetune computes every position
        raise UserError("The memory of this architecture cannot be measured; start the run to see.") from None
    finally:
        model.zero_grad()
    return float(saved.peak)


def _allocated(device: torch.device, peak: bool) -> int:
    """GPU bytes of this process's tensors now; with `peak`, the most since the last call without it. 0 elsewhere."""
    if device.type != "cuda":
        return 0
    if peak:
        return torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
