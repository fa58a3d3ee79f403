"""LoRA on architectures with other linear layers than q_proj and v_proj."""

import pytest
import torch

from lightreasoner.errors import UserError
from lightreasoner.models.adapters import add_lora, default_targets, linear_names
from tests.support.families import causal_configs, tiny_config, tiny_family

IDS = torch.arange(4, 20)[None]


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("gpt2", ("c_attn",)),
        ("gpt_neox", ("query_key_value",)),
        ("phi3", ("qkv_proj",)),
        ("phi", ("q_proj", "v_proj", "fc1", "fc2")),
        ("mpt", ("Wqkv",)),
        ("bloom", ("query_key_value",)),
        ("qwen2", ("q_proj", "v_proj")),
        ("olmoe", ("q_proj", "v_proj")),
    ],
)
def test_lora_reaches_the_layers_that_peft_knows(kind, targets):
    """GPT-2's Conv1D was no linear layer, and q_proj and v_proj were asked of every architecture."""
    model = tiny_family(tiny_config(causal_configs()[kind]))
    assert default_targets(kind, linear_names(model)) == targets
    before = model(input_ids=IDS).logits
    tuned = add_lora(model, 2, 4.0, 0.0, targets, 0)
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert trained and all(any(f".{leaf}." in name for leaf in targets) for name in trained)
    torch.testing.assert_close(tuned(input_ids=IDS).logits, before)  # an untrained adapter changes nothing
    tuned(input_ids=IDS).logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None for name, p in tuned.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2)
    after = tuned(input_ids=IDS).logits
    merged = tuned.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(merged(input_ids=IDS).logits, after, rtol=1e-3, atol=1e-3)


def test_an_architecture_without_usual_names_lists_its_own():
    with pytest.raises(UserError, match="--target-modules: alpha, beta"):
        default_targets("new", ["beta", "alpha"])
