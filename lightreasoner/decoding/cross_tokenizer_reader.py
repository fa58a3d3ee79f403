"""The steps of responses measured against an amateur with another tokenizer: for batches, and for one response."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from lightreasoner.decoding.amateur_reader import AmateurReader
from lightreasoner.decoding.cached_decoder import left_unread
from lightreasoner.decoding.cross_tokenizer import PIECE, AcrossRow, StepReading
from lightreasoner.decoding.decoding_loop import DecodedChunk
from lightreasoner.decoding.forward_pass import APART, reading_of
from lightreasoner.decoding.tree_reader import (
    BatchRow,
    Continuation,
    TreeBatch,
    TreeReader,
    answer,
    answer_all,
    check_tree,
)
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import ALPHA_FLOOR
from lightreasoner.scoring.divergence import (
    NotADistribution,
    StepTensors,
    blocks,
    join_steps,
    log_probs,
    plausible,
    to_host,
)
from lightreasoner.scoring.divergence_bounds import TOLERANCE, measure_across

#: The smallest probability of the rest that is told: where all sums are one product, and elsewhere.
EXACT, SUMMED = 1e-6, 1e-3
ROUNDING = 0.01  # by which the compared probabilities may exceed 1 and are divided by their sum


@dataclass(frozen=True)
class Bounds:
    """What is known of some steps: the expert's log-probabilities (steps, its tokens), the amateur's at least and at
    most, and the other arguments of `measure_across`."""

    log_e: torch.Tensor
    log_q: torch.Tensor
    most: torch.Tensor
    slack: torch.Tensor
    exact: torch.Tensor


def measured(
    bounds: Bounds, tokens: list[int], above: float | None = None
) -> tuple[StepTensors, torch.Tensor, torch.Tensor]:
    """`AcrossScorer.measure` for steps of which this is known. tokens: that were taken."""
    log_e, log_q, most = bounds.log_e, bounds.log_q, bounds.most
    taken = torch.tensor(tokens, device=log_e.device)
    place = taken.clamp_max(log_q.shape[1] - 1)[:, None]
    known = ((most - log_q).gather(-1, place)[:, 0] + bounds.slack <= TOLERANCE) & (taken < log_q.shape[1])
    found, compared = measure_across(log_e, log_q, most, place[:, 0], bounds.exact, bounds.slack, above)
    return to_host(found), known.cpu(), compared.cpu()


#: (scores on the host, whether each taken token was compared, the expert's mass compared), each (steps,), asked for.
Measuring = Generator[Continuation, torch.Tensor, tuple[StepTensors, torch.Tensor, torch.Tensor]]


class AcrossScorer:
    """One response, read by both models of a pair across tokenizers."""

    def __init__(self, pair: Pair, prompt: list[int], reader: TreeReader | BatchRow | None = None):
        """prompt: the amateur's; reader: has read a beginning of it."""
        self.pair, self.across = pair, pair.across
        if reader is None:  # the last tokens of the prompt are read together with the first ones of the response
            reader = TreeReader(pair.amateur)
            reader.prefill(prompt[: -left_unread(pair.amateur, prompt)])
        self.row = AcrossRow(self.across, pair.amateur, reader, prompt)
        plain = np.flatnonzero(self.across.plain)
        found = [*zip(plain.tolist(), self.across.identical[plain].tolist(), strict=True)]
        theirs = pair.amateur.end_ids
        found += [both for both in self.across.control if both[0] not in pair.expert.end_ids and both[1] not in theirs]
        self.plain, self.identical = torch.tensor(found, dtype=torch.long).reshape(-1, 2).T
        self.ends = frozenset(id for id in pair.expert.end_ids if id < self.across.expert.size)

    def measure(
        self, tokens: list[int], logits: torch.Tensor, above: float | None = None
    ) -> tuple[StepTensors, torch.Tensor, torch.Tensor]:
        """(scores on the host, whether each taken token was compared, the expert's mass compared), each (steps,).

        tokens: the next of the response; logits: the expert's (steps, output rows). Raises NotADistribution.
        """
        return answer(self.measuring(tokens, logits, above), self.row.reader)

    def measuring(self, tokens: list[int], logits: torch.Tensor, above: float | None = None) -> Measuring:
        """`measure` that asks for what must be read."""
        parts, size = [], len(tokens) if self.across.alike else PIECE
        for start in range(0, len(tokens), size):
            piece = slice(start, start + size)
            try:
                parts += yield from self._piece(tokens[piece], logits[piece], above)
            except NotADistribution as error:
                raise NotADistribution([start + error.rows[0]]) from None
        return join_steps([part[0] for part in parts]), *(torch.cat([part[n] for part in parts]) for n in (1, 2))

    def _piece(
        self, tokens: list[int], logits: torch.Tensor, above: float | None
    ) -> Generator[Continuation, torch.Tensor, list[tuple[StepTensors, torch.Tensor, torch.Tensor]]]:
        log_e, *known = yield from self._reading(tokens, logits)
        return [measured(self._bounds(block, log_e, *known), tokens[block], above) for block in blocks(log_e)]

    def bounds(
        self, tokens: list[int], logits: torch.Tensor, more: Sequence[int] = ()
    ) -> Generator[Continuation, torch.Tensor, Bounds]:
        """What is known of the next steps. Arguments as of `measure`; raises NotADistribution.

        more: tokens that are looked at besides the plausible ones.
        """
        return self._bounds(slice(None), *(yield from self._reading(tokens, logits, more)))

    def _bounds(
        self, block: slice, log_e: torch.Tensor, ended: list[int], readings: list[StepReading], rows: torch.Tensor
    ) -> Bounds:
        return Bounds(log_e[block], *self._log_q(readings[block], rows, ended[block], log_e[block]))

    def _reading(
        self, tokens: list[int], logits: torch.Tensor, more: Sequence[int] = ()
    ) -> Generator[Continuation, torch.Tensor, tuple[torch.Tensor, list[int], list[StepReading], torch.Tensor]]:
        """(the expert's log-probabilities, its end of the turn at each step, what the row read, the rows of that)."""
        log_e, ended = self._one_end(log_probs(logits[:, : self.across.expert.size]), tokens)
        wanted = []
        for row, likely in zip(log_e, plausible(log_e, ALPHA_FLOOR), strict=True):
            likely[[id for id in more if id < len(likely)]] = True
            ids = likely.nonzero()[:, 0]
            wanted.append(dict(zip(ids.tolist(), row[ids].tolist(), strict=True)))
        try:
            readings, rows = yield from self.row.reading(tokens, wanted, self.ends)
        except NotADistribution:  # the amateur's; at which of its tokens says nothing here
            raise NotADistribution([0]) from None
        return log_e, ended, readings, rows

    def copy(self) -> AcrossScorer:
        """Another one at the same place of the same response, which goes its own way."""
        other = copy.copy(self)
        other.row = self.row.copy(self.row.reader.copy())
        return other

    def _one_end(self, log_e: torch.Tensor, tokens: list[int]) -> tuple[torch.Tensor, list[int]]:
        """The expert's ends of the turn as one token at each step: the taken one, or its most likely."""
        if not self.ends:
            return log_e, [-1] * len(tokens)
        ids = torch.tensor(sorted(self.ends), device=log_e.device)
        best = ids[log_e[:, ids].argmax(-1)].tolist()
        ended = [id if id in self.ends else own for id, own in zip(tokens, best, strict=True)]
        if len(ids) > 1:
            log_e = log_e.clone()
            together = log_e[:, ids].logsumexp(-1)
            log_e[:, ids] = -math.inf
            log_e[torch.arange(len(tokens), device=log_e.device), torch.tensor(ended, device=log_e.device)] = together
        return log_e, ended

    def _log_q(
        self, readings: list[StepReading], rows: torch.Tensor, ended: list[int], like: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """(the amateur's log-probabilities (steps, the expert's tokens), at least, −inf where nothing is known, and at
        most; (steps,) by how much they may be too high; (steps, 1) the smallest probability of the rest they can tell).
        """
        device = rows.device
        log_q = torch.full_like(like, -math.inf, device=device)
        most = torch.full_like(like, math.inf, device=device)
        exact = [SUMMED] * len(readings)
        plain, identical = (ids.to(device) for ids in (self.plain, self.identical))
        alone = [n for n, reading in enumerate(readings) if reading.tail and reading.tail[2] is None]
        if self.across.alike and alone:  # nothing but the amateur's own probabilities
            place, shift = zip(*(readings[n].tail[:2] for n in alone), strict=True)
            values = rows[list(place)][:, identical] + torch.tensor(shift, device=device, dtype=rows.dtype)[:, None]
            at = torch.tensor(alone, device=device)[:, None]
            log_q[at, plain] = most[at, plain] = values
        for n, reading in enumerate(readings):
            if reading.tail and self.across.alike and reading.tail[2] is None:
                exact[n] = EXACT
            elif reading.tail:
                row, shift, mask = reading.tail
                values = rows[row, identical] + shift
                limit = self.across.most(rows[row : row + 1].exp().cpu().numpy())[0] * math.exp(shift)
                if reading.across is not None:
                    limit += reading.across[self.across.expert_first]
                most[n] = torch.from_numpy(limit).log().to(most)
                if mask is None:
                    exact[n] = EXACT
                else:
                    values = torch.where(torch.from_numpy(mask).to(device)[plain], values, -math.inf)
                log_q[n, plain] = values
                most[n, plain] = torch.where(values > -math.inf, values, most[n, plain])
            if reading.sums:
                ids = torch.tensor(list(reading.sums), device=device)
                low, high = torch.tensor(list(reading.sums.values()), device=device).to(log_q).T
                log_q[n, ids], most[n, ids] = low, torch.minimum(high, most[n, ids]).maximum(low)
                exact[n] = SUMMED
            if reading.end is not None and ended[n] >= 0:
                log_q[n, ended[n]] = most[n, ended[n]] = reading.end
        log_q, most = log_q.to(like.device), most.to(like.device)
        possible = like > -math.inf
        log_q, most = torch.where(possible, log_q, -math.inf), torch.where(possible, most, math.inf)
        # What is known of different tokens is part of N of the text before, which is thus at least their sum.
        surplus = log_q.logsumexp(-1, keepdim=True)
        surplus = torch.where(surplus > EXACT, surplus, 0.0)  # less is rounding
        slack = torch.tensor([reading.slack for reading in readings], device=like.device)[:, None]
        wrong = surplus > slack + ROUNDING  # never seen; nothing is then said of the step
        log_q = torch.where(wrong, -math.inf, log_q - surplus)
        most = torch.where(wrong, math.inf, most - surplus)
        exact = torch.tensor(exact, device=like.device)[:, None]
        return log_q, most, (slack - surplus).clamp_min(0.0)[:, 0], exact


class AcrossReader(AmateurReader):
    """AmateurReader for a pair across tokenizers: each row is read by itself."""

    def _begin(self, prompts: list[list[int]], apart: bool, steps: int) -> None:
        amateur = self.pair.amateur
        check_tree(amateur)
        together = not apart and reading_of(amateur).many != APART
        self.batch = TreeBatch(amateur, prompts) if together else None
        readers = [self.batch.reader(row) if self.batch else None for row in range(len(prompts))]
        self.scorers = [AcrossScorer(self.pair, *own) for own in zip(prompts, readers, strict=True)]

    def measure(self, chunk: DecodedChunk) -> None:
        """Measure the steps of a chunk."""
        asking, places = {}, {}
        for row in np.unique(chunk.rows).tolist():
            which = np.flatnonzero(chunk.rows == row)
            which = places[row] = which[np.argsort(chunk.steps[which])]
            asking[row] = self._measuring(row, which, chunk)
        if self.batch:
            self.batch.leave(chunk.living)
            results = answer_all(asking, self.batch)
        else:
            results = {row: answer(asked, self.scorers[row].row.reader) for row, asked in asking.items()}
        for row, (found, known, compared) in results.items():
            arrays = {field.name: getattr(found, field.name).numpy() for field in fields(StepTensors)}
            arrays["compared"] = compared.numpy()
            self.parts.append((chunk.rows[places[row]], chunk.steps[places[row]], known.numpy(), arrays))

    def _measuring(self, row: int, which: np.ndarray, chunk: DecodedChunk) -> Measuring:
        """The measuring of a row's steps, which lie at these places of the chunk."""
        logits = chunk.logits[torch.from_numpy(which).to(chunk.logits.device)]
        above = self.floor if self.floor > 0 else None
        try:
            return (yield from self.scorers[row].measuring(chunk.tokens[which].tolist(), logits, above))
        except NotADistribution as error:
            raise self._not_a_distribution(row, chunk.steps[which[error.rows[0]]], error) from error


def amateur_reader(pair: Pair, *args) -> AmateurReader:
    """The reader of a pair's amateur; arguments as AmateurReader takes them."""
    return (AcrossReader if pair.across else AmateurReader)(pair, *args)
