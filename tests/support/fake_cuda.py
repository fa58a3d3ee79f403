"""A GPU that is not there: fake tensors with true shapes, devices and bytes, but no numbers. Counts waits and launches.

    with FakeCuda() as gpu:
        torch.empty(2, 3, device="cuda:0")  # on any number of devices
    gpu.waits, gpu.launches, gpu.peak

A wait is where the host stops until the device has done all that is queued: a look at a value, or a copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
ALLOCATES = (aten.empty.memory_format, aten.new_empty.default, aten.detach.default, aten._unsafe_view.default)


class FakeCuda:
    """share: of a flat mask's values that are true."""

    def __init__(self, share: float = 0.2):
        self.share, self.live = share, 0
        self._sizes: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Count anew; `peak` then counts from what is alive now."""
        self.waits: Counter[str] = Counter()
        self.launches, self.peak, self._base = 0, 0, self.live

    def __enter__(self) -> FakeCuda:
        lend_device_guard()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(_replaced(torch.Tensor, "tolist", self._tolist(torch.Tensor.tolist)))
        self._stack.enter_context(_replaced(FakeTensor, "tolist", self._tolist(FakeTensor.tolist)))
        self._stack.enter_context(_replaced(torch.Tensor, "numpy", _numpy(torch.Tensor.numpy)))
        self._stack.enter_context(_replaced(torch.nn.Module, "to", _move))
        functional = torch.nn.functional
        attention = self._attention(functional.scaled_dot_product_attention)
        self._stack.enter_context(_replaced(functional, "scaled_dot_product_attention", attention))
        self._stack.enter_context(_no_inference_mode())
        self._stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._stack.enter_context(_Watch(self))
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def _tolist(self, own):
        def tolist(tensor):
            if not isinstance(tensor, FakeTensor):
                return own(tensor)
            self.waits["tolist"] += tensor.device.type == "cuda"
            return _nested(_value(tensor), list(tensor.shape))

        return tolist

    def _attention(self, own):
        def attention(query, key, value, attn_mask=None, *rest, **named):
            if query.device.type != "cuda":
                return own(query, key, value, attn_mask, *rest, **named)
            return query * 1  # one launch, which fake tensors would take apart

        return attention

    def track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live - self._base)
            weakref.finalize(storage, self._freed, storage._cdata)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


class _Watch(TorchDispatchMode):
    def __init__(self, gpu: FakeCuda):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        gpu, kwargs = self.gpu, kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_gpu = any(x.device.type == "cuda" for x in given)
        if func is aten._local_scalar_dense.default:
            gpu.waits["value"] += on_gpu
            kind = args[0].dtype
            return True if kind == torch.bool else 1.0 if kind.is_floating_point else 1
        if func is aten.nonzero.default:
            gpu.waits["nonzero"] += on_gpu
            mask = args[0]
            found = max(1, int(mask.numel() * gpu.share)) if mask.dim() == 1 else 12 * mask.shape[0]
            return torch.empty(found, mask.dim(), dtype=torch.long, device=mask.device)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[1] if func is aten.copy_.default else args[0]
            target = (
                args[0].device if func is aten.copy_.default else torch.device(kwargs.get("device") or source.device)
            )
            if {source.device.type, target.type} == {"cpu", "cuda"} and source.numel():
                gpu.waits["to the host" if target.type == "cpu" else "to the device"] += 1
        made = func(*args, **kwargs)
        placed = [x for x in tree_leaves(made) if isinstance(x, torch.Tensor) and x.device.type == "cuda"]
        if on_gpu or placed:
            gpu.launches += not (func.is_view or func in ALLOCATES)
            for tensor in placed:
                gpu.track(tensor)
        return made


def lend_device_guard() -> None:
    """Indexing asks for CUDA's device guard, which a build without CUDA lacks: lend it the meta device's, a no-op."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    registry = (ctypes.c_void_p * 24).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    registry[1] = registry[1] or registry[14]


def _value(tensor: torch.Tensor) -> float:
    """What every number of a fake tensor is said to be."""
    return True if tensor.dtype == torch.bool else 0.5 if tensor.is_floating_point() else 1


def _numpy(own):
    kinds = {torch.float32: np.float32, torch.bool: np.bool_, torch.long: np.int64}

    def numpy(tensor, **named):
        if not isinstance(tensor, FakeTensor):
            return own(tensor, **named)
        return np.full(tuple(tensor.shape), _value(tensor), kinds[tensor.dtype])

    return numpy


def _move(module: torch.nn.Module, *place, **named) -> torch.nn.Module:
    """In place of Module.to, which exchanges what is inside fake parameters, and finds that something refers to it."""
    for part in module.modules():
        for tensors, make in ((part._parameters, torch.nn.Parameter), (part._buffers, None)):
            for name, tensor in tensors.items():
                moved = tensor if tensor is None else tensor.detach().to(*place, **named)
                if tensor is not None and (moved.device, moved.dtype) != (tensor.device, tensor.dtype):
                    tensors[name] = make(moved, tensor.requires_grad) if make else moved
    return module


def _nested(value, shape: list[int]):
    return value if not shape else [_nested(value, shape[1:]) for _ in range(shape[0])]


@contextlib.contextmanager
def _no_inference_mode():
    """Inference mode, in which copies between devices are hidden from what watches here, is only said to be on."""
    entered: list[contextlib.AbstractContextManager] = []

    def enter(mode) -> None:
        entered.append(torch.no_grad() if mode.mode else contextlib.nullcontext())
        entered[-1].__enter__()

    def leave(mode, *error) -> None:
        entered.pop().__exit__(None, None, None)

    with (
        _replaced(torch.inference_mode, "__enter__", enter),
        _replaced(torch.inference_mode, "__exit__", leave),
        _replaced(torch, "is_inference_mode_enabled", lambda: bool(entered)),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner, name: str, value):
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)
