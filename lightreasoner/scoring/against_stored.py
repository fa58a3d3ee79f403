"""Steps measured from one model's logits and the other's stored candidates, where the other model is not at hand.

The candidates hold the whole plausible set at ALPHA_FLOOR, so the contrastive target is exact. What lies outside them
counts as one token, on both sides. A divergence can only become smaller by that, by what the two models would
say about the rest; so steps a little above β may fall below it.
"""

import numpy as np
import torch

from lightreasoner.scoring.divergence import entropy, kl, log_probs, rank

SMALLEST = 1e-7  # probability of the rest, which is a difference of numbers near 1


def measure_against_stored(
    amateur_logits: torch.Tensor, ids: torch.Tensor, expert_logprobs: torch.Tensor, taken: torch.Tensor
) -> dict[str, np.ndarray]:
    """The measures of steps that depend on the amateur, by name.

    amateur_logits: (steps, vocab) over the shared vocabulary. ids, expert_logprobs: (steps, candidates), by descending
    probability of the expert; rows are filled up with −inf. taken: (steps,) the shared id of each step's token, 0 where
    it has none. "candidates" is (steps, candidates), the amateur's log-probabilities of them. Raises NotADistribution.
    """
    log_a = log_probs(amateur_logits)
    theirs = log_a.gather(-1, ids)
    inside = expert_logprobs > -torch.inf
    log_e, log_q = (_with_rest(x, inside) for x in (expert_logprobs, theirs))
    log_m = torch.logaddexp(log_e, log_q) - np.log(2)
    found = {
        "kl": kl(log_e, log_q).float(),
        "reverse_kl": kl(log_q, log_e).float(),
        "js": (kl(log_e, log_m) + kl(log_q, log_m)).float() / 2,
        "amateur_entropy": entropy(log_a),
        "amateur_logprob": log_a.gather(-1, taken[:, None])[:, 0],
        "amateur_rank": rank(log_a, taken),
        "agree": log_a.argmax(-1) == ids[:, 0],
        "candidates": theirs,
    }
    return {name: values.cpu().numpy() for name, values in found.items()}


def _with_rest(logprobs: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(steps, candidates + 1): the log-probabilities and that of everything else, −inf where a row is filled up."""
    known = torch.where(inside, logprobs, -torch.inf).double()
    rest = (1 - known.exp().sum(-1, keepdim=True)).clamp_min(SMALLEST).log()
    return torch.cat([known, rest], -1)
