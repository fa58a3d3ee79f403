"""A tuned expert beside its pair: what training changed at each step.

The tuned expert E′ is compared with the expert E over the pair's shared vocabulary, like everything else, so that all
probabilities of a step are shares of the same whole.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import same_model
from lightreasoner.models.loading import LoadedModel, Status
from lightreasoner.models.pairs import Pair
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.scoring.divergence import TOP_K, StepScore, blocks, kl, log_probs, rank, score_steps
from lightreasoner.scoring.measures import TAKEN_MEASURES, TUNING_MEASURES
from lightreasoner.tracing.events import TuningShift
from lightreasoner.tracing.pair_decoder import FurtherAmateur, PairDecoder

EXPERT, TUNED = "expert", "tuned"  # the possible writers of a response
SHOWN = 3  # differing tokens that an error message names


@dataclass(frozen=True)
class TunedModel:
    """A loaded tuned expert that fits its pair, and which of the two experts writes the response."""

    loaded: LoadedModel
    writer: str = EXPERT


class TunedPairDecoder(PairDecoder):
    """The pair and the tuned expert, which uses the expert's token ids, at the same position of the same response."""

    def __init__(
        self,
        pair: Pair,
        expert_prompt: list[int],
        amateur_prompt: list[int],
        tuned: TunedModel,
        contrast: Contrast | None = None,
        others: Sequence[FurtherAmateur] = (),
    ):
        super().__init__(pair, expert_prompt, amateur_prompt, contrast, others)
        self.tuned = self._decoder(tuned.loaded, expert_prompt)
        if tuned.writer == TUNED:
            self.writer = self.tuned

    def _score(
        self, tokens: list[int], logits: torch.Tensor, shared: list[int | None]
    ) -> list[tuple[StepScore, TuningShift]]:
        expert, tuned = (
            logits if decoder is self.writer else decoder.teacher_force(tokens) for decoder in (self.expert, self.tuned)
        )
        expert, tuned = (logits.to(self.pair.expert.device) for logits in (expert, tuned))
        if self.across:  # the amateur's probability of the tuned expert's tokens is not known, so none are added
            scores, shifts = self._score_across(tokens, expert), []
            for block in blocks(expert):
                log_e, log_t = (log_probs(self.alignment.expert(logits[block])) for logits in (expert, tuned))
                shifts += _tuning_shifts(log_e, log_t, shared[block], scores[block])
            return list(zip(scores, shifts, strict=True))
        return score_tuned_steps(*self._pair_logits(tokens, expert), self.alignment.expert(tuned), shared)


def score_tuned_steps(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, tuned_logits: torch.Tensor, taken: list[int | None]
) -> list[tuple[StepScore, TuningShift]]:
    """Score a chunk of steps as `score_steps` does, and what training changed at each.

    Logits: (steps, vocab) over the shared vocabulary. The scores are those of `score_steps`, with the tuned expert's
    TOP_K tokens added to the candidates. Raises NotADistribution.
    """
    scores, shifted = score_steps(expert_logits, amateur_logits, taken), []
    for block in blocks(expert_logits):
        log_e, log_a, log_t = (log_probs(logits[block]) for logits in (expert_logits, amateur_logits, tuned_logits))
        tops = log_t.topk(min(TOP_K, log_t.shape[-1])).indices.tolist()
        wider = [_with_candidates(*one) for one in zip(scores[block], tops, log_e, log_a, strict=True)]
        shifted += zip(wider, _tuning_shifts(log_e, log_t, taken[block], wider), strict=True)
    return shifted


def _tuning_shifts(
    log_e: torch.Tensor, log_t: torch.Tensor, taken: list[int | None], scores: list[StepScore]
) -> list[TuningShift]:
    """What training changed at some steps, from log-probabilities (steps, vocab). scores: with their candidates."""
    token = torch.tensor([t or 0 for t in taken], dtype=torch.long, device=log_t.device)  # (steps,)
    columns = (
        kl(log_t, log_e).tolist(),
        kl(log_e, log_t).tolist(),
        (log_t.argmax(-1) != log_e.argmax(-1)).tolist(),
        log_t.gather(-1, token.unsqueeze(-1)).squeeze(-1).tolist(),
        rank(log_t, token).tolist(),
    )
    shifts = []
    for n, score in enumerate(scores):
        measures = {name: column[n] for name, column in zip(TUNING_MEASURES, columns, strict=True)}
        if taken[n] is None:
            measures |= dict.fromkeys(name for name in TAKEN_MEASURES if name in measures)
        shifts.append(TuningShift(**measures, tuned_logprobs=tuple(log_t[n, list(score.ids)].tolist())))
    return shifts


def _with_candidates(score: StepScore, ids: list[int], log_e: torch.Tensor, log_a: torch.Tensor) -> StepScore:
    """The score with these ids among its candidates, in the order of StepScore.ids. log_e, log_a: (vocab,)."""
    known = set(score.ids)
    more = [id for id in ids if id not in known]
    if not more:
        return score
    old = zip(score.ids, score.expert_logprobs, score.amateur_logprobs, strict=True)
    new = zip(more, log_e[more].tolist(), log_a[more].tolist(), strict=True)
    candidates = sorted([*old, *new], key=lambda candidate: (-candidate[1], candidate[0]))
    ids, expert_logprobs, amateur_logprobs = map(tuple, zip(*candidates, strict=True))
    return replace(score, ids=ids, expert_logprobs=expert_logprobs, amateur_logprobs=amateur_logprobs)


def tuned_ref(text: str, expert: str) -> ModelRef:
    """The reference of a tuned expert from a user's text: any model reference, or the folder of an adapter or of a
    fine-tuning run, whose adapter is then applied to `expert`. Raises UserError."""
    ref = parse_ref(text)
    if ref.kind != "folder" or ref.adapter:
        return ref
    for folder in (Path(ref.base), Path(ref.base) / "adapter"):
        if os.path.isfile(folder / "adapter_config.json"):  # unlike Path.is_file, False without permission
            if parse_ref(expert).adapter:
                raise UserError(
                    f"{expert} already includes an adapter, and adapters cannot be stacked; merge the first one into a "
                    "folder and use that folder as the expert."
                )
            return parse_ref(f"{parse_ref(expert)}::{folder}")
    return ref


def load_tuned_model(
    ref: ModelRef, writer: str, pair: Pair, models: LoadedModels, on_status: Status = None
) -> TunedModel:
    """Load the tuned expert of a pair. Raises UserError where it cannot be loaded or does not fit the expert."""
    loaded = models.get(ref, on_status, beside=(pair.expert, pair.amateur))
    check_fits(pair, loaded)
    share_weights(loaded.model, pair.expert.model)
    return TunedModel(loaded, writer)


def check_fits(pair: Pair, tuned: LoadedModel) -> None:
    """Raises UserError unless the tuned model uses the expert's token ids."""
    expert = pair.expert
    theirs, own = expert.tokenizer.get_vocab(), tuned.tokenizer.get_vocab()
    differing = sorted({token for token, _ in theirs.items() ^ own.items()}, key=lambda t: (theirs.get(t, 1 << 60), t))
    if differing:
        shown = ", ".join(f"{token[:24]!r}" for token in differing[:SHOWN])
        raise UserError(
            f"{tuned.ref} has another tokenizer than the expert {expert.ref}: {len(differing):,} tokens differ "
            f"({shown}{', …' if differing[SHOWN:] else ''}). Use a model that was fine-tuned from this expert."
        )
    rows = [loaded.model.get_output_embeddings().weight.shape[0] for loaded in (tuned, expert)]
    if rows[0] < min(rows[1], len(theirs)):
        raise UserError(
            f"{tuned.ref} predicts {rows[0]:,} tokens and the expert {expert.ref} {rows[1]:,}, so they cannot be "
            "compared. Use a model that was fine-tuned from this expert."
        )


def share_weights(tuned: torch.nn.Module, expert: torch.nn.Module) -> int:
    """Let the tuned model use the expert's own tensors wherever the two are equal bit for bit; returns how many were.

    LoRA changes a few matrices only, so most of the second copy leaves memory right after loading. No number changes,
    and the models stay independent: neither computes under the other's hooks or locks, as they would with one peft
    model whose adapter is switched, nor with the rounding of an unmerged adapter.
    """
    owned = {name.replace(".base_layer.", "."): tensor for name, tensor in expert.named_parameters()}
    shared = 0
    for name, tensor in tuned.named_parameters():
        other = owned.get(name.replace(".base_layer.", "."))  # in 16 bits an adapter is not merged
        if other is None or (other.shape, other.dtype, other.device) != (tensor.shape, tensor.dtype, tensor.device):
            continue
        if other.data_ptr() == tensor.data_ptr() or torch.equal(other, tensor):
            tensor.data = other.data
            shared += 1
    return shared


def describe_tuned(tuned: TunedModel, pair: Pair) -> dict:
    """The tuned expert in a trace's record, under the key "lens"."""
    return {
        "tuned": str(tuned.loaded.ref),
        "tuned_parameters": tuned.loaded.parameters,
        "tuned_fingerprint": tuned.loaded.fingerprint,
        "writer": tuned.writer,
        "same_model": same_model(tuned.loaded, pair.expert),
    }
