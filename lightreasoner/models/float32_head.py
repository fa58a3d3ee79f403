"""The output head of a model in 16 bits, with logits in float32: rounded ones tie, and shift KL by hundredths of a nat.

The products of two 16-bit numbers are exact in float32, so nothing is lost by leaving the weights in 16 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

BLOCK = 1 << 21  # weights that are widened at once where a matrix product cannot do it; they stay in the cache


class Float32Head(nn.Linear):
    """A linear layer in 16 bits whose output is float32."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = _Logits.apply(hidden, self.weight)
        return logits if self.bias is None else logits + self.bias.float()


def widen_head(model: Any) -> None:
    """Let a transformers model in 16 bits compute its logits in float32. Heads of another kind stay as they are."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype in (torch.float16, torch.bfloat16):
        head.__class__ = Float32Head  # its weight may be the embedding's, and is known by its name


class _Logits(torch.autograd.Function):
    """hidden (…, width) and weight (rows, width), frozen → (…, rows) in float32."""

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        flat = hidden.reshape(-1, hidden.shape[-1])
        if weight.device.type == "cuda" and not torch.version.hip and flat.dtype == weight.dtype:
            logits = torch.mm(flat, weight.t(), out_dtype=torch.float32)
        else:
            flat, rows = flat.float(), max(1, BLOCK // weight.shape[1])
            logits = torch.cat([flat @ part.float().t() for part in weight.split(rows)], -1)
        return logits.view(*hidden.shape[:-1], -1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient.to(weight.dtype) @ weight, None
