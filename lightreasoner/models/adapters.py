"""LoRA adapters: which layers can have one, adding it to a model, and saving it."""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers

from lightreasoner.errors import UserError
from lightreasoner.hub.download import NotCached
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.weights import find_files
from lightreasoner.storage.atomic import atomic_folder

RESUME = "Free some space and resume."
USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # in most architectures


def linear_names(model: Any) -> dict[str, int]:
    """The linear layers that LoRA can adapt: last part of their names → the largest useful rank.

    The output head is left out, because many models share its matrix with the embeddings.
    """
    head, ranks = model.get_output_embeddings(), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            leaf, most = name.rpartition(".")[2], min(module.in_features, module.out_features)
            ranks[leaf] = min(most, ranks.get(leaf, most))
    return dict(sorted(ranks.items()))


def linear_layers(ref: str | ModelRef) -> dict[str, int] | None:
    """`linear_names` of a model that is not loaded, from its configuration alone.

    None if the model is not on this disk, or only loading it can tell. Makes no request. Raises UserError for an
    invalid reference or damaged files.
    """
    try:
        files = find_files(parse_ref(ref), download=False)
    except NotCached:
        return None
    source = files.gguf or files.folder / "config.json"
    return _layers(files.folder, files.gguf and files.gguf.name, source.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _layers(folder: Path, gguf: str | None, _changed: int) -> dict[str, int] | None:
    where = {"local_files_only": True, "trust_remote_code": False} | ({"gguf_file": gguf} if gguf else {})
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(folder, **where)
            return linear_names(transformers.AutoModelForCausalLM.from_config(config))
    except Exception:  # the files may be anything; loading the model reports what is wrong with them
        return None


def check_layers(layers: dict[str, int], rank: int, target_modules: tuple[str, ...]) -> None:
    """Raises UserError unless the layers (as of `linear_names`) can have an adapter of this rank at these names."""
    lacking = [name for name in target_modules if name not in layers]
    if lacking or not target_modules:
        raise UserError(
            f"This model has no linear layers called {', '.join(lacking) or 'nothing'}; it has {', '.join(layers)}."
        )
    most, narrow = min((layers[name], name) for name in target_modules)
    if rank > most:
        raise UserError(f"Rank {rank} is beyond {narrow}, whose matrix has rank {most} at most; choose {most} or less.")


def add_lora(model: Any, rank: int, alpha: float, dropout: float, target_modules: tuple[str, ...], seed: int) -> Any:
    """The model with a new adapter, its only trainable part. Raises UserError for layers that it lacks."""
    import peft  # takes a second to import, and showing results does not need it

    check_layers(linear_names(model), rank, target_modules)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(target_modules), task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def save_adapter(model: Any, folder: Path, card: str, expert: str | None = None) -> None:
    """Write an adapter and its card as a folder that peft loads. Raises UserError on a disk error.

    expert: the reference of the base model. For a Hub id, the adapter's config gets the id in place of the path in this
    machine's cache.
    """
    base = parse_ref(expert) if expert else None
    if base and base.kind in ("hub", "bundled"):
        model.active_peft_config.base_model_name_or_path = base.base
        model.active_peft_config.revision = base.revision
    with atomic_folder(folder, RESUME) as place:
        model.save_pretrained(place, save_embedding_layers=False)  # "auto" would ask the Hub about the base
        (place / "README.md").write_text(card, encoding="utf-8")  # in place of peft's card
