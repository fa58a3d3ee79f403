"""Measures at every load how a model may be read: the fastest way that gives what one plain forward gives.

Two rows of different length are read in pieces, as tracer and sampler do, and compared with one forward over the whole
of both. Where they differ, the next slower way is measured; where none is right, the model is refused with the number.
Then the same is read with the lean forward pass, which is used where its logits are those of transformers; and with
packed weights on a CPU or CUDA graphs, which make it faster, and are used where they change no more than rounding does.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from lightreasoner import threads
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.decoding.cuda_graphs import StepGraphs
from lightreasoner.decoding.forward_pass import (
    ALIGNED,
    APART,
    CHUNKS,
    PADDED,
    STEPS,
    WHOLE,
    ForwardPass,
    Reading,
    base_model,
    describe_reading,
    forget_pass,
    forward,
    has_window,
    known_pass,
    known_reading,
    remember_pass,
    remember_reading,
)
from lightreasoner.decoding.lean_forward import Lean, misfit
from lightreasoner.errors import UserError, first_line
from lightreasoner.models.devices import free_bytes, is_out_of_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.progress import StopRequested, check_interruption

TEXT = "Tom has 3 apples and buys 4 more. How many apples does he have? 3 + 4 = 7. The answer is 7."
COLUMNS = 16  # of each row: few, since on a CPU a token of a large model takes a tenth of a second
#: (row, position) of the logits of _two_rows
PLACES = ((0, 6), (1, 3), (1, 7), (1, 8), (0, 7), (0, 8), (1, 9), (0, 9))
GRAPH_DEVICES = ("cuda",)
ROUNDING = 1e-5  # nats, that two readings in float32 may differ by
PACKED_SHARE = 4  # packed weights, a second copy, may take one part in so many of the memory that is free
#: What rounding explains, in nats of the mean |Δ log p|.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.2}


@torch.inference_mode()
def check_reading(loaded: LoadedModel, rows: tuple[list[int], list[int]] | None = None) -> Reading:
    """How this model is read, measured once per loaded model. Raises UserError for one that no way reads right.

    rows: two sequences of ids of equal length, at least 16; by default from a sentence.
    """
    found = known_reading(loaded)
    if found and (known_pass(loaded) or found.one == WHOLE):
        return found
    began = time.perf_counter()
    one, other = rows or _rows(loaded)
    if len(one) < COLUMNS:  # the context is too short for anything but a plain forward
        found = Reading(WHOLE, APART)
        remember_reading(loaded, found)
        return found
    if found:  # an adapter has come into the model, or gone
        _choose_pass(loaded, one, other, found)
        return found
    plain = forward(loaded, [one, other], keep=len(one)).float().log_softmax(-1)  # (2, columns, output rows)
    if not plain.isfinite().any(-1).all():  # tracer and sampler name the step
        return Reading()
    allowed = _Allowed(loaded, plain, (one, other))
    many = (ALIGNED,) if has_window(loaded.model.config) else (PADDED, ALIGNED)
    found, worst = None, 0.0
    for single in (Reading(), Reading(positions=False), Reading(STEPS), Reading(WHOLE)):
        usable, error = _first([single], lambda way: _one_difference(loaded, plain, one, way), allowed)
        if not usable:
            continue
        ways = [replace(single, many=way) for way in (*(many if single.one == CHUNKS else ()), APART)]
        found, worst = _first(ways, lambda way: _two_difference(loaded, plain, one, other, way), allowed)
        if found:  # not for a model that keeps its state in itself, where one row would change the other
            break
    if found is None:
        raise UserError(
            f"{loaded.ref} cannot be read token by token: its probabilities after a beginning differ by "
            f"{max(error, worst):.2g} nats from those in one pass over the whole text, where {allowed.value:.2g} is "
            "rounding, so they depend on what follows or on chance. Use a causal language model."
        )
    found = replace(found, difference=max(error, worst), seconds=time.perf_counter() - began)
    remember_reading(loaded, found)
    _choose_pass(loaded, one, other, found)
    return found


def _choose_pass(loaded: LoadedModel, one: list[int], other: list[int], way: Reading) -> None:
    """Use the lean forward pass where its logits are those of transformers: bit for bit in fp32, and in 16 bits within
    one unit in the last place. Where that holds for texts read whole, and pieces are multiplied by other kernels,
    it is used with packed weights only, which round otherwise anyway."""
    model = base_model(loaded.model)
    why = misfit(model) if loaded.lean else "the lean one is switched off"
    if not why and (has_window(model.config) or (way.one, way.many, way.positions) != (CHUNKS, PADDED, True)):
        why = describe_reading(loaded) or "its layers see only a window of the text"
    if why:
        return remember_pass(loaded, ForwardPass(None, why))
    with threads.steady():
        for fused in (True, False):  # a joined matrix may be multiplied by another kernel
            try:
                lean = Lean(model, fused)  # first: how a single row is multiplied depends on where the matrix lies
                remember_pass(loaded, ForwardPass(None, "not compared yet"))
                usual = _every_way(loaded, one, other, way)
                remember_pass(loaded, ForwardPass(lean, _same_as(loaded.dtype)))
                found = _every_way(loaded, one, other, way)
                exact = _last_places(found.to(loaded.dtype), usual.to(loaded.dtype)) <= (loaded.dtype != torch.float32)
                if exact and loaded.graphs and loaded.device.type in GRAPH_DEVICES:
                    return _add_graphs(loaded, lean, one, other, way, usual)
                whole = slice(len(one))
                if exact or torch.equal(found[whole], usual[whole]):
                    used = _add_packed(loaded, lean, one, other, way, usual)
                    if exact or used:
                        return None
            except Exception as failure:  # a model may be changed in any way
                if _goes_on(failure):
                    forget_pass(loaded)
                    raise
    remember_pass(loaded, ForwardPass(None, "the logits of the lean one differ"))
    return None


def _add_packed(
    loaded: LoadedModel, lean: Lean, one: list[int], other: list[int], way: Reading, usual: torch.Tensor
) -> bool:
    """Multiply with packed weights where there is room for them and rounding explains how far their logits are from
    the usual ones. Returns whether they are used."""
    if not (loaded.packed and lean.packable and loaded.device.type == "cpu"):
        return False
    packed, why = None, "no memory for packed weights"
    if loaded.memory_bytes <= free_bytes(loaded.device) // PACKED_SHARE:
        try:
            packed = Lean(base_model(loaded.model), lean.fused, packed=True)
            remember_pass(loaded, ForwardPass(packed, ""))
            apart = _difference(_every_way(loaded, one, other, way), usual.float().log_softmax(-1))
            why = "packed weights, a second copy in memory; the probabilities of transformers within rounding"
            if apart > TOLERANCE[loaded.dtype]:
                packed, why = None, f"packed weights differ by {apart:.1g} nats and are not used"
        except StopRequested:
            raise
        except Exception as failure:  # PyTorch may have no such kernel, and memory may run out after all
            packed, why = None, f"packed weights failed ({first_line(failure, 100)})"
    remember_pass(loaded, ForwardPass(packed or lean, why if packed else f"{_same_as(loaded.dtype)}; {why}"))
    return packed is not None


def _add_graphs(
    loaded: LoadedModel, lean: Lean, one: list[int], other: list[int], way: Reading, usual: torch.Tensor
) -> None:
    """Replay single steps as CUDA graphs where their logits are no further from the usual ones than two usual ways of
    reading are from each other: attention over a buffer with masked columns is another kernel."""
    lean.steps, why = StepGraphs(loaded.device, capture=loaded.device.type == "cuda"), ""
    lean.steps.patient = False
    try:
        found = _every_way(loaded, one, other, way)
        apart = _difference(found, usual.float().log_softmax(-1))
        if apart > max(way.difference or 0.0, ROUNDING):
            why = f"CUDA graphs differ by {apart:.1g} nats and are not used"
    except Exception as failure:
        if _goes_on(failure):
            raise
        why = f"CUDA graphs failed ({first_line(failure, 100)})"
    steps, lean.steps = lean.steps, None if why else lean.steps
    steps.patient = True
    steps.release()
    why = why or f"short reads are CUDA graphs, which differ by {apart:.1g} nats"
    remember_pass(loaded, ForwardPass(lean, f"{_same_as(loaded.dtype)}; {why}"))


def _goes_on(failure: Exception) -> bool:
    """Whether this says nothing of how a model is read: no memory is free, or nobody waits for the answer any more."""
    return is_out_of_memory(failure) or isinstance(failure, StopRequested)


def _same_as(dtype: torch.dtype) -> str:
    """What a lean forward pass was found to be."""
    exactly = "bit for bit" if dtype == torch.float32 else "within one unit in the last place"
    return f"the logits of transformers, {exactly}"


def _every_way(loaded: LoadedModel, one: list[int], other: list[int], way: Reading) -> torch.Tensor:
    """The logits (positions, output rows) of both rows, read whole, as the tracer does and as the sampler does."""
    whole = forward(loaded, [one, other], keep=len(one) // 2).flatten(0, 1)  # the last layer then leaves some out
    return torch.cat([whole, _one_sequence(loaded, one, way), _two_rows(loaded, one, other, way)])


def _last_places(found: torch.Tensor, usual: torch.Tensor) -> float:
    """The largest difference of two tensors of one dtype, in units in the last place."""
    if not bool((found.isfinite() & usual.isfinite()).all()):
        return float("inf")
    whole, lowest = (torch.int32, -(2**31)) if found.itemsize == 4 else (torch.int16, -(2**15))
    bits = [x.view(whole).long() for x in (found, usual)]
    places = [torch.where(x < 0, lowest - x, x) for x in bits]  # in the order of the numbers
    return float((places[0] - places[1]).abs().max())


def _rows(loaded: LoadedModel) -> tuple[list[int], list[int]]:
    """Two rows of the model's own ids; shorter ones where its context is shorter."""
    ids = loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    most = loaded.model.config.get_text_config().vocab_size
    ids = [id for id in ids if id < most]
    ids = (ids or [0]) * COLUMNS
    columns = min(COLUMNS, loaded.max_positions or COLUMNS)
    return ids[:columns], ids[3 : 3 + columns]


class _Allowed:
    """How much rounding may change. In 16 bits it is measured where the usual bound is passed."""

    def __init__(self, loaded: LoadedModel, plain: torch.Tensor, rows: tuple[list[int], list[int]]):
        self.value = TOLERANCE[loaded.dtype]
        self._measured = loaded.dtype == torch.float32
        self._measure = lambda: max(
            _difference(forward(loaded, [row], keep=len(row))[0], own) for row, own in zip(rows, plain, strict=True)
        )

    def __call__(self, error: float) -> bool:
        if error > self.value and not self._measured:  # the same rows by themselves: other kernels, other routing
            self._measured, self.value = True, max(self.value, 4 * self._measure())
        return error <= self.value


def _first(
    ways: Iterable[Any], measure: Callable[[Any], float], allowed: Callable[[float], bool]
) -> tuple[Any | None, float]:
    """(the first way whose difference is allowed, or None; the last difference measured)."""
    error = float("inf")
    for way in ways:
        try:
            error = measure(way)
        except Exception as failure:  # an architecture may refuse a way with any error
            if _goes_on(failure):
                raise
            continue
        if allowed(error):
            return way, error
    return None, error


def _one_sequence(loaded: LoadedModel, ids: list[int], way: Reading) -> torch.Tensor:
    """The logits (6, output rows) at the positions 6 to 11 of one sequence, read as the tracer does."""
    decoder = CachedDecoder(loaded, ids[:7], way)
    several = decoder.teacher_force(ids[7:12])
    check_interruption()  # of a large model a CPU reads even one token for a second
    return torch.cat([several, decoder.next_logits()[None]])


def _one_difference(loaded: LoadedModel, plain: torch.Tensor, ids: list[int], way: Reading) -> float:
    return _difference(_one_sequence(loaded, ids, way), plain[0, 6:12])


def _two_rows(loaded: LoadedModel, one: list[int], other: list[int], way: Reading) -> torch.Tensor:
    """The logits (8, output rows) of two rows of different length at PLACES, read as the sampler does."""
    check_interruption()
    decoder = BatchDecoder(loaded, 2, way)
    decoder.prefill([one[:6], other[:3]], None if way.many == PADDED else 2)  # aligned: with a piece of padding only
    check_interruption()
    stepped = decoder.step(torch.tensor([one[6], other[3]], device=loaded.device))
    decoder.select(torch.tensor([1, 0], device=loaded.device))
    check_interruption()
    ragged = decoder.read([other[4:9], one[7:9]], keep=2)
    check_interruption()
    last = decoder.step(torch.tensor([other[9], one[9]], device=loaded.device))
    return torch.cat([stepped, ragged[0], ragged[1], last])


def _two_difference(loaded: LoadedModel, plain: torch.Tensor, one: list[int], other: list[int], way: Reading) -> float:
    return _difference(_two_rows(loaded, one, other, way), torch.stack([plain[place] for place in PLACES]))


def _difference(logits: torch.Tensor, plain: torch.Tensor) -> float:
    """The largest mean |Δ log p| of some positions, nats. logits, plain: (positions, output rows), plain in log p."""
    found = logits.float().log_softmax(-1)
    gap = (plain.exp() * (plain - found).abs().nan_to_num(0.0, posinf=100.0)).sum(-1)
    return float(torch.where(found.isnan().any(-1), torch.inf, gap).max())
