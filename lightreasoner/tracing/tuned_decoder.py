"""The lens: the tuned expert E′ reads along behind the pair, and each step also says what training moved.

Over the pair's shared vocabulary like everything else, so that all bars of a step are shares of the same whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import LoadedModel, Status
from lightreasoner.models.pairs import Pair
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.scoring.divergence import CPU_BLOCK, GPU_BLOCK, TOP_K, StepScore, kl, log_probs, rank, score_steps
from lightreasoner.scoring.measures import TAKEN_MEASURES, TUNING_MEASURES
from lightreasoner.tracing.events import TuningShift
from lightreasoner.tracing.pair_decoder import PairDecoder

EXPERT, TUNED = "expert", "tuned"  # who may write the response
SHOWN = 3  # differing tokens that an error message names


@dataclass(frozen=True)
class TunedModel:
    """A tuned expert that fits its pair, and who of the two experts writes."""

    loaded: LoadedModel
    writer: str = EXPERT


class TunedPairDecoder(PairDecoder):
    """The pair and the tuned expert at the same place of the same response. The tuned expert reads the expert's ids."""

    def __init__(self, pair: Pair, expert_prompt: list[int], amateur_prompt: list[int], tuned: TunedModel):
        super().__init__(pair, expert_prompt, amateur_prompt)
        self.tuned_writes = tuned.writer == TUNED
        self.tuned, self.tuned_unread = CachedDecoder(tuned.loaded), expert_prompt[-1:]
        self.tuned.prefill(expert_prompt[:-1])

    @property
    def writer(self) -> LoadedModel:
        return self.tuned.loaded if self.tuned_writes else self.pair.expert

    def next_logits(self) -> torch.Tensor:
        return self.tuned.read(self.tuned_unread, keep=1)[0] if self.tuned_writes else super().next_logits()

    def append(self, token: int) -> None:
        if self.tuned_writes:
            self.tuned_unread = [token]
        else:
            super().append(token)

    def teacher_force(self, tokens: list[int]) -> torch.Tensor:
        return self._teacher_force_tuned(tokens) if self.tuned_writes else super().teacher_force(tokens)

    def _teacher_force_tuned(self, tokens: list[int]) -> torch.Tensor:
        logits = self.tuned.read(self.tuned_unread + tokens[:-1], keep=len(tokens))
        self.tuned_unread = tokens[-1:]
        return logits

    def _logits(self, tokens: list[int], written: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Expert's, amateur's and tuned expert's, each (steps, shared): whoever does not write follows."""
        expert, tuned = (
            (super().teacher_force(tokens), written)
            if self.tuned_writes
            else (written, self._teacher_force_tuned(tokens))
        )
        return *super()._logits(tokens, expert), self.alignment.expert(tuned)

    def _compare(self, *logits_and_taken) -> list[tuple[StepScore, TuningShift]]:
        return score_tuned_steps(*logits_and_taken)


def score_tuned_steps(
    expert_logits: torch.Tensor, amateur_logits: torch.Tensor, tuned_logits: torch.Tensor, taken: list[int | None]
) -> list[tuple[StepScore, TuningShift]]:
    """Score a chunk of steps as `score_steps` does, and what training moved at each.

    Logits: (steps, vocab) over the shared vocabulary. The step scores are those of `score_steps`, but that the tuned
    expert's TOP_K are among their candidates, too. Raises NotADistribution.
    """
    scores = score_steps(expert_logits, amateur_logits, taken)
    size = max(1, (CPU_BLOCK if expert_logits.device.type == "cpu" else GPU_BLOCK) // expert_logits.shape[-1])
    found = []
    for start in range(0, len(taken), size):
        block = slice(start, start + size)
        logs = [log_probs(logits[block]) for logits in (expert_logits, amateur_logits, tuned_logits)]
        found += _tuning_shifts(*logs, taken[block], scores[block])
    return found


def _tuning_shifts(
    log_e: torch.Tensor, log_a: torch.Tensor, log_t: torch.Tensor, taken: list[int | None], scores: list[StepScore]
) -> list[tuple[StepScore, TuningShift]]:
    """score_tuned_steps for few enough steps, on log-probabilities (steps, vocab)."""
    token = torch.tensor([t or 0 for t in taken], dtype=torch.long, device=log_t.device)  # (steps,)
    tops = log_t.topk(min(TOP_K, log_t.shape[-1])).indices.tolist()
    columns = (
        kl(log_t, log_e).tolist(),
        kl(log_e, log_t).tolist(),
        (log_t.argmax(-1) != log_e.argmax(-1)).tolist(),
        log_t.gather(-1, token.unsqueeze(-1)).squeeze(-1).tolist(),
        rank(log_t, token).tolist(),
    )
    found = []
    for n, score in enumerate(scores):
        measures = {name: column[n] for name, column in zip(TUNING_MEASURES, columns, strict=True)}
        if taken[n] is None:
            measures |= dict.fromkeys(name for name in TAKEN_MEASURES if name in measures)
        score = _with(score, tops[n], log_e[n], log_a[n])
        found.append((score, TuningShift(**measures, tuned_logprobs=tuple(log_t[n, list(score.ids)].tolist()))))
    return found


def _with(score: StepScore, ids: list[int], log_e: torch.Tensor, log_a: torch.Tensor) -> StepScore:
    """The score with further candidates, in the order that StepScore.ids has. log_e, log_a: (vocab,) of the step."""
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
    """The reference of a tuned expert as a person names it: any reference, or the folder of an adapter or of a
    fine-tuning run, which is put on the expert. Raises UserError."""
    ref = parse_ref(text)
    if ref.kind != "folder" or ref.adapter:
        return ref
    for folder in (Path(ref.base), Path(ref.base) / "adapter"):
        if os.path.isfile(folder / "adapter_config.json"):  # unlike Path's, False for what may not be looked at
            if parse_ref(expert).adapter:
                raise UserError(
                    f"{expert} wears an adapter already, and a second one cannot be put on it; merge the first one "
                    "into a folder and take that as the expert."
                )
            return parse_ref(f"{parse_ref(expert)}::{folder}")
    return ref


def load_tuned_model(
    ref: ModelRef, writer: str, pair: Pair, models: LoadedModels, on_status: Status = None
) -> TunedModel:
    """Load the tuned expert of a pair. Raises UserError when it cannot be had or is no version of the expert."""
    tuned = models.get(ref, on_status)
    check_fits(pair, tuned)
    share_weights(tuned.model, pair.expert.model)
    return TunedModel(tuned, writer)


def check_fits(pair: Pair, tuned: LoadedModel) -> None:
    """Whether the tuned model reads and writes the expert's ids. Raises UserError."""
    expert = pair.expert
    theirs, own = expert.tokenizer.get_vocab(), tuned.tokenizer.get_vocab()
    differing = sorted({token for token, _ in theirs.items() ^ own.items()}, key=lambda t: (theirs.get(t, 1 << 60), t))
    if differing:
        shown = ", ".join(f"{token[:24]!r}" for token in differing[:SHOWN])
        raise UserError(
            f"{tuned.ref} has another tokenizer than the expert {expert.ref}: {len(differing):,} tokens differ "
            f"({shown}{', …' if differing[SHOWN:] else ''}). Take a model that was trained from this expert."
        )
    rows = [loaded.model.get_output_embeddings().weight.shape[0] for loaded in (tuned, expert)]
    if rows[0] < min(rows[1], len(theirs)):
        raise UserError(
            f"{tuned.ref} predicts {rows[0]:,} tokens and the expert {expert.ref} {rows[1]:,}, so they cannot be "
            "compared. Take a model that was trained from this expert."
        )


def share_weights(tuned: torch.nn.Module, expert: torch.nn.Module) -> int:
    """Let the tuned model use the expert's own tensors wherever the two are equal bit for bit; how many were.

    LoRA changes a few matrices and leaves the rest, so this holds most of a second copy in memory no longer than it
    takes to load. It changes no number, and the two models stay two: neither computes under the other's hooks or locks,
    as they would with one peft model whose adapter is switched, nor with an unmerged adapter's rounding.
    """
    there = {name.replace(".base_layer.", "."): tensor for name, tensor in expert.named_parameters()}
    shared = 0
    for name, tensor in tuned.named_parameters():
        other = there.get(name.replace(".base_layer.", "."))  # in 16 bits an adapter stays beside its matrix
        if other is None or (other.shape, other.dtype, other.device) != (tensor.shape, tensor.dtype, tensor.device):
            continue
        if other.data_ptr() == tensor.data_ptr() or torch.equal(other, tensor):
            tensor.data = other.data
            shared += 1
    return shared


def describe_tuned(tuned: TunedModel, pair: Pair) -> dict:
    """What a trace remembers of its lens."""
    return {
        "tuned": str(tuned.loaded.ref),
        "tuned_parameters": tuned.loaded.parameters,
        "tuned_fingerprint": tuned.loaded.fingerprint,
        "writer": tuned.writer,
        "same_model": tuned.loaded.fingerprint == pair.expert.fingerprint,
    }
