"""Short reads of a lean forward pass on CUDA as graphs over static buffers: the host launches one, not each kernel.

A step of a decoder keeps a GPU busy for a few milliseconds, and the host for longer. A graph is captured once for a
number of rows, of new columns, and of all columns. Rows and all columns are rounded up; what is beyond a sequence is
masked. reading_check.py uses graphs for a model only if its logits then differ from transformers' by no more than
transformers' own ways of reading differ.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import ref

import torch

from lightreasoner.decoding.kv_cache import PreallocatedCacheLayer
from lightreasoner.models.devices import BUFFERS

COLUMNS = 64  # the least step of columns; aligned, as attention with a mask wants it
ALONE = 1024  # columns at least, where few rows make them cheap
FEW = 4  # rows
WIDEST = 16  # new columns of a graph; what is longer keeps the GPU busy by itself
CAPTURING = Lock()  # one thread at a time records what happens on a stream


@lru_cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which a device's graphs are captured. cuBLAS keeps 34 MB for every stream it has ever used."""
    return torch.cuda.Stream(device)


def rounded(count: int, least: int) -> int:
    """count, rounded up to a multiple of `least`, and above 4 · least to one of four sizes between powers of two."""
    step = max(least, (1 << (count.bit_length() - 1)) // 4)
    return -(-count // step) * step


class StepGraphs:
    """The static buffers of one lean forward pass, and the graphs over them. One cache lies in them at a time."""

    def __init__(self, device: torch.device, capture: bool = True):
        """capture: False runs the same on static buffers without graphs, on any device."""
        self._device, self._capture = device, capture
        self.patient = True  # several columns are captured when they come again: a capture costs two reads
        self._owner: ref | None = None
        self.release()
        BUFFERS.add(self)

    def release(self) -> None:
        """Free the buffers, unless a cache lies in them that is still alive."""
        if self._owner and self._owner():
            return
        if getattr(self, "_graphs", None):
            torch.cuda.synchronize(self._device)  # none may be running
        self._owner, self._rows, self._columns = None, 0, 0
        #: (rows, new columns, all columns) → graph, its hidden states
        self._graphs: dict[tuple[int, int, int], tuple[Any, torch.Tensor]] = {}
        self._met: set[tuple[int, int, int]] = set()  # the keys that have come before
        self._layers: list[list[torch.Tensor]] = []  # keys and values (rows, heads, columns, width)
        self._pool = None

    def lend(self, lean: Any, cache: Any, rows: int, columns: int) -> list[list[torch.Tensor]] | None:
        """Each layer's buffers for a cache of so many rows and columns; None while another cache lies in them."""
        owner = self._owner and self._owner()
        if owner is not None and owner is not cache:
            return None
        if rows > self._rows or columns > self._columns:
            self._owner = owner = None
            self.release()
            few = ALONE if rows <= FEW else 0
            self._rows, self._columns = rounded(rows, 1), rounded(max(columns, few, cache.planned), COLUMNS)
            self._allocate(lean)
        if owner is None:
            self._owner, self._reached = ref(cache), 0
            self._bias.fill_(-math.inf)
            self._bias[..., 0] = 0.0  # rows beyond the cache's see something, for a softmax of nothing is no number
        return self._layers

    def _allocate(self, lean: Any) -> None:
        make = {"device": self._device}
        shape = (self._rows, lean.cached, self._columns, lean.width)
        self._layers = [[torch.zeros(shape, dtype=lean.dtype, **make) for _ in "kv"] for _ in range(lean.depth)]
        self._ids = torch.zeros(WIDEST, self._rows, dtype=torch.long, **make)  # (new columns, rows), like the next
        self._positions = torch.zeros_like(self._ids)
        self._at = torch.zeros(WIDEST, dtype=torch.long, **make)  # the columns that are written
        self._new = torch.arange(WIDEST, **make)
        #: (new columns, rows, all columns) 0, or −inf where masked
        self._bias = torch.zeros(WIDEST, self._rows, self._columns, dtype=lean.dtype, **make)
        self._turns = lean.turns(self._columns)

    def __call__(
        self, lean: Any, ids: torch.Tensor, cache: Any, mask: torch.Tensor | None, positions: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The normed hidden states (rows, columns, width) after more columns ids (rows, columns); None where this
        cannot be used.

        They are overwritten by the next read. Arguments as for Lean.
        """
        (rows, new), before = ids.shape, cache.get_seq_length()
        total = before + new
        if new > WIDEST or not torch.is_inference_mode_enabled() or not self._holds(lean, cache, rows, total):
            return None
        key = rounded(rows, 1), new, min(rounded(total, COLUMNS), self._columns)
        if new > 1 and self.patient and key not in self._met:
            self._met.add(key)
            return None
        self._ids[:new, :rows].copy_(ids.t())
        columns = self._new[:new] + before
        self._at[:new].copy_(columns)
        if mask is None or positions is None:
            self._positions[:new, :rows].copy_(columns[:, None].expand(-1, rows))
        else:
            self._positions[:new, :rows].copy_(positions.t())
        if total < self._reached:  # by a sequence that was cut since
            self._bias[:new, :rows, total:].fill_(-math.inf)
        self._reached = max(self._reached, total)
        seen = self._bias[:new, :rows, :total]
        seen.zero_()
        if mask is not None:  # what all new columns see, or what each of them sees
            own = mask[:, 0].transpose(0, 1) if mask.dim() == 4 else mask
            seen.masked_fill_(own == 0, -math.inf)
        if new > 1:
            later = torch.arange(total, device=self._device) > columns[:, None]
            seen.masked_fill_(later[:, None], -math.inf)
        hidden = self._run(lean, key)
        for layer in cache.layers:
            layer.extend_to(total)
        return hidden.view(key[0], new, -1)[:rows]

    def _holds(self, lean: Any, cache: Any, rows: int, columns: int) -> bool:
        """Whether the cache lies in the buffers; it is moved there if they are free."""
        if not all(isinstance(layer, PreallocatedCacheLayer) and layer.is_initialized for layer in cache.layers):
            return False
        layers = self.lend(lean, cache, rows, columns)
        for layer, buffers in zip(cache.layers, layers or (), strict=False):
            layer.move(buffers)
        return layers is not None

    def _run(self, lean: Any, key: tuple[int, int, int]) -> torch.Tensor:
        if not self._capture:
            return self._read(lean, *key)
        if key not in self._graphs:
            with torch.cuda.device(self._device):
                self._graphs[key] = self._captured(lean, key)
        graph, hidden = self._graphs[key]
        graph.replay()
        return hidden

    def _captured(self, lean: Any, key: tuple[int, int, int]) -> tuple[Any, torch.Tensor]:
        """(graph, its hidden states). torch.cuda.graph would collect garbage and empty the cache each time."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        here, stream, graph = torch.cuda.current_stream(), capture_stream(self._device), torch.cuda.CUDAGraph()
        stream.wait_stream(here)
        with CAPTURING, torch.cuda.stream(stream):
            self._read(lean, *key)  # libraries load on first use; a read may be repeated
            stream.synchronize()
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                hidden = self._read(lean, *key)
            except BaseException:
                with suppress(RuntimeError):  # "failed due to a previous error" says nothing of memory that ran out
                    graph.capture_end()
                raise
            graph.capture_end()
        here.wait_stream(stream)
        return graph, hidden

    def _read(self, lean: Any, rows: int, new: int, columns: int) -> torch.Tensor:
        ids, at = self._ids[:new, :rows].t().contiguous(), self._positions[:new, :rows].t()
        cos, sin = (turn[at] for turn in self._turns)  # (rows, new, 1, width)
        bias = self._bias[:new, :rows, :columns].transpose(0, 1)[:, None]  # (rows, 1, new, columns)
        layers = [_Layer([x[:rows, :, :columns] for x in buffers], self._at[:new]) for buffers in self._layers]
        return lean.hidden(ids, cos, sin, bias, layers)


class _Layer:
    """Keys and values in static buffers, written at the columns that a tensor names."""

    def __init__(self, buffers: list[torch.Tensor], at: torch.Tensor):
        self._buffers, self._at = buffers, at

    def update(self, *new: torch.Tensor) -> list[torch.Tensor]:
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer.index_copy_(2, self._at, states)
        return self._buffers
