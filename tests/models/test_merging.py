"""Merged models, as other programs read them: dtype, tokenizer, configuration, and weights that are tied."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightreasoner.errors import UserError
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.training.merge import merge_run
from tests.support.tiny_models import logits_of, save_tiny, save_tiny_adapter, save_tiny_gguf, tiny_model

CPU = Settings(device="cpu", dtype="float32")


def make_run(folder: Path, base: Path | str, about: dict | None = None) -> Path:
    """A finished fine-tuning run whose adapter lies in folder/adapter."""
    config = {"method": "lightreasoner", "dataset": "d"}
    about = {"expert": str(base), "dataset": {}, "versions": {}, "fingerprints": {}} | (about or {})
    result = {"updates": 1, "samples_seen": 1, "samples": 1, "trajectories": 1, "seconds": 1.0, "stopped": False}
    result |= {"train_loss": 1.0, "held_out_loss": None, "drift": None}
    record = {"format": "lightreasoner-run", "version": 1, "kind": "finetune", "config": config, "about": about}
    (folder / "run.json").write_text(json.dumps(record | {"created": 1.0, "result": result}))
    return folder


def save_random_adapter(folder: Path, base, config: peft.LoraConfig) -> torch.Tensor:
    """Write an adapter whose every tensor is random; the logits of base and adapter on IDS."""
    torch.manual_seed(3)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder, save_embedding_layers=False)
    return logits_of(model.eval())


def written_dtypes(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_merge_writes_the_bases_dtype(tmp_path, dtype):
    """Every merge was in float32, twice the size of its base."""
    base = tiny_model(1).to(dtype)
    save_tiny(tmp_path / "base", 1)
    base.save_pretrained(tmp_path / "base")
    expected = save_tiny_adapter(tmp_path / "adapter", base.float())
    merge_run(make_run(tmp_path, tmp_path / "base"), tmp_path / "out", CPU)
    assert written_dtypes(tmp_path / "out") == {str(dtype)}
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.dtype == dtype
    allowed = {torch.bfloat16: 0.3, torch.float16: 0.03, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(logits_of(merged.float()), expected, rtol=0, atol=allowed)
    merge_run(tmp_path, tmp_path / "chosen", CPU, "float32")
    assert written_dtypes(tmp_path / "chosen") == {"torch.float32"}
    with pytest.raises(UserError, match="dtype 'int4' is unknown"):
        merge_run(tmp_path, tmp_path / "other", CPU, "int4")


@pytest.mark.parametrize(
    "reach",
    [
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "v_proj"]},
    ],
)
def test_tied_embeddings_survive_a_merge_and_a_reload(tmp_path, reach):
    """An adapter that changes one of two tied matrices changed both, or lost its change when the model was saved."""
    save_tiny(tmp_path / "base", 1)
    expected = save_random_adapter(tmp_path / "adapter", tiny_model(1), peft.LoraConfig(r=4, **reach))
    merge_run(make_run(tmp_path, tmp_path / "base"), tmp_path / "out", CPU)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits_of(reloaded), expected, rtol=0, atol=2e-4)
    both = load_model(f"{tmp_path / 'base'}::{tmp_path / 'adapter'}", CPU)
    torch.testing.assert_close(logits_of(both.model), expected, rtol=0, atol=2e-4)
    touched = "v_proj" not in reach["target_modules"]
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is not touched


def test_merge_keeps_the_bases_tokenizer_and_configuration(tmp_path):
    """Merges named the class TokenizersBackend, and settings under names, that only transformers 5 knows."""
    base = save_tiny(tmp_path / "base", 1)
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "TokenizersBackend", "what transformers 5 writes"
    tokenizer |= {"tokenizer_class": "Qwen2Tokenizer", "ours": 1}
    (base / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = json.loads((base / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"] * 7
    config["torch_dtype"] = config.pop("dtype")
    (base / "config.json").write_text(json.dumps(config))
    expected = save_tiny_adapter(tmp_path / "adapter", AutoModelForCausalLM.from_pretrained(base))
    merge_run(make_run(tmp_path, base), tmp_path / "out", CPU)
    written = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "Qwen2Tokenizer" and written["ours"] == 1
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (tmp_path / "out/chat_template.jinja").read_bytes() == (base / "chat_template.jinja").read_bytes()
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert {name: written[name] for name in config} == config and written["dtype"] == "float32"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.rope_parameters["rope_theta"] == 70000.0
    torch.testing.assert_close(logits_of(load_model(str(tmp_path / "out"), CPU).model), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_merge_names_what_all_programs_know(tmp_path, kind):
    """transformers 4 stops at TokenizersBackend, and silently takes another rope_theta than rope_parameters names."""
    base = save_tiny_gguf(tmp_path / "t.gguf") if kind == "gguf" else save_tiny(tmp_path / "base", 1)
    own = load_model(str(base), CPU)
    ids = own.tokenizer("a\n\n37 <|im_end|>")["input_ids"]
    expected = save_tiny_adapter(tmp_path / "adapter", own.model)
    merge_run(make_run(tmp_path, base), tmp_path / "out", CPU)
    written = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast" and "backend" not in written
    assert not isinstance(written.get("extra_special_tokens"), list)
    assert not {"is_local", "local_files_only"} & written.keys()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["rope_theta"] == 10000.0 and config["torch_dtype"] == config["dtype"] == "float32"
    for tokenizer in (
        AutoTokenizer.from_pretrained(tmp_path / "out"),
        load_model(str(tmp_path / "out"), CPU).tokenizer,
    ):
        assert tokenizer("a\n\n37 <|im_end|>")["input_ids"] == ids
        assert tokenizer.chat_template == own.tokenizer.chat_template
    torch.testing.assert_close(logits_of(load_model(str(tmp_path / "out"), CPU).model), expected, rtol=0, atol=1e-4)
