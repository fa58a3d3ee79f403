"""The training loss: KL(target ‖ π_θ) at the selected steps, with one forward pass per trajectory.

The paper's released trainer runs each (prefix, step) alone. Causal attention makes that unnecessary: the hidden state
at a step does not depend on later tokens, so one forward pass over the trajectory serves all its steps. Hidden states
are gathered before the output head, so vocabulary-sized tensors exist for selected steps only, and in the usual layers
before the last one's second half. Targets stay sparse.
Rows are padded on the right, where causal attention never looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

#: transformers' decoder layers that are attention and then a perceptron, each behind a norm and beside a residual.
LAYERS = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}


@dataclass(frozen=True)
class Target:
    """The target distribution of one step, over a few tokens."""

    step: int  # position in the response, from 0
    token_ids: Sequence[int]
    weights: Sequence[float]  # sum to 1


@dataclass(frozen=True)
class PackedExample:
    """Selected steps of one trajectory that share a forward pass."""

    ids: Sequence[int]  # prompt and response, at least up to the last step
    prompt_length: int
    targets: Sequence[Target]

    def length(self) -> int:
        """Tokens of the forward pass: up to the one that predicts the last step."""
        return self.prompt_length + max(target.step for target in self.targets)


@dataclass(frozen=True)
class Batch:
    """Packed examples as tensors. Samples are numbered consecutively; entries are the targets' tokens."""

    input_ids: torch.Tensor  # (rows, length)
    row: torch.Tensor  # (samples,) row of input_ids
    position: torch.Tensor  # (samples,) position whose hidden state predicts the step
    sample: torch.Tensor  # (entries,) sample that the entry belongs to
    token: torch.Tensor  # (entries,)
    weight: torch.Tensor  # (entries,) fp32

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))


def collate(examples: Sequence[PackedExample], pad_id: int = 0) -> Batch:
    """Pad on the right and drop entries of weight 0, which do not change the loss."""
    width = max(example.length() for example in examples)
    input_ids = torch.full((len(examples), width), pad_id)
    row, position, sample, token, weight = [], [], [], [], []
    for n, example in enumerate(examples):
        length = example.length()
        input_ids[n, :length] = torch.tensor(example.ids[:length])
        for target in example.targets:
            entries = [(t, w) for t, w in zip(target.token_ids, target.weights, strict=True) if w > 0]
            sample += [len(row)] * len(entries)
            token += [t for t, _ in entries]
            weight += [w for _, w in entries]
            row.append(n)
            position.append(example.prompt_length + target.step - 1)
    whole = (torch.tensor(column, dtype=torch.long) for column in (row, position, sample, token))
    return Batch(input_ids, *whole, torch.tensor(weight, dtype=torch.float32))


def step_logits(model: Any, batch: Batch, whole_head: bool = False) -> torch.Tensor:
    """The model's logits at the batch's steps: (samples, rows of the output head), in the model's dtype.

    whole_head: run the model's own forward pass over every position, for architectures whose logits are more than
    the output head's product (see `can_gather_before_head`).
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if whole_head:
        return causal(input_ids=batch.input_ids, use_cache=False).logits[batch.row, batch.position]
    body = getattr(causal, causal.base_model_prefix)
    last = next(reversed(getattr(body, "layers", ())), None)
    own = any(kind.__name__ in LAYERS for kind in type(last).__mro__)  # FSDP puts a class of its own before it
    # nor has anybody else put another forward in its place
    if own and "forward" not in vars(last) and not last.gradient_checkpointing:
        with _only_at(last, batch):
            hidden = body(input_ids=batch.input_ids, use_cache=False).last_hidden_state[0]  # (samples, width)
    else:
        hidden = body(input_ids=batch.input_ids, use_cache=False).last_hidden_state[batch.row, batch.position]
    return causal.get_output_embeddings()(hidden)


@contextmanager
def _only_at(layer: Any, batch: Batch) -> Iterator[None]:
    """Inside, a decoder layer returns the batch's steps, (1, samples, width), and its second half computes no more.

    What a last layer gives elsewhere is not read. Not for checkpointed activations, which are computed again later.
    """

    def forward(hidden: torch.Tensor, **given: Any) -> torch.Tensor:
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **given)
        hidden = (hidden + attended)[batch.row, batch.position][None]
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    layer.forward = forward  # in place of its class's
    try:
        yield
    finally:
        del layer.forward


@torch.no_grad()
def can_gather_before_head(model: Any, batch: Batch) -> bool:
    """Whether gathering before the head gives the logits of the model's own forward pass. They differ where an
    architecture caps or scales logits after the head."""
    was_training = model.training
    model.eval()
    try:
        gathered, own = step_logits(model, batch).float(), step_logits(model, batch, whole_head=True).float()
    except (AttributeError, TypeError):  # body or head have other names than usual in transformers
        return False
    finally:
        model.train(was_training)
    close = 1e-2 * own.abs().max()  # 16-bit models round the two results differently
    return bool(((gathered - own).abs() <= close).all() | gathered.isnan().any())  # the loss reports NaN


def step_losses(logits: torch.Tensor, batch: Batch, vocabulary: int) -> torch.Tensor:
    """KL(target ‖ π_θ) per sample in nats: (samples, rows of the output head) → (samples,).

    The model's distribution is normalised over the first `vocabulary` rows; the others are padding.
    """
    log_p = torch.log_softmax(logits[:, :vocabulary].to(torch.promote_types(logits.dtype, torch.float32)), -1)
    weight = batch.weight.to(log_p.dtype)
    terms = weight * (weight.log() - log_p[batch.sample, batch.token])  # (entries,)
    return log_p.new_zeros(len(batch.row)).index_add(0, batch.sample, terms)
