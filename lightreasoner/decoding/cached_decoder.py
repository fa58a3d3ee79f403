"""One model decoding one sequence, through a key-value cache where its architecture allows it."""

import torch

from lightreasoner.decoding.forward_pass import CHUNKS, WHOLE, Reading, forward, reading_of
from lightreasoner.decoding.kv_cache import preallocated_cache
from lightreasoner.models.loading import LoadedModel

PREFILL_TOKENS = 512  # of the prompt, read at once


def left_unread(loaded: LoadedModel, prompt: list[int]) -> int:
    """How many of a prompt's last tokens are best read together with a response that is given: one pass, not two."""
    return PREFILL_TOKENS if reading_of(loaded).one == CHUNKS else max(1, len(prompt))


class CachedDecoder:
    """One model at its position in one sequence. The last token of the sequence is always still unread."""

    def __init__(self, loaded: LoadedModel, prompt: list[int], reading: Reading | None = None, unread: int = 1):
        """reading: how the model is read; by default as checked. unread: last tokens of the prompt that are read
        together with what follows, at least one. Raises UserError for a model that cannot be read."""
        self.loaded, self.unread = loaded, prompt[-unread:]
        self._reading = reading = reading or reading_of(loaded)
        self._how, self._positions = reading.one, reading.positions
        self.cache = None if self._how == WHOLE else preallocated_cache(loaded.model.config)
        self._read: list[int] = []  # so far
        size, end = PREFILL_TOKENS if self._how == CHUNKS else max(1, len(prompt)), len(prompt) - unread
        for start in range(0, end, size):
            self.read(prompt[start : min(start + size, end)], keep=0)

    def again(self) -> "CachedDecoder":
        """Another one at the same position, with what was read so far read once more."""
        return CachedDecoder(self.loaded, [*self._read, *self.unread], self._reading, len(self.unread))

    @torch.inference_mode()
    def read(self, ids: list[int], keep: int) -> torch.Tensor:
        """Read these ids; the logits (keep, output rows) that follow the last `keep` of them."""
        begun, self._read = bool(self._read), self._read + ids
        if self._how == WHOLE:
            if keep == 0:
                return torch.empty(0, 0)
            return forward(self.loaded, [self._read], keep=keep)[0]
        first = len(self._read) - len(ids)
        # some architectures count positions in their first layer's cache, which may be a recurrent one
        positions = torch.arange(first, len(self._read), device=self.loaded.device)[None] if self._positions else None
        if self._how == CHUNKS or not begun:
            return forward(self.loaded, [ids], keep=keep, cache=self.cache, positions=positions)[0]
        return torch.cat([self._read_one(id, first + n) for n, id in enumerate(ids)])[len(ids) - keep :]

    def _read_one(self, id: int, place: int) -> torch.Tensor:
        positions = torch.tensor([[place]], device=self.loaded.device) if self._positions else None
        return forward(self.loaded, [[id]], keep=1, cache=self.cache, positions=positions)[0]

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
