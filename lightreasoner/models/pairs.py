"""An expert and an amateur that can be compared: the catalogue of presets, and whether two vocabularies agree."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import LoadedModel, Status
from lightreasoner.models.references import ModelRef
from lightreasoner.models.vocabulary import Alignment, _added, align
from lightreasoner.settings import ASSETS

CATALOGUE = ASSETS / "pairs.toml"


@dataclass(frozen=True)
class Preset:
    """A pair of the catalogue."""

    name: str
    title: str
    expert: str
    amateur: str
    why: str
    expert_params: int
    amateur_params: int
    memory_gb: float  # GB for both models' weights in bf16, and a fifth more to work in
    license: str | None = None
    finetune: dict[str, Any] = field(default_factory=dict)  # finetune_config fields that differ from the paper's


@dataclass
class Pair:
    """Two loaded models whose probabilities can be compared, token by token."""

    name: str | None  # of the preset
    expert: LoadedModel
    amateur: LoadedModel
    alignment: Alignment
    same_model: bool  # KL is 0 everywhere
    same_special_tokens: bool  # False: the amateur lacks control tokens of the expert and needs its own prompt


def presets() -> list[Preset]:
    """The catalogue; its first pair is the default. Raises UserError on a catalogue that cannot be read."""
    try:
        rows = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["pair"]
        return [Preset(**row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The catalogue {CATALOGUE} cannot be read: {error}. Restore it from the repository.") from None


def find_preset(name: str) -> Preset:
    """The preset of this name. Raises UserError listing the names there are."""
    found = {preset.name: preset for preset in presets()}
    if not isinstance(name, str) or name not in found:
        raise UserError(f"There is no pair {name!r:.60}; choose one of {', '.join(found)}, or name two models.")
    return found[name]


def load_pair(
    expert_ref: str | ModelRef,
    amateur_ref: str | ModelRef,
    models: LoadedModels,
    on_status: Status = None,
    name: str | None = None,
) -> Pair:
    """Load both models and align their vocabularies. Raises UserError when one cannot be had or they do not agree."""
    expert = models.get(expert_ref, on_status)
    amateur = models.get(amateur_ref, on_status)
    rows = [m.model.get_output_embeddings().weight.shape[0] for m in (expert, amateur)]
    try:
        alignment = align(expert.tokenizer, amateur.tokenizer, *rows)
    except UserError as error:
        raise UserError(f"{expert.ref} and {amateur.ref} cannot be a pair. {error}") from None
    return Pair(
        name,
        expert,
        amateur,
        alignment.on(expert.device, amateur.device),
        same_model=expert.fingerprint == amateur.fingerprint and alignment.expert_ids is None,
        same_special_tokens=_added(expert.tokenizer) <= _added(amateur.tokenizer),
    )


def describe_pair(pair: Pair) -> dict:
    """What a trace remembers of its pair: enough to tell what was run, and to run it again."""
    about = {"name": pair.name, "same_model": pair.same_model, "shared_vocabulary": pair.alignment.size}
    for role, loaded in (("expert", pair.expert), ("amateur", pair.amateur)):
        about[role] = str(loaded.ref)
        about[f"{role}_parameters"] = loaded.parameters
        about[f"{role}_fingerprint"] = loaded.fingerprint
    return about | {"device": str(pair.expert.device), "dtype": str(pair.expert.dtype).removeprefix("torch.")}
