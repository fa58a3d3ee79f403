"""LoRA adapters: which layers can have one, adding it to a model, saving it, and loading it onto its base."""

import dataclasses
import warnings
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D  # how GPT-2 writes a linear layer

from lightreasoner.compat.transformers import gguf_reading
from lightreasoner.errors import UserError, first_line
from lightreasoner.hub.download import ADAPTER_FILES, MEASURED, NotCached
from lightreasoner.models.devices import is_out_of_memory
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

warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT asks for its former name
RESUME = "Free some space and resume."
USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # in most architectures
#: Tried in this order where PEFT does not know the architecture: separate projections, then fused ones.
TARGETS = (
    *(("q_proj", "v_proj"), ("query", "value"), ("query_key_value",), ("qkv_proj",), ("Wqkv",), ("c_attn",)),
    *(("q_b_proj", "kv_b_proj"), ("q_proj", "kv_b_proj")),  # DeepSeek's latent attention
)
PROBED = 16  # tokens with which `check_reach` tries an adapter


def default_targets(kind: str, layers: Iterable[str]) -> tuple[str, ...]:
    """The layers to adapt by default: those that PEFT knows for this model type, else its query and value projections.

    layers: the names that the model has. Raises UserError where none of the usual names is among them.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

    layers = set(layers)
    for names in (known.get(kind), *TARGETS):
        if isinstance(names, list | tuple) and layers.issuperset(names):
            return tuple(names)
    raise UserError(
        f"No default target modules are known for a {kind!r} model; name some of its linear layers (--target-modules): "
        f"{', '.join(sorted(layers))}."
    )


def linear_names(model: Any) -> dict[str, int]:
    """The linear layers that LoRA can adapt: last part of their names → the largest useful rank.

    The output head is left out, because many models share its matrix with the embeddings.
    """
    head, ranks = model.get_output_embeddings(), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
            leaf, most = name.rpartition(".")[2], min(module.weight.shape)
            ranks[leaf] = min(most, ranks.get(leaf, most))
    return dict(sorted(ranks.items()))


def linear_layers(ref: str | ModelRef) -> dict[str, int] | None:
    """`linear_names` of a model that is not loaded, from its configuration alone.

    None if the model is not on this disk, or only loading it can tell. Makes no request. Raises UserError for an
    invalid reference or damaged files.
    """
    found = _kind_and_layers(ref)
    return found and found[1]


def usual_targets(ref: str | ModelRef) -> tuple[str, ...] | None:
    """`default_targets` of a model that is not loaded. None as for `linear_layers`. Raises UserError."""
    found = _kind_and_layers(ref)
    return found and default_targets(*found)


def _kind_and_layers(ref: str | ModelRef) -> tuple[str, dict[str, int]] | None:
    try:
        files = find_files(parse_ref(ref), download=False)
    except NotCached:
        return None
    source = files.gguf or files.folder / "config.json"
    return _layers(files.folder, files.gguf and files.gguf.name, source.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _layers(folder: Path, gguf: str | None, _changed: int) -> tuple[str, dict[str, int]] | None:
    where = {"local_files_only": True, "trust_remote_code": False} | ({"gguf_file": gguf} if gguf else {})
    try:
        with warnings.catch_warnings(), torch.device("meta"), gguf_reading(iter) if gguf else nullcontext():
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(folder, **where)
            return config.model_type, linear_names(transformers.AutoModelForCausalLM.from_config(config))
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


def add_lora(
    model: Any, rank: int, alpha: float, dropout: float, target_modules: tuple[str, ...] | None, seed: int
) -> Any:
    """The model with a new adapter, its only trainable part.

    target_modules: the last parts of the layers' names; None: those of `default_targets`. Raises UserError for layers
    that the model lacks, or that PEFT refuses.
    """
    import peft  # takes a second to import, and showing results does not need it

    layers = linear_names(model)
    names = default_targets(model.config.model_type, layers) if target_modules is None else target_modules
    check_layers(layers, rank, names)
    transposed = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, Conv1D)}
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(names),
        task_type="CAUSAL_LM",
        fan_in_fan_out=not transposed.isdisjoint(names),
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)
    except ValueError as error:
        others = ", ".join(name for name in layers if name not in names) or "none"
        raise UserError(
            f"PEFT cannot adapt {', '.join(names)} of a {model.config.model_type!r} model: "
            f"{first_line(error, 200).rstrip(' .:!')}. Choose other target modules; it also has {others}."
        ) from None


def check_reach(model: Any, ids: list[int]) -> None:
    """Raises UserError unless training moves each kind of layer that a new adapter has, measured on these tokens.

    Some architectures use the weight of a layer without the layer, so that its adapter would never count (Mamba's
    dt_proj), others cannot be trained at all.
    """
    modes = [(module, module.training) for module in model.modules()]
    gpus = [model.device] if model.device.type == "cuda" else []
    moved: dict[str, bool] = {}
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=gpus):
            model.train()
            tokens = torch.tensor([ids[:PROBED]], device=model.device)
            output = model(input_ids=tokens, use_cache=False).logits
            if output.requires_grad:
                output.float().logsumexp(-1).sum().backward()
        for name, weight in model.named_parameters():
            layer, mark, _ = name.partition(".lora_B.")
            if mark:
                leaf = layer.rpartition(".")[2]
                moved[leaf] = moved.get(leaf, False) or (weight.grad is not None and bool(weight.grad.any()))
    except Exception as error:  # an architecture may break in any way
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"This {model.config.model_type!r} model cannot be trained with this adapter: "
            f"{first_line(error, 200).rstrip(' .:!')}. Choose other target modules, or another model."
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
        for module, training in modes:
            module.training = training
    if still := sorted(leaf for leaf, moves in moved.items() if not moves):
        raise UserError(
            f"Adapters at {', '.join(still)} would never change what this {model.config.model_type!r} model says, "
            "since nothing it computes depends on them; leave them out of the target modules."
        )


def save_adapter(model: Any, folder: Path, card: str, expert: str | None = None, more: str = "") -> None:
    """Write an adapter, its card and `more`, a JSON document on its training, as a folder that peft loads.

    Raises UserError on a disk error.

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
        if more:
            (place / MEASURED).write_text(more, encoding="utf-8")
        for name in ADAPTER_FILES:
            note_checksum(place / name)


def attach_adapter(model: Any, folder: Path, base: str, files: Files, name: str = "default", onto: Any = None) -> Any:
    """The PEFT model of `model` with the adapter in a folder, not merged.

    base, files: the reference and the files of the model. onto: its PEFT model, if it has another adapter already.
    Raises UserError for an adapter that is damaged, does not fit the model, or was trained on another.
    """
    import peft  # takes a second to import, and showing results does not need it

    check_adapter(folder)
    known = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    for setting, value in read_json(folder / ADAPTER_FILES[0]).items():  # PEFT leaves out what it does not know
        if setting not in known and value and setting.startswith("use_"):
            raise UserError(
                f"The adapter {folder} asks for {setting!r:.60}, which PEFT {peft.__version__} does not know, so it "
                "would be another model; install a newer PEFT, or use an ordinary LoRA."
            )
    wrong = f"The adapter {folder} does not fit {base}: {{}} Use the base that it was trained on."
    if named := other_base(folder, files):
        raise UserError(wrong.format(f"it was trained on {named}, whose weights are others."))
    try:
        if onto is None:
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            onto = peft.PeftModelForCausalLM(model, config, adapter_name=name)
        report = onto.load_adapter(str(folder), name, torch_device=str(model.device))
    except Exception as error:  # its configuration may say anything
        if is_out_of_memory(error):
            raise
        if isinstance(error, RuntimeError):  # PEFT's message is a page of names and sizes
            raise UserError(wrong.format("their tensors differ in shape.")) from None
        if isinstance(error, ValueError):
            raise UserError(wrong.format(first_line(error, 300).rstrip(" .:!") + ".")) from None
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
