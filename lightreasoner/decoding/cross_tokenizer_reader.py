"""The steps of responses measured against an amateur with another tokenizer: for batches, and for one response."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields

import numpy as np
import torch

from lightreasoner.decoding.amateur_reader import AmateurReader
from lightreasoner.decoding.cached_decoder import left_unread
from lightreasoner.decoding.cross_tokenizer import PIECE, AcrossRow, StepReading
from lightreasoner.decoding.decoding_loop import DecodedChunk
from lightreasoner.decoding.tree_reader import Asking, answer_all, check_tree, read_trees
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


#: Scores of steps on the host, whether each taken token was compared, the expert's mass compared; each (steps,).
Seen = tuple[StepTensors, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Bounds:
    """What is known of some steps: the expert's log-probabilities (steps, its tokens), the amateur's at least and at
    most, and the other arguments of `measure_across`."""

    log_e: torch.Tensor
    log_q: torch.Tensor
    most: torch.Tensor
    slack: torch.Tensor
    exact: torch.Tensor


def _measured(bounds: Bounds, tokens: list[int], above: float | None) -> Seen:
    """The scores of steps of which this is known. tokens: that were taken."""
    log_e, log_q, most = bounds.log_e, bounds.log_q, bounds.most
    taken = torch.tensor(tokens, device=log_e.device)
    place = taken.clamp_max(log_q.shape[1] - 1)[:, None]
    known = ((most - log_q).gather(-1, place)[:, 0] + bounds.slack <= TOLERANCE) & (taken < log_q.shape[1])
    found, compared = measure_across(log_e, log_q, most, place[:, 0], bounds.exact, bounds.slack, above)
    return to_host(found), known.cpu(), compared.cpu()


def _join(parts: list[Seen]) -> Seen:
    return join_steps([part[0] for part in parts]), *(torch.cat([part[n] for part in parts]) for n in (1, 2))


class AcrossScorer:
    """Responses that are read by both models of a pair across tokenizers. One is named by its place."""

    def __init__(self, pair: Pair, prompts: list[list[int]], apart: bool = True):
        """prompts: the amateur's. apart: each response is read by itself, and the last tokens of its prompt together
        with its first ones. Raises UserError for a model that cannot read several continuations at once."""
        amateur = pair.amateur
        check_tree(amateur)
        self.pair, self.loaded, self.across = pair, amateur, pair.across
        read = [max(0, len(prompt) - (left_unread(amateur, prompt) if apart else 1)) for prompt in prompts]
        self.trees = read_trees(amateur, [ids[:count] for ids, count in zip(prompts, read, strict=True)], apart)
        self.rows = [AcrossRow(self.across, amateur, *row) for row in zip(prompts, read, strict=True)]
        plain = np.flatnonzero(self.across.plain)
        found = [*zip(plain.tolist(), self.across.identical[plain].tolist(), strict=True)]
        theirs = amateur.end_ids
        found += [both for both in self.across.control if both[0] not in pair.expert.end_ids and both[1] not in theirs]
        self.plain, self.identical = torch.tensor(found, dtype=torch.long).reshape(-1, 2).T
        self.ends = frozenset(id for id in pair.expert.end_ids if id < self.across.expert.size)

    def select(self, rows: torch.Tensor) -> None:
        """Continue with these responses only, in this order."""
        self.trees.select(rows)
        self.rows = [self.rows[row] for row in rows.tolist()]

    def measure(self, tokens: list[int], logits: torch.Tensor, above: float | None = None) -> Seen:
        """The next steps of the first response. Arguments as of `measuring`; raises NotADistribution."""
        return answer_all({0: self.measuring(0, tokens, logits, above)}, self.trees)[0]

    def measuring(self, row: int, tokens: list[int], logits: torch.Tensor, above: float | None = None) -> Asking[Seen]:
        """The scores of the next steps of a response, by what it asks for. Raises NotADistribution.

        tokens: the next of the response; logits: the expert's (steps, output rows).
        """
        parts, size = [], len(tokens) if self.across.alike else PIECE
        for start in range(0, len(tokens), size):
            piece = slice(start, start + size)
            log_e, ended = self.expected(tokens[piece], logits[piece])
            try:
                readings = yield from self.reading(row, tokens[piece], self.wanted(log_e))
            except NotADistribution:  # the amateur's; at which of its tokens says nothing here
                raise NotADistribution([start]) from None
            parts.append(self.measured(log_e, ended, readings, tokens[piece], above))
        return _join(parts)

    def expected(self, tokens: list[int], logits: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """(the expert's log-probabilities (steps, its tokens), its end of the turn at each step)."""
        return self._one_end(log_probs(logits[:, : self.across.expert.size]), tokens)

    def wanted(self, log_e: torch.Tensor) -> list[dict[int, float]]:
        """Of each step the plausible tokens with their log-probabilities."""
        step, ids = plausible(log_e, ALPHA_FLOOR).nonzero(as_tuple=True)
        found: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for n, id, log_p in zip(step.tolist(), ids.tolist(), log_e[step, ids].tolist(), strict=True):
            found[n][id] = log_p
        return [found[n] for n in range(len(log_e))]

    def reading(self, row: int, tokens: list[int], wanted: list[dict[int, float]]) -> Asking[list[StepReading]]:
        """What a response's next tokens ask for, and the readings. wanted: as AcrossRow.reading takes it."""
        return self.rows[row].reading(tokens, wanted, self.ends)

    def measured(
        self,
        log_e: torch.Tensor,
        ended: list[int],
        readings: list[StepReading],
        tokens: list[int],
        above: float | None = None,
    ) -> Seen:
        """The scores of steps of which this was read. tokens: that were taken."""
        parts = []
        for block in blocks(log_e):
            parts.append(_measured(self.bounds(log_e[block], ended[block], readings[block]), tokens[block], above))
        return _join(parts)

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

    def bounds(self, log_e: torch.Tensor, ended: list[int], readings: list[StepReading]) -> Bounds:
        """What is known of steps. log_e, ended: see `expected`."""
        device = log_e.device
        log_q, most = torch.full_like(log_e, -math.inf), torch.full_like(log_e, math.inf)
        exact = [SUMMED] * len(readings)
        if told := [n for n, reading in enumerate(readings) if reading.tail]:
            self._from_tails(told, readings, log_q, most, exact)
        if cells := [(n, id, *log) for n, reading in enumerate(readings) for id, log in reading.sums.items()]:
            steps, ids, low, high = zip(*cells, strict=True)
            at = torch.tensor([steps, ids], device=device).unbind()
            low, high = torch.tensor([low, high], device=device).to(log_q)
            log_q[at], most[at] = low, torch.minimum(high, most[at]).maximum(low)
            for n in steps:
                exact[n] = SUMMED
        cells = [(n, ended[n], one.end) for n, one in enumerate(readings) if one.end is not None and ended[n] >= 0]
        if cells:
            steps, ids, ends = zip(*cells, strict=True)
            at = torch.tensor([steps, ids], device=device).unbind()
            log_q[at] = most[at] = torch.tensor(ends, device=device).to(log_q)
        possible = log_e > -math.inf
        log_q, most = torch.where(possible, log_q, -math.inf), torch.where(possible, most, math.inf)
        # What is known of different tokens is part of N of the text before, which is thus at least their sum.
        surplus = log_q.logsumexp(-1, keepdim=True)
        surplus = torch.where(surplus > EXACT, surplus, 0.0)  # less is rounding
        slack = torch.tensor([reading.slack for reading in readings], device=device)[:, None]
        wrong = surplus > slack + ROUNDING  # never seen; nothing is then said of the step
        log_q = torch.where(wrong, -math.inf, log_q - surplus)
        most = torch.where(wrong, math.inf, most - surplus)
        slack, exact = (slack - surplus).clamp_min(0.0)[:, 0], torch.tensor(exact, device=device)[:, None]
        return Bounds(log_e, log_q, most, slack, exact)

    def _from_tails(
        self, told: list[int], readings: list[StepReading], log_q: torch.Tensor, most: torch.Tensor, exact: list[float]
    ) -> None:
        """Write what the amateur's own probabilities say of these steps into `log_q` and `most`, and where nothing else
        is needed, into `exact`."""
        rows, shifts, masks = zip(*(readings[n].tail for n in told), strict=True)
        rows, shift = torch.stack(rows).to(log_q.device), torch.tensor(shifts, device=log_q.device)[:, None]
        plain, identical = (ids.to(log_q.device) for ids in (self.plain, self.identical))
        values = rows[:, identical] + shift.to(rows)
        limited = [k for k, mask in enumerate(masks) if mask is not None or not self.across.alike]
        if limited:
            limit = self.across.most(rows[limited].exp().cpu().numpy()) * np.exp([[shifts[k]] for k in limited])
            for k, own in zip(limited, limit, strict=True):
                if (reaching := readings[told[k]].across) is not None:
                    own += reaching[self.across.expert_first]
            most[[told[k] for k in limited]] = torch.from_numpy(limit).log().to(most)
        for k, mask in enumerate(masks):
            if mask is None:
                exact[told[k]] = EXACT
            else:
                values[k] = torch.where(torch.from_numpy(mask).to(plain.device)[plain], values[k], -math.inf)
        at = torch.tensor(told, device=log_q.device)[:, None]
        log_q[at, plain], most[at, plain] = values, torch.where(values > -math.inf, values, most[at, plain])


class AcrossReader(AmateurReader):
    """AmateurReader for a pair across tokenizers."""

    def _begin(self, prompts: list[list[int]], apart: bool, steps: int) -> None:
        self.scorer = AcrossScorer(self.pair, prompts, apart)
        self.rows = list(range(len(prompts)))  # the rows in the scorer

    def measure(self, chunk: DecodedChunk) -> None:
        """Measure the steps of a chunk."""
        if len(chunk.living) < len(self.rows):
            self.scorer.select(torch.tensor([self.rows.index(row) for row in chunk.living]))
            self.rows = chunk.living
        asking, places = {}, {}
        for place, row in enumerate(self.rows):
            which = np.flatnonzero(chunk.rows == row)
            which = places[place] = which[np.argsort(chunk.steps[which])]
            asking[place] = self._measuring(place, which, chunk)
        results = answer_all(asking, self.scorer.trees)
        for place, (found, known, compared) in results.items():
            arrays = {field.name: getattr(found, field.name).numpy() for field in fields(StepTensors)}
            arrays["compared"] = compared.numpy()
            which = places[place]
            self.parts.append((chunk.rows[which], chunk.steps[which], known.numpy(), arrays))

    def _measuring(self, place: int, which: np.ndarray, chunk: DecodedChunk) -> Asking[Seen]:
        """The measuring of the row at a place, whose steps lie at these places of the chunk."""
        logits = chunk.logits[torch.from_numpy(which).to(chunk.logits.device)]
        above = self.floor if self.floor > 0 else None
        try:
            return (yield from self.scorer.measuring(place, chunk.tokens[which].tolist(), logits, above))
        except NotADistribution as error:
            raise self._not_a_distribution(self.rows[place], chunk.steps[which[error.rows[0]]], error) from error


def amateur_reader(pair: Pair, *args) -> AmateurReader:
    """The reader of a pair's amateur; arguments as AmateurReader takes them."""
    return (AcrossReader if pair.across else AmateurReader)(pair, *args)
