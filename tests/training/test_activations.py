"""Memory of the backward pass: what a token keeps, and activation checkpointing where that does not fit."""

import gc
from dataclasses import replace
from types import SimpleNamespace
from weakref import ref

import pytest
import torch

from lightreasoner.models.adapters import USUAL, add_lora
from lightreasoner.models.lora_input import LoraInput, keep_inputs_narrow, pack_bits, unpack_bits
from lightreasoner.training.batches import BatchSampler
from lightreasoner.training.finetune import activations_fit, fit_activations
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


@pytest.mark.parametrize(("fits", "narrow", "again"), [([1], 0, 0), ([0, 1], 4, 0), ([0, 0], 4, 1)])
def test_time_is_given_up_only_as_far_as_memory_demands(fits, narrow, again):
    """With narrow inputs an update of 7B, all linear layers adapted, took 267 ms in place of 204 on an H200."""
    model = add_lora(tiny_model(1).bfloat16(), *LORA)
    done: list[int] = []
    trainer = SimpleNamespace(model=model, checkpoint_activations=lambda: done.append(1))
    fit_activations(trainer, iter(map(bool, fits)).__next__)
    assert sum(isinstance(module, LoraInput) for module in model.modules()) == narrow and len(done) == again


@pytest.mark.parametrize("dropout", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_input_of_an_adapter_is_kept_once_in_16_bits(dtype, dropout):
    """PEFT made it float32 for every adapted layer and kept each copy. Losses and gradients are PEFT's to the bit."""
    found, saved_bytes = [], []
    for own in (True, False):
        model = tiny_model(1).to(dtype).requires_grad_(False)
        model = add_lora(model, 8, 16, dropout, USUAL, 0).train()
        if not own:
            keep_inputs_narrow(model)
        generator = torch.Generator().manual_seed(0)
        for name, p in model.named_parameters():  # as after some updates
            if "lora_B" in name:
                p.data = 0.1 * torch.randn(p.shape, generator=generator)
        batch = collate([replace(row, ids=[(7 * n) % 290 for n in range(61)]) for row in examples(61) + examples(50)])
        known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        torch.manual_seed(3)
        with measure_saved_tensors(known) as saved:
            losses = step_losses(step_logits(model, batch), batch, 300)
        saved_bytes.append(saved.now)
        losses.mean().backward()
        found.append([losses, torch.rand(1), *(p.grad for p in model.parameters() if p.requires_grad)])
        with torch.no_grad():
            found[-1].append(step_logits(model.eval(), batch))
    assert all(map(torch.equal, *found)) and all(bool(found[0][n].any()) for n in range(len(found[0])))
    assert saved_bytes[1] < (0.8 if dropout == 0 else 0.5) * saved_bytes[0]


def test_an_adapter_in_float32_keeps_the_forward_pass_of_peft():
    model = add_lora(tiny_model(1).requires_grad_(False), 8, 16, 0.05, USUAL, 0)
    keep_inputs_narrow(model)
    assert not any(isinstance(module, LoraInput) for module in model.modules())


def test_what_an_adapter_reads_in_float32_is_not_changed():
    """Some architectures in 16 bits have float32 in places, which needs no copy to be widened."""
    model = add_lora(tiny_model(1).bfloat16(), 8, 16, 0.5, ("q_proj",), 0)
    keep_inputs_narrow(model)
    layer = model.get_base_model().model.layers[0]
    given = torch.randn(3, 32, requires_grad=True)
    before = given.detach().clone()
    layer.self_attn.q_proj.lora_A["default"].train()(given).sum().backward()
    assert torch.equal(given, before) and bool((given.grad == 0).any())


@pytest.mark.parametrize("shape", [(1,), (7, 9), (2, 3, 8)])
def test_a_mask_in_bits_is_the_same_mask(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    packed = pack_bits(mask)
    assert len(packed) == -(-mask.numel() // 8) and torch.equal(unpack_bits(packed, mask.shape).bool(), mask)
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pack_bits(unpack_bits(every, torch.Size([2048]))), every)
