"""Data-parallel training of one adapter: the process group, how an update is partitioned, and summed gradients.

torchrun, accelerate and Ray Train start the processes and set RANK, WORLD_SIZE and so on; the Trainer uses the process
group made here. Every process has the whole model and the same updates and trains on its part of each update. The
gradients are summed, so the update equals the one that a single process would make.
"""

import atexit
import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

from lightreasoner.training.loss import PackedExample

CONTINUE, STOP_AND_SAVE, STOP_AND_DISCARD, STOP_EARLY = 0, 1, 2, 3


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def init_process_group() -> None:
    """Join the process group, if there is one and this has not happened yet. Each process uses the GPU of its local
    rank."""
    if world_size() == 1:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        # its threads, left to the end of the process, sometimes abort it when all work is done
        atexit.register(dist.destroy_process_group)


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
    """Wait until all processes are here."""
    if world_size() > 1:
        dist.barrier()


def broadcast(value: int, device: torch.device) -> int:
    """The value that rank 0 passed, in every process."""
    tensor = torch.tensor([value], device=device)
    dist.broadcast(tensor, 0)
    return int(tensor)
