"""The packed objective gives the loss and the gradient of one-by-one samples, to fp64 precision."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import peft
import pytest
import torch
import transformers

from lightreasoner.training import loss
from lightreasoner.training.loss import PackedExample, Target, can_gather_before_head, collate, step_logits, step_losses
from tests.support.tiny_models import tiny_model

VOCABULARY = 290  # ten fewer than the model's rows


def examples() -> list[PackedExample]:
    """Three trajectories of mixed lengths; prompts of mixed lengths too; step 0 and a last step among the targets."""
    made = []
    for seed, (prompt, response, steps) in enumerate([(7, 12, (0, 3, 11)), (21, 5, (4,)), (3, 30, (0, 1, 15, 29))]):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, VOCABULARY, (prompt + response,), generator=generator).tolist()
        targets = []
        for step in steps:
            weights = torch.softmax(torch.randn(1 + step % 3, generator=generator, dtype=torch.float64), -1).tolist()
            tokens = torch.randperm(VOCABULARY, generator=generator)[: len(weights)].tolist()
            targets.append(Target(step, tokens, weights))
        made.append(PackedExample(ids, prompt, targets))
    return made


def lora_model(seed: int = 5):
    """A tiny model in fp64 with a LoRA adapter that already does something, dropout off."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(tiny_model(1).double(), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    for module in model.modules():
        if type(module).__name__ == "Qwen2RMSNorm":
            module.forward = partial(fp64_norm, module)
    return model.double().eval()


def fp64_norm(norm, hidden: torch.Tensor) -> torch.Tensor:
    """RMSNorm without transformers' detour through fp32, which would bury a gradient's last nine digits."""
    return norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)


def naive_losses(model, example: PackedExample) -> list[torch.Tensor]:
    """One forward a sample over its own prefix, no padding, dense targets: what the paper defines, as directly as it
    can be written."""
    losses = []
    for target in example.targets:
        prefix = torch.tensor([example.ids[: example.prompt_length + target.step]])
        log_p = torch.log_softmax(model(input_ids=prefix).logits[0, -1, :VOCABULARY].double(), -1)
        dense = torch.zeros(VOCABULARY, dtype=torch.float64)
        dense[list(target.token_ids)] = torch.tensor(target.weights, dtype=torch.float64)
        losses.append(torch.nn.functional.kl_div(log_p, dense, reduction="sum"))
    return losses


def losses_one_by_one(model, packed_examples: list[PackedExample]) -> list[torch.Tensor]:
    return [loss for example in packed_examples for loss in naive_losses(model, example)]


def gradient(model, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def packed_losses(model, batch, **kw) -> torch.Tensor:
    return step_losses(step_logits(model, batch, **kw), batch, VOCABULARY)


def test_a_loss_worked_out_by_hand():
    """Target (3/4, 1/4) on tokens 0 and 2; the model says (1/2, 1/4, 1/4), and a padding row has most of the mass.
    KL = 3/4·ln(3/2) + 1/4·ln 1 = 0.30410."""
    logits = torch.tensor([[math.log(2), 0.0, 0.0, 9.0]])
    batch = collate([PackedExample([5, 6], 1, [Target(0, [0, 2, 1], [0.75, 0.25, 0.0])])])
    assert step_losses(logits, batch, vocabulary=3).item() == pytest.approx(0.75 * math.log(1.5), abs=1e-6)


def test_a_target_that_the_model_already_gives_costs_nothing():
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    batch = collate([PackedExample([5, 6], 1, [Target(0, range(6), torch.softmax(logits[0], -1).tolist())])])
    assert step_losses(logits, batch, 6).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("whole_head", [False, True])
def test_packed_gradients_equal_one_by_one_gradients(whole_head):
    """Pins the released code's pad-position bug (METHOD.md, mistake 1): in a micro-batch of mixed lengths every row
    but the longest learned at a pad position."""
    model, packed_examples = lora_model(), examples()
    naive = losses_one_by_one(model, packed_examples)
    batch = collate(packed_examples)
    exact = torch.tensor(
        [w for example in packed_examples for target in example.targets for w in target.weights], dtype=torch.float64
    )
    batch = replace(batch, weight=exact)  # collate keeps fp32, which is finer than any model
    packed = packed_losses(model, batch, whole_head=whole_head)
    torch.testing.assert_close(packed, torch.stack(naive), rtol=0, atol=1e-9)
    ours, theirs = (
        gradient(model, packed.mean()),
        gradient(model, torch.stack(losses_one_by_one(model, packed_examples)).mean()),
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert theirs.abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_last_layers_second_half_reads_only_the_steps(kind, monkeypatch):
    """It computed every position, of which the head reads a few; loss and gradient must stay."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 300}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **sizes)).double()
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "o_proj", "down_proj"], init_lora_weights=False)
    model, batch, read = peft.get_peft_model(model, config).double().eval(), collate(examples()), []
    last = model.get_base_model().model.layers[-1]
    last.mlp.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[:2].numel()))
    found = gradient(model, packed_losses(model, batch).mean())
    assert read == [len(batch.row)] and "forward" not in vars(last)
    monkeypatch.setattr(loss, "LAYERS", ())
    torch.testing.assert_close(found, gradient(model, packed_losses(model, batch).mean()), rtol=1e-5, atol=1e-8)
    assert read[1] == batch.input_ids.numel()


def test_pads_change_nothing():
    """The same lesson alone and beside a much longer one."""
    model = lora_model()
    short, _, long = examples()
    alone, beside = packed_losses(model, collate([short])), packed_losses(model, collate([short, long], pad_id=17))
    torch.testing.assert_close(beside[: len(alone)], alone, rtol=0, atol=1e-9)


def test_only_what_is_needed_is_read():
    """Nothing after the last selected step is forwarded."""
    example = PackedExample(list(range(3, 40)), 10, [Target(2, [5], [1.0])])
    assert collate([example]).input_ids.shape == (1, 12)


def test_a_model_that_changes_its_logits_after_the_head_is_noticed():
    """Gemma 2's softcap would be lost by gathering before the head."""
    model, batch = tiny_model(1), collate(examples())
    assert can_gather_before_head(model, batch)
    forward = model.forward

    def capped(*args, **kw):
        output = forward(*args, **kw)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    model.forward = capped
    assert not can_gather_before_head(model, batch)
