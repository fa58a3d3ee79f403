"""One model reading one sequence through a key-value cache."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from lightreasoner.models.loading import LoadedModel


class CachedDecoder:
    """One model reading one sequence through a key-value cache."""

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded
        self.cache = DynamicCache(config=loaded.model.config)

    @torch.inference_mode()
    def read(self, ids: list[int], keep: int) -> torch.Tensor:
        """Read further; the logits (keep, rows) that follow the last `keep` of these ids."""
        tokens = torch.tensor([ids], device=self.loaded.device)
        output = self.loaded.model(
            input_ids=tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=max(keep, 1)
        )
        return output.logits[0, -keep:] if keep else output.logits[0, :0]

    def prefill(self, ids: list[int]) -> None:
        """Read without wanting any logits."""
        for start in range(0, len(ids), 512):
            self.read(ids[start : start + 512], keep=0)
