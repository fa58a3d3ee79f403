"""Shards a base model's frozen decoder layers over the training processes (FSDP), for models too large for one device.

The decoder layers are most of the bytes, and none of their own weights is trained. A layer is gathered just before its
forward or backward pass and dropped afterwards. Embeddings, head and adapter stay whole in every process, so loss,
gradients, optimiser and checkpoints are those of distributed.py. The stack of layers is their common root, so that a
layer is gathered while the one before it computes.
"""

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lightreasoner.compat.transformers import ignore_in_ddp, layer_class_names
from lightreasoner.errors import UserError


def shard(model: Any, device: torch.device, processes: int) -> None:
    """Reduce every decoder layer of a peft model to this process's shard on `device`, one layer at a time.

    Raises UserError for an architecture that does not name its layers.
    """
    kinds = layer_class_names(model.get_base_model())
    layers: list[torch.nn.Module] = []
    inside: set[torch.nn.Module] = set()  # some architectures also name parts of their layers
    for module in model.modules():
        if type(module).__name__ in kinds and module not in inside:
            layers.append(module)
            inside.update(module.modules())
    if not layers:
        raise UserError("This architecture does not name its layers, so it cannot be sharded; omit --shard.")
    mesh = init_device_mesh(device.type, (processes,))
    for layer in layers:
        # Dropped after the forward pass, too. Otherwise the process that writes a checkpoint, which drops layers, would
        # gather them alone afterwards and wait forever.
        trained = {p for p in layer.parameters() if p.requires_grad}
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    base = model.get_base_model()
    stack = getattr(base, base.base_model_prefix, base)  # whose forward pass step_logits calls, if not the whole one's
    rest = {p for p in stack.parameters() if not isinstance(p, DTensor)}
    fully_shard(stack, mesh=mesh, reshard_after_forward=True, ignored_params=rest)
    # DistributedDataParallel, in which the Trainer wraps the model, would broadcast the shards
    spread = [name for name, p in model.named_parameters() if isinstance(p, DTensor)]
    ignore_in_ddp(model, spread)


def frozen_bytes(model: Any) -> dict[str, int]:
    """`held`: bytes of the base model in this process; `whole`: bytes of the whole base model."""
    held = whole = 0
    for p in model.parameters():
        if not p.requires_grad:
            whole += p.numel() * p.element_size()
            held += (p.to_local() if isinstance(p, DTensor) else p).numel() * p.element_size()
    return {"held": held, "whole": whole}
