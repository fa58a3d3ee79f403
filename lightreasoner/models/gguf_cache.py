"""GGUF files are converted once: their tensors are kept as safetensors, in a bounded cache beside the Hub's.

An entry is named after the file's content, the dtype and the versions that converted it. It is written whole or not
at all, and one with a byte that has changed since is removed. Without a disk to write on there is no cache, and nothing
else changes.
"""

import hashlib
import json
import logging
import os
import shutil
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from lightreasoner.errors import UserError
from lightreasoner.progress import StopRequested
from lightreasoner.storage.atomic import atomic_folder, folder_bytes, sha256, write_text
from lightreasoner.storage.checksums import note_checksum, noted, verify

log = logging.getLogger(__name__)

LEAST = 16e6  # bytes of a GGUF file; a smaller one is converted in less time than a second
FREE = 0.25  # share of the free disk space that one conversion may take
MOST_HASHES = 256  # files whose hashes are remembered
FORM = 2  # of the entries; 1 knew no scaling of positions
WEIGHTS, HASHES = "model.safetensors", "hashes.json"


def conversions() -> Path:
    """The folder of the cache."""
    return Path(constants.HF_HUB_CACHE).parent / "lightreasoner-gguf"


def find_conversion(gguf: Path, dtype: torch.dtype) -> Path | None:
    """The folder of a kept conversion, with config.json and WEIGHTS; None where there is none, or it was damaged."""
    try:
        if gguf.stat().st_size < LEAST or not conversions().is_dir():
            return None
        entry = conversions() / _key(gguf, dtype)
        if not entry.is_dir():
            return None
        try:
            if not {WEIGHTS, "config.json"} <= noted(entry):
                raise ValueError("it has no checksums")
            for name in (WEIGHTS, "config.json"):
                verify(entry / name)
        except (OSError, ValueError) as error:
            log.warning("The kept conversion of %s is damaged (%s) and is made again", gguf.name, error)
            drop_conversion(entry)
            return None
        with suppress(OSError):  # a disk that cannot be written
            os.utime(entry)  # when it was last used
        return entry
    except OSError:
        return None


def keep_conversion(model: Any, gguf: Path, dtype: torch.dtype, most: float) -> None:
    """Keep the weights that a GGUF file was converted to, on the CPU. most: bytes of the whole cache; 0: no cache.

    The least recently used entries make room. Whatever goes wrong, the model stays usable and nothing is raised but
    StopRequested.
    """
    try:
        if gguf.stat().st_size < LEAST:
            return
        tensors, seen = {}, set()
        for name, tensor in model.state_dict().items():  # of tied weights the first
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                tensors[name] = tensor.contiguous()
        size = sum(tensor.nbytes for tensor in tensors.values())
        place = conversions()
        place.mkdir(parents=True, exist_ok=True)
        if size > min(most, FREE * shutil.disk_usage(place).free):
            return
        entry = place / _key(gguf, dtype)
        with atomic_folder(entry) as folder:
            save_file(tensors, folder / WEIGHTS, {"format": "pt"})
            config = json.loads(model.config.to_json_string(use_diff=False))
            config.pop("quantization_config", None)
            write_text(folder / "config.json", json.dumps(config))
            for name in (WEIGHTS, "config.json"):
                note_checksum(folder / name)
        make_room(most, entry)
    except StopRequested:
        raise
    except Exception:  # a full disk has another error in each writer
        log.info("The conversion of %s is not kept", gguf.name, exc_info=True)


def make_room(most: float, newest: Path) -> None:
    """Remove the least recently used entries until all together have at most these bytes. `newest` stays."""
    entries = [path for path in conversions().iterdir() if path.is_dir() and not path.name.startswith(".")]
    entries.sort(key=lambda path: (path == newest, path.stat().st_mtime_ns))
    sizes = {path: folder_bytes(path) for path in entries}
    for path in entries[:-1]:
        if sum(sizes.values()) <= most:
            return
        del sizes[path]
        drop_conversion(path)


def drop_conversion(entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True)


def _key(gguf: Path, dtype: torch.dtype) -> str:
    state = gguf.stat()
    made_by = f"{FORM} {version('transformers')} {version('gguf')} {dtype}"
    content = _file_hash(gguf.absolute(), state.st_size, state.st_mtime_ns)
    return hashlib.sha256(f"{content} {made_by}".encode()).hexdigest()[:32]


@lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file, read once for each time that it was written, also by other processes."""
    place, known = conversions() / HASHES, {}
    try:
        read = json.loads(place.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    found = known.pop(str(path), None)
    if isinstance(found, list) and found[:2] == [size, changed] and len(found) == 3 and isinstance(found[2], str):
        return found[2]
    content = sha256(path)
    try:
        kept = list(known.items())[-(MOST_HASHES - 1) :]
        write_text(place, json.dumps(dict(kept) | {str(path): [size, changed, content]}))
    except (OSError, UserError):
        log.info("The hash of %s is not kept", path.name, exc_info=True)
    return content
