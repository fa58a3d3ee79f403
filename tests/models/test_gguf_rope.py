"""GGUF files whose positions are scaled. transformers reads them as if they were not: every distribution was wrong."""

from __future__ import annotations

import numpy
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lightreasoner.errors import UserError
from lightreasoner.models.gguf_rope import scale_positions
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from tests.support.tiny_models import logits_of, save_tiny_gguf

LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}


def said(**values):
    """Adds the file's own words on the scaling: numbers as llama.cpp's converter writes them."""

    def more(writer):
        for name, value in values.items():
            add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)]
            add(f"llama.rope.scaling.{name}", value)

    return more


def frequencies(values):
    return lambda writer: writer.add_tensor("rope_freqs.weight", numpy.asarray(values, dtype=numpy.float32))


def as_transformers(path, **rope):
    """The logits of the file read by transformers, its configuration with these parameters of the positions."""
    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.rope_parameters |= rope
    kind = transformers.AutoModelForCausalLM
    return logits_of(kind.from_pretrained(path.parent, gguf_file=path.name, config=config, dtype=torch.float32))


@pytest.mark.parametrize(
    ("more", "rope"),
    [
        (said(), {}),
        (said(type="none", factor=4.0), {}),
        (said(type="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
        (said(factor=2.0), {"rope_type": "linear", "factor": 2.0}),
        (
            said(type="yarn", factor=4.0, original_context_length=32),
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        ),
    ],
)
def test_positions_are_scaled_as_the_file_says(tmp_path, more, rope):
    path = save_tiny_gguf(tmp_path / "scaled.gguf", more=more)
    plain, wanted = as_transformers(path), as_transformers(path, **rope)
    assert torch.allclose(plain, wanted) == (not rope)
    assert torch.allclose(logits_of(load_model(str(path), Settings()).model), wanted, atol=1e-5)


def test_llama_3_keeps_its_factors_in_a_tensor(tmp_path):
    plain = transformers.LlamaConfig(hidden_size=32, num_attention_heads=4, rope_theta=10000.0)
    scaled = transformers.LlamaConfig(
        hidden_size=32, num_attention_heads=4, rope_parameters=LLAMA3 | {"rope_theta": 1e4}
    )
    slow, _ = ROPE_INIT_FUNCTIONS["llama3"](scaled, "cpu")
    fast = 1 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    factors = (fast / slow).tolist()
    assert plain.rope_parameters["rope_type"] == "default" and factors[-1] > 2
    path = save_tiny_gguf(tmp_path / "llama3.gguf", more=frequencies(factors))
    assert torch.allclose(
        logits_of(load_model(str(path), Settings()).model), as_transformers(path, **LLAMA3), atol=1e-4
    )
    path = save_tiny_gguf(tmp_path / "ones.gguf", more=frequencies([1, 1, 1, 1]))
    assert torch.allclose(logits_of(load_model(str(path), Settings()).model), as_transformers(path), atol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        said(type="longrope", factor=4.0),
        said(type="yarn", factor=4.0),
        said(type="yarn", factor=4.0, original_context_length=32, yarn_ext_factor=0.5),
        frequencies([1, 2, 3, 7]),
        lambda writer: writer.add_tensor("rope_factors_long.weight", numpy.ones(4, dtype=numpy.float32)),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, more):
    path = save_tiny_gguf(tmp_path / "scaled.gguf", more=more)
    with pytest.raises(UserError, match="scales its positions in a way that is not read from GGUF files"):
        load_model(str(path), Settings())


def test_only_the_layers_without_a_window_are_scaled(tmp_path):
    """Gemma 3 of 4B and more: transformers has one set of parameters for each kind of layer."""
    path = save_tiny_gguf(tmp_path / "scaled.gguf", more=said(type="linear", factor=8.0))
    config = transformers.Gemma3TextConfig()
    before = dict(config.rope_parameters["sliding_attention"])
    scale_positions(config, path, "x")
    assert (
        config.rope_parameters["full_attention"]["factor"] == 8
        and config.rope_parameters["sliding_attention"] == before
    )
