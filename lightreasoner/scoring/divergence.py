"""The paper's mathematics on tensors: divergences, plausible sets, contrastive targets, and the step scorer.

Everything is computed in fp32 log space, in nats, over the shared vocabulary. Arguments are logits already restricted
to it; `log_probs` normalises them there. Definitions: arXiv 2510.07962, section 3.
Masked tokens (logit −inf) are allowed: they have probability 0 and contribute 0 wherever 0·log 0 appears.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from lightreasoner.paper import ALPHA_FLOOR, TIE
from lightreasoner.scoring.candidates import check_alpha
from lightreasoner.scoring.measures import STEP_MEASURES, taken_measures

TOP_K = 10
#: Logits measured at once. On a CPU a block is read a dozen times and should stay in the processor's cache. On a GPU
#: larger blocks mean fewer launches; a block takes about 1.3 GB. Candidates need fewer tensors of vocabulary size.
CPU_BLOCK, GPU_BLOCK, GPU_CANDIDATE_BLOCK = 1 << 17, 1 << 25, 1 << 26

#: The fields that list a step's candidates.
CANDIDATES = ("ids", "expert_logprobs", "amateur_logprobs")


class NotADistribution(ValueError):
    """Logits with NaN or +inf, or with every token masked. `rows`: where, counted from 0."""

    def __init__(self, rows: list[int]):
        super().__init__("the logits hold NaN or +inf, or every token is masked")
        self.rows = rows


def log_probs(logits: torch.Tensor) -> torch.Tensor:
    """fp32 log-softmax over the last dimension. Raises NotADistribution, a ValueError, where a row is not one."""
    found, valid = log_probs_unseen(logits)
    if not valid.all():
        raise NotADistribution((~valid).flatten().nonzero().flatten().tolist())
    return found


def expectation(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Σ p·values over the last dimension, with 0·anything = 0."""
    sums = torch.linalg.vecdot(p, values)
    if torch.isfinite(sums).all():
        return sums
    return torch.where(p > 0, p * values, 0.0).sum(-1)  # infinite, or 0·∞


def kl(log_p: torch.Tensor, log_q: torch.Tensor, expectation=expectation) -> torch.Tensor:
    """KL(p ‖ q) in nats: Σ p (log p − log q). (…, vocab) twice → (…). +inf where q is 0 and p is not."""
    return expectation(log_p.exp(), log_p - log_q).clamp_min(0.0)


def jensen_shannon(
    log_p: torch.Tensor, log_q: torch.Tensor, p: torch.Tensor, q: torch.Tensor, expectation=expectation
) -> torch.Tensor:
    """Jensen–Shannon divergence in nats, between 0 and log 2. (…, vocab) each → (…). p, q: exp of the first two."""
    # Where the mean underflows, p and q are below 1e-37 and contribute nothing, whatever its logarithm is.
    log_m = (p + q).mul_(0.5).clamp_min_(torch.finfo(p.dtype).tiny).log_()
    to_mean = expectation(p, log_p - log_m).clamp_min(0.0) + expectation(q, log_q - log_m).clamp_min(0.0)
    return (0.5 * to_mean).clamp_max(math.log(2))


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats. (…, vocab) → (…)."""
    return (-expectation(log_p.exp(), log_p)).clamp_min(0.0)


def rank(log_p: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """1 plus the number of tokens strictly more likely than `token`. (…, vocab), (…) → (…)."""
    return 1 + (log_p > log_p.gather(-1, token.unsqueeze(-1))).sum(-1)


def plausible(log_p: torch.Tensor, alpha: float) -> torch.Tensor:
    """The α-mask {v : p(v) ≥ α · max p} as booleans. (…, vocab) → (…, vocab)."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    threshold = math.log(alpha) - TIE if alpha > 0 else -math.inf
    return (log_p >= log_p.amax(-1, keepdim=True) + threshold) & (log_p > -math.inf)


def contrastive_target(
    log_e: torch.Tensor, log_a: torch.Tensor, alpha: float, cap: float | None = None
) -> torch.Tensor:
    """v_C: softmax over the plausible set of (log π_E − log π_A), 0 outside. (…, vocab) twice → (…, vocab).

    Where the amateur gives plausible tokens probability 0, the ratio is infinite. The limit then shares the whole mass
    among these tokens, in proportion to the expert's probabilities. cap: the largest ratio that counts, in nats, so
    that tokens which the amateur all but rules out do not take everything; None: the paper's, without one.
    """
    return torch.softmax(_contrast(log_e, log_a, alpha, cap), -1)


def teaching_signal(log_e: torch.Tensor, log_a: torch.Tensor, alpha: float, cap: float | None = None) -> torch.Tensor:
    """KL(v_C ‖ π_E) in nats: what training would teach the expert at a step. (…, vocab) twice → (…).

    It is the loss of a step before the first update. v_C lies on the plausible set, to which the expert gives more than
    nothing, so it is finite; where v_C holds one token, it is −log π_E of that token. The plausible set suffices as the
    vocabulary, with the log-probabilities over the whole one.
    """
    log_target = torch.log_softmax(_contrast(log_e, log_a, alpha, cap), -1)
    return expectation(log_target.exp(), log_target - log_e).clamp_min(0.0)


def contrastive_choice(
    log_e: torch.Tensor, log_a: torch.Tensor, alpha: float, cap: float | None = None
) -> torch.Tensor:
    """The token that the contrastive target v_C makes most likely. (…, vocab) twice → (…) ids.

    Of several at the cap, the one that the expert makes most likely.
    """
    contrast = _contrast(log_e, log_a, alpha, cap)
    if cap is not None:
        contrast = torch.where(contrast == contrast.amax(-1, keepdim=True), log_e, -math.inf)
    return contrast.argmax(-1)


def _contrast(log_e: torch.Tensor, log_a: torch.Tensor, alpha: float, cap: float | None) -> torch.Tensor:
    """The logits of the contrastive target, −inf outside its support."""
    ratio = torch.where(plausible(log_e, alpha), log_e - log_a, -math.inf)
    if cap is not None:
        return ratio.clamp_max(cap)
    denied = ratio == math.inf
    limit = torch.where(denied, log_e, -math.inf)
    return torch.where(denied.any(-1, keepdim=True), limit, ratio)


@dataclass(frozen=True)
class StepScore:
    """The stored numbers of one step, in nats; STEP_MEASURES in scoring/measures.py explains them.

    `ids` are the candidates, as shared ids: the plausible set at ALPHA_FLOOR, each model's TOP_K tokens and the taken
    token, ordered by the expert's probability. The next two tuples hold their log-probabilities. Numbers of the taken
    token are None where it lies outside the shared vocabulary.
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
    #: How much of the expert's probability was compared token by token; None: all of it. See divergence_bounds.py.
    compared: float | None = None

    def teaching(self, alpha: float, cap: float | None = None) -> float:
        """The teaching signal at any α ≥ ALPHA_FLOOR, in nats. cap: see `contrastive_target`."""
        return teaching(self.expert_logprobs, self.amateur_logprobs, alpha, cap)

    def support(self, alpha: float, cap: float | None = None) -> tuple[tuple, tuple, tuple, tuple]:
        """(ids, expert log-probabilities, amateur log-probabilities, contrastive weights) at any α ≥ ALPHA_FLOOR."""
        return support(self.ids, self.expert_logprobs, self.amateur_logprobs, alpha, cap)


def support(ids, expert_logprobs, amateur_logprobs, alpha: float, cap: float | None = None) -> tuple:
    """The plausible set at α among a step's candidates, with its contrastive weights: four tuples of one length.

    Exact for any α from ALPHA_FLOOR to 1, because the candidates hold the whole plausible set at the floor.
    """
    check_alpha(alpha)
    log_e, log_a = torch.tensor(expert_logprobs), torch.tensor(amateur_logprobs)
    weights = contrastive_target(log_e, log_a, alpha, cap).tolist()
    keep = plausible(log_e, alpha).nonzero().flatten().tolist()
    columns = (ids, expert_logprobs, amateur_logprobs, weights)
    return tuple(tuple(column[i] for i in keep) for column in columns)


def teaching(expert_logprobs, amateur_logprobs, alpha: float, cap: float | None = None) -> float:
    """`teaching_signal` from a step's candidates, exact for the same α as `support`."""
    check_alpha(alpha)
    return float(teaching_signal(torch.tensor(expert_logprobs), torch.tensor(amateur_logprobs), alpha, cap))


@dataclass(frozen=True)
class StepTensors:
    """The scores of a chunk of steps as tensors on the device: one entry per step; all candidates in one flat run.

    Numbers of the taken token are meaningless where it lies outside the shared vocabulary.
    """

    kl: torch.Tensor  # (steps,) fp32, like the next six
    reverse_kl: torch.Tensor
    js: torch.Tensor
    expert_entropy: torch.Tensor
    amateur_entropy: torch.Tensor
    expert_logprob: torch.Tensor
    amateur_logprob: torch.Tensor
    expert_rank: torch.Tensor  # (steps,) int64, like the next
    amateur_rank: torch.Tensor
    agree: torch.Tensor  # (steps,) bool
    counts: torch.Tensor  # (steps,) int64: candidates per step
    ids: torch.Tensor  # (candidates,) int64: shared ids, by step, then by the expert's probability
    expert_logprobs: torch.Tensor  # (candidates,) fp32
    amateur_logprobs: torch.Tensor  # (candidates,) fp32


def blocks(logits: torch.Tensor, size: int | None = None) -> list[slice]:
    """Cut logits (steps, vocab) into runs of steps whose tensors fit into fast memory; one empty run for no steps.

    size: logits of a run; by default the device's.
    """
    size = size or (CPU_BLOCK if logits.device.type == "cpu" else GPU_BLOCK)
    steps = max(1, size // logits.shape[-1])
    return [slice(start, start + steps) for start in range(0, max(len(logits), 1), steps)]


def measure_steps(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, taken: torch.Tensor, above: float | None = None
) -> StepTensors:
    """Score steps on the device. The inspector (through `score_steps`) and the sampler both use this one scorer.

    expert_logits, amateur_logits: (steps, vocab) over the shared vocabulary. taken: (steps,) the shared id of each
    step's token, −1 where it has none. above: only steps of larger KL get candidates; None: all steps do.
    Raises NotADistribution with the numbers of the steps.
    """
    if expert_logits.device.type != "cpu":
        return _measure_queued(expert_logits, amateur_logits, taken, above)
    parts = []
    for block in blocks(expert_logits):
        try:
            parts.append(_measure(expert_logits[block], amateur_logits[block], taken[block], above))
        except NotADistribution as error:
            raise NotADistribution([block.start + row for row in error.rows]) from None
    return join_steps(parts)


def join_steps(parts: list[StepTensors]) -> StepTensors:
    if len(parts) == 1:
        return parts[0]
    return StepTensors(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(StepTensors)))


def _measure(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, taken: torch.Tensor, above: float | None
) -> StepTensors:
    """measure_steps for one block of steps, in the processor's cache."""
    log_e, log_a = log_probs(expert_logits), log_probs(amateur_logits)  # (steps, vocab)
    token, *columns = step_columns(log_e, log_a, taken, expectation)
    detailed = slice(None) if above is None else (columns[0] > above).nonzero().flatten()
    counts = torch.zeros_like(token)
    counts[detailed], *candidates = list_candidates(log_e[detailed], log_a[detailed], token[detailed])
    return StepTensors(*columns, counts, *candidates)


def _measure_queued(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, taken: torch.Tensor, above: float | None
) -> StepTensors:
    """measure_steps where a look at a value makes the host wait for all that it has queued, which is a GPU.

    It looks once for all blocks, and once more for every block of candidates, whose number it must know.
    """
    runs = blocks(expert_logits)
    for expectation in (torch.linalg.vecdot, expectation_by_row):
        parts = []
        for run in runs:
            (log_e, legal_e), (log_a, legal_a) = map(log_probs_unseen, (expert_logits[run], amateur_logits[run]))
            parts.append((legal_e & legal_a, *step_columns(log_e, log_a, taken[run], expectation)))
        legal, token, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
        fine, finite = torch.stack([legal.all(), torch.stack(columns[:5]).isfinite().all()]).tolist()
        if not fine:
            raise NotADistribution((~legal).nonzero().flatten().tolist())
        if finite:
            break  # else infinite, or 0·∞
    counts, found = torch.zeros_like(token), []
    detailed = torch.arange(len(token), device=token.device) if above is None else (columns[0] > above).nonzero()[:, 0]
    for run in blocks(expert_logits[: len(detailed)], GPU_CANDIDATE_BLOCK):
        steps = detailed[run]
        log_e, log_a = (log_probs_unseen(logits[steps])[0] for logits in (expert_logits, amateur_logits))
        counts[steps], *candidates = list_candidates(log_e, log_a, token[steps])
        found.append(candidates)
    return StepTensors(*columns, counts, *(torch.cat(column) for column in zip(*found, strict=True)))


def log_probs_unseen(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(`log_probs`, whether each row is a distribution), without a look at the values."""
    logits = logits.float()
    largest = logits.amax(-1, keepdim=True)  # NaN if any is NaN; −inf only if all are
    if logits.device.type != "cpu":
        return torch.log_softmax(logits, -1), torch.isfinite(largest[..., 0])
    found = logits - largest  # torch.log_softmax has an exp of 20 bits on some CPUs: probabilities summed to 1 + 4e-6
    return found.sub_(found.exp().sum(-1, keepdim=True).log_()), torch.isfinite(largest[..., 0])


def expectation_by_row(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`expectation` without a look at the values."""
    sums = torch.linalg.vecdot(p, values)
    return torch.where(sums.isfinite(), sums, torch.where(p > 0, p * values, 0.0).sum(-1))


def step_columns(log_e: torch.Tensor, log_a: torch.Tensor, taken: torch.Tensor, expectation) -> tuple:
    """(the token that is measured, the fields of StepTensors up to `agree`), each (steps,)."""
    p, q, ratio = log_e.exp(), log_a.exp(), log_e - log_a
    top_e, top_a = log_e.argmax(-1), log_a.argmax(-1)
    token = torch.where(taken >= 0, taken, top_e)
    divergence, reverse = expectation(p, ratio).clamp_min(0.0), (-expectation(q, ratio)).clamp_min(0.0)
    del ratio  # two tensors of vocabulary size follow
    return (
        token,
        divergence,
        reverse,
        jensen_shannon(log_e, log_a, p, q, expectation),
        (-expectation(p, log_e)).clamp_min(0.0),
        (-expectation(q, log_a)).clamp_min(0.0),
        log_e.gather(-1, token.unsqueeze(-1)).squeeze(-1),
        log_a.gather(-1, token.unsqueeze(-1)).squeeze(-1),
        rank(log_e, token),
        rank(log_a, token),
        top_e == top_a,
    )


def list_candidates(
    log_e: torch.Tensor, log_a: torch.Tensor, token: torch.Tensor, known: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """(number per step, ids, the expert's and the amateur's log-probabilities); see StepScore.ids. known: booleans
    (steps, vocab), which tokens may be among them."""
    k = min(TOP_K, log_e.shape[-1])
    tops = log_e.topk(k).indices, log_a.topk(k).indices  # (steps, k)
    keep = plausible(log_e, ALPHA_FLOOR)
    keep.scatter_(-1, torch.cat([*tops, token.unsqueeze(-1)], -1), True)
    keep = keep if known is None else keep & known
    step, ids = keep.nonzero(as_tuple=True)  # ordered by step, then by id
    logprobs = log_e[step, ids]
    order = logprobs.argsort(descending=True, stable=True)
    order = order[step[order].argsort(stable=True)]
    step, ids = step[order], ids[order]
    return keep.sum(-1), ids, logprobs[order], log_a[step, ids]


def to_host(found: StepTensors) -> StepTensors:
    """The same in the host's memory, moved in few pieces: each move waits for the device."""
    if found.kl.device.type == "cpu":
        return found
    per_step = [field.name for field in fields(StepTensors) if field.name not in CANDIDATES]
    moved = {}
    for names in (per_step, CANDIDATES):
        moved |= zip(names, on_host(*(getattr(found, name) for name in names)), strict=True)
    return StepTensors(**moved)


def on_host(*columns: torch.Tensor) -> list[torch.Tensor]:
    """Tensors of one shape in the host's memory, moved in one piece: each move waits for the device."""
    return list(columns) if columns[0].device.type == "cpu" else in_one_piece(columns)


def in_one_piece(columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same numbers on the host, of any dtype: the bits of each travel as integers of 64 bits."""
    bits = [x.view(torch.int32 if x.itemsize == 4 else torch.int64) if x.is_floating_point() else x for x in columns]
    moved = torch.stack([x.long() for x in bits]).cpu()
    return [x.to(own.dtype).view(column.dtype) for x, own, column in zip(moved, bits, columns, strict=True)]


def score_steps(expert_logits: torch.Tensor, amateur_logits: torch.Tensor, taken: list[int | None]) -> list[StepScore]:
    """Score a chunk of steps: one StepScore per step. Arguments as in `measure_steps`, but `taken` is a list, with None
    where a step's token is not shared."""
    found = measure_steps(expert_logits, amateur_logits, taken_ids(taken, expert_logits.device))
    return step_scores(to_host(found), [t is not None for t in taken])


def taken_ids(taken: list[int | None], device: torch.device) -> torch.Tensor:
    """(steps,) the shared id of each step's token as `measure_steps` takes it, −1 for None."""
    return torch.tensor([-1 if t is None else t for t in taken], dtype=torch.long, device=device)


def step_scores(found: StepTensors, known: list[bool], compared: list[float] | None = None) -> list[StepScore]:
    """Scores on the host, one by one. known: whether each taken token has measures. compared: see StepScore."""
    columns = {field.name: getattr(found, field.name).tolist() for field in fields(StepTensors)}
    scores, start = [], 0
    for n, count in enumerate(columns["counts"]):
        score = {name: columns[name][n] for name in STEP_MEASURES}
        if not known[n]:
            score |= dict.fromkeys(name for name in taken_measures(bool(compared)) if name in score)
        score |= {"compared": compared[n]} if compared else {}
        score |= {name: tuple(columns[name][start : start + count]) for name in CANDIDATES}
        scores.append(StepScore(**score))
        start += count
    return scores
