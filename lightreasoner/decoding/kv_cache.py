"""The key-value cache that batched decoding preallocates, and the memory it takes."""

from __future__ import annotations

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lightreasoner.compat.transformers import cache_with_layers, initialize_cache_layer
from lightreasoner.models.loading import LoadedModel

HEADROOM = 64  # columns that a cache grows by at once


class PreallocatedCacheLayer(DynamicLayer):
    """Keys and values (rows, heads, columns, width) with room to grow: DynamicLayer copies all of it at each token."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._room: list[torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        initialize_cache_layer(self, key_states, value_states)
        new = (key_states, value_states)
        used = self.get_seq_length()
        total = used + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < total:
            larger = [x.new_empty(*x.shape[:2], total + HEADROOM, x.shape[-1]) for x in new]
            if used:
                for buffer, old in zip(larger, (self.keys, self.values), strict=True):
                    buffer[..., :used, :] = old
            self._room = larger
        for buffer, states in zip(self._room, new, strict=True):
            buffer[..., used:total, :] = states
        self._show(total)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        if self._room is not None:
            columns = self.get_seq_length()
            self._room = [buffer.index_select(0, indices) for buffer in self._room]
            self._show(columns)

    def stack(self, layers: list[PreallocatedCacheLayer], rows: list[int], columns: int) -> None:
        """Take over what other layers hold, one below the other, ending in the same column.

        rows: how many of each; a layer of one row can become many.
        """
        filled = next(layer for layer in layers if layer._room is not None)
        initialize_cache_layer(self, *filled._room)
        # zeros: what is masked counts for nothing only if it is finite
        self._room = [b.new_zeros(sum(rows), b.shape[1], columns + HEADROOM, b.shape[-1]) for b in filled._room]
        first = 0
        for layer, count in zip(layers, rows, strict=True):
            if layer._room is not None:
                used = layer.get_seq_length()
                for buffer, states in zip(self._room, (layer.keys, layer.values), strict=True):
                    buffer[first : first + count, :, columns - used : columns] = states
            first += count
        self._show(columns)

    def _show(self, columns: int) -> None:
        self.keys, self.values = (buffer[..., :columns, :] for buffer in self._room)


def preallocated_cache(config) -> DynamicCache:
    """The cache that a model of this configuration needs; its full-attention layers grow without copying."""
    return cache_with_layers(config, PreallocatedCacheLayer)


def cache_bytes(loaded: LoadedModel) -> int:
    """What one token takes in the key-value cache."""
    config = loaded.model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * kept * width * loaded.dtype.itemsize
