"""A model too large for one device, its frozen layers spread over the processes that train together (FSDP).

Only the base's decoder layers are spread: they are most of the bytes, and nothing in them is trained. A layer is
gathered whole just before it computes, forward and backward, and dropped after. Embeddings, the head and the adapter
stay whole in every process, so the loss, the sum of gradients, the optimiser and checkpoints are those of parallel.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lightreasoner.compat.transformers import ignore_in_ddp, layer_class_names
from lightreasoner.errors import UserError


def shard(model: Any, device: torch.device, processes: int) -> None:
    """Leave this process its part of every decoder layer of a peft model, on `device`; the rest may lie anywhere yet.

    Only one layer at a time is whole on the device. Raises UserError for an architecture that names no layers.
    """
    kinds = layer_class_names(model.get_base_model())
    layers: list[torch.nn.Module] = []
    inside: set[torch.nn.Module] = set()  # some architectures name parts of their layers, too
    for module in model.modules():
        if type(module).__name__ in kinds and module not in inside:
            layers.append(module)
            inside.update(module.modules())
    if not layers:
        raise UserError(
            "This architecture does not say what its layers are, so it cannot be sharded; leave --shard out."
        )
    mesh = init_device_mesh(device.type, (processes,))
    for layer in layers:
        # dropped after the forward, too: else the one process that writes a checkpoint, which drops them, would gather
        # alone afterwards, and wait for ever
        trained = {p for p in layer.parameters() if p.requires_grad}
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    # DistributedDataParallel, which the Trainer puts around the model, would send the parts from process to process
    spread = [name for name, p in model.named_parameters() if isinstance(p, DTensor)]
    ignore_in_ddp(model, spread)


def frozen_bytes(model: Any) -> dict[str, int]:
    """`held`: bytes of the base that this process holds; `whole`: bytes of the whole base."""
    held = whole = 0
    for p in model.parameters():
        if not p.requires_grad:
            whole += p.numel() * p.element_size()
            held += (p.to_local() if isinstance(p, DTensor) else p).numel() * p.element_size()
    return {"held": held, "whole": whole}
