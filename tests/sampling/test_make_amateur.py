"""Amateurs made out of an expert: what is written is the model that was meant, and whether it writes sense."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from lightreasoner.cli.main import main
from lightreasoner.datasets.amateurs import model_title
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.derived_amateurs import before_tuning, checkpoints, parse_layers, without_layers
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.references import BUNDLED
from lightreasoner.problems.stream import load_problems
from lightreasoner.sampling.coherence import Coherence, Writing, coherence, repeated
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import add_to_run, begin_run, read_run
from tests.support.tiny_models import IDS, save_tiny, tiny_model, tiny_tokenizer

SETTINGS = Settings(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def expert(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("models") / "expert"
    tiny_model(3, layers=4).save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return place


@torch.inference_mode()
def by_hand(model, kept: list[int], ids: torch.Tensor) -> torch.Tensor:
    """The logits of a Llama-shaped model that reads with these layers only."""
    inner, hidden = model.model, model.model.embed_tokens(ids)
    places = torch.arange(ids.shape[1])[None]
    turns = inner.rotary_emb(hidden, places)
    mask = torch.full((1, 1, ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
    for n in kept:
        found = inner.layers[n](hidden, attention_mask=mask, position_ids=places, position_embeddings=turns)
        hidden = found[0] if isinstance(found, tuple) else found
    return model.lm_head(inner.norm(hidden))


def test_the_layers_that_stay_are_the_experts_and_read_as_by_hand(expert, tmp_path):
    assert without_layers(str(expert), "1-2", tmp_path / "made", SETTINGS) == [1, 2]
    whole, made = load_model(str(expert), SETTINGS), load_model(str(tmp_path / "made"), SETTINGS)
    assert len(made.model.model.layers) == 2 and made.tokenizer.get_vocab() == whole.tokenizer.get_vocab()
    expected = by_hand(whole.model, [0, 3], IDS)
    assert torch.allclose(made.model(IDS).logits, expected, atol=1e-4)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["num_hidden_layers"] == len(config["layer_types"]) == 2


def test_layers_of_two_kinds_keep_their_own(tmp_path):
    """scripts/drop_layers.py gave Gemma's last layers the attention of others: here the kept one sees a window only."""
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, sliding_window=4, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(1)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "expert")
    tiny_tokenizer().save_pretrained(tmp_path / "expert")
    kinds = json.loads((tmp_path / "expert" / "config.json").read_text())["layer_types"]
    without_layers(str(tmp_path / "expert"), "1,3", tmp_path / "made", SETTINGS)
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    assert made.config.layer_types == [kinds[0], kinds[2]]


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("", "from 0 on, such as"),
        ("one", "from 0 on, such as"),
        ("-1", "from 0 on, such as"),
        ("3-1", "write 1-3"),
        ("4", "There is no layer 4: this expert has 4, counted from 0 to 3"),
        ("0-3", "all 4 layers"),
    ],
)
def test_layers_that_make_no_amateur_are_refused_in_a_sentence(layers, says):
    with pytest.raises(UserError, match=says):
        parse_layers(layers, 4)


def test_whether_the_bundled_expert_still_writes_sense_without_some_layers(tmp_path):
    """Measured on 24 problems, nats per token beyond the expert's own: 0.4 without layer 1, 0.9 without 3, 2.1 without
    2 and 3, 13 without 0; with layer 0 alone it repeats itself and does not end."""
    problems, models = load_problems("bundled-train", limit=12).problems, LoadedModels(SETTINGS)

    def check(amateur: str) -> Coherence:
        return coherence(load_pair(BUNDLED[0], amateur, models), problems, 96)

    for layers, fine in (("1", True), ("2,3", False), ("0", False), ("1-4", False)):
        without_layers(BUNDLED[0], layers, tmp_path / layers, SETTINGS)
        found = check(str(tmp_path / layers))
        assert (not found.troubles) == fine, (layers, found)
        assert found.sentence.startswith("It still writes sense" if fine else "It no longer writes sense")
    assert not check(BUNDLED[1]).troubles
    assert found.amateur.repeated > 0.3 and found.expert.loss < 0.2


def test_each_criterion_alone_speaks_against_an_amateur():
    fine = Writing(0.1, 0.0, 1.0)
    for amateur in (
        Writing(1.7, 0.0, 1.0),
        Writing(0.1, 0.4, 1.0),
        Writing(0.1, 0.0, 0.4),
        Writing(float("nan"), 0, 1),
    ):
        assert len(Coherence(9, amateur, fine).troubles) == 1
    assert repeated([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5) and repeated([1, 2]) == 0


@pytest.fixture
def tuned(tmp_path, expert) -> Path:
    """A fine-tuning run with two checkpoints, of which the last is the adapter."""
    from peft import LoraConfig, get_peft_model

    run = tmp_path / "run"
    begin_run(run, "finetune", {"dataset": "x"}, {"expert": str(expert)})
    add_to_run(run, result={"updates": 20})
    for seed, place in enumerate(("checkpoints/checkpoint-10", "checkpoints/checkpoint-20"), 1):
        torch.manual_seed(seed)
        kind = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(expert), kind).save_pretrained(run / place)
    shutil.copytree(run / place, run / "adapter")
    return run


def test_an_earlier_checkpoint_of_its_training(tuned, expert, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    ref, made = f"{expert}::{tuned / 'adapter'}", tmp_path / "made"
    assert list(checkpoints(ref)) == [10]
    words = ["make-amateur", "--expert", ref, "--limit", "2", "--max-new-tokens", "4"]
    assert main([*words, "--checkpoint", "15", "--run-dir", str(tmp_path / "none")]) == 2
    assert "no checkpoint of update 15 besides the expert itself; it keeps 10" in capsys.readouterr().err
    assert main([*words, "--checkpoint", "10", "--run-dir", str(made)]) == 0
    printed = capsys.readouterr().out
    assert f"As an amateur: {made / 'model'}" in printed and "writes sense" in printed
    own = load_model(f"{expert}::{tuned / 'checkpoints' / 'checkpoint-10'}", SETTINGS).model(IDS).logits
    assert torch.allclose(load_model(str(made / "model"), SETTINGS).model(IDS).logits, own, atol=1e-4)
    assert model_title(str(made / "model")) == "expert::adapter at update 10"
    assert main([*words, "--checkpoint", "10", "--run-dir", str(made)]) == 0, "again: nothing is written anew"
    result = read_run(made)["result"]
    assert result["problems"] == 2 and result["sentence"] in printed


def test_before_its_last_tuning_is_a_model_that_exists(tuned, expert, tmp_path):
    assert before_tuning(f"{expert}::{tuned / 'adapter'}") == str(expert)
    merged = save_tiny(tmp_path / "merged", seed=5)
    with pytest.raises(UserError, match="does not say what it was tuned from"):
        before_tuning(str(merged))
    (merged / "README.md").write_text("---\nlicense: mit\nbase_model:\n- org/base\ntags:\n- x\n---\n# A card\n")
    assert before_tuning(str(merged)) == "org/base"
    (merged / "README.md").write_text("---\nbase_model:\n- org/base\n- org/other\n---\n")
    with pytest.raises(UserError, match="its card names 2 models"):
        before_tuning(str(merged))
    with pytest.raises(UserError, match="no expert that a run here has tuned"):
        checkpoints(str(merged))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "No ways to make the amateur are named"),
        (["--drop-layers", "1", "--before-tuning"], "2 ways to make the amateur are named"),
        (["--drop-layers", "9"], "There is no layer 9"),
        (["--drop-layers", "0-1"], "These are all 2 layers"),
        (["--before-tuning"], "does not say what it was tuned from"),
        (["--checkpoint", "3"], "no expert that a run here has tuned"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    expert = save_tiny(tmp_path / "expert", seed=1)
    capsys.readouterr()
    assert main(["make-amateur", "--expert", str(expert), *words, "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "model").exists()
