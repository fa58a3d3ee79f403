"""One model that reads many sequences side by side.

Whatever is read at once is padded on the left, so rows may grow by different numbers of tokens. A padding column stays
masked and takes no position.
"""

from __future__ import annotations

from typing import Any

import torch

from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.decoding.forward_pass import ALIGNED, APART, Reading, forward, known_pass, reading_of
from lightreasoner.decoding.kv_cache import PreallocatedCacheLayer, preallocated_cache
from lightreasoner.models.loading import LoadedModel

PREFILL_TOKENS = 8_192  # read at once, over all rows; bounds the activations between two layers
CPU_PREFILL_TOKENS = 1_024  # likewise for prompts on a CPU: what lies between two layers stays in the processor's cache


class BatchDecoder:
    """One model at its position in each of several sequences, which may have different lengths."""

    def __init__(self, loaded: LoadedModel, rows: int, reading: Reading | None = None, steps: int = 0):
        """reading: how the model is read; by default as checked. steps: tokens of each row that will follow its prompt,
        if known; a GPU allocates their place in the cache at once."""
        self.loaded, self._reading = loaded, reading or reading_of(loaded)
        self._steps = 0 if loaded.device.type == "cpu" else steps  # a CPU would touch memory that is not needed
        self._apart: list[CachedDecoder] | None = None
        if self._reading.many == APART:  # one row at a time
            self._apart = [CachedDecoder(loaded, [], self._reading) for _ in range(rows)]
            return
        #: Each row's tokens, where padding inside a sequence would be wrong and ragged rows are read again.
        self._history: list[list[int]] | None = [[] for _ in range(rows)] if self._reading.many == ALIGNED else None
        self._clear(rows)

    def _clear(self, rows: int, columns: int = 0) -> None:
        self.cache = preallocated_cache(self.loaded.model.config, columns and columns + self._steps)
        device = self.loaded.device
        self._mask = torch.zeros(rows, 0, dtype=torch.long, device=device)  # (rows, columns) 1: a token, 0: padding
        self._length = torch.zeros(rows, 1, dtype=torch.long, device=device)  # (rows, 1) tokens so far
        self._padded = False  # whether the mask may hold padding; to look at it, the host would wait for a GPU

    def read(self, sequences: list[list[int]], keep: int) -> torch.Tensor:
        """Read each row's next tokens; the logits (rows, keep, output rows) after the last `keep` columns.

        Rows with different numbers of tokens end in the same column.
        """
        if self._apart is not None:
            return self._read_apart(sequences, keep)
        if self._history is not None:
            ragged = self._mask.shape[1] and len(set(map(len, sequences))) > 1
            self._history = [row + more for row, more in zip(self._history, sequences, strict=True)]
            if ragged:
                return self._read_again(keep)
        return self._read_padded(sequences, keep)

    def _read_padded(self, sequences: list[list[int]], keep: int) -> torch.Tensor:
        width = max(map(len, sequences))
        self._padded = self._padded or min(map(len, sequences)) < width
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        real = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            if sequence:
                ids[row, width - len(sequence) :] = torch.tensor(sequence)
                real[row, width - len(sequence) :] = 1
        return self._forward(ids.to(self.loaded.device), real.to(self.loaded.device), keep)

    def _read_again(self, keep: int) -> torch.Tensor:
        """Read all rows from their beginnings, where padding is harmless."""
        whole, width = self._history, max(map(len, self._history))
        before = max(0, width - max(keep, 1))  # columns that need no logits
        self._clear(len(whole))
        self._read_pieces([row[: max(0, len(row) - width + before)] for row in whole], PREFILL_TOKENS)
        return self._read_padded([row[max(0, len(row) - width + before) :] for row in whole], keep)

    def _read_apart(self, sequences: list[list[int]], keep: int) -> torch.Tensor:
        logits = [
            row.read(ids, min(keep, len(ids))) if ids else None for row, ids in zip(self._apart, sequences, strict=True)
        ]
        known = next((found for found in logits if found is not None), torch.empty(0, 0))
        out = known.new_zeros(len(logits), keep, known.shape[-1])
        for row, found in enumerate(logits):
            if found is not None and len(found):
                out[row, keep - len(found) :] = found
        return out

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one token per row, tokens (rows,); the logits (rows, output rows) after it."""
        if self._apart is not None:
            return self._read_apart([[token] for token in tokens.tolist()], 1)[:, 0]
        if self._history is not None:
            self._history = [[*row, token] for row, token in zip(self._history, tokens.tolist(), strict=True)]
        return self._forward(tokens.unsqueeze(1), torch.ones_like(tokens).unsqueeze(1), keep=1)[:, 0]

    def prefill(self, sequences: list[list[int]], piece: int | None = None) -> None:
        """Read each row's first tokens, without logits.

        The common prefix of all rows, the system prompt, is read once. Rows of similar length are read together, so
        little time goes into padding; sequences sorted by length make the fewest groups. piece: columns read at once.
        """
        if self._apart is not None:
            for row, ids in enumerate(sequences):
                if ids:
                    self._apart[row] = CachedDecoder(self.loaded, [*ids, 0], self._reading)
            return
        if self._history is not None:
            self._history = [list(ids) for ids in sequences]
        widest = max(map(len, sequences))
        if self._steps:
            self._clear(len(sequences), widest)
        if (
            not widest
            or self._history is not None
            or not all(isinstance(layer, PreallocatedCacheLayer) for layer in self.cache.layers)
        ):
            return self._read_pieces(sequences, PREFILL_TOKENS if piece is None else piece * len(sequences))
        common = common_prefix(sequences) if len(sequences) > 1 else []
        prefix = BatchDecoder(self.loaded, 1, self._reading)
        prefix._read_pieces([common], PREFILL_TOKENS)
        most = CPU_PREFILL_TOKENS if self.loaded.device.type == "cpu" else PREFILL_TOKENS
        groups = length_buckets([len(sequence) - len(common) for sequence in sequences], most)
        rows = [group.stop - group.start for group in groups]
        decoders = [BatchDecoder(self.loaded, count, self._reading) for count in rows]
        for decoder, group, count in zip(decoders, groups, rows, strict=True):
            if common:
                decoder._stack([prefix], [count], len(common))
            decoder._read_pieces([sequence[len(common) :] for sequence in sequences[group]], PREFILL_TOKENS)
        self._stack(decoders, rows, widest)

    @torch.inference_mode()
    def _stack(self, decoders: list[BatchDecoder], rows: list[int], columns: int) -> None:
        """Take over what other readers have read, one below the other. rows: how many of each; one can become many."""
        static = self._static_buffers(sum(rows), columns)
        for n, layer in enumerate(self.cache.layers):
            layer.stack([decoder.cache.layers[n] for decoder in decoders], rows, columns, static and static[n])
        pairs = list(zip(decoders, rows, strict=True))
        pad = torch.nn.functional.pad
        masks = [pad(decoder._mask, (columns - decoder._mask.shape[1], 0)).expand(n, -1) for decoder, n in pairs]
        self._mask = torch.cat(masks)
        self._padded = any(decoder._padded or decoder._mask.shape[1] < columns for decoder in decoders)
        self._length = torch.cat([decoder._length.expand(n, -1) for decoder, n in pairs])

    def _static_buffers(self, rows: int, columns: int) -> list[list[torch.Tensor]] | None:
        """Each layer's static buffers for the steps that follow, or None."""
        found = known_pass(self.loaded) if self._steps else None
        lean = found and found.lean
        return lean.steps.lend(lean, self.cache, rows, columns + self._steps) if lean and lean.steps else None

    def _read_pieces(self, sequences: list[list[int]], tokens: int) -> None:
        """Read without logits, padded to the longest, in pieces of columns with at most `tokens` tokens."""
        width = max(map(len, sequences))
        if not width:
            return
        piece = max(1, tokens // len(sequences))
        for end in range(width - (width - 1) // piece * piece, width + 1, piece):
            start = max(0, end - piece)
            # counted from the right, where the rows end together
            cut = [s[max(0, len(s) - width + start) : max(0, len(s) - width + end)] for s in sequences]
            self._read_padded(cut, keep=0)

    @torch.inference_mode()
    def select(self, rows: torch.Tensor) -> None:
        """Continue with these rows only, in this order."""
        if self._apart is not None:
            self._apart = [self._apart[row] for row in rows.tolist()]
            return
        if self._history is not None:
            self._history = [self._history[row] for row in rows.tolist()]
        for layer in self.cache.layers:
            # DynamicLayer's own batch_select_indices leaves out the states of its subclasses
            own = isinstance(layer, PreallocatedCacheLayer)
            (layer.batch_select_indices if own else layer.reorder_cache)(rows)
        self._mask, self._length = self._mask[rows], self._length[rows]

    @torch.inference_mode()
    def copy(self, sources: list[int], places: list[int]) -> None:
        """Let the rows at `places` go on as those at `sources` do. Places behind the last row are new rows."""
        if self._apart is not None:
            for source, place in zip(sources, places, strict=True):
                self._apart[place : place + 1] = [self._apart[source].again()]
            return
        rows = list(range(len(self._mask)))
        for source, place in zip(sources, places, strict=True):
            rows[place : place + 1] = [source]
        if self._history is not None:
            self._history = [list(self._history[row]) for row in rows]
        index = torch.tensor(rows, device=self.loaded.device)
        for layer in self.cache.layers:
            if isinstance(layer, PreallocatedCacheLayer):
                layer.copy_rows(sources, places)
            else:
                layer.reorder_cache(index)
        self._mask, self._length = self._mask[index], self._length[index]

    @torch.inference_mode()
    def _forward(self, ids: torch.Tensor, real: torch.Tensor, keep: int) -> torch.Tensor:
        self._mask = torch.cat([self._mask, real], 1)
        positions = (self._length + real.cumsum(1) - 1).clamp_min_(0)
        self._length = self._length + real.sum(1, keepdim=True)
        mask = self._visible(ids.shape[1])
        return forward(self.loaded, ids, keep, self.cache, mask, positions if self._reading.positions else None)

    def _visible(self, columns: int) -> Any:
        """The mask of the forward pass for the last columns."""
        return self._mask if self._padded or self.loaded.device.type == "cpu" else None


def common_prefix(sequences: list[list[int]]) -> list[int]:
    """The longest common prefix of the sequences."""
    first, last = min(sequences), max(sequences)  # a prefix that these two share is shared by all
    different = (n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return first[: next(different, len(first))]


def length_buckets(lengths: list[int], tokens: int = PREFILL_TOKENS) -> list[slice]:
    """Cut rows into runs worth padding to their longest: lengths within an eighth, and at most `tokens` in all."""
    groups, start = [], 0
    for row in range(1, len(lengths) + 1):
        longest, shortest = max(lengths[start : row + 1]), min(lengths[start : row + 1])
        too_wide = longest > 1.125 * shortest + 4 or longest * (row + 1 - start) > tokens
        if row == len(lengths) or too_wide:
            groups.append(slice(start, row))
            start = row
    return groups
