"""The files behind a model reference: found on this disk or fetched, checked, measured and fingerprinted.

Nothing is loaded here, and nothing that could run code is ever opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from lightreasoner.compat.transformers import gguf_shapes
from lightreasoner.errors import UserError
from lightreasoner.hub.download import (
    ADAPTER_FILES,
    MODEL_FILES,
    NotCached,
    cached_snapshot,
    download_snapshot,
    not_cached,
)
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.settings import ASSETS

MODELS = ASSETS / "models"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_SMALL = 64 * 2**20  # bytes up to which a weight file is hashed whole
_SAMPLE = 4096  # bytes hashed of each tensor, or of each stretch of a GGUF file, beyond that


@dataclass(frozen=True)
class Files:
    """The files of a model, all of them on this disk and looked over."""

    folder: Path
    gguf: Path | None = None
    adapter: Path | None = None


@dataclass(frozen=True)
class Size:
    """How large a model is, read from file headers alone."""

    parameters: int
    file_bytes: int


def find_files(ref: ModelRef, on_status: Callable[[str], None] | None = None, download: bool = True) -> Files:
    """The reference's files, fetched from the Hub where they are not on this disk yet (unless `download` is False).

    What the Hub's cache holds complete is used as it is, without a request. Raises UserError when files are missing,
    damaged, or of a kind that is not loaded.
    """
    adapter = None
    if ref.adapter and os.path.isabs(ref.adapter):
        adapter = Path(ref.adapter)
        check_adapter(adapter)
    elif ref.adapter:
        repo, _, revision = ref.adapter.partition("@")
        adapter = _hub_folder(repo, revision or None, check_adapter, on_status, download)
    if ref.kind == "gguf":
        path = Path(ref.base)
        check_gguf(path)
        return Files(path.parent, path, adapter)
    if ref.kind == "hub":
        return Files(_hub_folder(ref.base, ref.revision, check_model, on_status, download), None, adapter)
    folder = MODELS / ref.base if ref.kind == "bundled" else Path(ref.base)
    if ref.kind == "bundled" and not folder.is_dir():
        raise UserError(f"The bundled model {ref.base} is not in {MODELS}; check this copy of the software out again.")
    check_model(folder)
    return Files(folder, None, adapter)


def _hub_folder(repo: str, revision: str | None, check: Callable, on_status: Callable | None, download: bool) -> Path:
    """The snapshot folder of a Hub repository whose files pass `check`."""
    wanted = ADAPTER_FILES if check is check_adapter else MODEL_FILES
    folder = cached_snapshot(repo, revision, wanted)
    if folder is not None:
        try:
            check(folder)
            return folder
        except UserError as error:  # an interrupted download looks like this too, so the Hub gets its say
            if not download:
                raise NotCached(str(error)) from None
    if not download:
        raise NotCached(not_cached(repo, revision))
    folder = download_snapshot(repo, revision, wanted, on_status)
    check(folder)
    return folder


def check_model(folder: Path) -> list[Path]:
    """The weight files of a model folder. Raises UserError unless config, tokenizer and whole safetensors are there."""
    if not os.path.exists(folder):  # unlike Path's, False for a name that no disk can hold
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name the folder that holds it, or a .gguf file.")
    try:
        names = {entry.name for entry in folder.iterdir()}
    except PermissionError:
        raise UserError(f"{folder} may not be read by this account; change its permissions.") from None
    if "adapter_config.json" in names:
        raise UserError(f"{folder} holds an adapter, not a whole model; write it after its base, as BASE::{folder}.")
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights and (pickles := sorted(n for n in names if Path(n).suffix in PICKLES and n != "training_args.bin")):
        raise UserError(
            f"{folder} holds only pickled weights ({pickles[0]}), which can run code when opened and are never loaded; "
            "convert them: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW) writes safetensors."
        )
    if not weights and (gguf := sorted(n for n in names if n.lower().endswith(".gguf"))):
        raise UserError(f"{folder} holds GGUF files; name the file itself, such as {folder / gguf[0]}.")
    if "config.json" not in names:
        raise UserError(f"{folder} has no config.json, so it is no model; name the folder that save_pretrained wrote.")
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & names:
        raise UserError(f"{folder} has no tokenizer (tokenizer.json); save the model's tokenizer into it.")
    if "model.safetensors" in names:
        shards = ["model.safetensors"]
    elif "model.safetensors.index.json" in names:
        shards = sorted(set(read_json(folder / "model.safetensors.index.json").get("weight_map", {}).values()))
    else:
        raise UserError(f"{folder} has no model.safetensors; save the model into it with save_pretrained.")
    missing = [shard for shard in shards if shard not in names]  # also refuses names that lead out of the folder
    if missing or not shards:
        raise UserError(
            f"{folder} lacks {len(missing)} of its {len(shards)} weight files ({', '.join(missing[:3])}); "
            "copy or download them again."
        )
    for shard in shards:
        read_header(folder / shard)
    return [folder / shard for shard in shards]


def check_adapter(folder: Path) -> list[Path]:
    """The weight file of a LoRA adapter's folder. Raises UserError unless it holds a whole one in safetensors."""
    if not os.path.isdir(folder):
        raise UserError(f"There is no adapter folder {folder}; check the path.")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            pickled = name == ADAPTER_FILES[1] and (folder / "adapter_model.bin").exists()
            why = (
                "its pickled weights are never loaded, so save it again with safetensors"
                if pickled
                else "check the path"
            )
            raise UserError(f"The adapter folder {folder} has no {name}; {why}.")
    config = read_json(folder / ADAPTER_FILES[0])
    if config.get("peft_type") != "LORA":
        raise UserError(f"{folder} is an adapter of type {config.get('peft_type')!r:.40}; only LoRA adapters are read.")
    if config.get("megatron_config"):  # PEFT would import whatever module such a config names
        raise UserError(f"The adapter {folder} is made for Megatron and cannot be loaded here; use an ordinary LoRA.")
    read_header(folder / ADAPTER_FILES[1])
    return [folder / ADAPTER_FILES[1]]


def check_gguf(path: Path) -> None:
    """Raises UserError unless the path is a readable file that begins as GGUF files do."""
    if not os.path.isfile(path):
        raise UserError(f"There is no GGUF file {path}; check the path.")
    if (path.parent / "adapter_config.json").exists():  # transformers would follow it to some other model
        raise UserError(f"{path} lies beside an adapter_config.json; move it into a folder of its own.")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    if magic != b"GGUF":
        raise UserError(f"{path} does not begin as GGUF files do; download it again, or name another file.")


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises UserError when it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a readable JSON object; download or save it again.")
    return value


def read_header(path: Path) -> dict[str, dict]:
    """Tensor name → {dtype, shape, data_offsets} of a safetensors file. Raises UserError when it is cut or damaged."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, 100 * 2**20):  # the format's own bound
                raise ValueError
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        elements = sum(prod(entry["shape"]) for entry in header.values())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise UserError(f"{path} is damaged or no safetensors file; download or save it again.") from None
    if 8 + length + end != size or elements > 8 * end:
        raise UserError(
            f"{path} is cut short or damaged: {8 + length + end:,} bytes announced, {size:,} found; download it again."
        )
    return header


def measure(files: Files) -> Size | None:
    """The size of a model from file headers (milliseconds), without its adapter; None where they do not tell."""
    if files.gguf is None:
        headers = [read_header(path) for path in check_model(files.folder)]
        parameters = sum(prod(entry["shape"]) for header in headers for entry in header.values())
        return Size(parameters, sum(e["data_offsets"][1] - e["data_offsets"][0] for h in headers for e in h.values()))
    try:
        shapes = gguf_shapes(files.gguf)
    except Exception:  # a newer transformers, or a file that only the loader can judge
        return None
    return Size(sum(map(prod, shapes)), files.gguf.stat().st_size)


def known_size(ref: str | ModelRef) -> Size | None:
    """The size of a model if its files are on this disk and sound, else None. No network, nothing loaded."""
    try:
        return measure(find_files(parse_ref(ref), download=False))
    except UserError:
        return None


def fingerprint(files: Files) -> str:
    """32 hex digits that tell weights apart: the same for a copy elsewhere, another after any training.

    A hash over config.json and each weight file, adapter included: its whole content up to 64 MB; beyond that the
    header and 4 KB from the middle of every tensor (GGUF: of each 256th of the file). The tokenizer is no part of it.
    """
    digest = hashlib.sha256()
    paths = [files.gguf] if files.gguf else [files.folder / "config.json", *check_model(files.folder)]
    if files.adapter:
        paths += [files.adapter / name for name in ADAPTER_FILES]
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.suffix} {size}\n".encode())  # names differ between copies of one model
        with path.open("rb") as file:
            if size <= _SMALL:
                while block := file.read(2**20):
                    digest.update(block)
                continue
            if path.suffix == ".safetensors":
                header = read_header(path)
                digest.update(json.dumps(header, sort_keys=True).encode())
                start = 8 + int.from_bytes(file.read(8), "little")
                middles = [start + sum(entry["data_offsets"]) // 2 for entry in header.values()]
            else:
                middles = [(2 * n + 1) * size // 512 for n in range(256)]
            for middle in sorted(middles):
                file.seek(max(0, middle - _SAMPLE // 2))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:32]
