"""Memory of the backward pass: what a token keeps, and activation checkpointing where that does not fit."""

import gc
from types import SimpleNamespace
from weakref import ref

import pytest
import torch

from lightreasoner.models.adapters import add_lora
from lightreasoner.training.batches import BatchSampler
from lightreasoner.training.finetune import activations_fit
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses
from lightreasoner.training.saved_tensors import measure_saved_tensors
from lightreasoner.training.trainer import PackedTrainer
from tests.support.tiny_models import tiny_model

LORA = (8, 16, 0.0, ("q_proj", "v_proj"), 0)


def examples(tokens: int, count: int = 2) -> list[PackedExample]:
    targets = tuple(Target(n, (3,), (1.0,)) for n in (1, tokens - 9))
    return [PackedExample([5] * tokens, 8, targets) for _ in range(count)]


def checkpointing(model) -> list[str]:
    """Switch it on as the trainer does; its notes."""
    notes: list[str] = []
    PackedTrainer.checkpoint_activations(SimpleNamespace(model=model, _notify=notes.append))
    return notes


def test_checkpointing_changes_no_gradient_and_keeps_less():
    gradients, saved_bytes = [], []
    for again in (False, True):
        model = add_lora(tiny_model(1).requires_grad_(False), *LORA).train()
        if again:
            checkpointing(model)
        known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with measure_saved_tensors(known) as saved:
            loss = step_losses(step_logits(model, collate(examples(200))), collate(examples(200)), 300).mean()
            saved_bytes.append(saved.now)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.allclose(*gradients, atol=1e-7) and gradients[0].abs().max() > 0
    assert saved_bytes[1] < saved_bytes[0] / 3


@pytest.mark.parametrize(("free", "fits"), [(10**9, True), (10**6, False)])
def test_it_is_used_where_the_largest_update_does_not_fit(free, fits):
    """The first update may be short and the longest one long: 2 · 900 tokens."""
    model = add_lora(tiny_model(1).requires_grad_(False), *LORA)
    sampler = BatchSampler(examples(40) + examples(900), 8, 4, 2, 0)
    loaded = SimpleNamespace(device=torch.device("cpu"))
    assert activations_fit(model, sampler, False, loaded, free) == fits
    kept = ref(model.get_base_model().model.layers[0].mlp.down_proj.weight)
    del model
    gc.collect()
    assert kept() is None  # what a node saves of its own output kept the node, and so the model, on a GPU for ever


def test_an_architecture_that_cannot_is_left_as_it_is():
    model = SimpleNamespace(get_base_model=lambda: SimpleNamespace(supports_gradient_checkpointing=False))
    assert PackedTrainer.checkpoint_activations(SimpleNamespace(model=model)) is False
