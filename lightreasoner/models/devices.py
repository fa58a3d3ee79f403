"""Where models live: device, dtype, and how much memory there is."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGE = 1_000_000_000  # parameters from which a CPU reads bf16 faster than it would fp32, where it has bf16 units


def choose_device(settings: Settings) -> torch.device:
    """The device that the settings ask for, or the best one here. Raises UserError for one that is not there."""
    wanted = settings.device
    if wanted == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    found = re.fullmatch(r"cpu|mps|cuda(?::(\d{1,3}))?", wanted)
    if not found:
        raise UserError(f"The device {wanted!r:.40} is unknown; use auto, cpu, cuda, cuda:N or mps.")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("The device mps is not available here; it needs a Mac with Apple silicon. Use auto or cpu.")
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"The device {wanted} is not available: PyTorch sees no CUDA GPU here. Use auto or cpu.")
        if found[1] and int(found[1]) >= (count := torch.cuda.device_count()):
            raise UserError(f"The device {wanted} does not exist: {count} CUDA GPU(s) are here, counted from 0.")
    return torch.device(wanted)


def choose_dtype(settings: Settings, device: torch.device, parameters: int | None) -> torch.dtype:
    """The dtype that the settings ask for; else bf16 on accelerators (fp16 on old Macs) and fp32 on the CPU.

    A CPU with bf16 units gets bf16 for models over a billion parameters. Raises UserError for an unknown dtype.
    """
    if settings.dtype != "auto":
        if settings.dtype not in DTYPES:
            raise UserError(f"The dtype {settings.dtype!r:.40} is unknown; use auto, {', '.join(DTYPES)}.")
        return DTYPES[settings.dtype]
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16
    units = torch.cpu.get_capabilities()
    fast = units.get("avx512_bf16") or units.get("amx_bf16")
    return torch.bfloat16 if fast and (parameters or 0) > LARGE else torch.float32


def free_bytes(device: torch.device) -> int:
    """Memory that models on this device could still take, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:  # in a container the machine's figure is not ours
            with open(name) as file:
                free = min(free, int(file.read()) - psutil.Process().memory_info().rss)
        except (OSError, ValueError):
            continue
    return max(free, 0)


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out: the CPU's and Apple's allocators raise nothing more telling than a RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and "memory" in text and ("allocate" in text or "out of memory" in text)


class NoRoom(Exception):
    """A single row does not fit into memory. `row`: its place."""

    def __init__(self, row: int):
        super().__init__(f"no room for row {row}")
        self.row = row


def in_parts(
    rows: Sequence[Any], most: int, attempt: Callable[[Sequence[Any], int], Any], halved: Callable[[int], None]
) -> tuple[list[Any], int]:
    """(attempt(part, place of its first row) of consecutive parts, how many rows fit at once).

    A part has `most` rows, or half of what did not fit: `halved` is told so many. Raises NoRoom.
    """
    done, start = [], 0
    while start < len(rows):
        part = rows[start : start + most]
        found = _unless_full(attempt, part, start)
        if found is not None:
            done.append(found)
            start += len(part)
            continue
        release_memory()
        if len(part) == 1:
            raise NoRoom(start)
        most = len(part) // 2
        halved(most)
    return done, most


def _unless_full(attempt: Callable[..., Any], *arguments: Any) -> Any:
    """None when memory ran out. What the attempt held is free once this has returned."""
    try:
        return attempt(*arguments)
    except (MemoryError, RuntimeError) as error:
        if ran_out(error):
            return None
        raise


def release_memory() -> None:
    """Give memory of models that nobody holds any more back to the device."""
    gc.collect()  # a model is full of reference cycles
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
