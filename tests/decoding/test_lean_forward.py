"""The lean forward pass: the logits of transformers bit for bit, or transformers' own forward pass."""

from dataclasses import replace

import peft
import pytest
import torch
import transformers

from lightreasoner import threads
from lightreasoner.decoding import lean_forward, reading_check
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.forward_pass import describe_pass, forward, known_pass, remember_pass
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.decoding.lean_forward import Lean, _runs
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.references import ModelRef
from tests.support.tiny_models import tiny_tokenizer

PROMPTS = [[5, 9, 23, 7, 41, 8, 11], [6, 30, 12], list(range(10, 31))]
GROWING = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
KINDS = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": None, "num_key_value_heads": 4},
}


def tiny(kind: str, dtype: torch.dtype = torch.float32, packed: bool = False, **more) -> LoadedModel:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 600}
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **KINDS.get(kind, {}), **more})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = model.eval().requires_grad_(False)
    cpu, ref = torch.device("cpu"), ModelRef(kind, "folder", kind)
    return LoadedModel(ref, model, tiny_tokenizer(), cpu, dtype, 0, 0, frozenset({2}), 600, kind, packed=packed)


def with_lora(loaded: LoadedModel) -> None:
    """Puts an adapter that changes something into the model, as evaluation does."""
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]), loaded.model)
    for name, parameter in loaded.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)


@torch.inference_mode()
def whole(loaded: LoadedModel) -> torch.Tensor:
    return forward(loaded, [PROMPTS[2] * 9], 150)


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_tokens_are_those_of_transformers_bit_for_bit(kind, adapter):
    loaded = tiny(kind)
    if adapter:
        with_lora(loaded)
    logits, usual = whole(loaded), replace(loaded, lean=False)
    check_reading(usual)
    assert known_pass(loaded).lean is None and "switched off" in describe_pass(loaded)
    tokens = greedy_generate(usual, PROMPTS, 24)
    remember_pass(loaded, None)
    check_reading(loaded)
    assert known_pass(loaded).lean and describe_pass(loaded).endswith("bit for bit")
    assert torch.equal(whole(loaded), logits)
    assert greedy_generate(loaded, PROMPTS, 24) == tokens  # rows of different length, which end at different steps


@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_give_the_same_up_to_rounding_and_each_row_alike(kind, monkeypatch):
    """Two rows by themselves were rounded otherwise than the same rows among others."""
    multiplied, packed = [], lean_forward.packed_linear
    monkeypatch.setattr(lean_forward, "packed_linear", lambda x, *rest: multiplied.append(len(x)) or packed(x, *rest))
    sizes = {"hidden_size": 192, "intermediate_size": 640}
    loaded, usual = tiny(kind, packed=True, **sizes), tiny(kind, **sizes)
    check_reading(usual)
    check_reading(loaded)
    assert "packed weights, a second copy in memory" in describe_pass(loaded)
    multiplied.clear()
    apart = whole(loaded).log_softmax(-1) - whole(usual).log_softmax(-1)
    assert apart.abs().max() < 1e-3 and min(multiplied) > 1
    assert greedy_generate(loaded, PROMPTS, 24) == greedy_generate(usual, PROMPTS, 24)
    rows = torch.tensor([[n, 7] for n in range(20, 36)])
    assert torch.equal(forward(loaded, rows[:1], 2), forward(loaded, rows, 2)[:1])


def test_packed_weights_follow_a_weight_that_changes():
    """A copy would go on answering with the weight as it was."""
    loaded = tiny("qwen2", packed=True)
    check_reading(loaded)
    loaded.model.model.layers[1].mlp.up_proj.weight.mul_(2)
    assert known_pass(loaded) is None
    changed = whole(loaded)  # by transformers
    check_reading(loaded)
    assert (whole(loaded) - changed).abs().max() < 1e-3 * changed.abs().max()


def test_packed_weights_need_memory_and_a_kernel(monkeypatch):
    loaded = replace(tiny("llama", packed=True), memory_bytes=1000)
    monkeypatch.setattr(reading_check, "free_bytes", lambda device: 3999)
    check_reading(loaded)
    assert describe_pass(loaded).endswith("bit for bit; no memory for packed weights")
    remember_pass(loaded, None)
    monkeypatch.setattr(reading_check, "free_bytes", lambda device: 4000)
    monkeypatch.setattr(lean_forward, "packed_weight", lambda weight: torch.zeros(10**18))
    check_reading(loaded)
    assert "packed weights failed" in describe_pass(loaded) and known_pass(loaded).lean


def test_weights_that_lie_anywhere_in_memory_are_read_with_the_lean_pass():
    """Those of a mapped file begin at any multiple of eight bytes. Joining moves them, and a kernel for a single row
    rounds by where they lie, so the logits before and after differed and the lean pass was not used."""
    loaded = tiny("llama", hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3)
    for parameter in loaded.model.parameters():
        store = torch.empty(parameter.numel() + 2)
        parameter.data = store[2:].view_as(parameter).copy_(parameter)
    check_reading(loaded)
    assert describe_pass(loaded).endswith("bit for bit")


def test_rows_of_unlike_length_attend_in_runs_and_never_to_what_nobody_wrote(monkeypatch):
    """Every row attended to as much padding as the batch's shortest, and its cache was filled with zeros first."""
    loaded = tiny("qwen2")
    check_reading(loaded)
    rows = [[7, *range(20, 20 + n)] for n in (3, 4, 40, 41, 42)]
    empty, taken, attend = torch.Tensor.new_empty, [], Lean._attend
    monkeypatch.setattr(lean_forward, "IDLE", 16)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *shape: empty(self, *shape).fill_(torch.nan))
    monkeypatch.setattr(Lean, "_attend", lambda *given: taken.append(given[4]) or attend(*given))
    decoder = BatchDecoder(loaded, len(rows))
    decoder.prefill([row[:-1] for row in rows])
    taken.clear()
    found = decoder.step(torch.tensor([row[-1] for row in rows]))
    assert [(run, first) for run, first, _ in taken[0]] == [(slice(0, 2), 38), (slice(2, 5), 0)]
    decoder.copy([0], [5])
    found = torch.cat([found, decoder.step(torch.tensor([9] * 6))])
    alone = [forward(loaded, [row], 1)[0] for row in (*rows, *([*row, 9] for row in (*rows, rows[0])))]
    assert (found - torch.cat(alone)).abs().max() < 1e-4 * found.abs().max()


def test_the_last_layers_second_half_reads_only_what_is_asked_for():
    """A given text's prompt went through all of the last layer, whose numbers nobody reads; the bits must stay."""
    loaded = tiny("qwen3")
    check_reading(replace(loaded, lean=False))
    text, wanted = PROMPTS[2] * 9, {keep: forward(loaded, [PROMPTS[2] * 9], keep) for keep in (1, 20, 60)}
    remember_pass(loaded, None)
    check_reading(loaded)
    lean, read = known_pass(loaded).lean, []
    down = lean._layers[-1].down
    lean._layers[-1] = replace(lean._layers[-1], down=lambda x: read.append(len(x)) or down(x))
    for keep, logits in wanted.items():
        assert torch.equal(forward(loaded, [text], keep), logits)
    assert read == [lean_forward.LEAST_ROWS, 20, 60]


def test_one_run_where_more_would_cost_more_than_the_padding():
    assert _runs([40] * 9) == [(slice(0, 9), 40)]
    assert _runs([0, 40] * 32) == [(slice(0, 64), 0)]
    assert _runs([60] * 20 + [0] * 20) == [(slice(0, 20), 60), (slice(20, 40), 0)]


def test_an_adapter_that_comes_later_is_seen():
    """Evaluation puts adapters into a model that has been read without one: joined weights would answer without it."""
    loaded = tiny("qwen2")
    check_reading(loaded)
    plain = whole(loaded)
    assert known_pass(loaded).lean
    with_lora(loaded)
    changed = whole(loaded)
    assert not torch.equal(changed, plain) and known_pass(loaded) is None
    check_reading(loaded)
    assert known_pass(loaded).lean and torch.equal(whole(loaded), changed)


def test_joined_weights_are_the_models_own():
    loaded = tiny("llama")
    check_reading(loaded)
    mlp = loaded.model.model.layers[1].mlp
    before = whole(loaded)
    mlp.up_proj.weight.mul_(2)  # as training would
    assert not torch.equal(whole(loaded), before)
    assert mlp.up_proj.weight.data_ptr() == mlp.gate_proj.weight.data_ptr() + mlp.gate_proj.weight.nbytes
    mlp.up_proj.weight.data = mlp.up_proj.weight / 2  # another tensor in its place
    assert torch.equal(whole(loaded), before) and known_pass(loaded) is None


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("gpt2", {}, "another shape"),
        ("mistral", {"sliding_window": 64}, "window"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "length of the text",
        ),
        ("llama", {"hidden_act": "gelu"}, None),
    ],
)
def test_other_shapes_are_read_by_transformers(kind, more, why):
    loaded = tiny(kind, **more)
    check_reading(loaded)
    assert (known_pass(loaded).lean is None) == bool(why) and (why or "lean") in describe_pass(loaded)


def test_a_forward_pass_that_differs_is_not_used(monkeypatch):
    loaded = tiny("qwen2")
    monkeypatch.setattr(
        "lightreasoner.decoding.lean_forward.Lean._attend", lambda self, query, *_: query.flatten(0, 2)[:, :1]
    )
    check_reading(loaded)
    assert describe_pass(loaded) == "of transformers: the logits of the lean one differ"
    loaded = tiny("qwen2")
    monkeypatch.undo()
    loaded.model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, out: out + 1e-3)
    check_reading(loaded)
    assert known_pass(loaded).lean is None


def test_sixteen_bits_may_differ_by_one_unit_in_the_last_place():
    loaded = tiny("qwen2", torch.bfloat16)
    logits = whole(loaded)
    check_reading(loaded)
    assert known_pass(loaded).lean and "one unit" in describe_pass(loaded)
    assert torch.allclose(whole(loaded).float(), logits.float(), atol=0, rtol=2**-6)


def test_the_comparison_keeps_its_number_of_threads(monkeypatch):
    """Threads follow what other programs leave free; another number in between could round otherwise."""
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(threads, "_wanted", torch.get_num_threads() + 1)
    with threads.steady():
        threads.follow()
    assert not seen
    threads.follow()
    assert seen
