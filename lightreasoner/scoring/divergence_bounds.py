"""Divergences where some of an amateur's probabilities are known only within intervals: lower bounds of KL.

So it is where the amateur has another tokenizer (decoding/cross_tokenizer.py).
"""

import math
from dataclasses import fields

import torch

from lightreasoner.paper import ALPHA_FLOOR
from lightreasoner.scoring.divergence import (
    CANDIDATES,
    StepTensors,
    entropy,
    expectation,
    list_candidates,
    plausible,
    rank,
    step_columns,
)

#: Of an amateur with another tokenizer: nats between which a compared probability is known, total variation within
#: which a target is, and rounds of `_least_rest`.
TOLERANCE, TARGET_TOLERANCE, ROUNDS = 0.05, 0.05, 8


def measure_across(
    log_e: torch.Tensor,
    log_q: torch.Tensor,
    most: torch.Tensor,
    taken: torch.Tensor,
    exact: torch.Tensor,
    slack: torch.Tensor,
    above: float | None = None,
) -> tuple[StepTensors, torch.Tensor]:
    """Score steps where some of the amateur's probabilities are not known: (scores, expert's mass compared (steps,)).

    log_e: the expert's log-probabilities (steps, vocab). log_q: the amateur's, at least, −inf where they are not known;
    most: at most, inf where nothing is known. slack (steps,): by how much log_q may be too high as well. exact (steps,
    1): the smallest probability of the rest that log_q can tell.

    Tokens whose interval is narrower than TOLERANCE are compared. KL is the smallest that the intervals allow, so it is
    a lower bound (`_least_rest`). For the other measures all that is not compared is one event, the rest.

    Candidates are compared tokens only. A step has some if the contrastive target of any α from ALPHA_FLOOR on is known
    within TARGET_TOLERANCE. taken: (steps,); the amateur's numbers of one that was not compared are meaningless.
    """
    known = most - log_q <= TOLERANCE
    inside, low = torch.where(known, log_e, -math.inf), torch.where(known, log_q, -math.inf)
    p_rest = torch.where(known, 0.0, log_e.exp()).sum(-1, keepdim=True)
    q_rest = (1 - (low - slack[:, None]).exp().sum(-1, keepdim=True)).maximum(exact)
    q_rest = torch.where(p_rest > 0, q_rest, 0.0)  # all was compared, and what is left is rounding
    log_p, log_a = torch.cat([inside, p_rest.log()], -1), torch.cat([low, q_rest.log()], -1)
    top_e = log_e.argmax(-1)
    token, *columns = step_columns(log_p, log_a, taken, expectation)
    found = dict(zip((field.name for field in fields(StepTensors)), columns, strict=False))
    sure = expectation(torch.where(known, log_e.exp(), 0.0), torch.where(known, log_e - most, 0.0))
    found["kl"] = (sure + _least_rest(log_e, torch.where(known, math.inf, most), ~known, q_rest)).clamp_min(0.0)
    found |= {"expert_entropy": entropy(log_e), "expert_rank": rank(log_e, token), "amateur_rank": rank(low, token)}
    found |= {"expert_logprob": log_e.gather(-1, token[:, None])[:, 0], "agree": top_e == low.argmax(-1)}
    found["agree"] |= ~known.any(-1)  # where nothing is known, nobody disagrees
    whole = _targets_known(log_e, log_q, most)
    detailed = whole if above is None else whole & (found["kl"] > above)
    which = detailed.nonzero().flatten()
    counts = torch.zeros_like(token)
    listed = (known | plausible(log_e, ALPHA_FLOOR))[which]
    counts[which], *candidates = list_candidates(log_e[which], log_q[which], token[which], listed)
    scores = StepTensors(**found, counts=counts, **dict(zip(CANDIDATES, candidates, strict=True)))
    return scores, (1 - p_rest[:, 0]).clamp_min(0.0)


def _least_rest(log_p: torch.Tensor, most: torch.Tensor, rest: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """The smallest Σ p (log p − log q) over the rest's tokens, nats, where q ≤ exp(most) and Σ q ≤ total (steps, 1).

    It is reached by q = min(exp(most), c·p) with one c. Each round takes the tokens whose limit is below c·p from the
    sum, which makes c larger; the limits of the others are dropped, so every round's value is a lower bound.
    """
    p = torch.where(rest, log_p.exp(), 0.0)
    limit, least = torch.where(p > 0, most, math.inf), torch.finfo(p.dtype).tiny
    held = torch.zeros_like(rest)
    for more_rounds in reversed(range(ROUNDS)):
        mass = torch.where(held, 0.0, p).sum(-1, keepdim=True)
        left = (total - torch.where(held, limit.exp(), 0.0).sum(-1, keepdim=True)).clamp_min(least)
        log_c = (left / mass).log()
        more = limit < log_c + log_p
        if not more_rounds or not (more & ~held).any():
            break
        held = held | more
    free = torch.where(mass > 0, -mass * log_c, 0.0)[:, 0]
    return torch.where(held, p * (log_p - limit), 0.0).sum(-1) + free


def _targets_known(log_e: torch.Tensor, log_q: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """(steps,) whether the contrastive target of any α from ALPHA_FLOOR on moves by at most TARGET_TOLERANCE in total
    variation while the amateur's log-probabilities move between `log_q` and `most`."""
    keep, found = plausible(log_e, ALPHA_FLOOR), []
    for row, wanted in enumerate(keep):
        ids = wanted.nonzero()[:, 0]
        log_p, low, high = log_e[row, ids], log_q[row, ids], most[row, ids]
        if not (low.isfinite() & high.isfinite()).all():
            found.append(False)
            continue
        log_p, order = log_p.double().sort(descending=True)
        largest, smallest = log_p - low[order], log_p - high[order]
        scale = largest.max()
        largest, smallest = (largest - scale).exp(), (smallest - scale).exp()
        others_low = smallest.cumsum(0)[:, None] - smallest  # (support, token)
        others_high = largest.cumsum(0)[:, None] - largest
        gap = largest / (largest + others_low).clamp_min(1e-300) - smallest / (smallest + others_high).clamp_min(1e-300)
        found.append(bool((gap.tril().sum(-1) / 2).max() <= TARGET_TOLERANCE))
    return torch.tensor(found, device=log_e.device)
