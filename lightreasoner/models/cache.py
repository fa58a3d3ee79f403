"""Loaded models, cached within a memory budget, and whether a model can be loaded here."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import is_offline_mode

from lightreasoner.errors import UserError
from lightreasoner.hub.download import NotCached
from lightreasoner.models.devices import (
    choose_device,
    choose_dtype,
    free_bytes,
    further_devices,
    models_budget,
    release_memory,
)
from lightreasoner.models.loading import LoadedModel, Status, load_model, tensor_bytes
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.weights import count_parameters, find_files, fingerprint
from lightreasoner.settings import Settings


def missing_reason(ref: str | ModelRef, settings: Settings) -> str | None:
    """Why this model cannot be loaded now, in a sentence. None if it can, or if only the Hub could tell.

    Takes milliseconds, makes no request and loads nothing.
    """
    try:
        ref = parse_ref(ref)
        check_fit(ref, count_parameters(find_files(ref, download=False)), settings, settings.memory_gb * 1e9)
    except NotCached as error:
        return str(error) if is_offline_mode() else None
    except UserError as error:
        return str(error)
    return None


def check_fit(ref: ModelRef, parameters: int | None, settings: Settings, limit: float) -> None:
    """Raises UserError when a model needs more than `limit` bytes. Passes for an unknown size or a limit of 0."""
    if parameters is None or not limit:
        return
    need = _planned_bytes(parameters, settings, choose_device(settings))
    if need > limit:
        raise UserError(
            f"{ref} needs {need / 1e9:.2g} GB, but models may use {limit / 1e9:.2g} GB here; "
            "choose a smaller one or raise LIGHTREASONER_MEMORY_GB."
        )


class LoadedModels:
    """A thread-safe cache of loaded models, within a memory budget. The least recently used are dropped first.

    On a machine with several GPUs each has this budget. A model goes to the first one, unless it has no room there
    beside those that are used with it. A dropped model stays alive while other code refers to it.
    """

    def __init__(self, settings: Settings, budget: int | None = None):
        """budget: bytes; by default settings.memory_gb, or a share of the device's free memory."""
        self.settings = settings
        self._fixed_budget = budget or int(settings.memory_gb * 1e9)
        self._models: OrderedDict[tuple[ModelRef, int], LoadedModel] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def get(
        self, ref: str | ModelRef, on_status: Status = None, tokenizer: Any = None, beside: Sequence[LoadedModel] = ()
    ) -> LoadedModel:
        """The model, from the cache unless its files have changed. One thread loads at a time. Raises UserError.

        The same files under another name share the weights. tokenizer: the model's, if it has been read already.
        beside: models that are used at the same time.
        """
        ref = parse_ref(ref)
        key = (ref, _last_change(ref))
        if model := self._recall(key):
            return model
        with self._loading:
            if model := self._recall(key):  # another thread was quicker
                return model
            files = find_files(ref, on_status)
            parameters, twin = count_parameters(files), self._twin(fingerprint(files))
            home = choose_device(self.settings)
            if home.type != "cpu":
                release_memory()  # models that nobody refers to any more would count as taken
            device = twin.device if twin else self._place(home, parameters, beside)
            settings = self.settings if device == home else replace(self.settings, device=str(device))
            free = free_bytes(device) + self._used(device)
            budget = self._fixed_budget or models_budget(device, free)
            check_fit(ref, parameters, settings, self._fixed_budget or free)
            if parameters and not twin:
                self._make_room(device, budget, _planned_bytes(parameters, settings, device))
            model = load_model(ref, settings, on_status, tokenizer, twin)
            with self._lock:
                self._models[key] = model
            self._make_room(device, budget)  # a model can be larger than its files
            return model

    def _place(self, home: torch.device, parameters: int | None, beside: Sequence[LoadedModel]) -> torch.device:
        """The first device with room for a model of this size beside these; `home` where none has."""
        if parameters is None or home.type != "cuda":
            return home
        for device in self._devices(home, beside):
            taken = tensor_bytes(loaded.model for loaded in beside if loaded.device == device)
            budget = self._fixed_budget or models_budget(device, free_bytes(device) + self._used(device))
            if taken + _planned_bytes(parameters, self.settings, device) <= budget:
                return device
        return home

    def _devices(self, home: torch.device, beside: Sequence[LoadedModel]) -> Iterator[torch.device]:
        """Those of the models beside, the first one, and then the others, which are asked for only when needed."""
        near = dict.fromkeys([*(loaded.device for loaded in beside), home])
        yield from near
        yield from (device for device in further_devices(self.settings) if device not in near)

    def cached(self, ref: str | ModelRef) -> LoadedModel | None:
        """The model if it is loaded now, else None. Raises UserError for an invalid reference."""
        ref = parse_ref(ref)
        with self._lock:
            return self._models.get((ref, _last_change(ref)))

    def clear(self) -> None:
        """Drop all models, for a job that needs the memory."""
        with self._lock:
            self._models.clear()
        release_memory()

    def _recall(self, key: tuple[ModelRef, int]) -> LoadedModel | None:
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
            return self._models.get(key)

    def _twin(self, mark: str) -> LoadedModel | None:
        """A loaded model of this fingerprint."""
        with self._lock:
            return next((loaded for loaded in self._models.values() if loaded.fingerprint == mark), None)

    def _used(self, device: torch.device) -> int:
        with self._lock:  # some share tensors
            return tensor_bytes(loaded.model for loaded in self._models.values() if loaded.device == device)

    def _make_room(self, device: torch.device, budget: int, incoming: int = 0) -> None:
        """Drop the oldest models of a device until `incoming` more bytes fit. With incoming = 0, the newest stays."""
        count = len(self._models)
        keys = [key for key, loaded in self._models.items() if loaded.device == device]  # the oldest first
        while len(keys) > (0 if incoming else 1) and self._used(device) + incoming > budget:
            with self._lock:
                self._models.pop(keys.pop(0), None)
        if len(self._models) < count:
            release_memory()


def _planned_bytes(parameters: int, settings: Settings, device: torch.device) -> int:
    """Bytes of a model's weights on this device."""
    return parameters * choose_dtype(settings, device, parameters).itemsize


def _last_change(ref: ModelRef) -> int:
    """When the newest local file of a reference was written, in ns. Training may save to the same folder again."""
    newest = 0
    for path in (ref.base, ref.adapter):
        if path and os.path.isabs(path):
            with suppress(OSError):  # loading reports what is wrong
                files = os.scandir(path) if os.path.isdir(path) else [Path(path)]
                newest = max([newest, *(file.stat().st_mtime_ns for file in files)])
    return newest
