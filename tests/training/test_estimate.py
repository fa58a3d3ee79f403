"""What a run will take is measured with the run's own code, and memory is counted right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.models.adapters import linear_layers, linear_names
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.training.batches import count_samples
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.estimate import MAX_TIMED, estimate_resources
from lightreasoner.training.examples import build_examples
from lightreasoner.training.saved_tensors import measure_saved_tensors
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_models import save_tiny, save_tiny_adapter, save_tiny_gguf

CONFIG = FinetuneConfig(max_steps=400, samples_per_update=8, evaluate_every=100)


@pytest.fixture
def run(tmp_path):
    """(examples, loaded expert) of a dataset of random logits."""
    make_dataset(tmp_path / "data", tokens=True, beta_floor=0)
    settings = Settings(workspace=tmp_path / "workspace", device="cpu", dtype="float32")
    loaded = load_model(str(tmp_path / "expert"), settings)
    examples, _ = build_examples(tmp_path / "data", "lightreasoner", Selection(), loaded)
    return examples, loaded


def test_it_is_measured_with_updates_of_the_run_itself(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    examples, loaded = run
    found = estimate_resources(examples, CONFIG, loaded, loading_seconds=100)
    assert found.samples < count_samples(examples), "held-out samples are not trained on"
    assert (found.trajectories, found.held_out) == (5, 1)
    assert abs(found.samples_seen - 400 * 8) < 16
    assert found.epochs == pytest.approx(found.samples_seen / found.samples)
    assert 1 <= found.updates_timed <= MAX_TIMED - 1
    assert found.seconds >= 100 + 400 * found.update_seconds
    assert found.memory_bytes > loaded.memory_bytes
    assert found.disk_bytes > 0 and found.memory_counted
    text = " ".join(found.sentences())
    assert "Measured just now on the CPU" in text
    assert f"{found.samples:,} samples from 5 trajectories, 1 more held out" in text
    assert not list(tmp_path.glob("lightreasoner-*")), "nothing is left behind"


def test_a_larger_update_keeps_more_memory(run, tmp_path):
    examples, loaded = run
    small = estimate_resources(examples, replace(CONFIG, samples_per_update=1, max_samples_per_trajectory=1), loaded, 0)
    again = load_model(loaded.ref, Settings(workspace=tmp_path, device="cpu", dtype="float32"))
    large = estimate_resources(examples, replace(CONFIG, samples_per_update=64), again, 0)
    assert large.memory_bytes > small.memory_bytes


def test_measuring_ends_when_nobody_waits_for_it(run):
    class Gone(Exception):
        pass

    asked = []

    def checkpoint():
        asked.append(1)
        if len(asked) == 2:
            raise Gone

    with pytest.raises(Gone):
        estimate_resources(run[0], CONFIG, run[1], 0, checkpoint)


def test_it_refuses_what_the_run_would_refuse(run):
    with pytest.raises(UserError, match="Rank 999 is beyond"):
        estimate_resources(run[0], replace(CONFIG, rank=999), run[1], 0)


def test_what_the_backward_pass_keeps_is_counted_once_and_given_back():
    weight = torch.ones(4, 4, requires_grad=True)
    x = torch.ones(8, 4)
    with measure_saved_tensors({weight.untyped_storage().data_ptr()}) as saved:
        hidden = x @ weight  # keeps x: 8 · 4 floats; the weight itself is there anyway
        product = hidden * hidden  # keeps hidden, twice, counted once: 8 · 4 floats
        assert saved.peak == saved.now == 2 * 8 * 4 * 4
        product.sum().backward()
        del hidden, product
    assert saved.now == 0
    assert saved.peak == 2 * 8 * 4 * 4


def test_layers_are_known_without_loading(tmp_path):
    folder = save_tiny(tmp_path / "model", seed=1)
    loaded = load_model(str(folder), Settings(device="cpu"))
    assert (there := linear_layers(str(folder))) == linear_names(loaded.model)
    save_tiny_adapter(tmp_path / "adapter", loaded.model)
    assert linear_layers(f"{folder}::{tmp_path / 'adapter'}") == there
    gguf = save_tiny_gguf(tmp_path / "model.gguf")
    there = linear_layers(str(gguf))
    assert there is not None and {"q_proj", "v_proj", "down_proj"} <= there.keys()


def test_layers_of_what_is_not_here_are_not_made_up(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert linear_layers("nobody/nothing-of-this-name") is None
    with pytest.raises(UserError):
        linear_layers("./nowhere/at/all")
