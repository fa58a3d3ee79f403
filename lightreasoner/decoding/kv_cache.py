"""The preallocated key-value cache of batched decoding, and its size in bytes."""

from __future__ import annotations

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lightreasoner.compat.transformers import cache_with_layers, initialize_cache_layer
from lightreasoner.models.loading import LoadedModel

HEADROOM = 64  # columns added whenever a cache is full


class PreallocatedCacheLayer(DynamicLayer):
    """Keys and values (rows, heads, columns, width) with headroom; DynamicLayer copies all of them at every token.

    The buffers may have more rows and columns than are in use.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._buffers: list[torch.Tensor] | None = None
        self._static: list[torch.Tensor] | None = None  # buffers that stay in place, of which _buffers are first rows
        self.planned = 0  # columns that are allocated at once

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        initialize_cache_layer(self, key_states, value_states)
        new = (key_states, value_states)
        used, rows = self.get_seq_length(), len(key_states)
        total = used + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < total:
            room, spare = max(total + HEADROOM, self.planned), len(self._buffers[0]) if self._buffers else rows
            larger = [x.new_empty(max(rows, spare), x.shape[1], room, x.shape[-1]) for x in new]
            if used:
                for buffer, old in zip(larger, (self.keys, self.values), strict=True):
                    buffer[:rows, :, :used] = old
            self._buffers, self._static = larger, None
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[:rows, :, used:total] = states
        self._expose(total, rows)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        if self._buffers is not None:
            columns = self.get_seq_length()
            if self._static is None:
                self._buffers = [buffer.index_select(0, indices) for buffer in self._buffers]
            else:
                for buffer in self._static:
                    buffer[: len(indices), :, :columns] = buffer[:, :, :columns].index_select(0, indices)
                self._buffers = [buffer[: len(indices)] for buffer in self._static]
            self._expose(columns, len(indices))

    def copy_rows(self, sources: list[int], places: list[int]) -> None:
        """Let the rows at `places` hold what those at `sources` hold. Places behind the last row are new rows."""
        if self._buffers is None:
            return
        columns, rows = self.get_seq_length(), max(len(self.keys), *(place + 1 for place in places))
        if self._static is not None and rows <= len(self._static[0]):
            self._buffers = [buffer[:rows] for buffer in self._static]
        elif rows > len(self._buffers[0]):  # more than that, since others are likely to follow
            for n, buffer in enumerate(self._buffers):
                self._buffers[n] = buffer.new_empty(rows + rows // 2, *buffer.shape[1:])
                self._buffers[n][: len(buffer), :, :columns] = buffer[:, :, :columns]
            self._static = None
        for buffer in self._buffers:
            for source, place in zip(sources, places, strict=True):
                buffer[place, :, :columns] = buffer[source, :, :columns]
        self._expose(columns, rows)

    def move(self, static: list[torch.Tensor]) -> None:
        """Lie in the first rows of these buffers (keys and values) from now on, which are large enough."""
        if self._static is static:
            return
        rows, columns = self.keys.shape[0], self.get_seq_length()
        for buffer, old in zip(static, (self.keys, self.values), strict=True):
            buffer[:rows, :, :columns] = old
            buffer[:rows, :, columns:] = 0.0  # masking removes only finite values
        self._static, self._buffers = static, [buffer[:rows] for buffer in static]
        self._expose(columns, rows)

    def extend_to(self, columns: int) -> None:
        """Something else has written keys and values up to this column into the buffers."""
        self._expose(columns, len(self.keys))

    def stack(
        self,
        layers: list[PreallocatedCacheLayer],
        rows: list[int],
        columns: int,
        static: list[torch.Tensor] | None = None,
    ) -> None:
        """Take over the contents of other layers, one below the other, ending in the same column.

        rows: of each layer; the row of a one-row layer may be repeated. static: buffers to lie in, as for `move`.
        """
        filled = next(layer for layer in layers if layer._buffers is not None)
        initialize_cache_layer(self, *filled._buffers)
        self._static, room = static, max(columns + HEADROOM, self.planned)
        if static:
            self._buffers = [buffer[: sum(rows)].zero_() for buffer in static]
        else:
            self._buffers = [b.new_empty(sum(rows), b.shape[1], room, b.shape[-1]) for b in filled._buffers]
        first = 0
        for layer, count in zip(layers, rows, strict=True):
            used = layer.get_seq_length() if layer._buffers is not None else 0
            for n, buffer in enumerate(self._buffers):
                own = buffer[first : first + count, :, :columns]
                own[:, :, : columns - used] = 0.0  # masking removes only finite values
                if used:
                    own[:, :, columns - used :] = (layer.keys, layer.values)[n]
            first += count
        self._expose(columns, first)

    def take(self, layer: PreallocatedCacheLayer, rows: torch.Tensor) -> None:
        """Hold a copy of these rows of another layer."""
        if layer._buffers is not None:
            initialize_cache_layer(self, *layer._buffers)
            self._buffers = [states.index_select(0, rows) for states in (layer.keys, layer.values)]
            self._static = None
            self._expose(layer.get_seq_length(), len(rows))

    def shorten(self, columns: int) -> None:
        """Forget all columns but these first ones."""
        if self._buffers is not None:
            self._expose(columns, self.keys.shape[0])

    def _expose(self, columns: int, rows: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :columns] for buffer in self._buffers)


def preallocated_cache(config, planned: int = 0) -> DynamicCache:
    """A cache for this model configuration whose full-attention layers grow without copying.

    planned: columns that they allocate at once.
    """
    cache = cache_with_layers(config, PreallocatedCacheLayer)
    cache.planned = planned
    for layer in cache.layers:
        layer.planned = planned
    return cache


def cache_bytes(loaded: LoadedModel) -> int:
    """The bytes of one token in the key-value cache."""
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if not heads:  # a recurrent model, whose state does not grow
        return 0
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cached = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * cached * width * loaded.dtype.itemsize
