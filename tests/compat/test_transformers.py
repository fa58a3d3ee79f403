"""One test per private part of transformers, torch and datasets, and a check that no other module uses them."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import DynamicCache, Qwen2ForCausalLM, Trainer, TrainingArguments
from transformers.cache_utils import DynamicLayer

from lightreasoner.compat import transformers as compat
from tests.support.tiny_models import save_tiny_gguf, tiny_model

ENGINE = Path(__file__).resolve().parents[2] / "lightreasoner"
#: What the module reaches into, wherever its name has no underscore in front.
INTERNALS = re.compile(
    r"_n_gpu|_no_split_modules|_supports_sdpa|_save_checkpoint|_get_train_sampler|lazy_initialization"
    r"|layer_class_to_replicate|transformers\.integrations|convert_slow_tokenizer|modeling_gguf|HF_HUB_OFFLINE = "
)
FILES = [path for path in sorted(ENGINE.rglob("*.py")) if path != Path(compat.__file__)]


def test_a_gguf_file_loads_without_a_bar_and_its_header_is_read(tmp_path):
    import gguf as gguf_package
    import numpy
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as gguf

    path, bar, reader = save_tiny_gguf(tmp_path / "model.gguf"), gguf.tqdm, GGUFReader
    with compat.gguf_reading(lambda items: [2 * item for item in items]):
        assert list(gguf.tqdm([1, 2], desc="Converting")) == [2, 4] and gguf.tqdm is not bar
        plain = gguf_package.GGUFReader(path)
    assert gguf.tqdm is bar and gguf_package.GGUFReader is reader
    known = GGUFReader(path)
    assert type(plain.data) is numpy.ndarray and plain.fields.keys() == known.fields.keys()
    assert all((a.data == b.data).all() for a, b in zip(plain.tensors, known.tensors, strict=True))
    assert plain.fields["tokenizer.ggml.tokens"].contents() == known.fields["tokenizer.ggml.tokens"].contents()
    shapes = compat.gguf_shapes(path)
    assert shapes and all(isinstance(n, int) for shape in shapes for n in shape)
    assert compat.gguf_pre_tokenizer(path) is None or isinstance(compat.gguf_pre_tokenizer(path), str)


def test_bytes_have_256_characters():
    table = compat.byte_characters()
    assert sorted(table.values()) == list(range(256)) and table["Ġ"] == ord(" ") and table["A"] == ord("A")


def test_what_a_model_class_says_of_itself():
    assert compat.supports_sdpa(Qwen2ForCausalLM) and not compat.supports_sdpa(torch.nn.Module)
    assert compat.layer_class_names(tiny_model(1)) == {"Qwen2DecoderLayer"}
    assert compat.layer_class_names(torch.nn.Linear(1, 1)) == set()


def test_cache_layers_are_replaced_and_initialized():
    class Layer(DynamicLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            compat.initialize_cache_layer(self, key_states, value_states)
            return super().update(key_states, value_states)

    model = tiny_model(1)
    cache = compat.cache_with_layers(model.config, Layer)
    assert cache.layers and all(type(layer) is Layer for layer in cache.layers)
    ids = torch.tensor([[5, 77, 130]])
    with torch.no_grad():
        ours, plain = model(ids, past_key_values=cache), model(ids, past_key_values=DynamicCache(config=model.config))
    assert torch.equal(ours.logits, plain.logits) and cache.layers[0].keys.dtype == model.dtype


def test_the_trainer_reads_in_order_and_hands_its_checkpoints_over(tmp_path):
    class Hooked(compat.TrainerHooks, Trainer):
        def write_checkpoint(self, write):
            write()
            (tmp_path / f"checkpoint-{self.state.global_step}/mine").touch()

    args = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=1, per_device_train_batch_size=1, report_to="none", use_cpu=True
    )
    compat.use_one_device(args, torch.device("cpu"))
    assert args.n_gpu <= 1
    rows = [{"input_ids": torch.tensor([n + 1, 2]), "labels": torch.tensor([n + 1, 2])} for n in range(4)]
    trainer = Hooked(model=tiny_model(1).train().requires_grad_(True), args=args, train_dataset=rows)
    assert list(trainer._get_train_sampler(rows)) == [0, 1, 2, 3]
    logging.disable(logging.INFO)
    trainer.train()
    logging.disable(logging.NOTSET)
    assert (tmp_path / "checkpoint-2/mine").exists() and (tmp_path / "checkpoint-2/trainer_state.json").exists()


def test_ddp_ignores_the_named_parameters():
    model = torch.nn.Linear(2, 2)
    compat.ignore_in_ddp(model, ["bias"])
    assert model._ddp_params_and_buffers_to_ignore == ["bias"]
    assert hasattr(DistributedDataParallel, "_set_params_and_buffers_to_ignore_for_model")


def test_datasets_reads_its_cache_only(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with compat.datasets_offline():
        assert datasets.config.HF_HUB_OFFLINE is True
    assert datasets.config.HF_HUB_OFFLINE is False


def own_private_names() -> set[str]:
    """The private names that the engine's own classes and functions define."""
    own = {"_asdict", "_replace", "_fields", "_exit"}  # which the standard library documents
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
                own.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    return own


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@pytest.fixture(scope="module")
def own() -> set[str]:
    return own_private_names()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_no_other_module_uses_private_parts_of_libraries(path, own):
    text = path.read_text(encoding="utf-8")
    advice = f"{path.name}: put it into lightreasoner/compat/transformers.py, behind a name, with a test here"
    assert not (found := INTERNALS.search(text)), f"{found[0]} in {advice}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            assert node.attr in own, f"{node.attr} in line {node.lineno} of {advice}"


def test_packed_weights_multiply_like_a_linear_layer():
    weight, bias, rows = torch.randn(24, 40), torch.randn(24), torch.randn(7, 40)
    found = compat.packed_linear(rows, compat.packed_weight(weight), bias)
    torch.testing.assert_close(found, torch.nn.functional.linear(rows, weight, bias))
    assert torch.equal(compat.packed_linear(rows[:2], compat.packed_weight(weight), bias), found[:2])
