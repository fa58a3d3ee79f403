"""The input of a LoRA adapter in a model in 16 bits, kept for the backward pass once and as it is.

PEFT makes the input of every adapted layer float32, as its adapter is, and autograd keeps each of these copies: of one
hidden state three for queries, keys and values, each of twice its bytes. Here the input itself is kept, which other
layers keep too, and made float32 again in the backward pass. Of dropout one bit per number is kept, in place of a byte
on GPUs and four on CPUs. Output and gradients are PEFT's to the bit. It takes more launches, and so more time: see
docs/gpu.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

GATHER, COPY, SPREAD = 0x0102040810204080, 0x0101010101010101, 0x8040201008040201 - 2**64  # of bits, in 64 of them


class LoraInput(nn.Linear):
    """The first matrix of an adapter, which makes its input float32 by itself, and drops some of it in training."""

    dropout: float

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Narrowed.apply(x, self.weight, self.dropout if self.training else 0.0)


def keep_inputs_narrow(model: Any) -> None:
    """Let the LoRA layers of a peft model in 16 bits keep their input in 16 bits; those in float32 stay as they are.

    Once for a model.
    """
    from peft.tuners.lora import Linear as LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and layer.get_base_layer().weight.dtype in (torch.float16, torch.bfloat16):
            for name, first in layer.lora_A.items():
                dropout = layer.lora_dropout[name]
                first.dropout = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
                first.__class__ = LoraInput  # its weight is known by its name
                layer.lora_dropout[name] = nn.Identity()
            layer.cast_input_dtype_enabled = False


class _Narrowed(torch.autograd.Function):
    """x (…, width) in 16 bits and weight (rank, width) in float32 → (…, rank) in float32."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, dropout: float) -> torch.Tensor:
        wide, kept = x.to(weight.dtype, copy=dropout > 0), None
        if dropout and x.device.type == "cuda":  # where nn.Dropout does the same, and keeps its mask for itself
            wide, kept = torch.native_dropout(wide, dropout, True)
        elif dropout:
            kept = nn.functional.dropout(torch.ones_like(wide), dropout) != 0
            wide = _drop(wide, kept.view(torch.uint8), dropout)
        ctx.dropout = dropout
        ctx.save_for_backward(x, weight, None if kept is None else pack_bits(kept))
        return nn.functional.linear(wide, weight)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight, bits = ctx.saved_tensors
        kept = None if bits is None else unpack_bits(bits, x.shape)
        of_x = of_weight = None
        flat = gradient.reshape(-1, gradient.shape[-1])
        if ctx.needs_input_grad[1]:
            wide = x.to(weight.dtype, copy=kept is not None)
            wide = wide if kept is None else _drop(wide, kept, ctx.dropout)
            of_weight = flat.t().mm(wide.reshape(-1, wide.shape[-1]))
            del wide
        if ctx.needs_input_grad[0]:
            of_x = flat.mm(weight).view_as(x)
            of_x = (of_x if kept is None else _drop(of_x, kept, ctx.dropout)).to(x.dtype)
        return of_x, of_weight, None


def _drop(wide: torch.Tensor, kept: torch.Tensor, dropout: float) -> torch.Tensor:
    """wide, with what is not kept at 0 and the rest scaled as nn.Dropout scales it. Changes wide, a copy of ours."""
    return wide.mul_(kept).mul_(float(np.float32(1) / np.float32(1 - dropout)))


def pack_bits(mask: torch.Tensor) -> torch.Tensor:
    """The values of a mask of any shape, eight to a byte: (⌈values / 8⌉,) in uint8.

    Eight bytes, each 0 or 1, are one integer of 64 bits. The product has byte n of it as bit n of its highest byte.
    """
    flat = mask.flatten().view(torch.uint8)
    eights = nn.functional.pad(flat, (0, -len(flat) % 8)).view(torch.int64)
    return (eights * GATHER >> 56).to(torch.uint8)


def unpack_bits(bits: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The mask of this shape that `pack_bits` packed, as ones and zeros in uint8."""
    eights = bits.to(torch.int64) * COPY & SPREAD  # bit n alone in byte n
    return (eights.view(torch.uint8) != 0).view(torch.uint8)[: shape.numel()].view(shape)
