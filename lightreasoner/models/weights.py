"""The files of a model: finds or downloads them, checks them, and computes their size and fingerprint.

Loads no weights, and opens no file that could run code.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lightreasoner.compat.transformers import gguf_shapes
from lightreasoner.errors import UserError
from lightreasoner.hub.download import (
    ADAPTER_FILES,
    MODEL_FILES,
    SMALL_FILES,
    NotCached,
    cached_snapshot,
    download_snapshot,
    not_cached,
)
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.settings import ASSETS
from lightreasoner.storage.checksums import FILE as CHECKSUMS
from lightreasoner.storage.checksums import ChangedFile, verify

MODELS = ASSETS / "models"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_SMALL = 64 * 2**20  # bytes up to which a weight file is hashed completely
_SAMPLE = 4096  # bytes hashed per tensor of a larger file, or per 256th of a GGUF file
#: What an adapter's configuration says about its effect. The rest is the writer's: versions, paths, modes.
ADAPTER_SETTINGS = (
    *("r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out", "bias", "rank_pattern", "alpha_pattern"),
    *("target_parameters", "trainable_token_indices", "layer_replication", "lora_bias"),
)


@dataclass(frozen=True)
class Files:
    """The files of a model, on this disk and checked."""

    folder: Path
    gguf: Path | None = None
    adapter: Path | None = None


def find_files(ref: ModelRef, on_status: Callable[[str], None] | None = None, download: bool = True) -> Files:
    """The files of a reference, downloaded from the Hub where they are missing, unless `download` is False.

    A complete copy in the Hub's cache is used without a request. Raises UserError when files are missing, damaged, or
    of a kind that is not loaded; NotCached where only a download could tell.
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
        raise UserError(f"The bundled model {ref.base} is not in {MODELS}; check out this software again.")
    check_model(folder)
    return Files(folder, None, adapter)


def find_small_files(ref: ModelRef, on_status: Callable[[str], None] | None = None) -> Files:
    """The files of a reference without its adapter, of which only those beside the weights are needed.

    Of a model on the Hub that is not in the cache, only these are downloaded. Raises UserError, see `find_files`.
    """
    ref = replace(ref, adapter=None)
    try:
        return find_files(ref, download=False)
    except NotCached:
        return Files(download_snapshot(ref.base, ref.revision, SMALL_FILES, on_status))


def _hub_folder(repo: str, revision: str | None, check: Callable, on_status: Callable | None, download: bool) -> Path:
    """The snapshot folder of a Hub repository whose files pass `check`."""
    wanted = ADAPTER_FILES if check is check_adapter else MODEL_FILES
    folder = cached_snapshot(repo, revision, wanted)
    if folder is not None:
        try:
            check(folder)
            return folder
        except UserError as error:  # it may be an interrupted download, which the Hub can complete
            if not download:
                raise NotCached(str(error)) from None
    if not download:
        raise NotCached(not_cached(repo, revision))
    folder = download_snapshot(repo, revision, wanted, on_status)
    check(folder)
    return folder


def check_model(folder: Path) -> list[Path]:
    """The weight files of a model folder. Raises UserError unless config, tokenizer and complete safetensors exist."""
    if not os.path.exists(folder):  # unlike Path.exists, False for a name that is too long
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name the folder that holds it, or a .gguf file.")
    try:
        names = {entry.name for entry in folder.iterdir()}
    except PermissionError:
        raise UserError(f"{folder} cannot be read by this account; change its permissions.") from None
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
        index = folder / "model.safetensors.index.json"
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
            raise UserError(f"{index} does not say which file holds which tensor; download or save the model again.")
        shards = sorted(set(places.values()))
    else:
        raise UserError(f"{folder} has no model.safetensors; save the model into it with save_pretrained.")
    missing = [shard for shard in shards if shard not in names]  # also refuses names that lead out of the folder
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of its {len(shards)} weight files ({', '.join(missing[:3])}); "
            "copy or download them again."
        )
    for shard in shards:
        tensor_table(folder / shard)
    return [folder / shard for shard in shards]


def check_adapter(folder: Path) -> list[Path]:
    """The weight file of a LoRA adapter's folder. Raises UserError unless it is complete and in safetensors."""
    if not os.path.isdir(folder):
        raise UserError(f"There is no adapter folder {folder}; check the path.")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            pickled = name == ADAPTER_FILES[1] and (folder / "adapter_model.bin").exists()
            why = "pickled weights are never loaded, so save it again with safetensors" if pickled else "check the path"
            raise UserError(f"The adapter folder {folder} has no {name}; {why}.")
    config = read_json(folder / ADAPTER_FILES[0])
    if config.get("peft_type") != "LORA":
        raise UserError(f"{folder} is an adapter of type {config.get('peft_type')!r:.40}; only LoRA adapters are read.")
    if config.get("megatron_config"):  # PEFT would import any module that such a config names
        raise UserError(f"The adapter {folder} is made for Megatron and cannot be loaded here; use an ordinary LoRA.")
    if config.get("alora_invocation_tokens"):
        raise UserError(
            f"The adapter {folder} acts after certain tokens only (aLoRA), which is not done here; use an ordinary one."
        )
    if str(config.get("init_lora_weights")).startswith("pissa_niter"):  # its decomposition is drawn at random
        raise UserError(
            f"The adapter {folder} is what changed since a random decomposition of its base (pissa_niter), which "
            "cannot be made again; save it as an ordinary LoRA (path_initial_model_for_weight_conversion of PEFT)."
        )
    for name in ADAPTER_FILES:
        try:
            verify(folder / name)
        except ChangedFile as error:
            raise UserError(
                f"{folder / name} has changed since it was saved: {error}. Restore it or train it again; or delete "
                f"{CHECKSUMS} beside it to use it as it is."
            ) from None
        except OSError as error:
            raise UserError(f"{folder / name} cannot be read ({error.strerror}); check its permissions.") from None
    _check_rank(folder, config, tensor_table(folder / ADAPTER_FILES[1]))
    return [folder / ADAPTER_FILES[1]]


def _check_rank(folder: Path, config: dict, table: dict[str, dict]) -> None:
    """Raises UserError for a configuration whose matrices would be larger than those stored; any memory could do."""
    stored = [t["shape"][0] for name, t in table.items() if ".lora_A" in name or ".lora_embedding_A" in name]
    pattern = config.get("rank_pattern") or {}
    wanted = [*(pattern.values() if isinstance(pattern, dict) else [pattern]), *([] if pattern else [config.get("r")])]
    if stored and not all(isinstance(rank, int) and 0 < rank <= max(stored) for rank in wanted):
        raise UserError(
            f"{folder / ADAPTER_FILES[0]} asks for rank {wanted[-1]!r:.20}, but the adapter's matrices have rank "
            f"{max(stored)}; save the adapter again."
        )


def adapter_reaches(folder: Path, modules: set[str]) -> bool:
    """Whether a LoRA adapter changes one of these modules on its own, given by the last parts of their names."""
    config = read_json(folder / ADAPTER_FILES[0])
    if config.get("ensure_weight_tying") or config.get("trainable_token_indices"):  # PEFT keeps tied weights tied
        return False
    return any(modules & set(name.split(".")) for name in tensor_table(folder / ADAPTER_FILES[1]))


def check_gguf(path: Path) -> None:
    """Raises UserError unless the path is a readable file that starts as GGUF files do."""
    if not os.path.isfile(path):
        raise UserError(f"There is no GGUF file {path}; check the path.")
    if (path.parent / "adapter_config.json").exists():  # transformers would load the base that it names
        raise UserError(f"{path} is in one folder with an adapter_config.json; move it into a folder of its own.")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    if magic != b"GGUF":
        raise UserError(f"{path} does not start as GGUF files do; download it again, or name another file.")


def read_json(path: Path) -> dict:
    """The JSON object in a file. Raises UserError when there is something else in it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a readable JSON object; download or save it again.")
    return value


def tensor_table(path: Path) -> dict[str, dict]:
    """Tensor name → {dtype, shape, data_offsets} of a safetensors file, as its header has them.

    data_offsets: first byte and end, counted from the first tensor. Raises UserError for a file that is cut or damaged.
    """
    table, end = {}, 0
    try:
        with safe_open(path, "numpy") as file:
            for name in file.offset_keys():  # tensors follow one another without gaps
                tensor = file.get_slice(name)
                dtype, shape = tensor.get_dtype(), tensor.get_shape()
                bits = int((re.findall(r"\d+", dtype) or [8])[0])  # BF16, F8_E4M3, BOOL …
                start, end = end, end + prod(shape) * bits // 8
                table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); check its permissions.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is cut short, damaged or no safetensors file ({error}); save it again.") from None
    return table


def _data_bytes(table: dict[str, dict]) -> int:
    return max((tensor["data_offsets"][1] for tensor in table.values()), default=0)


def count_parameters(files: Files) -> int | None:
    """The parameters of a model without its adapter, from file headers (milliseconds). None if they cannot be read."""
    if files.gguf is None:
        tables = [tensor_table(path) for path in check_model(files.folder)]
        return sum(prod(tensor["shape"]) for table in tables for tensor in table.values())
    try:
        return sum(map(prod, gguf_shapes(files.gguf)))
    except Exception:  # a newer transformers, or a file that only the loader understands
        return None


def known_parameters(ref: str | ModelRef) -> int | None:
    """The parameters of a model if its files are on this disk and intact, else None. Makes no request."""
    try:
        return count_parameters(find_files(parse_ref(ref), download=False))
    except UserError:
        return None


def on_disk(ref: str | ModelRef) -> bool:
    """Whether a model's files are on this disk and intact, whether their size can be told or not."""
    try:
        find_files(parse_ref(ref), download=False)
    except UserError:
        return False
    return True


def weights_fingerprint(files: Files) -> str:
    """32 hex digits that identify weights, however their files were written.

    A hash of each tensor's name, dtype, shape and bytes, adapter included; of weights over 64 MB it covers 4 KB from
    the middle of each tensor (GGUF: of each 256th of the file). Neither the split into files nor config.json counts:
    models.identity compares the configuration, the tokenizer and the chat template.
    """
    digest = hashlib.sha256()
    if files.gguf:
        _hash_file(digest, files.gguf)
    else:
        _hash_tensors(digest, check_model(files.folder))
    if files.adapter:
        _hash_tensors(digest, [files.adapter / ADAPTER_FILES[1]])
        settings = read_json(files.adapter / ADAPTER_FILES[0])
        counting = {name: settings[name] for name in ADAPTER_SETTINGS if settings.get(name)}
        digest.update(json.dumps(counting, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def fingerprint(files: Files) -> str:
    """32 hex digits that identify a model's files: the same for every copy, different after any training.

    A hash of config.json and of each weight file, adapter included. Of a file of over 64 MB it covers the header and
    4 KB from the middle of each tensor (GGUF: of each 256th of the file). It does not cover the tokenizer.
    """
    digest = hashlib.sha256()
    paths = [files.gguf] if files.gguf else [files.folder / "config.json", *check_model(files.folder)]
    if files.adapter:
        paths += [files.adapter / name for name in ADAPTER_FILES]
    for path in paths:
        _hash_file(digest, path)
    return digest.hexdigest()[:32]


def _hash_tensors(digest: Any, paths: list[Path]) -> None:
    """Add the tensors of these safetensors files to a hash, in the order of their names."""
    tables = {path: tensor_table(path) for path in paths}
    starts = {path: path.stat().st_size - _data_bytes(table) for path, table in tables.items()}
    places = sorted((name, path, tensor) for path, table in tables.items() for name, tensor in table.items())
    whole = sum(_data_bytes(table) for table in tables.values()) <= _SMALL
    with ExitStack() as stack:
        opened = {path: stack.enter_context(path.open("rb")) for path in paths}
        for name, path, tensor in places:
            begin, end = tensor["data_offsets"]
            digest.update(f"{name} {tensor['dtype']} {tensor['shape']}\n".encode())
            size = end - begin if whole else min(_SAMPLE, end - begin)
            opened[path].seek(starts[path] + begin + (end - begin - size) // 2)
            digest.update(opened[path].read(size))


def _hash_file(digest: Any, path: Path) -> None:
    """Add a file to a hash: all of it up to 64 MB, else its header and samples."""
    size = path.stat().st_size
    digest.update(f"{path.suffix} {size}\n".encode())  # names differ between copies of one model
    with path.open("rb") as file:
        if size <= _SMALL:
            while block := file.read(2**20):
                digest.update(block)
            return
        if path.suffix == ".safetensors":
            table = tensor_table(path)
            digest.update(json.dumps(table, sort_keys=True).encode())
            start = size - _data_bytes(table)
            middles = [start + sum(tensor["data_offsets"]) // 2 for tensor in table.values()]
        else:
            middles = [(2 * n + 1) * size // 512 for n in range(256)]
        for middle in sorted(middles):
            file.seek(max(0, middle - _SAMPLE // 2))
            digest.update(file.read(_SAMPLE))
