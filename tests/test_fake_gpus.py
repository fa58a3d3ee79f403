"""The engine on GPUs that are not there: on which of them everything lies, how often the host waits, what it takes.

Tensors are fake (tests/support/fake_cuda.py): shapes, devices and bytes are true, numbers are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from lightreasoner.decoding import generate
from lightreasoner.decoding.contrast import Contrast, contrast_generate
from lightreasoner.decoding.generate import (
    DecodingConfig,
    GenerationRow,
    Given,
    generate_batch,
    greedy_generate,
    sampled_generate,
)
from lightreasoner.decoding.graphs import StepGraphs
from lightreasoner.decoding.lean import Lean
from lightreasoner.decoding.reading import ForwardPass, Reading, remember_pass, remember_reading
from lightreasoner.models.adapters import add_lora
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.references import ModelRef
from lightreasoner.models.vocabulary import align_vocabularies
from lightreasoner.problems.rows import Problem
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from lightreasoner.tracing.tuned_decoder import TUNED, TunedModel
from lightreasoner.training.finetune import measure_held_out
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses
from tests.support.fake_cuda import FakeCuda
from tests.support.tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
QWEN_7B = {"hidden_size": 3584, "intermediate_size": 18_944, "num_attention_heads": 28, "num_key_value_heads": 4}
QWEN_7B |= {"vocab_size": 152_064, "tie_word_embeddings": False}
LAYERS_7B = 28


def fake(device: str, graphs: bool = True, specials: tuple[str, ...] | None = None, **sizes) -> LoadedModel:
    """A model on a fake device, as if it had been checked. Inside FakeCuda."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 600} | sizes
    place, dtype = torch.device(device), torch.bfloat16
    with place:
        config = transformers.AutoConfig.for_model("qwen2", **shape)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model = model.eval().requires_grad_(False)
    tokenizer = tiny_tokenizer(**({"specials": specials} if specials else {}))
    name = f"{device}{shape['hidden_size']}"
    ref = ModelRef(name, "folder", name)
    loaded = LoadedModel(ref, model, tokenizer, place, dtype, 0, 0, frozenset({2}), 600, name)
    remember_reading(loaded, Reading())
    lean = Lean(model, fused=False)
    lean.steps = StepGraphs(place, capture=False) if graphs else None
    remember_pass(loaded, ForwardPass(lean, "fake"))
    return loaded


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    with FakeCuda() as found:
        yield found


OTHER = ("<|endoftext|>", "<|begin|>", "<|end|>")  # of an amateur whose ids have to be picked


def pair_on(expert: str, amateur: str, specials: tuple[str, ...] | None = None) -> Pair:
    one, other = fake(expert), fake(amateur, specials=specials, hidden_size=32)
    alignment = align_vocabularies(one.tokenizer, other.tokenizer, 320, 320)
    return Pair(None, one, other, alignment.to_devices(one.device, other.device), False, True)


def rows(*given: int, sampled: bool = False) -> list[GenerationRow]:
    """A row per response of so many tokens that is given; of 0 tokens, one that is to be written."""
    made = []
    for n, count in enumerate(given):
        prompt, known = list(range(5, 9 + n)), Given([1] * count, sampled=sampled) if count else None
        made.append(GenerationRow(Problem(str(n), "q", "a"), 0, prompt, prompt, known))
    return made


def ignore(ended: int) -> None:
    """An on_step."""


PLACES = pytest.mark.parametrize(
    ("expert", "amateur", "specials"), [("cuda:0", "cuda:1", None), ("cuda:1", "cuda:0", OTHER)], ids=["same", "picked"]
)


@PLACES
def test_sampling_with_the_models_on_two_gpus(gpu, monkeypatch, expert, amateur, specials):
    """An amateur whose rows end one after another was told which stay by a tensor on the expert's GPU."""
    monkeypatch.setattr(generate, "CHUNK", 2)
    pair = pair_on(expert, amateur, specials)
    for decoding in (DecodingConfig(3, beta_floor=0.0), DecodingConfig(3, temperature=0.7)):
        assert list(map(len, generate_batch(pair, rows(0, 0), decoding, ignore).tokens)) == [3, 3]
    for sampled in (False, True):  # read side by side, as scoring does; step by step, as a further amateur does
        generate_batch(pair, rows(3, 1, 1, sampled=sampled), DecodingConfig(4), ignore)
    prompts = [(row.prompt, row.amateur_prompt) for row in rows(0, 0)]
    assert len(contrast_generate(pair, prompts, Contrast(), 3)[0].tokens) == 3


@PLACES
def test_a_live_trace_with_the_models_on_two_gpus(gpu, expert, amateur, specials):
    pair, settings = pair_on(expert, amateur, specials), Settings()
    further = replace(pair, amateur=replace(pair.amateur, ref=ModelRef("b", "folder", "b")))
    tuned = TunedModel(fake(amateur), TUNED)
    for request, beside in (
        (TraceRequest("How many?", max_new_tokens=3), {"others": [further]}),
        (TraceRequest("How many?", max_new_tokens=3, contrast=Contrast()), {}),
        (TraceRequest("How many?", max_new_tokens=3), {"tuned": tuned}),
        (TraceRequest("How many?", max_new_tokens=3), {"tuned": replace(tuned, writer="expert")}),
        (TraceRequest("How many?", response="7 apples"), {}),
    ):
        steps = [
            step
            for event in trace(pair, request, settings, **beside)
            if isinstance(event, StepsEvent)
            for step in event.steps
        ]
        assert len(steps) >= 2


def test_an_evaluation_on_the_second_gpu(gpu):
    loaded = fake("cuda:1")
    prompts = [[5, 6, 7], [5, 9]]
    assert list(map(len, greedy_generate(loaded, prompts, 3))) == [3, 3]
    assert list(map(len, sampled_generate(loaded, prompts, 3, 0.7, np.ones((2, 3)) / 2))) == [3, 3]


def example(tokens: int, steps: int) -> PackedExample:
    return PackedExample([5] * (tokens + 8), 8, tuple(Target(n, (5, 6), (0.5, 0.5)) for n in range(steps)))


def test_training_on_the_second_gpu(gpu):
    """The Trainer moved what it got to the first GPU; here everything has to stay where the model is."""
    loaded = fake("cuda:1")
    model = add_lora(loaded.model, 4, 8, 0.0, ("q_proj",), 0)
    batch = collate([example(20, 3), example(9, 4)]).to(loaded.device)
    loss = step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).sum()
    assert loss.requires_grad and loss.device == loaded.device
    assert {p.device for p in model.parameters()} == {loaded.device}
    assert set(measure_held_out(model, [example(20, 3)], 320, False, loaded.device)) == {"held_out_loss", "drift"}
