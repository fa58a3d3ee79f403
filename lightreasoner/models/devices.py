"""Devices: which one to use, in which dtype, how much memory is free, and what to do when it runs out."""

import gc
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psutil
import torch

from lightreasoner import threads
from lightreasoner.errors import UserError, ran_out_of_memory
from lightreasoner.settings import Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGE = 1_000_000_000  # parameters from which a CPU with bf16 units computes faster in bf16 than in fp32

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
BF16_CAPABILITY = (8, 0)  # the first NVIDIA GPUs with bf16 units: Ampere
#: What loaded models may take of the free memory. A GPU is here for them; the host's memory serves others, too.
MODELS_SHARE = {"cuda": 0.85}
HOST_SHARE = 0.5
#: Objects that keep device memory for their next use, each with a method `release`.
BUFFERS: WeakSet[Any] = WeakSet()


def choose_device(settings: Settings) -> torch.device:
    """The device of the settings, the first of several, or the best one available. Raises UserError for one that is
    not available."""
    threads.follow()  # weights are about to be read and cast
    if settings.device == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    first, *more = (_available(name.strip()) for name in settings.device.split(","))
    if more and not all(device.type == "cuda" for device in (first, *more)):
        raise UserError(f"The devices {settings.device!r:.60} are not all GPUs; name one device, or GPUs only.")
    return first


def further_devices(settings: Settings) -> list[torch.device]:
    """The GPUs for models that do not fit beside another on `choose_device`: those that the settings name after it, or
    with auto and cuda all that CUDA_VISIBLE_DEVICES leaves. Raises UserError likewise."""
    first = choose_device(settings)
    if settings.device in ("auto", "cuda"):
        count = torch.cuda.device_count() if first.type == "cuda" else 1
        return [torch.device("cuda", n) for n in range(count) if n != torch.cuda.current_device()] if count > 1 else []
    return [torch.device(name.strip()) for name in settings.device.split(",")[1:]]


def _available(wanted: str) -> torch.device:
    found = re.fullmatch(r"cpu|mps|cuda(?::(\d{1,3}))?", wanted)
    if not found:
        raise UserError(f"The device {wanted!r:.40} is unknown; use auto, cpu, cuda, cuda:N, mps or cuda:N,cuda:M.")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("The device mps is not available here; it needs a Mac with Apple silicon. Use auto or cpu.")
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(
                f"The device {wanted} is not available: PyTorch sees no CUDA GPU here{unused_gpu()}. Use auto or cpu."
            )
        if found[1] and int(found[1]) >= (count := torch.cuda.device_count()):
            raise UserError(f"The device {wanted} does not exist: there are {count} CUDA GPU(s), counted from 0.")
    return torch.device(wanted)


def unused_gpu() -> str:
    """Why an NVIDIA GPU of this machine is not used, to follow a sentence; empty where there is none, or it is used.

    A PyTorch that is too new for the driver computes on the CPU without a word.
    """
    if not torch.version.cuda or torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    try:
        found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", NVIDIA_DRIVER.read_text())
    except OSError:
        return ""
    driver = f"the NVIDIA driver {found[1]}" if found else "this NVIDIA driver"
    return (
        f"; a GPU is here, but {driver} is not usable for PyTorch's CUDA {torch.version.cuda}: update the driver, or "
        "install a PyTorch for an older CUDA"
    )


def choose_dtype(settings: Settings, device: torch.device, parameters: int | None) -> torch.dtype:
    """The dtype of the settings. "auto" is bf16 on accelerators with units for it, fp16 on others, and fp32 on the CPU.

    On a CPU with bf16 units, models of over a billion parameters get bf16. Raises UserError for an unknown dtype.
    """
    if settings.dtype != "auto":
        if settings.dtype not in DTYPES:
            raise UserError(f"The dtype {settings.dtype!r:.40} is unknown; use auto, {', '.join(DTYPES)}.")
        return DTYPES[settings.dtype]
    if device.type == "cuda":
        return torch.bfloat16 if _has_bf16_units(device) else torch.float16
    if device.type == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16
    units = torch.cpu.get_capabilities()
    fast = units.get("avx512_bf16") or units.get("amx_bf16")
    return torch.bfloat16 if fast and (parameters or 0) > LARGE else torch.float32


def dtypes_to_try(settings: Settings, device: torch.device, parameters: int | None) -> tuple[torch.dtype, ...]:
    """The dtypes to load a model in: the first in which nothing overflows.

    A GPU without bf16 units gets float16, and bfloat16, which it emulates, where float16 is too narrow. (float16 rounds
    finer than bfloat16 and would serve every GPU, but is not the choice where there are bf16 units: see docs/log.md.)
    """
    usual = choose_dtype(settings, device, parameters)
    checked = settings.dtype == "auto" and device.type == "cuda" and usual == torch.float16
    return (usual, torch.bfloat16) if checked else (usual,)


def dtype_effect(dtype: torch.dtype) -> str | None:
    """What 16 bits do to KL, in a sentence; None for float32. Measured by benchmarks/dtypes.py, see docs/log.md."""
    shifts = {torch.float16: "0.0003 to 0.005", torch.bfloat16: "0.002 to 0.03"}
    if dtype not in shifts:
        return None
    name = str(dtype).removeprefix("torch.")
    return f"{name} moves KL by {shifts[dtype]} nats per step on average (two pairs, with logits in float32)"


def _has_bf16_units(device: torch.device) -> bool:
    """Whether a GPU computes in bf16. is_bf16_supported() is also true where it is only emulated (T4, V100)."""
    if not torch.cuda.is_available() or torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


def free_bytes(device: torch.device) -> int:
    """Memory that models on this device can still use, in bytes."""
    if device.type == "cuda":  # what PyTorch has reserved and does not use is free to it, and taken to the driver
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = psutil.virtual_memory().available
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:  # a container has less than the machine
            with open(name) as file:
                free = min(free, int(file.read()) - psutil.Process().memory_info().rss)
        except (OSError, ValueError):
            continue
    return max(free, 0)


def models_budget(device: torch.device, free: int) -> int:
    """Bytes that loaded models may take where `free` bytes, their own included, are free."""
    return int(free * MODELS_SHARE.get(device.type, HOST_SHARE))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device, whichever library says so."""
    return isinstance(error, torch.OutOfMemoryError) or ran_out_of_memory(error)


class DoesNotFit(Exception):
    """A single row does not fit into memory. `row`: its index."""

    def __init__(self, row: int):
        super().__init__(f"row {row} does not fit into memory")
        self.row = row


def run_with_oom_backoff(
    rows: Sequence[Any], max_rows: int, attempt: Callable[[Sequence[Any], int], Any], on_halved: Callable[[int], None]
) -> tuple[list[Any], int]:
    """Call attempt(part, index of its first row) for consecutive parts of `rows`; (the results, rows per part at last).

    A part has `max_rows` rows. When one runs out of memory, it is tried again with half as many, and on_halved gets
    their number. Raises DoesNotFit when a single row runs out of memory.
    """
    results, start = [], 0
    while start < len(rows):
        part = rows[start : start + max_rows]
        result = _none_if_out_of_memory(attempt, part, start)
        if result is not None:
            results.append(result)
            start += len(part)
            continue
        release_memory()
        if len(part) == 1:
            raise DoesNotFit(start)
        max_rows = len(part) // 2
        on_halved(max_rows)
    return results, max_rows


def _none_if_out_of_memory(attempt: Callable[..., Any], *arguments: Any) -> Any:
    """attempt(*arguments), or None. The memory that the attempt held is free once this has returned."""
    try:
        return attempt(*arguments)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return None
        raise


def release_memory() -> None:
    """Return the memory of models that are no longer referenced, and of buffers that nobody uses, to the device."""
    for buffers in list(BUFFERS):
        buffers.release()
    gc.collect()  # models contain reference cycles
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
