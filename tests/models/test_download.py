"""Downloading models from a fake Hub on a local port, and from an unreachable one."""

import pickle
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels, missing_reason
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.weights import known_parameters
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from tests.support.hub_server import Hub
from tests.support.tiny_models import logits_of, save_tiny, save_tiny_adapter, shouting_tokenizer, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's, from saving adapters

CPU = Settings(device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Never this machine's Hub cache, never the real Hub: unless a test starts a fake one, its port is closed."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_hub_at(monkeypatch, "http://127.0.0.1:9")


def point_hub_at(monkeypatch, address):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "one", seed=1)


def refusal(call, *args):
    """The message of the UserError that the call must raise: whole sentences, no traceback's leavings."""
    with pytest.raises(UserError) as caught:
        call(*args)
    text = str(caught.value)
    assert text[-1] == "." and "Traceback" not in text and len(text) < 700
    return text


def paths(hub):
    """What was asked for."""
    return [path for _, path, _ in hub.seen]


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_an_unreachable_hub_is_said_within_seconds(monkeypatch):
    began = time.monotonic()
    assert "cannot be reached" in refusal(load_model, "org/name", CPU)
    assert missing_reason("org/name", CPU) is None, "only the Hub could tell"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(load_model, "org/name@v1", CPU)
    assert "HF_HUB_OFFLINE" in missing_reason("org/name", CPU)
    assert "org/lora" in missing_reason("org/name::org/lora", CPU)
    assert time.monotonic() - began < 5


def test_a_local_folder_never_stands_in_for_a_hub_id(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(one, "org/name")
    assert "cannot be reached" in refusal(load_model, "org/name", CPU)


@pytest.fixture
def hub(one, tmp_path, monkeypatch):
    """A fake Hub: org/model and org/lora, and some repositories that cannot be used."""
    save_tiny_adapter(tmp_path / "hub-lora", tiny_model(1))
    shutil.copytree(one, tmp_path / "hub-model")
    (tmp_path / "hub-model" / "evil.py").write_text("raise SystemExit")
    (tmp_path / "hub-model" / "onnx").mkdir()
    (tmp_path / "hub-model" / "onnx" / "config.json").write_text("{}")
    shutil.copy(one / "model.safetensors", tmp_path / "hub-model" / "consolidated.safetensors")
    (tmp_path / "hub-model" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "pytorch_model.bin").write_bytes(b"x")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):  # this machine's own token is nobody's there
        monkeypatch.delenv(name, raising=False)
    with Hub() as hub:
        hub.add("org/model", tmp_path / "hub-model")
        hub.add("org/lora", tmp_path / "hub-lora")
        hub.add("org/pickles", tmp_path / "p")
        hub.add("org/gated", gated=True)
        hub.add("org/down", down=True)
        point_hub_at(monkeypatch, hub.url)
        yield hub


def test_a_hub_model_is_fetched_once_and_then_used_from_the_cache(hub, one, monkeypatch):
    said = []
    loaded = load_model("org/model", CPU, said.append)
    assert torch.equal(logits_of(loaded.model), logits_of(load_model(str(one), CPU).model))
    assert any("org/model" in text for text in said)
    sha = hub.repos["model", "org/model"].sha
    fetched = {path.split(f"/resolve/{sha}/")[1] for path in paths(hub) if "/resolve/" in path}
    unwanted = {"evil.py", "pytorch_model.bin", "onnx/config.json", "consolidated.safetensors"}
    assert "model.safetensors" in fetched and not fetched & unwanted
    hub.seen.clear()
    assert load_model("org/model", CPU).fingerprint == loaded.fingerprint
    assert known_parameters("org/model") == loaded.parameters
    assert not hub.seen, "what is in the cache costs no request"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("org/model", CPU).parameters == loaded.parameters
    assert missing_reason("org/model", CPU) is None


def test_tokenizers_of_the_hub_are_compared_before_weights_are_downloaded(hub, tmp_path):
    """Gigabytes were fetched before two tokenizers that differ were refused."""
    other = save_tiny(tmp_path / "other", seed=2, tokenizer=shouting_tokenizer())
    assert "cannot be a pair" in refusal(load_pair, "org/model", str(other), LoadedModels(CPU))
    assert not any(path.endswith(".safetensors") for path in paths(hub))
    assert known_parameters("org/model") is None  # not taken for complete
    assert load_model("org/model", CPU).parameters > 0


def test_a_download_can_be_stopped_and_completed_later(hub):
    def on_status(text):
        if text.startswith("Downloading"):
            raise StopRequested(keep=False)

    with pytest.raises(StopRequested):
        load_model("org/model", CPU, on_status)
    assert known_parameters("org/model") is None
    assert load_model("org/model", CPU).parameters > 0


def test_a_hub_adapter_on_a_local_base(hub, one, tmp_path):
    tuned = load_model(f"{one}::org/lora", CPU)
    local = load_model(f"{one}::{tmp_path / 'hub-lora'}", CPU)
    assert torch.equal(logits_of(tuned.model), logits_of(local.model))
    assert "adapter, not a whole model" in refusal(load_model, "org/lora", CPU)
    assert "no LoRA adapter" in refusal(load_model, f"{one}::org/model", CPU)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("org/nobody", "knows no model"),
        ("org/gated", "is gated.*HF_TOKEN"),
        ("org/model@v9", "no revision 'v9'"),
        ("org/down", "answered 503"),
        ("org/pickles", "no safetensors"),
    ],
)
def test_what_the_hub_will_not_give_is_said(hub, ref, expected):
    text = refusal(load_model, ref, CPU)
    assert re.search(expected, text), text
    assert not any("/resolve/" in path for path in paths(hub))


def test_an_interrupted_download_is_completed(hub):
    load_model("org/model", CPU)
    weights = next(Path(constants.HF_HUB_CACHE).rglob("snapshots/*/model.safetensors"))
    weights.resolve().unlink()
    weights.unlink()
    assert known_parameters("org/model") is None
    hub.seen.clear()
    load_model("org/model", CPU)
    assert any(path.endswith("model.safetensors") for path in paths(hub))
