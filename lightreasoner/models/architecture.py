"""The linear layers of a model, from its configuration alone: no weights are read."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

from lightreasoner.hub.download import NotCached
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.weights import find_files

USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # in most architectures


def linear_layers(ref: str | ModelRef) -> dict[str, int] | None:
    """What `adapters.linear_names` returns for this model once it is loaded: name → largest useful LoRA rank.

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
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lightreasoner.models.adapters import linear_names

    where = {"local_files_only": True, "trust_remote_code": False} | ({"gguf_file": gguf} if gguf else {})
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **where))
    except Exception:  # the files may be anything; loading the model reports what is wrong with them
        return None
    return linear_names(model)
