"""The training objective: KL(target ‖ π_θ) at the selected steps, one forward a trajectory.

A released-style trainer forwards each (prefix, step) alone. Causal attention makes that needless: the hidden state at
a step is the same whether or not later tokens follow, so one forward over the trajectory serves all of its steps. The
hidden states are gathered before the output head, so vocabulary-sized tensors exist for selected steps only, and the
targets stay sparse. Rows are padded on the right, after everything that is ever read: no position can see a pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Target:
    """What one step should learn: a distribution over a few tokens. `step` counts response tokens from 0."""

    step: int
    token_ids: Sequence[int]
    weights: Sequence[float]  # sum to 1


@dataclass(frozen=True)
class Lesson:
    """Steps of one trajectory that are learned together. `ids`: prompt and response, as far as they are read."""

    ids: Sequence[int]
    prompt_length: int
    targets: Sequence[Target]

    def length(self) -> int:
        """Tokens that must be read to predict the last of the steps."""
        return self.prompt_length + max(target.step for target in self.targets)


@dataclass(frozen=True)
class Batch:
    """Lessons side by side, as tensors. Samples are numbered through, entries are the targets' tokens."""

    input_ids: torch.Tensor  # (rows, length)
    row: torch.Tensor  # (samples,) of input_ids
    position: torch.Tensor  # (samples,) whose hidden state predicts the step
    sample: torch.Tensor  # (entries,) which sample it belongs to
    token: torch.Tensor  # (entries,)
    weight: torch.Tensor  # (entries,) fp32

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))


def collate(lessons: Sequence[Lesson], pad_id: int = 0) -> Batch:
    """Pad on the right; entries of weight 0 teach nothing and are left out."""
    width = max(lesson.length() for lesson in lessons)
    input_ids = torch.full((len(lessons), width), pad_id)
    row, position, sample, token, weight = [], [], [], [], []
    for n, lesson in enumerate(lessons):
        length = lesson.length()
        input_ids[n, :length] = torch.tensor(lesson.ids[:length])
        for target in lesson.targets:
            entries = [(t, w) for t, w in zip(target.token_ids, target.weights, strict=True) if w > 0]
            sample += [len(row)] * len(entries)
            token += [t for t, _ in entries]
            weight += [w for _, w in entries]
            row.append(n)
            position.append(lesson.prompt_length + target.step - 1)
    whole = (torch.tensor(column, dtype=torch.long) for column in (row, position, sample, token))
    return Batch(input_ids, *whole, torch.tensor(weight, dtype=torch.float32))


def step_logits(model: Any, batch: Batch, whole_head: bool = False) -> torch.Tensor:
    """The model's logits (samples, rows of the head) at the batch's steps, in its own dtype.

    `whole_head` runs the model's own forward over every position, for architectures that do more to their logits
    than apply the output head (see `gathers`).
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if whole_head:
        return causal(input_ids=batch.input_ids, use_cache=False).logits[batch.row, batch.position]
    body = getattr(causal, causal.base_model_prefix)
    hidden = body(input_ids=batch.input_ids, use_cache=False).last_hidden_state  # (rows, length, width)
    return causal.get_output_embeddings()(hidden[batch.row, batch.position])


@torch.no_grad()
def gathers(model: Any, batch: Batch) -> bool:
    """Whether gathering before the head gives the logits of the model's own forward; softcaps and scales break it."""
    was_training = model.training
    model.eval()
    try:
        ours, own = step_logits(model, batch).float(), step_logits(model, batch, whole_head=True).float()
    except (AttributeError, TypeError):  # no body or head where transformers usually has them
        return False
    finally:
        model.train(was_training)
    close = 1e-2 * own.abs().max()  # 16-bit models round the two ways differently
    return bool(((ours - own).abs() <= close).all() | ours.isnan().any())  # NaN is for the loss to report


def step_losses(logits: torch.Tensor, batch: Batch, vocabulary: int) -> torch.Tensor:
    """KL(target ‖ π_θ) in nats for each sample: (samples, rows of the head) → (samples,).

    The model's distribution is renormalised over its `vocabulary` real tokens; padding rows of the head do not count.
    """
    log_p = torch.log_softmax(logits[:, :vocabulary].to(torch.promote_types(logits.dtype, torch.float32)), -1)
    weight = batch.weight.to(log_p.dtype)
    terms = weight * (weight.log() - log_p[batch.sample, batch.token])  # (entries,)
    return log_p.new_zeros(len(batch.row)).index_add(0, batch.sample, terms)
