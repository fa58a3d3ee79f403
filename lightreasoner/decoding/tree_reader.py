"""One model at its position in one sequence, which also reads continuations from any place of it, all in one pass.

Each continuation sees the sequence up to where it leaves it and its own tokens. The cache keeps the sequence only.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch

from lightreasoner.decoding.forward_pass import forward
from lightreasoner.decoding.kv_cache import PreallocatedCacheLayer, preallocated_cache
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel

PIECE = 512  # tokens of a prompt read at once
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # nats, largest |Δ log p| weighted by p
TEXT = "Tom has 3 apples and buys 4 more."

_CHECKED: WeakSet[Any] = WeakSet()  # models whose continuations are read right


class TreeReader:
    """`ids` is the sequence that was read so far."""

    def __init__(self, loaded: LoadedModel):
        self.loaded, self.ids = loaded, []
        self.cache = preallocated_cache(loaded.model.config)
        config = loaded.model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
        self._kinds = kinds

    @torch.inference_mode()
    def read(self, ids: list[int], branches: list[tuple[int, int]] = (), keep: int | None = None) -> torch.Tensor:
        """The logits (kept + branches, output rows) after the next tokens of the sequence and after the branches.

        branches: (place, token): the token comes after the sequence's token at this place, or, from len(sequence) on,
        after an earlier branch. keep: how many of the last columns have logits; by default all.
        """
        columns, begun = len(ids) + len(branches), len(self.ids)
        size = begun + len(ids)
        device = self.loaded.device
        seen = torch.ones(columns, begun + columns, dtype=torch.bool).tril(begun)
        positions = list(range(begun, size))
        for n, (parent, _) in enumerate(branches):
            own = seen[len(ids) + n]
            own.zero_()
            if parent < size:
                own[: parent + 1] = True
                positions.append(parent + 1)
            else:
                own |= seen[len(ids) + parent - size]
                positions.append(positions[len(ids) + parent - size] + 1)
            own[size + n] = True
        tokens = torch.tensor([[*ids, *(token for _, token in branches)]], device=device)
        place = torch.tensor([positions], device=device)
        found = forward(
            self.loaded, tokens, columns if keep is None else keep, self.cache, self._mask(seen, place), place
        )
        if branches:
            self._forget(size)
        self.ids = self.ids + ids
        return found[0]

    def _mask(self, seen: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """What each column sees, (1, 1, columns, all columns), by kind of layer where some see a window only."""
        seen = seen[None, None].to(self.loaded.device)
        if self._window is None:
            return seen
        columns = positions.shape[1]
        before = torch.arange(seen.shape[-1] - columns, device=positions.device)
        distance = positions[0][:, None] - torch.cat([before, positions[0]])[None]
        near = seen & (distance < self._window)
        return {kind: near if kind == "sliding_attention" else seen for kind in self._kinds}

    def retract(self, count: int) -> None:
        """Forget the last tokens of the sequence."""
        if count:
            self.ids = self.ids[:-count]
            self._forget(len(self.ids))

    def _forget(self, columns: int) -> None:
        for layer in self.cache.layers:
            layer.shorten(columns)

    def copy(self) -> TreeReader:
        """Another reader at the same position, which goes its own way."""
        other = TreeReader(self.loaded)
        other.ids = list(self.ids)
        if self.ids:
            for own, layer in zip(other.cache.layers, self.cache.layers, strict=True):
                own.stack([layer], [1], len(self.ids))
        return other

    def prefill(self, ids: list[int]) -> None:
        for start in range(0, len(ids), PIECE):
            self.read(ids[start : start + PIECE], keep=0)


@torch.inference_mode()
def check_tree(loaded: LoadedModel) -> None:
    """Raises UserError for a model whose continuations cannot be read side by side; measured once per model."""
    if loaded.model in _CHECKED:
        return
    ids = (loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"] or [0]) * 8
    why = "it keeps a state that cannot be turned back"
    try:
        reader = TreeReader(loaded)
        if all(isinstance(layer, PreallocatedCacheLayer) for layer in reader.cache.layers):
            reader.prefill(ids[:4])
            reader.read(ids[4:5], [(1, ids[5]), (5, ids[6])])
            found = reader.read(ids[5:7], [(3, ids[7]), (7, ids[3]), (4, ids[1])]).float().log_softmax(-1)
            wanted = [ids[:6], ids[:7], [*ids[:4], ids[7]], [*ids[:4], ids[7], ids[3]], [*ids[:5], ids[1]]]
            plain = torch.stack([forward(loaded, [one], keep=1)[0, 0] for one in wanted]).float().log_softmax(-1)
            gap = float((plain.exp() * (plain - found).abs().nan_to_num(0.0, posinf=100.0)).sum(-1).max())
            if gap <= TOLERANCE.get(loaded.dtype, 0.5):
                _CHECKED.add(loaded.model)
                return
            why = f"its probabilities differ by {gap:.2g} nats from those of one pass"
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"[:120]
    raise UserError(
        f"{loaded.ref} cannot read several continuations of a text at once ({why}), which an amateur with another "
        "tokenizer than the expert's must. Choose an amateur of the expert's own family."
    )
