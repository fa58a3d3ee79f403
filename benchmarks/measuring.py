"""What the benchmarks on a GPU share: lines that appear at once, waiting for the GPU, the memory of its tensors."""

import torch


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def used_bytes(peak: bool = False) -> float:
    """GPU memory of this process's tensors; with `peak`, the most since the last call without it. 0 on the CPU."""
    if not torch.cuda.is_available():
        return 0.0
    if peak:
        return torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()
