"""The engine on GPUs that are not there: on which of them everything lies, how often the host waits, what it takes.

Tensors are fake (tests/support/fake_cuda.py): shapes, devices and bytes are true, numbers are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lightreasoner.decoding import generate, tree_reader
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.contrast import Contrast, contrast_generate
from lightreasoner.decoding.cuda_graphs import StepGraphs
from lightreasoner.decoding.decoding_loop import decode_rows
from lightreasoner.decoding.forward_pass import ForwardPass, Reading, remember_pass, remember_reading
from lightreasoner.decoding.generate import (
    DecodingConfig,
    GenerationRow,
    Given,
    generate_batch,
    greedy_generate,
    sampled_generate,
)
from lightreasoner.decoding.lean_forward import Lean
from lightreasoner.evaluation import on_cluster as evaluation_on_cluster
from lightreasoner.evaluation.evaluate import Solving
from lightreasoner.models.adapters import USUAL, add_lora
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.lora_input import keep_inputs_narrow
from lightreasoner.models.pairs import ExpertOnly, Pair
from lightreasoner.models.references import ModelRef
from lightreasoner.models.tokenizer_pair import across_vocabulary
from lightreasoner.models.vocabulary import align_vocabularies
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import SilentProgress
from lightreasoner.sampling import on_cluster as sampling_on_cluster
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.plan import planned_rows
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


def test_a_pair_across_tokenizers_on_two_gpus(gpu):
    """Its amateur, read at several places at once, could not be read over the buffers of CUDA graphs."""
    one, other = (
        fake("cuda:0"),
        replace(fake("cuda:1", hidden_size=32), tokenizer=tiny_tokenizer(["quite other words"])),
    )
    tree_reader._CHECKED.add(other.model)  # which compares numbers
    found = across_vocabulary(one.tokenizer, other.tokenizer)
    pair = Pair(None, one, other, ExpertOnly(found.expert.size), False, False, found)
    tuned, further = TunedModel(fake("cuda:1"), "expert"), replace(other, ref=ModelRef("b", "folder", "b"))
    beside = {"tuned": tuned, "others": [replace(pair, amateur=further)]}
    tree_reader._CHECKED.add(further.model)
    for asked in (
        TraceRequest("How?", max_new_tokens=3, contrast=Contrast()),
        TraceRequest("How?", response="7 apples"),
    ):
        steps = [event.steps for event in trace(pair, asked, Settings(), **beside) if isinstance(event, StepsEvent)]
        assert sum(map(len, steps)) >= 2
    for given in (0, 3):
        assert len(generate_batch(pair, rows(given, given), DecodingConfig(3), ignore).tokens) == 2


def test_an_evaluation_on_the_second_gpu(gpu):
    loaded = fake("cuda:1")
    prompts = [[5, 6, 7], [5, 9]]
    assert list(map(len, greedy_generate(loaded, prompts, 3))) == [3, 3]
    assert list(map(len, sampled_generate(loaded, prompts, 3, 0.7, np.ones((2, 3)) / 2))) == [3, 3]


@pytest.mark.parametrize("place", [sampling_on_cluster, evaluation_on_cluster])
def test_the_command_that_starts_workers_keeps_no_model_on_a_gpu(gpu, monkeypatch, place):
    """Its models stayed on GPU 0, which a worker of the same machine has, too."""
    pair, seen = pair_on("cuda:0", "cuda:1"), []
    monkeypatch.setattr(place, "connect", lambda settings, workers: None)
    monkeypatch.setattr(place, "gpus_per_worker", lambda settings, ray, workers: 1.0)
    monkeypatch.setattr(place, "map_over_actors", lambda *given: seen.append(gpu.live) or iter(()))
    if place is sampling_on_cluster:
        job = SamplingJob(Path("run"), "e", "a", "p", DecodingConfig(4), num_workers=1)
        solve = place.cluster_map(job, [pair, pair], 8, Settings(), SilentProgress())
    else:
        solve = place.cluster_map(pair.expert, Solving([], 8), 1, Settings(), pair)
    before = gpu.live
    assert list(solve([])) == [] and before > 50_000 and seen[0] < 5_000  # of the alignment


def example(tokens: int, steps: int) -> PackedExample:
    targets = (Target(n, (5, 6), (0.5, 0.5)) for n in range(tokens - steps, tokens))
    return PackedExample([5] * (tokens + 8), 8, tuple(targets))


def test_training_on_the_second_gpu(gpu):
    """The Trainer moved what it got to the first GPU; here everything has to stay where the model is."""
    loaded = fake("cuda:1")
    model = add_lora(loaded.model, 4, 8, 0.0, ("q_proj",), 0)
    batch = collate([example(20, 3), example(9, 4)]).to(loaded.device)
    loss = step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).sum()
    assert loss.requires_grad and loss.device == loaded.device
    assert {p.device for p in model.parameters()} == {loaded.device}
    assert set(measure_held_out(model, [example(20, 3)], 320, False, loaded.device)) == {"held_out_loss", "drift"}


@pytest.mark.parametrize("graphs", [True, False])
def test_decoding_waits_once_a_step(gpu, graphs):
    """For the tokens. A forward pass that is no graph looked at its mask, too."""
    loaded = fake("cuda:0", graphs)
    for prompts in ([[5, 6, 7, 8], [5, 6], [5, 9, 10]], [[5, 6, 7], [5, 6, 8]]):
        decoder = BatchDecoder(loaded, len(prompts), steps=8)
        decoder.prefill([prompt[:-1] for prompt in prompts])
        unread = torch.tensor([prompt[-1] for prompt in prompts], device="cuda:0")
        gpu.reset()
        with torch.inference_mode():
            steps = list(decode_rows(decoder, unread, lambda logits, rows, step: logits.argmax(-1), 4, ignore))
        assert len(steps) == 4 and gpu.waits.total() <= 4


LIVE = {
    "plain": {},
    "contrast": {"contrast": Contrast()},
    "further amateur": {"others": True},
    "tuned": {"tuned": TUNED},
    "tuned beside": {"tuned": "expert"},
}


@pytest.mark.parametrize("how", LIVE)
def test_a_live_trace_waits_four_times_a_token(gpu, how):
    """A trace by contrast waited ten times a token, one beside a tuned expert eight times."""
    asked, pair = dict(LIVE[how]), pair_on("cuda:0", "cuda:1")
    other = replace(pair, amateur=replace(pair.amateur, ref=ModelRef("b", "folder", "b")))
    beside = {"others": [other]} if asked.pop("others", None) else {}
    beside |= {"tuned": TunedModel(fake("cuda:1"), asked.pop("tuned"))} if "tuned" in asked else {}
    gpu.reset()
    events = trace(pair, TraceRequest("How many?", max_new_tokens=31, **asked), Settings(), **beside)
    assert sum(len(event.steps) for event in events if isinstance(event, StepsEvent)) == 31
    assert gpu.waits.total() <= 4 * 31


def test_what_draws_or_contrasts_waits_no_more_than_it_must(gpu):
    """A sampled step waited for its draws, too, and one by contrast eight times, not for two reads and a choice."""
    pair, prompts, steps = pair_on("cuda:0", "cuda:1"), [[5, 6, 7], [5, 9]], 16
    drawn = np.ones((2, steps)) / 2
    for waits, act in (
        (1, lambda: sampled_generate(pair.expert, prompts, steps, 0.7, drawn)),
        (1, lambda: generate_batch(pair, rows(0, 0), DecodingConfig(steps, temperature=0.7), ignore)),
        (3, lambda: contrast_generate(pair, [(own, own) for own in prompts], Contrast(), steps)),
    ):
        gpu.reset()
        act()
        assert gpu.waits.total() <= waits * steps + 24  # of prompts, and of a chunk that is measured


def kept_per_token(gpu: FakeCuda, layers: int, targets: tuple[str, ...] | None, narrow: bool) -> float:
    """MB that a forward pass of 7B's shape with so many layers keeps for the backward pass, of each token."""
    loaded = fake("cuda:0", num_hidden_layers=layers, **QWEN_7B)
    model = add_lora(loaded.model, 16, 32, 0.05, targets, 0).train()
    if narrow:
        keep_inputs_narrow(model)
    batch = collate([example(1000, 8), example(1000, 8)]).to(loaded.device)
    gpu.reset()
    before, logits = gpu.live, step_logits(model, batch)
    return (gpu.live - before - logits.nbytes) / batch.input_ids.numel() / 1e6


@pytest.mark.parametrize(("targets", "narrow"), [(None, False), (USUAL, True)], ids=["usual", "all linear layers"])
def test_the_backward_pass_of_7b_keeps_six_mb_a_token(gpu, targets, narrow):
    """PEFT keeps its input in float32 for every adapted layer: 8.7 MB a token with all linear layers adapted.

    What attention itself keeps is not in it. All 28 layers keep the same.
    """
    one, two = (kept_per_token(gpu, layers, targets, narrow) for layers in (1, 2))
    assert 2 < one + (LAYERS_7B - 1) * (two - one) <= 6


def test_measuring_held_out_steps_takes_a_gb(gpu):
    """2,048 steps of 152,064 tokens took 5.4 GB."""
    loaded = fake("cuda:0", **QWEN_7B)
    model = add_lora(loaded.model, 4, 8, 0.0, ("q_proj",), 0)
    for steps in (2048, 1024):  # all of them, and half: the others tell the drift
        gpu.reset()
        measure_held_out(model, [example(2048, steps)], QWEN_7B["vocab_size"], False, loaded.device)
        assert gpu.peak <= 1e9


def test_a_batch_stays_within_its_plan(gpu, monkeypatch):
    """Of 1.5B's width, with all that sampling takes: both caches as planned at once, static buffers, and the logits."""
    shape = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
    expert, amateur = (fake("cuda:0", vocab_size=320, num_hidden_layers=layers, **shape) for layers in (4, 2))
    alignment = align_vocabularies(expert.tokenizer, amateur.tokenizer, 320, 320)
    pair = Pair(None, expert, amateur, alignment, False, True)
    free = 400_000_000
    monkeypatch.setattr("lightreasoner.decoding.batch_size.free_bytes", lambda device: free)
    planned = planned_rows(pair, 300 + 3)
    prompt = list(range(5, 15)) * 30
    items = [GenerationRow(Problem(str(n), "q", "a"), 0, prompt, prompt) for n in range(planned)]
    gpu.reset()
    generate_batch(pair, items, DecodingConfig(3), ignore)
    assert planned >= 32 and gpu.peak <= free
