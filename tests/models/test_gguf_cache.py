"""The kept conversions of GGUF files: the same weights, bounded, never half a file, and no cache where none can be."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from lightreasoner.jobs.accelerator import WaitCancelled
from lightreasoner.models import gguf_cache, loading
from lightreasoner.models.gguf_cache import WEIGHTS, conversions
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.storage import atomic, checksums
from tests.support.tiny_models import logits_of, save_tiny_gguf

CPU = Settings(device="cpu", dtype="float32")


@pytest.fixture
def dequantized(tmp_path, monkeypatch) -> list[Path]:
    """The GGUF files that were dequantized. Small files count, too, and the cache is a folder of the test's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(gguf_cache, "LEAST", 0)
    gguf_cache._file_hash.cache_clear()
    done, real = [], loading._load_weights

    def spy(ref, files, dtype):
        done.extend([files.gguf] if files.gguf else [])
        return real(ref, files, dtype)

    monkeypatch.setattr(loading, "_load_weights", spy)
    return done


@pytest.fixture
def gguf(tmp_path) -> Path:
    return save_tiny_gguf(tmp_path / "tiny.gguf")


def entries() -> list[Path]:
    return sorted(path for path in conversions().iterdir() if path.is_dir())


def test_a_file_is_converted_once_also_under_another_name(dequantized, gguf, tmp_path):
    """A GGUF file was dequantized anew by every process that read it."""
    first = load_model(str(gguf), CPU)
    copy = Path(shutil.copyfile(gguf, tmp_path / "copy.gguf"))
    for path in (gguf, copy):
        again = load_model(str(path), CPU)
        assert torch.equal(logits_of(again.model), logits_of(first.model))
        assert (again.parameters, again.weights, again.end_ids) == (first.parameters, first.weights, first.end_ids)
        assert again.model.config.to_dict() == first.model.config.to_dict() | {
            "_name_or_path": again.model.config._name_or_path
        }
    assert dequantized == [gguf] and len(entries()) == 1
    load_model(str(gguf), replace(CPU, dtype="bfloat16"))
    assert dequantized == [gguf, gguf], "another dtype is another conversion"


@pytest.mark.parametrize("damage", ["byte", "cut", "checksums", "weights"])
def test_a_damaged_entry_is_made_again(dequantized, gguf, damage):
    first = load_model(str(gguf), CPU)
    weights = entries()[0] / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    if damage in ("byte", "cut"):
        weights.write_bytes(data if damage == "byte" else data[:-9])
    else:
        (weights if damage == "weights" else weights.with_name("_checksums.jsonl")).unlink()
    again = load_model(str(gguf), CPU)
    assert torch.equal(logits_of(again.model), logits_of(first.model)) and dequantized == [gguf, gguf]
    load_model(str(gguf), CPU)
    assert len(dequantized) == 2 and len(entries()) == 1


def test_the_cache_is_bounded_and_the_oldest_go_first(dequantized, gguf, tmp_path):
    files = [gguf, *(save_tiny_gguf(tmp_path / f"{kind}.gguf", kind=kind) for kind in ("Q8_0", "Q5_0"))]
    load_model(str(files[0]), CPU)
    size = gguf_cache.folder_bytes(entries()[0])
    bounded = replace(CPU, conversions_gb=2.5 * size / 1e9)
    load_model(str(files[1]), bounded)
    for entry, path in zip(entries(), (1, 2), strict=True):
        os.utime(entry, (path, path))
    load_model(str(files[0]), bounded)  # used last now
    load_model(str(files[2]), bounded)
    assert len(entries()) == 2 and dequantized == files
    load_model(str(files[0]), bounded)
    assert dequantized == files, "the one that was used stayed"
    for most in (0.0, 0.5 * size / 1e9):
        shutil.rmtree(conversions(), ignore_errors=True)
        load_model(str(gguf), replace(CPU, conversions_gb=most))
        assert not conversions().is_dir() or not entries()


def test_without_a_disk_to_write_on_there_is_no_cache_and_no_trouble(dequantized, gguf, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(gguf_cache, "save_file", full)
        load_model(str(gguf), CPU)
    assert not entries() and not list(conversions().glob(".*")), "half a file is none"
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert load_model(str(gguf), CPU).parameters and len(dequantized) == 2


@pytest.mark.parametrize(("module", "kept"), [(gguf_cache, False), (checksums, False), (checksums, True)])
def test_hashing_is_stopped_between_blocks(dequantized, gguf, monkeypatch, module, kept):
    """The hash of a file of many GB was taken to its end: of the file, of its conversion when kept and when used."""
    if kept:
        load_model(str(gguf), CPU)
    hashing, whole = [], module.sha256

    def sha256(path):
        hashing.append(path)
        found = whole(path)
        hashing.clear()
        return found

    def on_status(text):
        if hashing:
            raise WaitCancelled

    monkeypatch.setattr(module, "sha256", sha256)
    monkeypatch.setattr(loading, "PAUSE", 0.0)
    monkeypatch.setattr(atomic, "BLOCK", 4096)
    checksums._digest.cache_clear()
    with pytest.raises(WaitCancelled):
        load_model(str(gguf), CPU, on_status)
    assert len(hashing) == 1 and hashing[0].name == (WEIGHTS if module is checksums else gguf.name)
    assert len(entries()) == kept and not list(conversions().glob(".*"))
    monkeypatch.setattr(module, "sha256", whole)
    assert logits_of(load_model(str(gguf), CPU).model).isfinite().all() and len(entries()) == 1
    assert len(dequantized) == (1 if kept else 2)
