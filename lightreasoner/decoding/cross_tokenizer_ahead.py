"""The next step of a response measured against an amateur with another tokenizer, before its token is known.

So decodes a contrast: it needs the step's divergence and target to choose the token. The expert's own choice stands in
for the token, which it mostly is; where another one is taken, the amateur turns back and reads that.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass, field

import torch

from lightreasoner.decoding.batch_decoder import common_prefix
from lightreasoner.decoding.cross_tokenizer_reader import AcrossScorer, Bounds, measured
from lightreasoner.decoding.tree_reader import Continuation, TreeReader, answer, check_tree
from lightreasoner.models.pairs import Pair
from lightreasoner.models.tokenizer_pair import AcrossVocabulary
from lightreasoner.scoring.divergence import StepTensors

MOST_AHEAD = 4  # of the amateur's tokens that are written to see which of the expert's its text begins with

#: Scores of one step on the host, whether its token was compared, the expert's mass compared; each (1,).
Seen = tuple[StepTensors, torch.Tensor, torch.Tensor]


class AcrossAhead:
    """One response of a pair across tokenizers: `look` at a step, then `take` its token."""

    def __init__(self, scorer: AcrossScorer):
        self.scorer, self.choice = scorer, -1

    def look(self, logits: torch.Tensor, above: float | None = None, amateurs: bool = False) -> StepTensors:
        """The next step's scores; `choice` is then the expert's own token, or the amateur's where `amateurs`.

        logits: the expert's (its output rows). above: see `measure_across`. Raises NotADistribution.
        """
        self._own = self.choice = int(logits[: len(self.scorer.pair.expert.tokenizer)].float().argmax())
        self._before = self.scorer.row.copy(self.scorer.row.reader)
        self._bounds = self._answer(self.scorer.bounds([self._own], logits[None]))
        if amateurs:
            self.choice = self._amateurs_choice(logits)
        self._seen = measured(self._bounds, [self._own], above)
        return self._seen[0]

    def take(self, token: int) -> Seen:
        """Go on with this token; the scores of the step that was looked at, with the numbers of this token.

        Raises NotADistribution.
        """
        if token == self._own:
            return self._seen
        self.scorer.row = self._before.beside(self.scorer.row)
        self.scorer.row.read([token], [{}], self.scorer.ends)
        return measured(self._bounds, [token])

    def copy(self) -> AcrossAhead:
        """Another one at the same step, which goes its own way."""
        other = copy.copy(self)
        other.scorer = self.scorer.copy()
        other._before = self._before.copy(other.scorer.row.reader)
        return other

    def _answer(self, asking: Generator[Continuation, torch.Tensor, Bounds]) -> Bounds:
        return answer(asking, self.scorer.row.reader)

    def _amateurs_choice(self, logits: torch.Tensor) -> int:
        """The expert's token with which the amateur's text most likely goes on; the expert's own where none is known.

        Tokens that are not known share what the known ones leave of the whole. Where one of them may be the most
        likely, those with which the amateur's own greedy text begins are looked at as well.
        """
        log_q = self._bounds.log_q[0]
        sure = log_q.max().exp() >= 1 - log_q.exp().sum()
        if more := [] if sure else [id for id in self._greedy_tokens() if log_q[id] == -torch.inf]:
            self.scorer.row = self._before.copy(self._before.reader).beside(self.scorer.row)
            self._bounds = self._answer(self.scorer.bounds([self._own], logits[None], more))
            log_q = self._bounds.log_q[0]
        return int(log_q.argmax()) if log_q.max() > -torch.inf else self._own

    def _greedy_tokens(self) -> list[int]:
        """The first of the expert's tokens of what the amateur would write: after the text so far, and after all but
        its last token, which it may rather write together with what follows."""
        row, reader = self._before, self._before.reader
        ids, across, last = [*row.prompt, *row.spine], row.across, len(row.prompt) - 1
        same = len(common_prefix([reader.ids, ids]))
        first = min(same, max(last, len(ids) - 2))
        reader.retract(len(reader.ids) - first)
        rows, texts = reader.read(ids[first:]), []
        self.scorer.row.ids, self.scorer.row.kept = ids, []
        for place in range(max(first, last, len(ids) - 2), len(ids)):
            number = place - last  # of the amateur's tokens of the response
            if number == len(row.spine) or row.spells[number] is not None:
                texts.append(_Greedy(place, rows[place - first], row.text[row.at[number] :]))
        for _ in range(MOST_AHEAD):
            going, branches = [one for one in texts if one.go_on(across, row.ends)], []
            if not going or len(ids) + MOST_AHEAD > row.room:
                break
            for one in going:
                above = [one.place, *range(len(ids) + len(branches), len(ids) + len(branches) + len(one.ids) - 1)]
                branches += zip(above, one.ids, strict=True)
                one.end = len(branches) - 1
            found = reader.read([], branches)
            for one in going:
                one.logits = found[one.end]
        starts = [across.expert.encode(one.written.decode("utf-8", "ignore").encode()) for one in texts]
        return list(dict.fromkeys(start[0] for start in starts if start))


@dataclass
class _Greedy:
    """What the amateur would write after a place of its sequence, of which a beginning is there already."""

    place: int
    logits: torch.Tensor | None  # (output rows,) of its next token
    rest: bytes  # of what is there
    written: bytes = b""  # beyond it
    ids: list[int] = field(default_factory=list)
    end: int = 0  # the last one's branch

    def go_on(self, across: AcrossVocabulary, ends: list[int]) -> bool:
        """Write one token more. Whether another one may still change the first of the expert's tokens."""
        amateur, logits, fitting = across.amateur, self.logits, []
        if logits is None:
            return False
        if self.rest:
            begun = (amateur.id_of.get(self.rest[:size]) for size in range(1, len(self.rest)))
            fitting = [*amateur.sorted_ids[amateur.beginning_with(self.rest)].tolist(), *filter(None, begun)]
            id = fitting[int(logits[fitting].argmax())] if fitting else -1
        else:
            id = int(logits[: amateur.size].argmax())
        own, self.logits = amateur.bytes_of[id] if id >= 0 else None, None
        if not own or id in ends:
            return False
        self.ids.append(id)
        self.rest, self.written = self.rest[len(own) :], self.written + own[len(self.rest) :]
        return len(across.expert.encode(self.written) or ()) < 2


class AcrossRows:
    """An amateur with another tokenizer along several responses, whose rows are named by their places."""

    def __init__(self, pair: Pair, prompts: list[list[int]]):
        """prompts: the amateur's. Raises UserError for a model that cannot read several continuations at once."""
        check_tree(pair.amateur)
        self.loaded, begun = pair.amateur, TreeReader(pair.amateur)
        begun.prefill(common_prefix([prompt[:-1] for prompt in prompts]))
        self.rows = []
        for prompt in prompts:
            reader = begun.copy()
            reader.prefill(prompt[len(reader.ids) : -1])
            self.rows.append(AcrossAhead(AcrossScorer(pair, prompt, reader)))

    def look(
        self, logits: torch.Tensor, which: list[bool], above: float, amateurs: bool
    ) -> list[tuple[StepTensors, int] | None]:
        """Of each row's next step the scores and `choice`; None for rows that are not asked for.

        logits: (rows, output rows). above, amateurs: see AcrossAhead. Raises NotADistribution.
        """
        rows = zip(self.rows, logits, which, strict=True)
        return [(row.look(own, above, amateurs), row.choice) if wanted else None for row, own, wanted in rows]

    def take(self, tokens: list[int], which: list[bool]) -> None:
        """Go on with a token of each row that was asked for. Raises NotADistribution."""
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
