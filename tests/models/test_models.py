"""Files, loading, adapters, devices and the memory budget, on tiny models."""

import gc
import json
import logging
import os
import pickle
import re
import shutil
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging as bars

from lightreasoner.errors import UserError
from lightreasoner.models import cache as models_module
from lightreasoner.models import loading
from lightreasoner.models.cache import LoadedModels, missing_reason
from lightreasoner.models.devices import choose_device, choose_dtype
from lightreasoner.models.loading import _split_as_trained, load_model
from lightreasoner.models.merging import base_dtype
from lightreasoner.models.references import parse_ref
from lightreasoner.models.weights import count_parameters, known_parameters, tensor_table
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from tests.support.tiny_models import (
    logits_of,
    save_tiny,
    save_tiny_adapter,
    save_tiny_gguf,
    tiny_model,
    tiny_tokenizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's, from saving adapters

CPU = Settings(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "one", seed=1)


@pytest.fixture
def copy(one, tmp_path):
    return Path(shutil.copytree(one, tmp_path / "copy"))


def refusal(call, *args):
    """The message of the UserError that the call must raise: whole sentences, no traceback's leavings."""
    with pytest.raises(UserError) as caught:
        call(*args)
    text = str(caught.value)
    assert text[-1] == "." and "Traceback" not in text and len(text) < 700
    return text


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_folder_loads_as_what_was_saved(one):
    said = []
    loaded = load_model(str(one), CPU, said.append)
    torch.testing.assert_close(logits_of(loaded.model), logits_of(tiny_model(1)))
    assert (loaded.device, loaded.dtype) == (torch.device("cpu"), torch.float32)
    assert loaded.parameters == known_parameters(str(one)) == sum(p.numel() for p in loaded.model.parameters())
    assert loaded.parameters * 4 <= loaded.memory_bytes < loaded.parameters * 5
    assert loaded.end_ids == {2} and loaded.max_positions == 1024
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.config._attn_implementation == "sdpa"
    assert missing_reason(str(one), CPU) is None
    assert said and "cpu" in said[-1]


def test_the_tokenizer_is_the_saved_one(one):
    """AutoTokenizer would give every qwen2 model Qwen2's own splitting and NFC, whatever tokenizer.json says."""
    text = "e\u0301 isn't\n\n\n (3+4)  =  7\t<|im_end|>\r\n"
    assert load_model(str(one), CPU).tokenizer.encode(text) == tiny_tokenizer().encode(text)


def test_a_tokenizer_that_drops_merges_at_random_and_outputs_without_names(copy):
    """With BPE dropout, as saved after training with it, each prompt was other tokens; the outputs were a traceback."""
    written = json.loads((copy / "tokenizer.json").read_text())
    written["model"]["dropout"] = 0.5
    (copy / "tokenizer.json").write_text(json.dumps(written))
    config_with(return_dict=False)(copy)
    loaded = load_model(str(copy), CPU)
    text = "Tom has 3 apples and buys 4 more. " * 20
    assert len({tuple(loaded.tokenizer.encode(text)) for _ in range(5)}) == 1
    assert logits_of(loaded.model).isfinite().all()


def test_all_ends_are_known(copy):
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7]}))
    assert load_model(str(copy), CPU).end_ids == {0, 2, 7}


def test_loading_prints_nothing(one, capfd):
    load_model(str(one), CPU)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level != logging.ERROR, "verbosity must be put back"


def break_pickles(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def break_cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def break_header(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(b"\xff" * 16 + data[16:])


def break_missing_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def break_shape(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(5)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def break_shards(folder):
    (folder / "model.safetensors").unlink()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    save_file({"a": torch.zeros(1)}, folder / shards["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def break_shard_path(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))


def index_with(places):
    """An index without a usable map of its tensors was a traceback."""

    def change(folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    return change


def config_with(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return change


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (shutil.rmtree, "no folder"),
        (break_pickles, "pickled weights .*convert"),
        (remove("config.json"), "no config.json"),
        (remove("model.safetensors"), "no model.safetensors"),
        (remove("tokenizer.json"), "no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer .*cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[1"), "JSON"),
        (break_cut, "cut short"),
        (break_header, "damaged"),
        (break_missing_tensor, r"layers\.1\.mlp\.up_proj\.weight is missing"),
        (break_shape, r"model\.norm\.weight is missing or has another shape"),
        (break_shards, "lacks 1 of its 2 weight files .*00002"),
        (break_shard_path, "outside"),
        (index_with(None), "does not say which file holds which tensor"),
        (index_with({}), "does not say which file holds which tensor"),
        (index_with({"a": 5}), "does not say which file holds which tensor"),
        (config_with(model_type="florp"), "florp"),
        (config_with(model_type="florp", auto_map={"AutoConfig": "a.B"}), "own Python code"),
        (config_with(model_type=None), "no model type"),
        (config_with(model_type="t5", architectures=None), "next token"),
        (config_with(model_type="vit", architectures=None), "next token"),
        (config_with(architectures=["Qwen2ForSequenceClassification"]), "Qwen2ForSequenceClassification"),
        (config_with(hidden_size="many"), "hidden_size"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter, not a whole model"),
    ],
)
def test_broken_folders_are_explained(copy, harm, expected):
    harm(copy)
    text = refusal(load_model, str(copy), CPU)
    assert re.search(expected, text), text


def test_a_file_is_no_folder(one):
    assert "is a file" in refusal(load_model, str(one / "model.safetensors"), CPU)


def test_the_bundled_model_that_is_missing(tmp_path, monkeypatch):
    from lightreasoner.models import weights

    monkeypatch.setattr(weights, "MODELS", tmp_path)
    assert "bundled" in refusal(load_model, "lightreasoner-expert-4m", CPU)
    assert known_parameters("lightreasoner-expert-4m") is None


@pytest.mark.parametrize("content", [b"junk", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b""])
def test_junk_gguf(tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert str(path) in refusal(load_model, str(path), CPU)
    assert "no GGUF file" in refusal(load_model, str(tmp_path / "other.gguf"), CPU)


def test_a_gguf_file_whose_splitting_nobody_knows_is_refused(tmp_path):
    """Transformers splits as GPT-2 does then, and the prompts were other tokens than the model was trained on."""
    assert "splits text as 'deepseek-llm'" in refusal(
        load_model, str(save_tiny_gguf(tmp_path / "other.gguf", splitting="deepseek-llm")), CPU
    )
    for splitting in ("gpt-2", "llama-bpe", "qwen2"):
        load_model(str(save_tiny_gguf(tmp_path / f"{splitting}.gguf", splitting=splitting)), CPU)


@pytest.mark.parametrize(("begins", "tokens"), [(True, ["▁a", "▁a"]), (False, ["a", "▁a"])])
def test_a_gguf_file_says_whether_its_texts_begin_with_a_space(tmp_path, begins, tokens):
    """Transformers reads the flag and leaves it out: every text began with a space."""
    path = save_tiny_gguf(
        tmp_path / "x.gguf", splitting="gpt-2", more=lambda writer: writer.add_add_space_prefix(begins)
    )
    vocab = {token: id for id, token in enumerate(["<unk>", "<s>", "</s>", "▁", "a", "▁a"])}
    tokenizer = transformers.LlamaTokenizer(vocab=vocab, merges=[("▁", "a")])
    _split_as_trained(tokenizer, path)
    ids = tokenizer.encode("a a", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens and tokenizer.decode(ids) == "a a"


def test_gguf(tmp_path):
    path = save_tiny_gguf(tmp_path / "tiny.gguf")
    loaded = load_model(str(path), CPU)
    tokenizer = loaded.tokenizer
    assert loaded.end_ids == {2} and loaded.max_positions == 512 and loaded.dtype == torch.float32
    assert known_parameters(str(path)) == loaded.parameters
    assert logits_of(loaded.model).isfinite().all() and not hasattr(loaded.model.config, "quantization_config")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nHi<|im_end|>\n" and tokenizer.encode(chat)[0] == 1
    # SmolLM2 cuts digits off before it merges; GPT-2's splitting alone would keep the second line end with the 3.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a\n\n3")) == ["a", "ĊĊ", "3"]


def test_fingerprints_follow_the_weights(one, copy, tmp_path):
    first = load_model(str(one), CPU).fingerprint
    assert load_model(str(copy), CPU).fingerprint == first, "a copy is the same model"
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert load_model(str(copy), CPU).fingerprint != first
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_fingerprints_of_large_files_see_every_tensor(one, copy, monkeypatch):
    """Beyond 64 MB only samples are read; the header alone is the same for every fine-tune of a model."""
    from lightreasoner.models import weights

    monkeypatch.setattr(weights, "_SMALL", 2000)  # config.json is smaller, the weights are larger
    seen = {weights.fingerprint(weights.find_files(parse_ref(str(one))))}
    original = load_file(copy / "model.safetensors")
    for name in original:
        changed = {key: value + 0.1 if key == name else value for key, value in original.items()}
        save_file(changed, copy / "model.safetensors", {"format": "pt"})
        seen.add(weights.fingerprint(weights.find_files(parse_ref(str(copy)))))
    assert len(seen) == len(original) + 1


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_an_adapter_changes_the_model_as_it_did_in_training(one, tmp_path):
    expected = save_tiny_adapter(tmp_path / "lora", tiny_model(1))
    plain, tuned = load_model(str(one), CPU), load_model(f"{one}::{tmp_path / 'lora'}", CPU)
    torch.testing.assert_close(logits_of(tuned.model), expected, atol=1e-4, rtol=1e-4)
    assert (logits_of(tuned.model) - logits_of(plain.model)).abs().max() > 0.1
    assert tuned.fingerprint != plain.fingerprint
    assert type(tuned.model) is type(plain.model) and tuned.parameters == plain.parameters
    assert not tuned.model.training and not any(p.requires_grad for p in tuned.model.parameters())


def test_small_updates_survive_16_bits(one, tmp_path):
    """Merged into bf16 weights, an update far below their last bit would be gone; beside them it is not."""
    base = tiny_model(1)
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 1e-4)
    model.save_pretrained(tmp_path / "lora")
    half = Settings(device="cpu", dtype="bfloat16")
    tuned = load_model(f"{one}::{tmp_path / 'lora'}", half)
    assert tuned.dtype == tuned.model.dtype == torch.bfloat16
    kept = {name: weight for name, weight in tuned.model.named_parameters() if "lora_B" in name}
    assert len(kept) == 4 and all((weight != 0).all() for weight in kept.values())
    assert not any(p.requires_grad for p in tuned.model.parameters())
    assert logits_of(tuned.model).isfinite().all()


def moved_adapter(folder, **settings):
    """Write an adapter with these settings that changes the model noticeably. Returns the logits of both together."""
    torch.manual_seed(3)
    model = peft.get_peft_model(tiny_model(1), peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.2 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return logits_of(model.eval())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_of_tied_embeddings_is_added_once(one, tmp_path, dtype):
    """PEFT merged it into the matrix that embeddings and head share, once for each of the two."""
    together = moved_adapter(tmp_path / "lora", target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True)
    loaded = load_model(f"{one}::{tmp_path / 'lora'}", Settings(device="cpu", dtype=dtype))
    assert torch.allclose(logits_of(loaded.model), together, atol=1e-4 if dtype == "float32" else 0.5)


def test_adapters_that_would_be_another_model_are_refused(one, tmp_path):
    """PiSSA's random decomposition differed at each loading, aLoRA acted everywhere, new settings were left out."""
    usual = {"target_modules": ["q_proj", "v_proj"]}
    for name, settings in (
        ("pissa_niter", {"init_lora_weights": "pissa_niter_4"}),
        ("aLoRA", {"alora_invocation_tokens": [5]}),
        ("use_superlora", {}),
    ):
        moved_adapter(tmp_path / name, **usual, **settings)
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        strange = {"use_superlora": name == "use_superlora", "use_other": None}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config | strange))
        assert name in refusal(load_model, f"{one}::{tmp_path / name}", CPU)
    together = moved_adapter(tmp_path / "pissa", **usual, init_lora_weights="pissa")
    assert torch.allclose(logits_of(load_model(f"{one}::{tmp_path / 'pissa'}", CPU).model), together, atol=1e-4)


def test_an_adapter_of_another_base_is_refused(one, tmp_path):
    save_tiny_adapter(tmp_path / "wide", tiny_model(1, hidden=64))
    assert "does not fit" in refusal(load_model, f"{one}::{tmp_path / 'wide'}", CPU)
    save_tiny_adapter(tmp_path / "shallow", tiny_model(1, layers=1))
    assert "does not fit" in refusal(load_model, f"{one}::{tmp_path / 'shallow'}", CPU)
    save_tiny_adapter(tmp_path / "deep", tiny_model(1, layers=3))
    assert "does not fit" in refusal(load_model, f"{one}::{tmp_path / 'deep'}", CPU)


def test_broken_adapters_are_explained(one, tmp_path):
    lora = tmp_path / "lora"
    assert "no adapter folder" in refusal(load_model, f"{one}::{lora}", CPU)
    save_tiny_adapter(lora, tiny_model(1))
    config = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(
        json.dumps(config | {"megatron_config": {"a": 1}, "megatron_core": "this"})
    )
    assert "Megatron" in refusal(load_model, f"{one}::{lora}", CPU)
    (lora / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "PROMPT_TUNING"}))
    assert "only LoRA" in refusal(load_model, f"{one}::{lora}", CPU)
    (lora / "adapter_config.json").write_text(json.dumps(config))
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "pickled" in refusal(load_model, f"{one}::{lora}", CPU)


# --- devices ----------------------------------------------------------------------------------------------------------


def test_devices():
    assert choose_device(Settings(device="cpu")).type == "cpu"
    assert choose_device(Settings()).type in ("cpu", "cuda", "mps")
    for junk in ("gpu", "cuda:x", "cuda:-1", "CPU", "meta", "", "cuda:99999"):
        refusal(choose_device, Settings(device=junk))


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA GPU" in refusal(choose_device, Settings(device="cuda:0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "cuda:1" in refusal(choose_device, Settings(device="cuda:1"))
    assert choose_device(Settings()) == torch.device("cuda")


def test_dtypes(monkeypatch):
    cpu, auto = torch.device("cpu"), Settings()
    assert choose_dtype(auto, torch.device("cuda"), 10) == torch.bfloat16
    assert choose_dtype(auto, cpu, 135_000_000) == torch.float32
    for units, expected in (({"avx512_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        assert choose_dtype(auto, cpu, 7_000_000_000) == expected
        assert choose_dtype(auto, cpu, None) == torch.float32
    assert choose_dtype(Settings(dtype="float16"), cpu, None) == torch.float16
    refusal(choose_dtype, Settings(dtype="int8"), cpu, None)


# --- the memory budget ------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    return [str(save_tiny(tmp_path / str(seed), seed=seed)) for seed in (1, 2, 3)]


def test_the_least_recently_used_model_goes_first(three):
    a, b, c = three
    each = load_model(a, CPU).memory_bytes
    held = LoadedModels(CPU, budget=int(2.5 * each))
    first, second = held.get(a), held.get(b)
    assert held.get(a) is first and held.get(b) is second and held.get(a) is first  # b is now the oldest
    third = held.get(c)
    assert held.get(a) is first and held.get(c) is third
    assert held.get(b) is not second


def test_a_dropped_model_is_really_gone(three):
    held = LoadedModels(CPU, budget=1)
    with pytest.raises(UserError, match="LIGHTREASONER_MEMORY_GB"):
        held.get(three[0])
    held = LoadedModels(CPU, budget=150_000)
    gone = weakref.ref(held.get(three[0]).model)
    held.get(three[1])
    assert gone() is None
    gone = weakref.ref(held.get(three[1]).model)
    held.clear()
    assert gone() is None


def test_room_is_made_before_loading(three, monkeypatch):
    """Otherwise two models are in memory at the peak where there is room for one."""
    held, alive = LoadedModels(CPU, budget=150_000), []
    first = weakref.ref(held.get(three[0]).model)
    monkeypatch.setattr(
        models_module,
        "load_model",
        lambda *args: (gc.collect(), alive.append(first() is not None), load_model(*args))[2],
    )
    held.get(three[1])
    assert alive == [False]


def test_a_folder_that_was_saved_again_is_loaded_again(three):
    held = LoadedModels(CPU)
    before = held.get(three[0])
    save_tiny(three[0], seed=9)
    os.utime(Path(three[0]) / "model.safetensors", (2e9, 2e9))
    assert held.get(three[0]).fingerprint != before.fingerprint


def test_threads_share_one_loading(three):
    held = LoadedModels(CPU)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(held.get, [three[0]] * 8))
    assert len({id(model) for model in got}) == 1


def test_a_model_beyond_the_budget_is_refused_before_it_is_loaded(one):
    small = Settings(device="cpu", memory_gb=1e-5)
    assert "GB" in missing_reason(str(one), small)
    refusal(LoadedModels(small).get, str(one))


def test_no_warnings_escape(one):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(str(one), CPU).parameters > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_the_table_of_tensors_is_the_header(tmp_path, dtype):
    """Fingerprints are made of it, so it must stay the file's own header to the byte."""
    path = tmp_path / "model.safetensors"
    tensors = {"z": torch.ones(3, 5), "a": torch.ones(7), "empty": torch.ones(0, 4), "scalar": torch.ones(())}
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path, {"format": "pt"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    assert tensor_table(path) == header and len(header) == 4


def test_weights_that_have_no_place_are_refused_with_their_names(copy):
    """A config relabelled from qwen2 to llama loaded with its biases dropped and said nothing."""
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"'llama' model has no place for model\.layers\.0\.self_attn.*bias.* more"):
        load_model(str(copy), CPU)


# --- stopping while a model loads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "gguf", "adapter"])
def test_a_stop_ends_the_loading_at_the_next_tensor(one, tmp_path, monkeypatch, kind):
    """Stop did nothing until both models were loaded; and what was half loaded must not stay."""
    save_tiny_adapter(tmp_path / "lora", tiny_model(1))
    gguf = save_tiny_gguf(tmp_path / "t.gguf")
    ref = {"folder": str(one), "gguf": str(gguf), "adapter": f"{one}::{tmp_path / 'lora'}"}[kind]
    monkeypatch.setattr(loading, "PAUSE", 0)
    held, said = LoadedModels(CPU), []

    def on_status(text):
        said.append(text)
        if "30 %" in text:
            raise StopRequested(keep=False)

    with pytest.raises(StopRequested):
        held.get(ref, on_status)
    assert said[0].startswith("Loading ") and said[0].endswith("float32") and said[-1] == f"{said[0]}: 30 %"
    assert held.cached(ref) is None
    assert held.get(ref, said.append).parameters > 0 and said[-1].endswith("90 %")


def test_how_much_of_a_model_is_read_never_goes_back(monkeypatch):
    """The status fell from 90 % to nothing when a second stage of loading began."""
    monkeypatch.setattr(loading, "PAUSE", 0.0)
    said = []
    report = loading._Report(said.append, "Loading")
    for total in (10, 4):
        for done in range(total):
            report(done, total)
    assert said[0] == "Loading" and said[9:] == ["Loading: 90 %"] * 5


def test_other_threads_bars_are_left_alone():
    """The hook of transformers' bars belongs to the process, the report of a loading to its thread."""
    report = loading._tensor_by_tensor(lambda done, total: pytest.fail("reported elsewhere"))
    with report, ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(bars.tqdm([1, 2]))).result() == [1, 2]
    assert list(bars.tqdm([3])) == [3]


@pytest.mark.parametrize("kind", ["Q5_0", "Q5_1"])
def test_a_gguf_file_of_a_kind_that_the_newer_loader_lacks(tmp_path, kind):
    """Q4_K_M files of narrow models hold Q5_0: refused for a Llama, a traceback in merging Gemma, no size in memory."""
    full, short = (load_model(str(save_tiny_gguf(tmp_path / f"{k}.gguf", kind=k)), CPU) for k in (None, kind))
    assert count_parameters(short.files) == count_parameters(full.files) > 0
    assert base_dtype(short.files) is torch.bfloat16 and base_dtype(full.files) is torch.float32
    names = dict(full.model.named_parameters())
    for name, weight in short.model.named_parameters():
        assert (weight - names[name]).abs().max() < 0.2, name  # a step of 5 bits; rows in another order differ by nats
