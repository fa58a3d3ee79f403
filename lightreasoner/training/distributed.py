"""Several processes that train one adapter: who does what, and what they tell one another.

torchrun, accelerate and Ray Train start the processes and set the usual variables (RANK, WORLD_SIZE, …); the Trainer
uses the process group that `join` made. Every process has the whole model and the same updates, learns its share of
each update's samples, and the gradients are summed: the update is the one that a single process would make.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

from lightreasoner.training.loss import Lesson

GO_ON, KEEP, THROW_AWAY = 0, 1, 2


def rank() -> int:
    """This process's number, 0 where there is one only."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Be part of the group, if there is one and nobody has joined this process yet. Each process of a machine has the
    GPU of its number there."""
    if world() == 1:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def shares(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """An update's lessons dealt to `parts` processes, the longest first to whoever has least to read.

    A lesson is never cut: its forward is what costs. With fewer lessons than processes some have nothing to do.
    """
    dealt: list[list[Lesson]] = [[] for _ in range(parts)]
    load = [0] * parts
    for lesson in sorted(lessons, key=lambda lesson: -lesson.length()):
        least = load.index(min(load))
        dealt[least].append(lesson)
        load[least] += lesson.length()
    return dealt


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in one message; a process without samples adds zeros."""
    trained = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    dist.all_reduce(flat)
    start = 0
    for p in trained:
        p.grad = flat[start : start + p.numel()].view_as(p).clone()
        start += p.numel()


def meet() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        dist.barrier()


def agreed(wish: int, device: torch.device) -> int:
    """What the first process wishes, known to all."""
    said = torch.tensor([wish], device=device)
    dist.broadcast(said, 0)
    return int(said)
