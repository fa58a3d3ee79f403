"""Counts the bytes that autograd saves for a backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class SavedBytes:
    """Bytes that autograd saves for the backward pass: now, and at most so far."""

    now: int = 0
    peak: int = 0
    counts: dict[int, int] = field(default_factory=dict)  # data pointer of a storage → references

    def add(self, storage: torch.UntypedStorage) -> None:
        pointer = storage.data_ptr()
        self.counts[pointer] = self.counts.get(pointer, 0) + 1
        if self.counts[pointer] == 1:
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def remove(self, storage: torch.UntypedStorage) -> None:
        pointer = storage.data_ptr()
        self.counts[pointer] -= 1
        if not self.counts[pointer]:
            del self.counts[pointer]
            self.now -= storage.nbytes()


class _SavedTensor:
    """A tensor that autograd saved; deleted when autograd releases it.

    It is detached: a node that saves its own output would otherwise keep itself alive, and with it the whole model.
    """

    def __init__(self, tensor: torch.Tensor, saved: SavedBytes | None):
        self.tensor, self._saved = tensor.detach(), saved
        if saved:
            saved.add(tensor.untyped_storage())

    def __del__(self):
        if self._saved:
            self._saved.remove(self.tensor.untyped_storage())


def storages(model: torch.nn.Module) -> set[int]:
    """The data pointers of its weights and buffers."""
    return {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}


@contextmanager
def measure_saved_tensors(known: set[int]) -> Iterator[SavedBytes]:
    """Counts the storages that autograd saves inside the block, each once. known: data pointers not to count."""
    saved = SavedBytes()

    def pack(tensor: torch.Tensor) -> _SavedTensor:
        return _SavedTensor(tensor, None if tensor.untyped_storage().data_ptr() in known else saved)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        yield saved
