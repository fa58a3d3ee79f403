"""KL where some of the amateur's probabilities are known only within intervals: the least that these allow."""

from __future__ import annotations

import math

import pytest
import torch

from lightreasoner.scoring import divergence as d
from lightreasoner.scoring.divergence_bounds import measure_across


def across_case(seed: int, known: int = 6, size: int = 40):
    """(log p, log q, smallest and largest log q) where the first tokens' q are known, and others to a factor of 3."""
    torch.manual_seed(seed)
    log_p, log_q = torch.randn(2, 1, size).mul(2).log_softmax(-1)
    low, most = torch.full_like(log_q, -math.inf), log_q + torch.rand(1, size) * math.log(3)
    low[:, :known] = most[:, :known] = log_q[:, :known]
    return log_p, log_q, low, most


@pytest.mark.parametrize("seed", range(8))
def test_kl_across_tokenizers_is_the_least_that_the_intervals_allow(seed):
    """What was not compared was one event, although most of it is known to be unlikely under the amateur."""
    log_p, log_q, low, most = across_case(seed)
    nothing = torch.zeros(1)
    args = (torch.tensor([0]), torch.full((1, 1), 1e-6), nothing)
    found, compared = measure_across(log_p, low, most, *args)
    lumped, _ = measure_across(log_p, low, torch.where(low > -math.inf, most, math.inf), *args)
    assert lumped.kl - 1e-5 <= found.kl <= d.kl(log_p, log_q) + 1e-5
    assert compared.item() == pytest.approx(float(log_p[0, :6].exp().sum()), abs=1e-5)
    p, limit, left = log_p[0, 6:].exp(), most[0, 6:].exp(), 1 - log_q[0, :6].exp().sum()
    below, above = 1e-9, 1e9
    for _ in range(80):
        c = math.sqrt(below * above)
        below, above = (c, above) if torch.minimum(limit, c * p).sum() < left else (below, c)
    least = (p * (p / torch.minimum(limit, c * p)).log()).sum() + (log_p - log_q).mul(log_p.exp())[0, :6].sum()
    assert found.kl.item() == pytest.approx(max(0.0, float(least)), abs=2e-3)
    same = measure_across(log_p, log_q, log_q, *args)[0]
    assert torch.allclose(same.kl, d.kl(log_p, log_q), atol=1e-5)
    doubtful = measure_across(log_p, low, most, args[0], args[1], torch.tensor([0.3]))[0]
    assert doubtful.kl <= found.kl + 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_a_step_across_tokenizers_has_a_target_only_where_it_is_known(seed):
    """All plausible tokens had to be compared; a target can be known although one of them is only bounded."""
    log_p, log_q, _, _ = across_case(seed)
    width = 0.2 * torch.rand_like(log_q) ** 4
    found, _ = measure_across(log_p, log_q - width, log_q, torch.tensor([0]), torch.full((1, 1), 1e-6), torch.zeros(1))
    moved = [d.contrastive_target(log_p, log_q - width * torch.rand_like(width).round(), 0.2) for _ in range(20)]
    apart = max(float((one - other).abs().sum() / 2) for one in moved for other in moved)
    assert found.counts.item() == 0 or apart <= 0.05


def test_the_experts_own_numbers_at_a_token_that_could_not_be_compared():
    """They need no amateur: probability, rank and entropy are the expert's, and only the amateur's numbers are left."""
    log_p, log_q, low, most = across_case(3)
    unknown = torch.tensor([30])
    args = (torch.full((1, 1), 1e-6), torch.zeros(1))
    plain = d.measure_steps(log_p, log_q, unknown)
    for found in (
        measure_across(log_p, low, most, unknown, *args)[0],
        measure_across(log_p, low.fill_(-math.inf), torch.full_like(most, math.inf), unknown, *args)[0],
    ):
        for name in ("expert_logprob", "expert_rank", "expert_entropy"):
            assert getattr(found, name).item() == pytest.approx(getattr(plain, name).item(), abs=1e-5), name
        score = d.step_scores(found, [False], [0.5])[0]
        assert score.expert_logprob == pytest.approx(float(log_p[0, 30]), abs=1e-5)
        assert score.expert_rank == plain.expert_rank.item() and score.amateur_logprob is score.amateur_rank is None
