"""The mathematics, against numbers worked out by hand and against a plain fp64 oracle."""

from __future__ import annotations

import math

import pytest
import torch

from lightreasoner.scoring import divergence as d
from tests.support.fake_cuda import FakeCuda

INF = math.inf


def logs(*rows):
    return torch.tensor(rows, dtype=torch.float64).log().float()


def oracle(p_logits, q_logits, token, alpha):
    """The definitions, written as loops in Python floats."""

    def softmax(row):
        top = max(row)
        weights = [math.exp(x - top) for x in row]
        return [w / sum(weights) for w in weights]

    p, q = softmax(p_logits), softmax(q_logits)
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]

    def kl(a, b):
        return sum(x * (math.log(x) - math.log(y)) for x, y in zip(a, b, strict=True) if x > 0)

    inside = [x >= alpha * max(p) for x in p]
    ratio = [x / y if i else 0.0 for x, y, i in zip(p, q, inside, strict=True)]
    return {
        "kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "js": (kl(p, m) + kl(q, m)) / 2,
        "expert_entropy": -sum(x * math.log(x) for x in p if x > 0),
        "amateur_entropy": -sum(x * math.log(x) for x in q if x > 0),
        "expert_logprob": math.log(p[token]),
        "amateur_logprob": math.log(q[token]),
        "expert_rank": 1 + sum(x > p[token] for x in p),
        "amateur_rank": 1 + sum(x > q[token] for x in q),
        "target": [r / sum(ratio) for r in ratio],
        "log_e": [math.log(x) if x > 0 else -INF for x in p],
    }


def test_numbers_worked_out_by_hand():
    p, q = logs([0.5, 0.25, 0.25]), logs([0.25, 0.5, 0.25])
    # Σ p log(p/q) = ½·log 2 + ¼·log ½ + ¼·0 = ¼·log 2
    assert d.kl(p, q).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert d.entropy(p).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    # m = (⅜, ⅜, ¼): ½·log(4/3) + ¼·log(2/3) for both halves
    assert d.jensen_shannon(p, q, p.exp(), q.exp()).item() == pytest.approx(
        0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3), abs=1e-6
    )
    assert d.rank(p, torch.tensor([0])).item() == 1
    assert d.rank(p, torch.tensor([2])).item() == 2  # a tie with token 1 does not push it to 3
    # ratios 2, ½, 1 → normalised by 3.5
    assert d.contrastive_target(p, q, 0.2)[0].tolist() == pytest.approx([2 / 3.5, 0.5 / 3.5, 1 / 3.5], abs=1e-6)


def test_what_is_taught_by_hand():
    """KL above β says where two models differ, not that training moves the expert: a target that the expert has
    already teaches nothing."""
    p, q = logs([0.5, 0.25, 0.25]), logs([0.25, 0.5, 0.25])
    target = [4 / 7, 1 / 7, 2 / 7]
    kl = sum(w * math.log(w / e) for w, e in zip(target, (0.5, 0.25, 0.25), strict=True))
    assert d.teaching_signal(p, q, 0.2).item() == pytest.approx(kl, abs=1e-6)
    # one token is left: −log of the expert's probability, which is 0 where the expert is certain, however large KL is
    assert d.teaching_signal(p, q, 1.0).item() == pytest.approx(math.log(2), abs=1e-6)
    sure, other = logs([1 - 1e-6, 5e-7, 5e-7]), logs([1e-6, 0.5, 0.5])
    assert d.kl(sure, other).item() > 10 and d.teaching_signal(sure, other, 0.2).item() < 1e-5


def test_what_is_taught_is_finite_where_kl_is_not():
    """Both tokens that the amateur denies share the target in proportion to the expert: −log of their mass."""
    e, a = logs([0.3, 0.2, 0.5]), torch.tensor([[-INF, -INF, 0.0]])
    assert d.teaching_signal(e, a, 0.2).item() == pytest.approx(-math.log(0.5), abs=1e-6)


def test_a_cap_bounds_what_a_token_gains_by_the_amateur_s_doubt():
    """Ratios 2, ½ and 100 give the last token 97 %; a cap of log 3 makes them 2, ½ and 3."""
    p, q = logs([0.5, 0.25, 0.25]), logs([0.25, 0.5, 0.0025])
    assert d.contrastive_target(p, q, 0.2)[0, 2].item() == pytest.approx(100 / 102.5, abs=1e-6)
    weights, cap = [2 / 5.5, 0.5 / 5.5, 3 / 5.5], math.log(3)
    assert d.contrastive_target(p, q, 0.2, cap)[0].tolist() == pytest.approx(weights, abs=1e-6)
    kl = sum(w * math.log(w / e) for w, e in zip(weights, (0.5, 0.25, 0.25), strict=True))
    assert d.teaching_signal(p, q, 0.2, cap).item() == pytest.approx(kl, abs=1e-6)
    assert d.contrastive_choice(p, q, 0.2).item() == d.contrastive_choice(p, q, 0.2, cap).item() == 2
    assert d.contrastive_choice(p, q, 0.2, 0.1).item() == 0, "of those at the cap, the expert's"
    e, a = logs([0.3, 0.2, 0.5]), torch.tensor([[-INF, -INF, 0.0]])
    ratios = [3, 3, 0.5]  # a denied token has the cap
    assert d.contrastive_target(e, a, 0.2, cap)[0].tolist() == pytest.approx([r / 6.5 for r in ratios], abs=1e-6)
    assert d.teaching([-0.7, -1.4], [-5.0, -0.1], 0.2, 1000.0) == d.teaching([-0.7, -1.4], [-5.0, -0.1], 0.2)


def test_the_first_token_of_a_habit_by_hand():
    """An expert that works it out in 42 % of cases against an amateur that does in 6 %: why step 0 is selected."""
    p, q = logs([0.42, 0.58]), logs([0.06, 0.94])
    assert d.kl(p, q).item() == pytest.approx(0.42 * math.log(7) + 0.58 * math.log(0.58 / 0.94), abs=1e-6)
    ratios = (0.42 / 0.06, 0.58 / 0.94)
    assert d.contrastive_target(p, q, 0.2)[0].tolist() == pytest.approx([r / sum(ratios) for r in ratios], abs=1e-6)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0])
def test_agrees_with_the_oracle(spread, alpha):
    g = torch.Generator().manual_seed(3)
    e, a = (torch.randn(5, 211, generator=g, dtype=torch.float64) * spread for _ in range(2))
    e, a = e.float(), a.float()
    tokens = [0, 5, 210, 17, 99]
    target = d.contrastive_target(d.log_probs(e), d.log_probs(a), alpha)
    for n, score in enumerate(d.score_steps(e, a, tokens)):
        expected = oracle(e[n].double().tolist(), a[n].double().tolist(), tokens[n], alpha)
        for name in ("kl", "reverse_kl", "js", "expert_entropy", "amateur_entropy", "expert_logprob"):
            assert getattr(score, name) == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
        assert (score.expert_rank, score.amateur_rank) == (expected["expert_rank"], expected["amateur_rank"])
        assert target[n].tolist() == pytest.approx(expected["target"], abs=1e-5)
        taught = sum(w * (math.log(w) - expected["log_e"][i]) for i, w in enumerate(expected["target"]) if w > 0)
        assert score.teaching(alpha) == pytest.approx(taught, rel=1e-4, abs=1e-4)
        ids, _, _, weights = score.support(alpha)
        assert {i: pytest.approx(w, abs=1e-5) for i, w in zip(ids, weights, strict=True)} == {
            i: w for i, w in enumerate(expected["target"]) if w > 0
        }


def test_bfloat16_logits_are_scored_in_fp32():
    """Released code, mistake 6: the amateur's softmax ran in bf16."""
    logits = torch.linspace(-4, 4, 1000).bfloat16()[None]
    assert d.log_probs(logits).dtype == torch.float32
    assert d.log_probs(logits).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_identical_models_diverge_nowhere():
    logits = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * 8
    for score in d.score_steps(logits, logits.clone(), [1, 2, 3, 4]):
        assert (score.kl, score.reverse_kl) == (0.0, 0.0)
        assert score.js == pytest.approx(0.0, abs=1e-6)  # log m rounds
        assert score.agree
        weights = score.support(0.2)[3]
        assert weights == pytest.approx([1 / len(weights)] * len(weights))


def test_masked_tokens_never_make_nan():
    e = torch.tensor([[2.0, 1.0, -INF, -INF]])
    a = torch.tensor([[-INF, 1.0, 2.0, -INF]])
    score = d.score_steps(e, a, [0])[0]
    assert score.kl == INF and score.reverse_kl == INF
    assert 0 < score.js < math.log(2) and math.isfinite(score.expert_entropy)
    # the amateur denies token 0: in the limit the whole target sits there
    ids, _, _, weights = score.support(0.2)
    assert dict(zip(ids, weights, strict=True)) == {0: 1.0, 1: 0.0}


def test_one_hot_distributions():
    hot = torch.full((2, 6), -INF)
    hot[0, 2] = hot[1, 3] = 0.0
    same, other = d.score_steps(hot, hot[[0, 0]], [2, 3])
    assert same.kl == 0 and same.expert_entropy == 0 and same.support(1.0)[3] == (1.0,)
    assert other.kl == INF and other.js == pytest.approx(math.log(2)) and not other.agree


def test_alpha_one_keeps_every_tied_top():
    log_e = logs([0.4, 0.4, 0.2])
    assert d.plausible(log_e, 1.0)[0].tolist() == [True, True, False]


def test_a_probability_of_exactly_alpha_times_the_top_is_plausible():
    assert d.plausible(logs([0.5, 0.1, 0.4]), 0.2)[0].tolist() == [True, True, True]


def test_alpha_zero_keeps_all_but_the_impossible():
    assert d.plausible(torch.tensor([[0.0, -50.0, -INF]]), 0.0)[0].tolist() == [True, True, False]


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [INF, 0.0], [-INF, -INF]])
def test_rows_that_are_no_distribution_are_refused(bad):
    with pytest.raises(ValueError, match="NaN"):
        d.score_steps(torch.tensor([bad]), torch.zeros(1, 2), [0])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        d.plausible(torch.zeros(1, 3), alpha)


def test_candidates_hold_both_tops_and_the_taken_token_in_order():
    e, a = torch.zeros(1, 100), torch.zeros(1, 100)
    e[0, :3], a[0, 97:] = torch.tensor([20.0, 19.0, 1.0]), torch.tensor([5.0, 6.0, 7.0])
    score = d.score_steps(e, a, [50])[0]
    assert score.ids[:2] == (0, 1)
    assert {97, 98, 99, 50} <= set(score.ids)
    assert list(score.expert_logprobs) == sorted(score.expert_logprobs, reverse=True)
    assert not score.agree


def test_a_token_outside_the_shared_vocabulary_has_no_rank():
    score = d.score_steps(torch.zeros(1, 8), torch.zeros(1, 8), [None])[0]
    assert score.expert_rank is None and score.amateur_logprob is None and score.kl == 0


def test_looking_at_values_late_changes_no_bit(monkeypatch):
    """The scorer of a GPU, run on the CPU: masked tokens, steps with and without candidates, blocks of every size."""
    g = torch.Generator().manual_seed(1)
    e, a = (3 * torch.randn(41, 97, generator=g) for _ in range(2))
    a[::3] = e[::3] + 0.01 * a[::3]  # a third hardly diverges
    taken = torch.randint(-1, 97, (41,), generator=g)
    e[0, 5:9], a[0, 7:12] = -INF, -INF
    for masked in (False, True):
        first = 0 if masked else 1
        for name, block in (("CPU_BLOCK", 5), ("GPU_BLOCK", 5), ("GPU_CANDIDATE_BLOCK", 8)):
            monkeypatch.setattr(d, name, 97 * block)
        for above in (None, 0.1, 1e9):
            now = d.measure_steps(e[first:], a[first:], taken[first:], above)
            late = d._measure_queued(e[first:], a[first:], taken[first:], above)
            for name, value in vars(now).items():
                assert torch.allclose(value, getattr(late, name), atol=1e-6 if masked else 0.0, rtol=0), name
    assert d._measure_queued(e, a, taken, None).kl[0] == INF
    e[[3, 40], 2] = math.nan
    for measure in (d.measure_steps, d._measure_queued):
        with pytest.raises(d.NotADistribution) as error:
            measure(e, a, taken, None)
        assert error.value.rows[0] == 3  # and, where all blocks are looked at together, the rest
    none = d._measure_queued(e[:0], a[:0], taken[:0], None)
    assert len(none.kl) == len(none.ids) == 0


def test_a_gpu_waits_a_few_times_for_a_chunk_of_steps():
    """It looked at values 381 times in 4,096 steps, and launched 6,474 kernels: 99 ms on an H200."""
    peaks = []
    for rows, share in ((512, 0.2), (4096, 1.0)):
        with FakeCuda(share) as gpu:
            e, a = (torch.empty(rows, 151_665, dtype=torch.bfloat16, device="cuda:0") for _ in range(2))
            taken = torch.zeros(rows, dtype=torch.long, device="cuda:0")
            gpu.reset()
            found = d.measure_steps(e, a, taken, 0.05)
            assert {value.device.type for value in vars(found).values()} == {"cuda"}
            assert gpu.waits.total() <= 13 and gpu.launches <= 2600
            peaks.append(gpu.peak)
            gpu.reset()
            moved = d.to_host(found)
            assert {value.device.type for value in vars(moved).values()} == {"cpu"}
            assert [v.dtype for v in vars(moved).values()] == [v.dtype for v in vars(found).values()]
            assert gpu.waits.total() <= 4
    assert max(peaks) < 1.5e9  # whatever the number of rows


def test_probabilities_sum_to_one_within_rounding():
    """torch.log_softmax has an exp of 20 bits on some CPUs: peaked rows summed to 1 + 4e-6, and KL was as far off."""
    torch.manual_seed(0)
    logits = torch.randn(256, 2048)
    logits[:, 5] += torch.linspace(2, 20, 256)
    logits[:, 9] = -INF
    found = d.log_probs(logits)
    assert (found.double().exp().sum(-1) - 1).abs().max() < 1e-6
    assert torch.allclose(found, logits.double().log_softmax(-1).float(), atol=1e-5) and (found[:, 9] == -INF).all()


def test_numbers_that_are_moved_in_one_piece_are_the_same_numbers():
    columns = [
        torch.tensor([1.5, -math.inf, math.nan]),
        torch.tensor([True, False, True]),
        torch.tensor([-3, 0, 2**62]),
    ]
    columns.append(torch.tensor([1e-300, -0.0, math.inf], dtype=torch.float64))
    for moved, own in zip(d.in_one_piece(columns), columns, strict=True):
        assert moved.dtype == own.dtype and torch.equal(moved.nan_to_num(7.0), own.nan_to_num(7.0))
        assert torch.equal(moved.signbit(), own.signbit())
