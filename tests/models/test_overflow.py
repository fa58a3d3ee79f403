"""float16 on a GPU without bf16 units, where nothing overflows when a model is loaded; else bfloat16."""

import pytest
import torch

from lightreasoner.models import loading
from lightreasoner.models.devices import dtype_effect, dtypes_to_try
from lightreasoner.models.loading import load_model
from lightreasoner.models.overflow import MARGIN, overflows
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, tiny_model, tiny_tokenizer

HALF, WIDE = torch.float16, torch.bfloat16


@pytest.mark.parametrize(("capability", "dtypes"), [((7, 5), (HALF, WIDE)), ((8, 0), (WIDE,)), ((9, 0), (WIDE,))])
def test_dtypes_to_try_on_a_gpu(monkeypatch, capability, dtypes):
    """A T4 got float16 unchecked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu, cpu = torch.device("cuda:0"), torch.device("cpu")
    assert dtypes_to_try(Settings(), gpu, 10) == dtypes
    assert dtypes_to_try(Settings(dtype="float16"), gpu, 10) == (HALF,)  # as asked for
    assert dtypes_to_try(Settings(), cpu, 10) == (torch.float32,)


def test_an_activation_or_a_weight_near_the_end_of_float16_is_seen():
    tokenizer = tiny_tokenizer()
    assert not overflows(tiny_model(1).half(), tokenizer)
    limit = torch.finfo(HALF).max / MARGIN
    loud = tiny_model(1).half()
    with torch.no_grad():
        loud.model.layers[0].mlp.down_proj.weight.mul_(30_000).clamp_(-limit, limit)  # activations, not weights
    assert overflows(loud, tokenizer)
    heavy = tiny_model(1).half()
    heavy.model.layers[1].self_attn.k_proj.weight.data[0, 0] = torch.inf
    assert overflows(heavy, tokenizer)


def test_a_model_that_overflows_is_read_again_in_bfloat16(tmp_path, monkeypatch):
    """Rounded to infinity once, the weights are gone; they come from the file again."""
    folder = save_tiny(tmp_path / "model", seed=1)
    monkeypatch.setattr(loading, "dtypes_to_try", lambda *given: (HALF, WIDE))
    found = load_model(str(folder), Settings(device="cpu"))
    assert found.dtype == found.model.dtype == HALF
    monkeypatch.setattr(loading, "overflows", lambda *given: True)
    found = load_model(str(folder), Settings(device="cpu"))
    assert found.dtype == found.model.dtype == WIDE
    twin = load_model(str(folder), Settings(device="cpu"), twin=found)
    assert twin.dtype == WIDE and twin.model is found.model


def test_the_pair_card_says_what_16_bits_do():
    assert dtype_effect(torch.float32) is None
    assert "float16 moves KL by 0.0003" in dtype_effect(HALF) and "0.03 nats" in dtype_effect(WIDE)
