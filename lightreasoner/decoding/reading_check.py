"""Measures at every load how a model may be read: the fastest way that gives what one plain forward gives.

Two rows of different length are read in pieces, as tracer and sampler do, and compared with one forward over the whole
of both. Where they differ, the next slower way is measured; where none is right, the model is refused with the number.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.decoding.reading import (
    ALIGNED,
    APART,
    CHUNKS,
    PADDED,
    STEPS,
    WHOLE,
    Reading,
    forward,
    has_window,
    known_reading,
    remember_reading,
)
from lightreasoner.errors import UserError
from lightreasoner.models.devices import is_out_of_memory
from lightreasoner.models.loading import LoadedModel

TEXT = "Tom has 3 apples and buys 4 more. How many apples does he have? 3 + 4 = 7. The answer is 7."
COLUMNS = 16  # of each row: few, since on a CPU a token of a large model takes a tenth of a second
#: What rounding explains, in nats of the mean |Δ log p|.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.2}


@torch.inference_mode()
def check_reading(loaded: LoadedModel, rows: tuple[list[int], list[int]] | None = None) -> Reading:
    """How this model is read, measured once per loaded model. Raises UserError for one that no way reads right.

    rows: two sequences of ids of equal length, at least 16; by default from a sentence.
    """
    if found := known_reading(loaded):
        return found
    began = time.perf_counter()
    one, other = rows or _rows(loaded)
    if len(one) < COLUMNS:  # the context is too short for anything but a plain forward
        found = Reading(WHOLE, APART)
        remember_reading(loaded, found)
        return found
    plain = forward(loaded, [one, other], keep=len(one)).float().log_softmax(-1)  # (2, columns, output rows)
    if not plain.isfinite().any(-1).all():  # tracer and sampler name the step
        return Reading()
    allowed = _Allowed(loaded, plain, one)
    many = (ALIGNED,) if has_window(loaded.model.config) else (PADDED, ALIGNED)
    found = None
    for single in (Reading(), Reading(positions=False), Reading(STEPS), Reading(WHOLE)):
        usable, error = _first([single], lambda way: _one_sequence(loaded, plain, one, way), allowed)
        if not usable:
            continue
        ways = [replace(single, many=way) for way in (*(many if single.one == CHUNKS else ()), APART)]
        found, worst = _first(ways, lambda way: _two_rows(loaded, plain, one, other, way), allowed)
        if found:  # not for a model that keeps its state in itself, where one row would change the other
            break
    if found is None:
        raise UserError(
            f"{loaded.ref} cannot be read token by token: its probabilities after a beginning differ by "
            f"{error:.2g} nats from those in one pass over the whole text, where {allowed.value:.2g} is rounding, so "
            "they depend on what follows or on chance. Use a causal language model."
        )
    found = replace(found, difference=max(error, worst), seconds=time.perf_counter() - began)
    remember_reading(loaded, found)
    return found


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

    def __init__(self, loaded: LoadedModel, plain: torch.Tensor, row: list[int]):
        self.value = TOLERANCE[loaded.dtype]
        self._measured = loaded.dtype == torch.float32
        self._measure = lambda: _difference(forward(loaded, [row], keep=len(row))[0], plain[0])

    def __call__(self, error: float) -> bool:
        if error > self.value and not self._measured:  # the same row by itself: other kernels, other routing
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
            if is_out_of_memory(failure):
                raise
            continue
        if allowed(error):
            return way, error
    return None, error


def _one_sequence(loaded: LoadedModel, plain: torch.Tensor, ids: list[int], way: Reading) -> float:
    """The largest difference of one sequence, read as the tracer does."""
    decoder = CachedDecoder(loaded, ids[:7], way)
    logits = [decoder.teacher_force(ids[7:12]), decoder.next_logits()[None]]
    return _difference(torch.cat(logits), plain[0, 6:12])


def _two_rows(loaded: LoadedModel, plain: torch.Tensor, one: list[int], other: list[int], way: Reading) -> float:
    """The largest difference of two rows of different length, read as the sampler does."""
    decoder = BatchDecoder(loaded, 2, way)
    decoder.prefill([one[:6], other[:3]], None if way.many == PADDED else 2)  # aligned: with a piece of padding only
    stepped = decoder.step(torch.tensor([one[6], other[3]], device=loaded.device))
    decoder.select(torch.tensor([1, 0], device=loaded.device))
    ragged = decoder.read([other[4:9], one[7:9]], keep=2)
    last = decoder.step(torch.tensor([other[9], one[9]], device=loaded.device))
    found = torch.cat([stepped, ragged[0], ragged[1], last])
    places = [(0, 6), (1, 3), (1, 7), (1, 8), (0, 7), (0, 8), (1, 9), (0, 9)]
    return _difference(found, torch.stack([plain[place] for place in places]))


def _difference(logits: torch.Tensor, plain: torch.Tensor) -> float:
    """The largest mean |Δ log p| of some positions, nats. logits, plain: (positions, output rows), plain in log p."""
    found = logits.float().log_softmax(-1)
    gap = (plain.exp() * (plain - found).abs().nan_to_num(0.0, posinf=100.0)).sum(-1)
    return float(torch.where(found.isnan().any(-1), torch.inf, gap).max())
