"""Expert and amateur at the same position of the same response."""

from __future__ import annotations

from dataclasses import replace

import torch

from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import StepScore, score_steps
from lightreasoner.tracing.events import Step, StepsEvent, TuningShift


class PairDecoder:
    """Both models at the same place of the same response."""

    def __init__(self, pair: Pair, expert_prompt: list[int], amateur_prompt: list[int]):
        self.pair, self.alignment = pair, pair.alignment
        self.texts = TokenTexts(pair.expert.tokenizer)
        self.expert, self.expert_unread = CachedDecoder(pair.expert), expert_prompt[-1:]
        self.expert.prefill(expert_prompt[:-1])
        self.amateur = None if pair.same_model else CachedDecoder(pair.amateur)
        self.amateur_unread = amateur_prompt[-1:]
        if self.amateur:
            self.amateur.prefill(amateur_prompt[:-1])
        self.index = 0

    @property
    def writer(self) -> LoadedModel:
        """The model whose tokens the response is made of."""
        return self.pair.expert

    def next_logits(self) -> torch.Tensor:
        """The writer's logits (rows,) for the next token."""
        return self.expert.read(self.expert_unread, keep=1)[0]

    def append(self, token: int) -> None:
        """What became of the last prediction."""
        self.expert_unread = [token]

    def teacher_force(self, tokens: list[int]) -> torch.Tensor:
        """The writer's logits (steps, rows) for tokens that are already decided."""
        logits = self.expert.read(self.expert_unread + tokens[:-1], keep=len(tokens))
        self.expert_unread = tokens[-1:]
        return logits

    def _amateur_logits(self, tokens: list[int]) -> torch.Tensor:
        """(steps, rows): the amateur reads what it has not read yet, up to before the last of the tokens."""
        unread, rows, self.amateur_unread = self.alignment.retokenize_chunk(self.amateur_unread, tokens)
        keep = len(unread) - rows[0]
        logits = self.amateur.read(unread, keep)
        return logits if len(rows) == keep else logits[[row - rows[0] for row in rows]]

    def _logits(self, tokens: list[int], written: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each model's logits (steps, shared) for these tokens. written: (steps, rows), the writer's."""
        amateur_logits = self._amateur_logits(tokens) if self.amateur else written
        return self.alignment.expert(written), self.alignment.amateur(amateur_logits)

    def _compare(self, *logits_and_taken) -> list[tuple[StepScore, TuningShift | None]]:
        return [(score, None) for score in score_steps(*logits_and_taken)]

    def score(self, tokens: list[int], written: torch.Tensor) -> StepsEvent:
        """Score the next tokens of the response. written: (steps, rows), the writer's logits."""
        shared = [self.alignment.to_shared(t) for t in tokens]
        try:
            scores = self._compare(*self._logits(tokens, written), shared)
        except ValueError as error:
            raise UserError(
                f"At step {self.index} a model's output is not a distribution: {error}. "
                "Load it in another dtype, or use another model."
            ) from error
        if self.alignment.expert_ids is not None:  # what is kept speaks the expert's ids
            scores = [(replace(s, ids=tuple(map(self.alignment.to_expert, s.ids))), shift) for s, shift in scores]
        steps = [
            Step(self.index + n, token, self.texts.text(token), *score)
            for n, (token, score) in enumerate(zip(tokens, scores, strict=True))
        ]
        self.index += len(steps)
        return StepsEvent(steps)
