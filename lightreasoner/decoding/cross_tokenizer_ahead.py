"""The next steps of responses measured against an amateur with another tokenizer, before their tokens are known.

So decodes a contrast: it needs a step's divergence and target to choose the token. The expert's own choice stands in
for the token, which it mostly is; where another one is taken, the amateur turns back and reads that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lightreasoner.decoding.batch_decoder import common_prefix
from lightreasoner.decoding.cross_tokenizer import AcrossRow, StepReading
from lightreasoner.decoding.cross_tokenizer_reader import AcrossScorer, Seen
from lightreasoner.decoding.tree_reader import Asking, Continuation, answer_all
from lightreasoner.models.pairs import Pair
from lightreasoner.models.tokenizer_pair import AcrossVocabulary
from lightreasoner.scoring.divergence import StepTensors

MOST_AHEAD = 4  # of the amateur's tokens that are written to see which of the expert's its text begins with


class AcrossAhead(AcrossScorer):
    """`look` at the next steps, then `take` their tokens."""

    def __init__(self, pair: Pair, prompts: list[list[int]], apart: bool = True):
        """As of AcrossScorer."""
        super().__init__(pair, prompts, apart)
        #: Of each response that was looked at, its state before that, and the expert's own token.
        self._before: list[tuple[AcrossRow, int] | None] = [None] * len(prompts)

    def look(
        self, logits: torch.Tensor, asked: Sequence[int], above: float | None = None, amateurs: bool = False
    ) -> StepTensors:
        """The scores of the next steps of these responses; `choices` are then the expert's own tokens, or the amateur's
        where `amateurs`.

        logits: the expert's (responses, output rows). above: see `measure_across`. Raises NotADistribution.
        """
        logits = logits[list(asked)]
        self.choices = own = logits[:, : len(self.pair.expert.tokenizer)].float().argmax(-1).tolist()
        log_e, ended = self.expected(own, logits)
        wanted = self.wanted(log_e)
        for row, token in zip(asked, own, strict=True):
            self._before[row] = self.rows[row].copy(), token
        readings = self._read(asked, own, wanted)
        if amateurs:
            log_q = self.bounds(log_e, ended, readings).log_q
            if places := self._look_for_more(asked, log_q, log_e, wanted):
                rows = [asked[n] for n in places]
                more = self._read(rows, [own[n] for n in places], [wanted[n] for n in places])
                for n, reading in zip(places, more, strict=True):
                    readings[n] = reading
                log_q = self.bounds(log_e, ended, readings).log_q
            best = log_q.max(-1)
            found = zip(best.values.tolist(), best.indices.tolist(), own, strict=True)
            self.choices = [id if log > -torch.inf else token for log, id, token in found]
        self._read_so = log_e, ended, readings
        self._own, self._seen = own, self.measured(*self._read_so, own, above)
        return self._seen[0]

    def scores(self, tokens: list[int]) -> Seen:
        """Those of the steps that were looked at, with the numbers of these tokens."""
        return self._seen if tokens == self._own else self.measured(*self._read_so, tokens)

    def take(self, tokens: dict[int, int]) -> None:
        """Go on with a token of each response that was looked at. Raises NotADistribution."""
        others = {row: token for row, token in tokens.items() if token != self._before[row][1]}
        for row in others:
            self._turn_back(row)
        self._read(list(others), list(others.values()), [{}] * len(others))

    def copy(self, sources: list[int], places: list[int]) -> None:
        """Let the responses at `places` go on as those at `sources` do. Places behind the last are new ones."""
        self.trees.copy(sources, places)
        for source, place in zip(sources, places, strict=True):
            self.rows[place : place + 1] = [self.rows[source].copy()]
            self._before[place : place + 1] = [self._before[source]]

    def select(self, rows: torch.Tensor) -> None:
        super().select(rows)
        self._before = [self._before[row] for row in rows.tolist()]

    def _read(self, rows: Sequence[int], tokens: list[int], wanted: list[dict[int, float]]) -> list[StepReading]:
        """The readings of one step of each of these responses."""
        asking = {row: self.reading(row, [token], [own]) for row, token, own in zip(rows, tokens, wanted, strict=True)}
        found = answer_all(asking, self.trees)
        return [found[row][0] for row in rows]

    def _turn_back(self, row: int) -> None:
        self.rows[row] = self._before[row][0].copy(self.rows[row])

    def _look_for_more(
        self, asked: Sequence[int], log_q: torch.Tensor, log_e: torch.Tensor, wanted: list[dict[int, float]]
    ) -> list[int]:
        """Want more tokens where the amateur's choice is not known yet; at which of the steps there are some.

        It is the expert's token with which the amateur's text most likely goes on. Tokens that are not known share what
        the known ones leave of the whole. Where one of them may be the most likely, those with which the amateur's own
        greedy text begins are looked at as well.
        """
        unsure = (log_q.amax(-1).exp() < 1 - log_q.exp().sum(-1)).nonzero()[:, 0].tolist()
        unsure = [n for n in unsure if not self.rows[asked[n]].full]
        starts = answer_all({asked[n]: self._greedy_tokens(asked[n]) for n in unsure}, self.trees)
        more = {n: [id for id in starts[asked[n]] if log_q[n, id] == -torch.inf] for n in unsure}
        for n, ids in more.items():
            wanted[n] = wanted[n] | {id: float(log_e[n, id]) for id in ids}
            if ids:
                self._turn_back(asked[n])
        return [n for n, ids in more.items() if ids]

    def _greedy_tokens(self, response: int) -> Asking[list[int]]:
        """The first of the expert's tokens of what the amateur would write: after the text so far, and after all but
        its last token, which it may rather write together with what follows."""
        row, across, here = self._before[response][0], self.across, self.rows[response]
        ids, last = [*row.prompt, *row.spine], len(row.prompt) - 1
        same = len(common_prefix([here.ids, ids]))
        first = min(same, max(last, len(ids) - 2))
        rows, texts = (yield Continuation(len(here.ids) - first, ids[first:], len(ids) - first)), []
        here.ids, here.kept = ids, []
        for place in range(max(first, last, len(ids) - 2), len(ids)):
            number = place - last  # of the amateur's tokens of the response
            if number == len(row.spine) or row.spells[number] is not None:
                texts.append(_Greedy(place, rows[place - first], row.text[row.at[number] :]))
        for _ in range(MOST_AHEAD):
            going, branches = [one for one in texts if one.go_on(across, row.ends)], []
            if not going or len(ids) + MOST_AHEAD > row.room:
                break
            for one in going:
                above = [one.place, *(-1 - n for n in range(len(branches), len(branches) + len(one.ids) - 1))]
                branches += zip(above, one.ids, strict=True)
                one.end = len(branches) - 1
            found = yield Continuation(0, [], 0, branches)
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
