"""The output head of a model in 16 bits computes its logits in float32."""

import copy

import pytest
import torch
from torch import nn

from lightreasoner.decoding.forward_pass import known_pass
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.models.float32_head import BLOCK, Float32Head, widen_head
from tests.decoding.test_lean_forward import PROMPTS, tiny, whole
from tests.support.fake_cuda import FakeCuda


class Model(nn.Module):
    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def get_output_embeddings(self):
        return self.head


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_are_not_rounded_to_16_bits(dtype):
    """Rounded logits tie (2.6 % of the steps of SmolLM2 in bfloat16), and shift KL."""
    torch.manual_seed(0)
    model = Model(nn.Linear(64, BLOCK // 64 + 9, bias=dtype == torch.float16, dtype=dtype)).requires_grad_(False)
    hidden = torch.randn(2, 3, 64).to(dtype)
    bias = 0 if model.head.bias is None else model.head.bias.float()
    right = hidden.float() @ model.head.weight.float().t() + bias
    rounded = model.head(hidden)
    widen_head(model)
    logits = model.head(hidden)
    assert logits.dtype == torch.float32 and rounded.dtype == dtype
    assert (logits - right).abs().max() < 1e-5 < (rounded.float() - right).abs().max()
    assert torch.equal(copy.deepcopy(model).head(hidden), logits) and set(model.state_dict()) >= {"head.weight"}


def test_the_gradient_goes_through():
    model = Model(nn.Linear(8, 32, bias=False, dtype=torch.bfloat16)).requires_grad_(False)
    hidden = torch.randn(4, 8).bfloat16().requires_grad_()
    usual = torch.autograd.grad(model.head(hidden).float().log_softmax(-1)[:, 3].sum(), hidden)[0]
    widen_head(model)
    found = torch.autograd.grad(model.head(hidden).log_softmax(-1)[:, 3].sum(), hidden)[0]
    assert found.dtype == torch.bfloat16 and torch.allclose(found, usual, atol=0.02, rtol=0.02)


def test_both_forward_passes_take_it_and_float32_stays_as_it_is():
    """Tracer, sampler, scorer and evaluation read through either of them."""
    loaded = tiny("qwen2", torch.bfloat16)
    widen_head(loaded.model)
    usual = whole(loaded)
    check_reading(loaded)
    assert known_pass(loaded).lean and usual.dtype == whole(loaded).dtype == torch.float32
    assert torch.allclose(whole(loaded), usual, atol=0, rtol=2**-6)
    usual = loaded.model.generate(torch.tensor(PROMPTS[:1]), max_new_tokens=4, do_sample=False)
    assert usual.shape == (1, len(PROMPTS[0]) + 4)
    plain = tiny("qwen2").model
    widen_head(plain)
    assert type(plain.get_output_embeddings()) is nn.Linear


def test_a_gpu_makes_no_float32_copy_of_the_head():
    """151,936 rows of 3,584 would take 2.2 GB."""
    with FakeCuda() as gpu:
        head = nn.Linear(3584, 151_936, bias=False, dtype=torch.bfloat16, device="cuda").requires_grad_(False)
        head.__class__ = Float32Head
        hidden = torch.empty(256, 3584, dtype=torch.bfloat16, device="cuda")
        gpu.reset()
        with torch.no_grad():
            logits = head(hidden)
        assert logits.dtype == torch.float32 and gpu.peak <= logits.nbytes + 4096 and not gpu.waits
