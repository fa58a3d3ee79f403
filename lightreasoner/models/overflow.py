"""Whether a model computes in float16 without overflow: measured on a text, when it is loaded.

float16 rounds eight times finer than bfloat16 but ends at 65,504, and some models have activations of that size.
"""

from __future__ import annotations

from typing import Any

import torch

MARGIN = 8  # other texts may have larger activations than this one
TEXT = (
    "Question: A shop sells 12 boxes of 48 pencils for $3.75 each. How much do they cost together?\n"
    "Answer: There are 12 boxes. 12 × 3.75 = 45, so they cost $45. In LaTeX: \\boxed{45}.\n\n"
    "def area(x: float, y: float) -> float:\n    return x * y  # 苹果 und Äpfel\n"
)


@torch.inference_mode()
def overflows(model: Any, tokenizer: Any) -> bool:
    """Whether a weight or an activation of this float16 model, read on TEXT, comes near the end of float16's range.

    True, too, where an architecture cannot be read so.
    """
    limit = torch.finfo(torch.float16).max / MARGIN
    largest = [p.abs().amax() for p in model.parameters() if p.dtype == torch.float16]

    def watch(module: Any, given: Any, made: Any) -> None:
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float16:
                largest.append(tensor.abs().amax())

    ids = [id for id in tokenizer(TEXT)["input_ids"] if id < model.get_input_embeddings().weight.shape[0]] or [0]
    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits
    except (AttributeError, TypeError, ValueError, IndexError):
        return True
    finally:
        for hook in hooks:
            hook.remove()
    return not bool((torch.stack(largest) <= limit).all() & logits.isfinite().all())  # NaN is no number below it
