"""One model decoding one sequence through a key-value cache."""

import torch
from transformers import DynamicCache

from lightreasoner.models.loading import LoadedModel

PREFILL_TOKENS = 512  # of the prompt, read at once


class CachedDecoder:
    """One model at its position in one sequence. The last token of the sequence is always still unread."""

    def __init__(self, loaded: LoadedModel, prompt: list[int]):
        self.loaded, self.unread = loaded, prompt[-1:]
        self.cache = DynamicCache(config=loaded.model.config)
        for start in range(0, len(prompt) - 1, PREFILL_TOKENS):
            self.read(prompt[start : min(start + PREFILL_TOKENS, len(prompt) - 1)], keep=0)

    @torch.inference_mode()
    def read(self, ids: list[int], keep: int) -> torch.Tensor:
        """Read these ids; the logits (keep, output rows) that follow the last `keep` of them."""
        tokens = torch.tensor([ids], device=self.loaded.device)
        output = self.loaded.model(
            input_ids=tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=max(keep, 1)
        )
        return output.logits[0, -keep:] if keep else output.logits[0, :0]

    def next_logits(self) -> torch.Tensor:
        """The logits (output rows,) of the next token, which `append` then decides."""
        return self.read(self.unread, keep=1)[0]

    def append(self, token: int) -> None:
        """Continue the sequence with the token chosen from `next_logits`."""
        self.unread = [token]

    def teacher_force(self, tokens: list[int]) -> torch.Tensor:
        """Continue the sequence with given tokens; the logits (steps, output rows) that predict each of them."""
        logits = self.read(self.unread + tokens[:-1], keep=len(tokens))
        self.unread = tokens[-1:]
        return logits
