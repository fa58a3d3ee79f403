"""The ways in which a model can be read, and one forward pass in terms that suit every architecture.

What is fast is not right for every architecture: a padding column inside a sequence is noise to a convolution, to a
recurrent state, and to a sliding window that counts columns. reading_check.py measures which way is right.
"""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from lightreasoner import threads
from lightreasoner.decoding.lean_forward import LONG, Lean
from lightreasoner.models.devices import release_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.progress import check_interruption, is_interruptible

#: One sequence: several tokens at once through a cache; one at a time; or without a cache, from the start each time.
CHUNKS, STEPS, WHOLE = "chunks", "steps", "whole"
#: Several sequences: padded anywhere; padded at their beginnings only; or each by itself.
PADDED, ALIGNED, APART = "padded", "aligned", "apart"
WINDOWS = ("sliding_window", "sliding_window_size", "window_size", "attention_window_size", "attention_chunk_size")


@dataclass(frozen=True)
class Reading:
    """How a model is read. `difference` from one plain forward, nats; None where it was not measured."""

    one: str = CHUNKS
    many: str = PADDED
    positions: bool = True  # the positions are given; False: the model counts them itself, as RoBERTa's offset needs
    difference: float | None = None
    seconds: float = 0.0  # that the check took


@dataclass(frozen=True)
class ForwardPass:
    """The implementation of a model's forward pass: `lean`, or transformers' own where that is None, and why."""

    lean: Lean | None
    why: str


_READINGS: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()  # model → its reading, once checked
_PASSES: WeakKeyDictionary[Any, ForwardPass] = WeakKeyDictionary()  # model → its forward pass, once checked


def known_reading(loaded: LoadedModel) -> Reading | None:
    """The reading that was found for a model, or None before its check."""
    return _READINGS.get(base_model(loaded.model))


def remember_reading(loaded: LoadedModel, reading: Reading) -> None:
    _READINGS[base_model(loaded.model)] = reading


def known_pass(loaded: LoadedModel) -> ForwardPass | None:
    """The forward pass that was chosen for a model. None before its check, and once its modules have changed."""
    model = base_model(loaded.model)
    found = _PASSES.get(model)
    if found and found.lean and not found.lean.current():
        del _PASSES[model]
        return None
    return found


def remember_pass(loaded: LoadedModel, found: ForwardPass) -> None:
    _PASSES[base_model(loaded.model)] = found


def forget_pass(loaded: LoadedModel) -> None:
    _PASSES.pop(base_model(loaded.model), None)


def unload(models: Iterable[LoadedModel]) -> None:
    """Give up the weights of these models, whose shapes, tokenizers and configurations stay. They compute no more."""
    for loaded in models:
        forget_pass(loaded)  # it has the weights, too
        loaded.model.to("meta")
    release_memory()


def describe_pass(loaded: LoadedModel) -> str | None:
    """Which implementation of its forward pass a model uses, and why, in a few words. None before the check."""
    found = known_pass(loaded)
    return found and f"{'lean' if found.lean else 'of transformers'}: {found.why}"


def reading_of(loaded: LoadedModel) -> Reading:
    """The reading found by the check; without one, what the configuration allows."""
    return known_reading(loaded) or Reading(many=ALIGNED if has_window(loaded.model.config) else PADDED)


def describe_reading(loaded: LoadedModel) -> str | None:
    """Why and how a model is read in a slower way, in a few words. None for the usual way, and before the check."""
    found = known_reading(loaded)
    if found is None or (found.one == CHUNKS and found.many != APART):
        return None
    ways = {CHUNKS: "", STEPS: ", one token at a time", WHOLE: ", the whole text again for every token"}
    kind = loaded.model.config.model_type
    return f"one response at a time{ways[found.one]}: slower, but right for a {kind} model"


def has_window(config: Any) -> bool:
    """Whether any layer sees only the last tokens, counted in columns of the cache."""
    inner = config.get_text_config()
    return any(getattr(part, name, None) for part in (config, inner) for name in WINDOWS)


def base_model(model: Any) -> Any:
    """The transformers model itself, without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def forward(
    loaded: LoadedModel,
    ids: torch.Tensor | list[list[int]],
    keep: int,
    cache: Any = None,
    mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """The logits (rows, keep, output rows) after the last `keep` columns of ids (rows, columns).

    cache: read before, and extended. mask: (rows, all columns so far) 1: a token, 0: padding; or which columns each
    column sees, (rows, 1, columns, all columns so far), also one for each kind of layer. positions: as ids.
    Raises TypeError for a cache where the architecture takes none.
    """
    threads.follow()
    if not isinstance(ids, torch.Tensor):
        ids = torch.tensor(ids, device=loaded.device)
    model = base_model(loaded.model)
    found = _PASSES.get(model)
    if found and found.lean:
        begun = cache is not None and cache.get_seq_length() > 0  # no adapter comes in the middle of a sequence
        if begun or known_pass(loaded):
            return found.lean(ids, keep, cache, mask, positions)
    accepted = _parameters(type(model))
    given = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": max(keep, 1)}
    given["use_cache"] = cache is not None
    if cache is not None:
        name = next((n for n in ("past_key_values", "cache_params") if accepted is None or n in accepted), None)
        if name is None:
            raise TypeError("this architecture takes no cache")
        given[name] = cache
    given = {n: value for n, value in given.items() if value is not None and (accepted is None or n in accepted)}
    with _interruptible(loaded.model, ids.numel()):
        logits = loaded.model(input_ids=ids, **given).logits
    return logits[:, logits.shape[1] - keep :]


@contextmanager
def _interruptible(model: Any, tokens: int) -> Iterator[None]:
    """Inside, a pass through the modules of a model ends between two of them where this thread is interrupted."""
    watched = model.modules() if tokens >= LONG and is_interruptible() else ()
    hooks = [module.register_forward_pre_hook(lambda *_: check_interruption()) for module in watched]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@cache
def _parameters(model_class: type) -> frozenset[str] | None:
    """The names of the parameters of a model's forward; None where it takes any."""
    names = frozenset(inspect.signature(model_class.forward).parameters)
    return names if "input_ids" in names else None
