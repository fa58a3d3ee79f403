"""Amateurs made out of an expert: without some of its layers, at an earlier checkpoint, or before its last tuning."""

import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightreasoner.errors import UserError, first_line
from lightreasoner.models.adapters import attach_adapter
from lightreasoner.models.loading import LoadedModel, Status, load_model
from lightreasoner.models.merging import base_dtype, save_merged, save_model, untie
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.weights import check_adapter, find_files
from lightreasoner.scoring.divergence import kl
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, read_run

#: Read by the model before it is saved and after, which must be the same but for rounding.
PROBE = "A baker sold 48 loaves in the morning, and half as many in the afternoon. Altogether she sold 48 + 24 = 72."
SAME = 0.05  # nats of KL
NOT_LAYERS = ("_id", "_ids", "architectures", "_modules")  # ends of names of lists that are not one entry per layer


def parse_layers(text: str, count: int) -> list[int]:
    """The layers that a text such as "1", "2,3" or "18-23" names, counted from 0. Raises UserError."""
    dropped: set[int] = set()
    for part in str(text).split(","):
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:[-–]\s*(\d{1,6})\s*)?", part)
        if not found:
            raise UserError(
                f"The layers are {str(text)!r:.60}; write their numbers from 0 on, such as 1 or 2,3 or 18-23."
            )
        low, high = int(found[1]), int(found[2] or found[1])
        if high < low:
            raise UserError(f"The layers {part.strip()} end before they begin; write {high}-{low}.")
        if high >= count:
            raise UserError(f"There is no layer {high}: this expert has {count}, counted from 0 to {count - 1}.")
        dropped.update(range(low, high + 1))
    if len(dropped) == count:
        raise UserError(f"These are all {count} layers of the expert; keep at least one.")
    return sorted(dropped)


def without_layers(
    ref: str | ModelRef, layers: str, folder: Path, settings: Settings, on_status: Status = None
) -> list[int]:
    """Write the expert without these layers as a model of its own. Returns the layers. Raises UserError.

    The folder is loaded once more, to be sure that it is the model that was meant.
    """
    ref = parse_ref(ref)
    check_new(folder)
    written = base_dtype(find_files(ref, on_status))
    name = "float32" if ref.adapter else str(written).removeprefix("torch.")  # where an adapter is to be merged
    loaded = load_model(ref, replace(settings, dtype=name), on_status, on_host=True)
    count = len(_layers(loaded)[1])
    dropped = parse_layers(layers, count)
    kept = [n for n in range(count) if n not in dropped]
    card = _card(ref, f"the layers {', '.join(map(str, kept))} of {count} (counted from 0)")
    files, tokenizer = replace(loaded.files, adapter=None), loaded.tokenizer
    try:
        drop_layers(loaded, dropped)
        expected = _probe(loaded.model, tokenizer)
        save_model(loaded.model, tokenizer, folder, card, files, written, as_base=False)
        del loaded
        again = load_model(str(folder.absolute()), replace(settings, dtype=name), on_host=True)
        difference = float(kl(expected, _probe(again.model, tokenizer)).max())
        if not difference <= SAME:
            raise ValueError(f"loaded again it is another model, by a KL of {difference:.2g} nats at a token")
    except (UserError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)  # an architecture may depend on its layers in any way
        raise UserError(
            f"{ref} cannot be had without some of its layers, because they depend on their places: "
            f"{first_line(error).rstrip('.')}. Use another amateur."
        ) from error
    return dropped


def drop_layers(loaded: LoadedModel, dropped: Iterable[int]) -> None:
    """Take these layers, counted from 0, out of a loaded model. Raises UserError where they cannot be found."""
    holder, layers = _layers(loaded)
    kept = [n for n in range(len(layers)) if n not in set(dropped)]
    for config in {
        id(config): config for config in (loaded.model.config, loaded.model.config.get_text_config())
    }.values():
        for name, value in list(vars(config).items()):
            per_layer = isinstance(value, list | tuple) and len(value) == len(layers)
            if per_layer and not name.endswith(NOT_LAYERS):
                setattr(config, name, [value[n] for n in kept])
    loaded.model.config.get_text_config().num_hidden_layers = len(kept)
    for place, n in enumerate(kept):
        for module in layers[n].modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place  # where its keys and values lie in the cache
    parent, _, name = holder.rpartition(".")
    setattr(loaded.model.get_submodule(parent), name, nn.ModuleList(layers[n] for n in kept))


def _layers(loaded: LoadedModel) -> tuple[str, nn.ModuleList]:
    """(name of the list, the decoder's layers). Raises UserError."""
    count = getattr(loaded.model.config.get_text_config(), "num_hidden_layers", None)
    found = [
        (name, module)
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == count
        and not name.rpartition(".")[0].endswith("experts")
    ]
    if not found:
        kind = loaded.model.config.model_type
        raise UserError(
            f"The layers of {loaded.ref}, a {kind} model, are not one list, so none can be left out; use another way."
        )
    return found[0]


@torch.inference_mode()
def _probe(model: Any, tokenizer: Any) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) of PROBE."""
    ids = torch.tensor([tokenizer(PROBE, add_special_tokens=False)["input_ids"]])
    return torch.log_softmax(model.eval()(input_ids=ids, use_cache=False).logits[0].float(), -1)


def checkpoints(ref: str | ModelRef) -> dict[int, Path]:
    """Update → the adapter of an earlier checkpoint of the run that tuned this expert, BASE::RUN/adapter.

    Raises UserError for an expert that no run here has tuned.
    """
    ref = parse_ref(ref)
    run = Path(ref.adapter).parent if ref.adapter else None
    if run is None or not run.is_absolute() or not (run / RECORD).is_file() or read_run(run)["kind"] != "finetune":
        raise UserError(
            f"{ref} is no expert that a run here has tuned, so it has no earlier checkpoints; write it as "
            "BASE::RUN/adapter, with the folder of a fine-tuning run."
        )
    found = {}
    for place in (run / "checkpoints").glob("checkpoint-*"):
        number = place.name.rpartition("-")[2]
        if number.isdecimal() and (place / "adapter_model.safetensors").is_file():
            found[int(number)] = place
    updates = (read_run(run).get("result") or {}).get("updates")
    return {number: found[number] for number in sorted(found) if number != updates}


def at_checkpoint(ref: str | ModelRef, update: int, folder: Path, settings: Settings, on_status: Status = None) -> None:
    """Write the expert as it was after an earlier update of its training. Raises UserError."""
    ref = parse_ref(ref)
    check_new(folder)
    found = checkpoints(ref)
    if update not in found:
        known = ", ".join(f"{number:,}" for number in found) or "none"
        raise UserError(
            f"The run that tuned {ref} keeps no checkpoint of update {update:,} besides the expert itself; it keeps "
            f"{known}."
        )
    check_adapter(found[update])
    loaded = load_model(ref.text.partition("::")[0], replace(settings, dtype="float32"), on_status, on_host=True)
    untie(loaded.model, found[update])
    model = attach_adapter(loaded.model, found[update], str(loaded.ref), loaded.files)
    card = _card(ref, f"the training that made it, at update {update:,}")
    save_merged(model, loaded.tokenizer, folder, card, loaded.files, base_dtype(loaded.files))


def before_tuning(ref: str | ModelRef) -> str:
    """The model that the expert was tuned from: its adapter's base, or the one on its card. Raises UserError."""
    ref = parse_ref(ref)
    if ref.adapter:
        return ref.text.partition("::")[0]
    files = find_files(ref)
    named = _base_on_card(files.folder / "README.md") if not files.gguf else []
    if len(named) != 1:
        why = f"its card names {len(named)} models" if named else "it is no BASE::ADAPTER, and no card names its base"
        raise UserError(f"{ref} does not say what it was tuned from: {why}. Name that model as the amateur yourself.")
    return parse_ref(named[0]).text


def _base_on_card(path: Path) -> list[str]:
    """The entries of base_model in the front matter of a model card."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    front = re.match(r"---\n(.*?)\n---", text, re.S)
    found = re.search(r"^base_model:[ \t]*(.*(?:\n[ \t]*-[ \t].*)*)", front[1] if front else "", re.M)
    lines = [line.strip().removeprefix("- ").strip(" \"'[]") for line in (found[1].splitlines() if found else [])]
    return [line for line in lines if line]


def check_new(folder: Path) -> None:
    """Raises UserError where something would be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} already exists; name a new folder for the amateur.")


def _card(ref: ModelRef, what: str) -> str:
    return f"# An amateur\n\nMade by LightReasoner Studio of `{ref}`: {what}. It is meant to be contrasted with it.\n"
