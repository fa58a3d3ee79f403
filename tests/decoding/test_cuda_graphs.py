"""Single steps over static buffers, as CUDA graphs replay them: the same tokens, and logits that differ by rounding.

Here the buffers lie on the CPU and nothing is captured; tests/test_gpu.py and scripts/gpu_check.sh run the graphs.
"""

import gc
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lightreasoner.decoding import reading_check
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.decoding.cuda_graphs import rounded
from lightreasoner.decoding.forward_pass import describe_pass, known_pass, remember_pass
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.decoding.tree_reader import Continuation, TreeBatch
from lightreasoner.models.devices import release_memory
from tests.decoding.test_lean_forward import KINDS, PROMPTS, tiny, with_lora

LONG = [list(range(3, 60)) * 2, *PROMPTS]


@pytest.fixture
def static(monkeypatch):
    """static(loaded): the model as checked, with single steps over static buffers."""
    monkeypatch.setattr(reading_check, "GRAPH_DEVICES", ("cpu",))

    def checked(loaded):
        remember_pass(loaded, None)
        reading_check.check_reading(loaded)
        return known_pass(loaded).lean.steps

    return checked


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_over_static_buffers_write_the_same_tokens(kind, adapter, static):
    loaded = tiny(kind)
    if adapter:
        with_lora(loaded)
    reading_check.check_reading(replace(loaded, graphs=False))
    assert known_pass(loaded).lean.steps is None
    usual = greedy_generate(loaded, LONG, 150)  # beyond a step of columns; rows end and leave
    steps = static(loaded)
    assert steps and "CUDA graphs" in describe_pass(loaded)
    assert greedy_generate(loaded, LONG, 150) == usual
    assert steps._layers, "the buffers were not used"


def test_rows_of_different_length_that_leave_and_are_read_further(static):
    """What a decoder reads by columns between its steps lies in the same buffers; logits differ by rounding only."""
    loaded, logits = tiny("qwen2"), []
    for graphs in (False, True):
        remember_pass(loaded, None)
        reading_check.check_reading(replace(loaded, graphs=graphs))
        decoder = BatchDecoder(loaded, 4, None, 12)
        decoder.prefill(LONG)
        found = [decoder.step(torch.tensor([5, 6, 7, 8]))]
        decoder.select(torch.tensor([2, 0, 3]))
        found += [decoder.step(torch.tensor([9, 9, 9])), decoder.read([[4, 5], [6], [7, 8, 9]], 1)[:, 0]]
        found += [decoder.step(torch.tensor([n, n, n])) for n in range(70)]  # beyond what was planned
        for n in range(4):  # as an amateur reads: whole chunks, of which ended rows are filled up behind their end
            found += decoder.read([[5 + n, 6, 7, 8], [6, 6 + n, 6, 6], [9, 8, 7]], 3).unbind(1)
            found += decoder.read([[5 + n, 6], [6, 7], [9, 9]], 2).unbind(1)
        logits.append(torch.cat(found))
    assert (logits[0] - logits[1]).abs().max() < 1e-5 * logits[0].abs().max()


def test_continuations_from_any_place_are_read_over_static_buffers(static):
    """An amateur with another tokenizer ended a trace on a GPU with a traceback; then it saw what was forgotten."""
    loaded, logits = tiny("qwen2"), []
    for graphs in (False, True):
        remember_pass(loaded, None)
        reading_check.check_reading(replace(loaded, graphs=graphs))
        trees, found, size = TreeBatch(loaded, [LONG[0]]), [], len(LONG[0])
        for n in range(4):
            branches = [(size, 9), (-1, 7), (size - 3, 8), (size + 1, 4)]
            found.append(trees.follow({0: Continuation(0, [5 + n, 6], 2, branches)})[0])
            found.append(trees.follow({0: Continuation(0, [7 + n, 8], 2)})[0])
            found.append(trees.follow({0: Continuation(3, [9], 1)})[0])
            size += 2
        logits.append(torch.cat(found))
    assert known_pass(loaded).lean.steps._layers, "the buffers were not used"
    assert (logits[0] - logits[1]).abs().max() < 1e-5 * logits[0].abs().max()


def test_one_cache_at_a_time_lies_in_the_buffers(static):
    """A second sequence of the same model, begun while the first one is alive, must not write into its cache."""
    loaded = tiny("llama")
    steps = static(loaded)

    def run(decoders):
        for token in (5, 9, 11):
            for decoder in decoders:
                found[decoders.index(decoder)].append(decoder.next_logits())
                decoder.append(token)

    found = [[], []]
    run([CachedDecoder(loaded, LONG[0]), CachedDecoder(loaded, LONG[1])])
    apart = [list(own) for own in found]
    found = [[]]
    run([CachedDecoder(loaded, LONG[0])])
    for own, alone in zip(apart[0], found[0], strict=True):
        assert torch.allclose(own, alone, atol=1e-4)
    gc.collect()
    release_memory()  # as a batch that has run out of memory does
    assert not steps._layers


def test_not_a_number_in_one_batch_does_not_reach_the_next(static):
    """Masked attention multiplies what it does not see by 0, which leaves NaN."""
    loaded = tiny("llama")
    steps = static(loaded)
    usual = greedy_generate(loaded, LONG, 20)
    with torch.inference_mode():
        for buffer in (buffer for buffers in steps._layers for buffer in buffers):
            buffer.fill_(torch.nan)
    assert greedy_generate(loaded, LONG, 20) == usual


def test_memory_that_runs_out_in_a_capture_is_told_as_such(static, monkeypatch):
    """Ending the capture then fails, too, and that error hid the one by which a batch is halved."""
    loaded = tiny("llama")
    steps, usual = static(loaded), []

    class Graph:
        def capture_begin(self, **how):
            usual.append(how)

        def capture_end(self):
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def read(*given):
        if usual:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda own: nullcontext())
    monkeypatch.setattr("lightreasoner.decoding.cuda_graphs.capture_stream", lambda device: stream)
    monkeypatch.setattr(steps, "_read", read)
    with pytest.raises(torch.OutOfMemoryError):
        steps._captured(known_pass(loaded).lean, (1, 1, 64))


def test_steps_that_differ_are_not_used(static, monkeypatch):
    monkeypatch.setattr("lightreasoner.decoding.cuda_graphs._Layer.update", lambda self, *new: self._buffers)
    loaded = tiny("qwen2")
    assert static(loaded) is None and known_pass(loaded).lean and "not used" in describe_pass(loaded)


def test_sizes_are_rounded_so_that_few_graphs_serve_all():
    assert [rounded(n, 1) for n in (1, 3, 5, 9, 200, 256, 1000)] == [1, 3, 5, 10, 224, 256, 1024]
    assert [rounded(n, 64) for n in (1, 64, 65, 300, 700, 1500)] == [64, 64, 128, 320, 768, 1536]
    assert len({rounded(n, 1) for n in range(1, 1025)}) < 40
