"""The next step of a response measured against an amateur with another tokenizer, before its token is known.

So decodes a contrast: it needs the step's divergence and target to choose the token. The expert's own choice stands in
for the token, which it mostly is; where another one is taken, the amateur turns back and reads that.
"""

from __future__ import annotations

import copy

import torch

from lightreasoner.decoding.batch_decoder import common_prefix
from lightreasoner.decoding.cross_tokenizer_reader import AcrossScorer, measured
from lightreasoner.decoding.tree_reader import TreeReader, check_tree
from lightreasoner.models.pairs import Pair
from lightreasoner.scoring.divergence import StepTensors

#: Scores of one step on the host, whether its token was compared, the expert's mass compared; each (1,).
Seen = tuple[StepTensors, torch.Tensor, torch.Tensor]


class AcrossAhead:
    """One response of a pair across tokenizers: `look` at a step, then `take` its token."""

    def __init__(self, scorer: AcrossScorer):
        self.scorer = scorer

    def look(self, logits: torch.Tensor, above: float | None = None) -> StepTensors:
        """The next step's scores. logits: the expert's (its output rows). above: see `measure_across`.

        Raises NotADistribution.
        """
        self._own = int(logits[: len(self.scorer.pair.expert.tokenizer)].float().argmax())
        self._before = self.scorer.row.copy(self.scorer.row.reader)
        self._bounds = self.scorer.bounds([self._own], logits[None])
        self._seen = measured(self._bounds, [self._own], above)
        return self._seen[0]

    def take(self, token: int) -> Seen:
        """Go on with this token; the scores of the step that was looked at, with the numbers of this token.

        Raises NotADistribution.
        """
        if token == self._own:
            return self._seen
        self.scorer.row = self._before
        self.scorer.row.read([token], [[]], self.scorer.ends)
        return measured(self._bounds, [token])

    def copy(self) -> AcrossAhead:
        """Another one at the same step, which goes its own way."""
        other = copy.copy(self)
        other.scorer = self.scorer.copy()
        other._before = self._before.copy(other.scorer.row.reader)
        return other


class AcrossRows:
    """An amateur with another tokenizer along several responses, whose rows are named by their places."""

    def __init__(self, pair: Pair, prompts: list[list[int]]):
        """prompts: the amateur's. Raises UserError for a model that cannot read several continuations at once."""
        check_tree(pair.amateur)
        self.loaded, begun = pair.amateur, TreeReader(pair.amateur)
        begun.prefill(common_prefix([prompt[:-1] for prompt in prompts]))
        self.rows = [AcrossAhead(AcrossScorer(pair, prompt, begun.copy())) for prompt in prompts]

    def look(self, logits: torch.Tensor, which: list[bool], above: float) -> list[StepTensors | None]:
        """The scores of each row's next step, None for rows that are not asked for. logits: (rows, output rows).

        Raises NotADistribution.
        """
        return [
            row.look(own, above) if wanted else None for row, own, wanted in zip(self.rows, logits, which, strict=True)
        ]

    def take(self, tokens: list[int], which: list[bool]) -> None:
        for row, token, wanted in zip(self.rows, tokens, which, strict=True):
            if wanted:
                row.take(token)

    def copy(self, sources: list[int], places: list[int]) -> None:
        """Let the rows at `places` go on as those at `sources` do. Places behind the last row are new rows."""
        for source, place in zip(sources, places, strict=True):
            self.rows[place : place + 1] = [self.rows[source].copy()]

    def select(self, rows: torch.Tensor) -> None:
        """Continue with these rows only, in this order."""
        self.rows = [self.rows[row] for row in rows.tolist()]
