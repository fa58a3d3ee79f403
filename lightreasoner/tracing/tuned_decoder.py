"""A tuned expert beside its pair: what training changed at each step.

The tuned expert E′ is compared with the expert E over the pair's shared vocabulary, like everything else, so that all
probabilities of a step are shares of the same whole.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import same_model
from lightreasoner.models.loading import LoadedModel, Status
from lightreasoner.models.pairs import Pair
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.scoring.divergence import (
    TOP_K,
    NotADistribution,
    StepScore,
    blocks,
    expectation,
    expectation_by_row,
    kl,
    log_probs_unseen,
    measure_steps,
    on_host,
    rank,
    step_scores,
    taken_ids,
    to_host,
)
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
            both = [self.alignment.expert(logits) for logits in (expert, tuned)]
            return _shifted(self._score_across(tokens, expert), both, taken_ids(shared, expert.device))
        return score_tuned_steps(*self._pair_logits(tokens, expert), self.alignment.expert(tuned), shared)


def score_tuned_steps(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, tuned_logits: torch.Tensor, taken: list[int | None]
) -> list[tuple[StepScore, TuningShift]]:
    """Score a chunk of steps as `score_steps` does, and what training changed at each.

    Logits: (steps, vocab) over the shared vocabulary. The scores are those of `score_steps`, with the tuned expert's
    TOP_K tokens added to the candidates. Raises NotADistribution.
    """
    token = taken_ids(taken, expert_logits.device)
    found = to_host(measure_steps(expert_logits, amateur_logits, token))
    scores = step_scores(found, [t is not None for t in taken])
    return _shifted(scores, (expert_logits, tuned_logits, amateur_logits), token)


def _shifted(
    scores: list[StepScore], logits: Sequence[torch.Tensor], taken: torch.Tensor
) -> list[tuple[StepScore, TuningShift]]:
    """The scores, and what training changed at each step.

    logits: (steps, vocab) of the expert, the tuned expert and the amateur, whose candidates then are the tuned
    expert's, too; without it none are added. taken: (steps,) see `taken_ids`. Each block of steps is moved to the host
    in two pieces, since each move waits for the device.
    """
    shifted, expect = [], expectation if logits[0].device.type == "cpu" else expectation_by_row
    for block in blocks(logits[0]):
        (log_e, log_t, *log_a), legal = zip(*(log_probs_unseen(own[block]) for own in logits), strict=True)
        token = taken[block].clamp_min(0)
        columns = (
            torch.stack(legal).all(0),
            taken[block] >= 0,
            kl(log_t, log_e, expect),
            kl(log_e, log_t, expect),
            log_t.argmax(-1) != log_e.argmax(-1),
            log_t.gather(-1, token.unsqueeze(-1)).squeeze(-1),
            rank(log_t, token),
        )
        tops = log_t.topk(min(TOP_K, log_t.shape[-1])).indices.unbind(-1) if log_a else ()
        legal, known, *columns = (column.tolist() for column in on_host(*columns, *tops))
        if not all(legal):
            raise NotADistribution([block.start + n for n, own in enumerate(legal) if not own])
        ids = [list(dict.fromkeys([*score.ids, *own])) for score, *own in zip(scores[block], *columns[5:], strict=True)]
        counts = [len(own) for own in ids]
        steps = [n for n, count in enumerate(counts) for _ in range(count)]
        places = torch.tensor([steps, [id for own in ids for id in own]], dtype=torch.long, device=log_t.device)
        steps, listed = places
        moved = on_host(*(logs[steps, listed] for logs in (log_t, log_e, *log_a)))
        found = iter(zip(*(own.tolist() for own in moved), strict=True))
        for n, score in enumerate(scores[block]):
            measures = {name: column[n] for name, column in zip(TUNING_MEASURES, columns, strict=False)}
            if not known[n]:
                measures |= dict.fromkeys(name for name in TAKEN_MEASURES if name in measures)
            rows = list(zip(ids[n], islice(found, counts[n]), strict=True))
            score, tuned_logprobs = _with_candidates(score, rows)
            shifted.append((score, TuningShift(**measures, tuned_logprobs=tuned_logprobs)))
    return shifted


def _with_candidates(
    score: StepScore, rows: list[tuple[int, tuple[float, ...]]]
) -> tuple[StepScore, tuple[float, ...]]:
    """(the score with these candidates, in the order of StepScore.ids; the tuned expert's log-probabilities of them).

    rows: (id, log-probabilities of the tuned expert, the expert and the amateur), those of the score first.
    """
    count = len(score.ids)
    if len(rows) > count:
        old = zip(score.expert_logprobs, score.amateur_logprobs, strict=True)
        rows = [(id, (logs[0], *both)) for (id, logs), both in zip(rows, old, strict=False)] + rows[count:]
        rows.sort(key=lambda row: (-row[1][1], row[0]))
        ids, (_, *columns) = tuple(id for id, _ in rows), zip(*(logs for _, logs in rows), strict=True)
        score = replace(score, ids=ids, expert_logprobs=columns[0], amateur_logprobs=columns[1])
    return score, tuple(logs[0] for _, logs in rows)


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

    LoRA changes a few matrices only, so most of the second copy leaves memory. No number changes, and neither model
    computes under the other's hooks or locks, as with one peft model whose adapter is switched.
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
