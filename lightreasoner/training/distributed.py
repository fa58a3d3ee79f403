"""Data-parallel training of one adapter: the process group, how an update is partitioned, and summed gradients.

torchrun, accelerate and Ray Train start the processes and set RANK, WORLD_SIZE and so on; the Trainer uses the process
group made here. Every process has the whole model and the same updates and trains on its part of each update. The
gradients are summed, so the update equals the one that a single process would make.

Gradients go through NCCL between GPUs, which gives a message up after ten minutes. Waiting and decisions go through a
group of gloo's, since the first process may read a dataset, or wait for its accelerator, for longer.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.training.loss import PackedExample

WAIT = timedelta(days=30)  # of a process for the others, where it is no message between GPUs
_control: tuple[dist.ProcessGroup, dist.ProcessGroup] | None = None  # the process group, and gloo's over the same

CONTINUE, STOP_AND_SAVE, STOP_AND_DISCARD, STOP_EARLY = 0, 1, 2, 3


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def init_process_group(settings: Settings | None = None) -> Settings | None:
    """Join the process group of a distributed run, once; each process then uses the GPU of its local rank.

    Every process calls this as soon as it begins, before anything slow: the others wait for it here. Returns the
    settings with that GPU, whichever they name; with the device cpu none is used.
    """
    global _control
    if world_size() == 1:
        return settings
    on_gpu = torch.cuda.is_available() and not (settings and settings.device == "cpu")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
        # its threads, left to the end of the process, sometimes abort it when all work is done
        atexit.register(dist.destroy_process_group)
    if _control is None or _control[0] is not dist.group.WORLD:
        _control = dist.group.WORLD, dist.new_group(backend="gloo", timeout=WAIT)
    return replace(settings, device="cuda") if settings and settings.device.startswith("cuda") else settings


def partition_by_length(examples: Sequence[PackedExample], parts: int) -> list[list[PackedExample]]:
    """The examples in `parts` lists of similar token counts: longest first, each to the list with the fewest tokens.

    An example is never cut, since its forward pass is the cost. With fewer examples than parts some lists are empty.
    """
    lists: list[list[PackedExample]] = [[] for _ in range(parts)]
    tokens = [0] * parts
    for example in sorted(examples, key=lambda example: -example.length()):
        least = tokens.index(min(tokens))
        lists[least].append(example)
        tokens[least] += example.length()
    return lists


def all_reduce_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients of all processes in one message; a process without samples contributes zeros."""
    trained = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    dist.all_reduce(flat)
    start = 0
    for p in trained:
        p.grad = flat[start : start + p.numel()].view_as(p).clone()
        start += p.numel()


def barrier() -> None:
    """Wait until all processes are here. Raises UserError where one of them has ended."""
    if world_size() > 1:
        _with_all(lambda group: dist.barrier(group))


def broadcast(value: int) -> int:
    """The value that rank 0 passed, in every process. Raises UserError where one of them has ended."""
    tensor = torch.tensor([value])
    _with_all(lambda group: dist.broadcast(tensor, 0, group))
    return int(tensor)


def _with_all(act: Callable[[dist.ProcessGroup], None]) -> None:
    try:
        act(_control[1])
    except RuntimeError as error:  # gloo's: the connection was closed
        raise UserError(
            "Another process of this training has ended, so this one cannot go on; see that one's output."
        ) from error
