"""LoRA adapters: which layers can have one, adding it to a model, saving it, and loading it onto its base."""

import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers

from lightreasoner.compat.transformers import gguf_reading
from lightreasoner.errors import UserError, first_line
from lightreasoner.hub.download import ADAPTER_FILES, NotCached
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.weights import (
    Files,
    check_adapter,
    check_model,
    find_files,
    fingerprint,
    read_json,
    tensor_table,
    weights_fingerprint,
)
from lightreasoner.storage.atomic import atomic_folder
from lightreasoner.storage.checksums import note_checksum
from lightreasoner.storage.runs import read_run

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
        with warnings.catch_warnings(), torch.device("meta"), gguf_reading(iter):
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
        for name in ADAPTER_FILES:
            note_checksum(place / name)


def attach_adapter(model: Any, folder: Path, base: str, files: Files, name: str = "default", onto: Any = None) -> Any:
    """The PEFT model of `model` with the adapter in a folder, not merged.

    base, files: the reference and the files of the model. onto: its PEFT model, if it has another adapter already.
    Raises UserError for an adapter that is damaged, does not fit the model, or was trained on another.
    """
    import peft  # takes a second to import, and showing results does not need it

    check_adapter(folder)
    wrong = f"The adapter {folder} does not fit {base}: {{}} Use the base that it was trained on."
    if named := other_base(folder, files):
        raise UserError(wrong.format(f"it was trained on {named}, whose weights are others."))
    try:
        if onto is None:
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            onto = peft.PeftModelForCausalLM(model, config, adapter_name=name)
        report = onto.load_adapter(str(folder), name, torch_device=str(model.device))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except RuntimeError:  # PEFT's message is a page of names and sizes
        raise UserError(wrong.format("their tensors differ in shape.")) from None
    except ValueError as error:
        raise UserError(wrong.format(first_line(error, 300).rstrip(" .:!") + ".")) from None
    except Exception as error:  # its configuration may say anything
        raise UserError(f"The adapter {folder} cannot be read: {first_line(error)}. Save it again.") from error
    if report.missing_keys or report.unexpected_keys:
        odd = f"{len(report.missing_keys)} of its tensors are missing and {len(report.unexpected_keys)} have no place."
        raise UserError(wrong.format(odd))
    own = (tensor for path, tensor in onto.named_parameters() if f".{name}" in path)
    if not all(bool(tensor.isfinite().all()) for tensor in own):
        raise UserError(f"The adapter {folder} holds values that are no numbers, so it is damaged; train it again.")
    return onto


def other_base(folder: Path, files: Files) -> str | None:
    """The name of the model that an adapter was trained on, if its weights are known and are not those of `files`."""
    with suppress(UserError):
        record = read_run(folder.parent) if folder.name == "adapter" else {}
        if record.get("kind") == "finetune":
            marks, prints = (record["about"].get(name) or {} for name in ("marks", "fingerprints"))
            known, same = prints.get("expert"), marks.get("expert's weights")
            differs = known and known != fingerprint(files) and same != weights_fingerprint(files)
            return str(record["about"].get("expert")) if differs else None
    config = read_json(folder / ADAPTER_FILES[0])
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    with suppress(UserError, OSError):  # it may be named by a path of another machine
        trained = parse_ref(f"{named}@{revision}" if revision else named)
        if trained.kind == "gguf" or files.gguf or files.adapter:
            return None
        theirs = find_files(trained, download=False)
        tables = [[tensor_table(path) for path in check_model(each.folder)] for each in (theirs, files)]
        # of another dtype or layout it may be the same model, written again
        alike = theirs.folder != files.folder and tables[0] == tables[1]
        return str(trained) if alike and weights_fingerprint(theirs) != weights_fingerprint(files) else None
    return None
