"""LoRA adapters: which matrices can take one, putting one on, writing it whole, and merging it into the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lightreasoner.errors import UserError
from lightreasoner.models.references import parse_ref
from lightreasoner.storage.atomic import atomic_folder

RESUME = "Free some space and resume."


def linear_names(model: Any) -> dict[str, int]:
    """The linear layers that LoRA can adapt: last part of their names → the largest rank that makes sense there.

    The output head is left out: its matrix is often the embedding's, too.
    """
    head, found = model.get_output_embeddings(), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            leaf, most = name.rpartition(".")[2], min(module.in_features, module.out_features)
            found[leaf] = min(most, found.get(leaf, most))
    return dict(sorted(found.items()))


def check_layers(there: dict[str, int], rank: int, target_modules: tuple[str, ...]) -> None:
    """Raises UserError unless the layers of `linear_names` can take an adapter of this rank at these names."""
    lacking = [name for name in target_modules if name not in there]
    if lacking or not target_modules:
        raise UserError(
            f"This model has no linear layers called {', '.join(lacking) or 'nothing'}; it has {', '.join(there)}."
        )
    most = min(there[name] for name in target_modules)
    if rank > most:
        narrow = min(target_modules, key=lambda name: there[name])
        raise UserError(f"Rank {rank} is beyond {narrow}, whose matrix has rank {most} at most; take {most} or less.")


def add_lora(model: Any, rank: int, alpha: float, dropout: float, target_modules: tuple[str, ...], seed: int) -> Any:
    """The model with a fresh adapter, which is all that trains. Raises UserError for what the architecture lacks."""
    import peft  # a second of imports, which a page that only shows things can do without

    check_layers(linear_names(model), rank, target_modules)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def save_adapter(model: Any, folder: Path, card: str, expert: str | None = None) -> None:
    """An adapter folder that plain peft loads, with its card. Raises UserError when the disk refuses.

    expert: the reference of the base. A Hub id is written as such, not as the place in this machine's cache, which
    would mean nothing elsewhere.
    """
    base = parse_ref(expert) if expert else None
    if base and base.kind in ("hub", "bundled"):
        model.active_peft_config.base_model_name_or_path = base.base
        model.active_peft_config.revision = base.revision
    with atomic_folder(folder, RESUME) as place:
        model.save_pretrained(place, save_embedding_layers=False)  # "auto" would ask the Hub about its base
        (place / "README.md").write_text(card, encoding="utf-8")  # over the card that peft leaves


def save_merged(model: Any, tokenizer: Any, folder: Path, card: str) -> None:
    """The model with its adapter merged in, as a folder that plain transformers loads. The model is used up."""
    with atomic_folder(folder, RESUME) as place:
        merged = model.merge_and_unload(safe_merge=True)
        merged.save_pretrained(place)
        tokenizer.save_pretrained(place)
        (place / "README.md").write_text(card, encoding="utf-8")
