"""LoRA where linear layers have other names, are fused, or are no nn.Linear: trained, merged, reloaded; or refused."""

import peft
import pytest
import torch
import transformers

from lightreasoner.errors import UserError
from lightreasoner.models.adapters import add_lora, check_reach, default_targets, save_adapter, usual_targets
from lightreasoner.models.loading import load_model
from lightreasoner.models.merging import save_merged
from lightreasoner.settings import Settings
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.finetune import finetune
from lightreasoner.training.loss import PackedExample, Target
from tests.support.families import causal_configs, tiny_config, tiny_family
from tests.support.tiny_models import tiny_tokenizer
from tests.training.test_finetune import RecordingProgress

CPU = Settings(device="cpu", dtype="float32")
IDS = torch.arange(4, 28)[None]
EXAMPLES = [PackedExample(IDS[0].tolist(), 10, tuple(Target(n, (5,), (1.0,)) for n in range(8)))]


def save_family(folder, kind):
    tiny_family(tiny_config(causal_configs()[kind])).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def small(targets=("auto",)):
    return FinetuneConfig(rank=2, learning_rate=0.05, max_steps=2, dropout=0.0, held_out=0.0, target_modules=targets)


@torch.no_grad()
def logits_of(model):
    return model(input_ids=IDS).logits.float()


@pytest.mark.parametrize(
    ("kind", "asked", "targets"),
    [
        ("gpt2", ("auto",), {"c_attn"}),
        ("gpt2", ("c_attn", "c_fc", "c_proj"), {"c_attn", "c_fc", "c_proj"}),
        ("gpt_neox", ("auto",), {"query_key_value"}),
        ("phi3", ("auto",), {"qkv_proj"}),
        ("phi", ("auto",), {"q_proj", "v_proj", "fc1", "fc2"}),
        ("falcon", ("auto",), {"query_key_value"}),
        ("bloom", ("auto",), {"query_key_value"}),
        ("mpt", ("auto",), {"Wqkv"}),
        ("qwen3_moe", ("auto",), {"q_proj", "v_proj"}),
        ("gemma3_text", ("auto",), {"q_proj", "v_proj"}),
        ("deepseek_v3", ("auto",), {"q_b_proj", "kv_b_proj"}),
        ("mamba", ("in_proj", "x_proj"), {"in_proj", "x_proj"}),
    ],
)
def test_an_adapter_trains_merges_and_reloads_without_this_software(tmp_path, kind, asked, targets):
    """GPT-2's Conv1D was no linear layer, and q_proj and v_proj were asked of every architecture."""
    folder = save_family(tmp_path / "base", kind)
    if asked == ("auto",):
        assert set(usual_targets(str(folder))) == targets
    loaded = load_model(str(folder), CPU)
    before = logits_of(loaded.model)
    tuned, _ = finetune(tmp_path / "run", small(asked), loaded, EXAMPLES, [], RecordingProgress())
    names = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == targets
    after = logits_of(tuned)
    assert (after - before).abs().max() > 1e-3
    save_adapter(tuned, tmp_path / "adapter", "card")
    both = load_model(f"{folder}::{tmp_path / 'adapter'}", CPU)
    torch.testing.assert_close(logits_of(both.model), after, rtol=1e-3, atol=1e-3)
    again = peft.PeftModel.from_pretrained(load_model(str(folder), CPU).model, tmp_path / "adapter")
    save_merged(again, loaded.tokenizer, tmp_path / "merged", "card", loaded.files, torch.float32)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits_of(plain), after, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "targets", "says"),
    [
        ("mamba", None, r"No default .* for a 'mamba' model; .*: dt_proj, in_proj, out_proj, x_proj"),
        ("mamba", ("in_proj", "dt_proj"), "Adapters at dt_proj would never change"),
        ("mamba2", ("out_proj",), r"PEFT cannot adapt out_proj .*incompatible with Mamba.* it also has in_proj"),
        ("doge", ("dt_proj",), "Adapters at dt_proj would never change"),
        ("dots1", ("gate_proj",), r"PEFT cannot adapt gate_proj .* without also targeting up_proj"),
        ("phimoe", ("router",), "cannot be trained with this adapter.*Choose other target modules"),
        ("gpt2", ("q_proj",), r"no linear layers called q_proj; it has c_attn, c_fc, c_proj"),
    ],
)
def test_layers_that_cannot_be_trained_are_refused_in_a_sentence(kind, targets, says):
    """PEFT's tracebacks, and adapters that train for hours without changing anything."""
    model = tiny_family(tiny_config(causal_configs()[kind]))
    with pytest.raises(UserError, match=says):
        check_reach(add_lora(model, 2, 4.0, 0.05, targets, 0), IDS[0].tolist())


def test_a_check_leaves_the_model_as_it_was():
    model = add_lora(tiny_family(tiny_config(causal_configs()["qwen2"])), 2, 4.0, 0.5, None, 0)
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    check_reach(model, IDS[0].tolist())
    assert [module.training for module in model.modules()] == modes and torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in model.parameters())


def test_an_architecture_without_usual_names_lists_its_own():
    with pytest.raises(UserError, match=r"--target-modules.*: alpha, beta"):
        default_targets("new", ["beta", "alpha"])
