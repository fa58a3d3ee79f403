"""The paper's mathematics on tensors, and nothing else.

Everything is computed in fp32 log space, in nats, over the shared vocabulary: the arguments are logits that have
already been cut to it, and `log_probs` renormalises them there. Definitions: arXiv 2510.07962, section 3.
Masked tokens (logit −inf) are legal; they have probability 0 and contribute 0 wherever 0·log 0 appears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

ALPHA_FLOOR = 0.01  # step details keep the plausible set at this α, so that any α above it needs no model
TOP_K = 10
#: A probability of exactly α times the largest belongs to the set; fp32 rounding must not throw it out.
_TIE = 1e-6


def log_probs(logits: torch.Tensor) -> torch.Tensor:
    """fp32 log-softmax over the last dimension.

    Raises ValueError when a row is no distribution: NaN, +inf, or every token masked.
    """
    logits = logits.float()
    top = logits.amax(-1)  # NaN if any is NaN; −inf only if all are
    if not torch.isfinite(top).all():
        raise ValueError("the logits hold NaN or +inf, or every token is masked")
    return torch.log_softmax(logits, -1)


def _expectation(log_p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Σ p·values over the last dimension, with 0·anything = 0."""
    return torch.where(log_p > -math.inf, log_p.exp() * values, 0.0).sum(-1)


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ q) in nats: Σ p (log p − log q). (…, vocab) twice → (…). +inf where p has mass that q denies."""
    return _expectation(log_p, log_p - log_q).clamp_min(0.0)


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Jensen–Shannon divergence in nats, between 0 and log 2. (…, vocab) twice → (…)."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (0.5 * (kl(log_p, log_m) + kl(log_q, log_m))).clamp_max(math.log(2))


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats. (…, vocab) → (…)."""
    return _expectation(log_p, -log_p).clamp_min(0.0)


def rank(log_p: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """1 + how many tokens are strictly more likely than `token`. (…, vocab), (…) → (…)."""
    return 1 + (log_p > log_p.gather(-1, token.unsqueeze(-1))).sum(-1)


def plausible(log_p: torch.Tensor, alpha: float) -> torch.Tensor:
    """The α-mask {v : p(v) ≥ α · max p} as booleans. (…, vocab) → (…, vocab)."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    threshold = math.log(alpha) - _TIE if alpha > 0 else -math.inf
    return (log_p >= log_p.amax(-1, keepdim=True) + threshold) & (log_p > -math.inf)


def contrastive_target(log_e: torch.Tensor, log_a: torch.Tensor, alpha: float) -> torch.Tensor:
    """v_C: softmax over the plausible set of (log π_E − log π_A), 0 outside. (…, vocab) twice → (…, vocab).

    Where the amateur gives plausible tokens probability 0 the ratio is infinite; the limit shares the whole mass
    among those tokens in proportion to the expert's probabilities.
    """
    mask = plausible(log_e, alpha)
    ratio = torch.where(mask, log_e - log_a, -math.inf)
    denied = ratio == math.inf
    limit = torch.where(denied, log_e, -math.inf)
    return torch.softmax(torch.where(denied.any(-1, keepdim=True), limit, ratio), -1)


@dataclass(frozen=True)
class StepScore:
    """What is kept of one step: DESIGN's step score. Nats; ids are shared-vocabulary ids.

    `ids` are the candidates: the plausible set at ALPHA_FLOOR, each model's TOP_K and the taken token, ordered by
    the expert's probability; the two tuples after it hold their log-probabilities. What belongs to the taken token
    is None when it lies outside the shared vocabulary.
    """

    kl: float
    reverse_kl: float
    js: float
    expert_entropy: float
    amateur_entropy: float
    expert_logprob: float | None
    amateur_logprob: float | None
    expert_rank: int | None
    amateur_rank: int | None
    agree: bool  # the two models' most likely tokens are the same
    ids: tuple[int, ...]
    expert_logprobs: tuple[float, ...]
    amateur_logprobs: tuple[float, ...]

    def support(self, alpha: float) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """(ids, expert log-probabilities, amateur log-probabilities, contrastive weights) at any α ≥ ALPHA_FLOOR."""
        return support(self.ids, self.expert_logprobs, self.amateur_logprobs, alpha)


def support(ids, expert_logprobs, amateur_logprobs, alpha: float) -> tuple[tuple, tuple, tuple, tuple]:
    """The plausible set at α among a step's candidates, with its contrastive weights: four tuples of one length.

    Exact for any α from ALPHA_FLOOR to 1, because the candidates hold the whole plausible set at the floor.
    """
    if not ALPHA_FLOOR <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must lie between {ALPHA_FLOOR} and 1")
    log_e, log_a = torch.tensor(expert_logprobs), torch.tensor(amateur_logprobs)
    weights = contrastive_target(log_e, log_a, alpha).tolist()
    keep = plausible(log_e, alpha).nonzero().flatten().tolist()
    columns = (ids, expert_logprobs, amateur_logprobs, weights)
    return tuple(tuple(column[i] for i in keep) for column in columns)


def score_steps(expert_logits: torch.Tensor, amateur_logits: torch.Tensor, taken: list[int | None]) -> list[StepScore]:
    """Score a chunk of steps on the device and bring back only what is kept.

    expert_logits, amateur_logits: (steps, vocab) over the shared vocabulary. taken: the shared id of each step's
    token, None where it has none. This is the one scorer: inspector, sampler and evaluator all call it.
    """
    log_e, log_a = log_probs(expert_logits), log_probs(amateur_logits)  # (steps, vocab)
    known = [t is not None for t in taken]
    token = torch.tensor([t if t is not None else 0 for t in taken], device=log_e.device)  # (steps,)
    k = min(TOP_K, log_e.shape[-1])
    top_e, top_a = log_e.topk(k).indices, log_a.topk(k).indices  # (steps, k)
    keep = plausible(log_e, ALPHA_FLOOR)
    keep.scatter_(-1, torch.cat([top_e, top_a, token.unsqueeze(-1)], -1), True)
    step, ids = keep.nonzero(as_tuple=True)  # ordered by step
    numbers = torch.stack(
        [
            kl(log_e, log_a),
            kl(log_a, log_e),
            jensen_shannon(log_e, log_a),
            entropy(log_e),
            entropy(log_a),
            log_e.gather(-1, token.unsqueeze(-1)).squeeze(-1),
            log_a.gather(-1, token.unsqueeze(-1)).squeeze(-1),
        ],
        -1,
    ).tolist()
    ranks = torch.stack([rank(log_e, token), rank(log_a, token), (top_e[:, 0] == top_a[:, 0]).long()], -1).tolist()
    candidates = list(zip(ids.tolist(), log_e[step, ids].tolist(), log_a[step, ids].tolist(), strict=True))
    scores, start = [], 0
    for n, count in enumerate(keep.sum(-1).tolist()):
        own = sorted(candidates[start : start + count], key=lambda c: (-c[1], c[0]))
        start += count
        (*divergences, logprob_e, logprob_a), (rank_e, rank_a, agree) = numbers[n], ranks[n]
        of_token = (logprob_e, logprob_a, rank_e, rank_a) if known[n] else (None,) * 4
        scores.append(StepScore(*divergences, *of_token, bool(agree), *zip(*own, strict=True)))
    return scores
