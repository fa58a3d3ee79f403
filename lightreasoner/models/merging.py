"""Merging an adapter into its base model, and writing the result as the base was written.

Other programs read such a folder: transformers 4, vLLM, llama.cpp's converter. It therefore has the base's own
tokenizer files and configuration where the base is a folder, and names that all of them know.
"""

import json
import shutil
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from lightreasoner.compat.transformers import gguf_dtype
from lightreasoner.models.adapters import RESUME
from lightreasoner.models.weights import Files, adapter_reaches, check_model, read_json, tensor_table
from lightreasoner.storage.atomic import atomic_folder

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("chat_template.jinja", "chat_template.json", "generation_config.json"),
)
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # safetensors' names
#: Names of transformers 5 for "as tokenizer.json says", and the one that version 4 knows, too.
EXACT, EXACT_FOR_ALL = {"TokenizersBackend", "PythonBackend"}, "PreTrainedTokenizerFast"


def untie(model: Any, adapter: Path) -> None:
    """Give the output head a matrix of its own if it shares the embeddings' and the adapter changes one of the two.

    Merging would otherwise change both, or saving would drop one.
    """
    inner, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or head.weight is not inner.weight:
        return
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module is inner or module is head}
    if adapter_reaches(adapter, names):
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def merged(model: Any) -> Any:
    """A PEFT model with its adapter merged in. Changes the model itself.

    An adapter of tied embeddings (ensure_weight_tying) is a part of both layers. Each adds it to the one matrix that
    they share, so the head gets one of its own before.
    """
    base = model.get_base_model()
    inner, head = (
        getattr(layer, "base_layer", None) for layer in (base.get_input_embeddings(), base.get_output_embeddings())
    )
    if inner is not None and head is not None and inner.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
        for config in (base.config, base.config.get_text_config()):
            config.tie_word_embeddings = False
    return model.merge_and_unload(safe_merge=True)


def base_dtype(files: Files) -> torch.dtype:
    """The dtype of most of a model's weights on disk; bf16 for a quantized model, which has none of its own."""
    if files.gguf:
        return gguf_dtype(files.gguf) or torch.bfloat16
    sizes: Counter[str] = Counter()
    for path in check_model(files.folder):
        for tensor in tensor_table(path).values():
            sizes[tensor["dtype"]] += prod(tensor["shape"])
    return DTYPES.get(sizes.most_common(1)[0][0], torch.bfloat16)


def save_merged(
    model: Any, tokenizer: Any, folder: Path, card: str, files: Files | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a PEFT model with its adapter merged in, as a folder that needs no PEFT. Changes the model itself.

    files: of the base. dtype: of the weights; None leaves the model's.
    """
    save_model(merged(model), tokenizer, folder, card, files, dtype)


def save_model(
    model: Any,
    tokenizer: Any,
    folder: Path,
    card: str,
    files: Files | None = None,
    dtype: torch.dtype | None = None,
    as_base: bool = True,
) -> None:
    """Write a model as a folder. as_base: its configuration is that of `files`, the model that it was made of."""
    with atomic_folder(folder, RESUME) as place:
        model = model.to(dtype) if dtype else model
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        model.save_pretrained(place)
        if shown:
            logging.enable_progress_bar()
        copied = [files.folder / name for name in TOKENIZER_FILES] if files and not files.gguf else []
        copied = [path for path in copied if path.is_file()]
        if not copied:
            tokenizer.save_pretrained(place, save_jinja_files=False)
        for path in copied:
            shutil.copyfile(path, place / path.name)
        _write_json(place / "tokenizer_config.json", tokenizer_config(place))
        _write_json(place / "config.json", model_config(place, model, files if as_base else None))
        (place / "README.md").write_text(card, encoding="utf-8")


def tokenizer_config(place: Path) -> dict:
    """A folder's tokenizer_config.json with a class and special tokens as transformers 4 knows them, too."""
    path = place / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    if (place / "tokenizer.json").is_file() and config.get("tokenizer_class", EXACT_FOR_ALL) in EXACT | {EXACT_FOR_ALL}:
        config["tokenizer_class"] = EXACT_FOR_ALL
        config.pop("backend", None)
    for name in ("is_local", "local_files_only"):  # how it was read here
        config.pop(name, None)
    if isinstance(more := config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens") and more
    return config


def model_config(place: Path, model: Any, files: Files | None) -> dict:
    """The config.json of a merged model: the base's, where the model is of the class that it names."""
    config, name = read_json(place / "config.json"), type(model).__name__
    if files and not files.gguf:
        base = read_json(files.folder / "config.json")
        if name in (base.get("architectures") or [name]):
            config = base | {"architectures": [name]}
    config.pop("quantization_config", None)
    dtype = str(model.dtype).removeprefix("torch.")
    texts = [config, *(part for part in (config.get("text_config"),) if isinstance(part, dict))]
    for part in texts:
        part |= {"torch_dtype": dtype, "dtype": dtype}  # until transformers 4.55, and since
        _name_rope(part)
    inner, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None:
        for part in texts:
            part["tie_word_embeddings"] = head.weight is inner.weight
    return config


def _name_rope(config: dict) -> None:
    """Add the rotary embedding's settings under their names in transformers 4, which ignores those of version 5."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    whole, local = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    if "rope_theta" in whole:
        config.setdefault("rope_theta", whole["rope_theta"])
    if whole.get("rope_type", "default") != "default":
        config.setdefault("rope_scaling", {name: value for name, value in whole.items() if name != "rope_theta"})
    if "rope_theta" in local:
        config.setdefault("rope_local_base_freq", local["rope_theta"])


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
