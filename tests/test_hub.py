"""Models from the Hub: a pretend one on a local port, and one that is out of reach."""

import http.server
import json
import pickle
import re
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from lightreasoner.errors import UserError
from lightreasoner.models import describe, load_model, unavailable
from lightreasoner.settings import Settings
from tests.tiny import logits_of, save_tiny, save_tiny_adapter, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's, from saving adapters

CPU = Settings(device="cpu", dtype="float32")
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Never this machine's Hub cache, never the real Hub: unless a test pretends one, its port is closed."""
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


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_an_unreachable_hub_is_said_within_seconds(monkeypatch):
    began = time.monotonic()
    assert "cannot be reached" in refusal(load_model, "org/name", CPU)
    assert unavailable("org/name", CPU) is None, "only the Hub could tell"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(load_model, "org/name@v1", CPU)
    assert "HF_HUB_OFFLINE" in unavailable("org/name", CPU)
    assert "org/lora" in unavailable("org/name::org/lora", CPU)
    assert time.monotonic() - began < 5


def test_a_local_folder_never_stands_in_for_a_hub_id(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(one, "org/name")
    assert "cannot be reached" in refusal(load_model, "org/name", CPU)


@pytest.fixture
def hub(one, tmp_path, monkeypatch):
    """A pretend Hub: org/model and org/lora, whose requests are noted, and some repositories that cannot be had."""
    save_tiny_adapter(tmp_path / "hub-lora", tiny_model(1))
    shutil.copytree(one, tmp_path / "hub-model")
    (tmp_path / "hub-model" / "evil.py").write_text("raise SystemExit")
    (tmp_path / "hub-model" / "onnx").mkdir()
    (tmp_path / "hub-model" / "onnx" / "config.json").write_text("{}")
    shutil.copy(one / "model.safetensors", tmp_path / "hub-model" / "consolidated.safetensors")
    (tmp_path / "hub-model" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    folders = {"org/model": tmp_path / "hub-model", "org/lora": tmp_path / "hub-lora", "org/pickles": tmp_path / "p"}
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "pytorch_model.bin").write_bytes(b"x")
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.split("?")[0]
            found = re.fullmatch(r"/(?:api/models/)?(org/[a-z]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
            if not found:
                return self.answer(404)
            seen.append(path)
            repo, verb, revision, file = found.groups()
            if repo == "org/gated":
                return self.answer(403, error="GatedRepo")
            if repo == "org/down":
                return self.answer(503)
            if repo not in folders:
                return self.answer(404, error="RepoNotFound")
            if revision not in (None, "main", SHA):
                return self.answer(404, error="RevisionNotFound")
            files = {str(p.relative_to(folders[repo])): p for p in folders[repo].rglob("*.*")}
            if verb == "resolve":
                return self.answer(200, files[file].read_bytes())
            if verb == "tree":
                entries = [{"type": "file", "path": n, "size": p.stat().st_size, "oid": SHA} for n, p in files.items()]
                return self.answer(200, json.dumps(entries).encode())
            siblings = [{"rfilename": n, "size": p.stat().st_size} for n, p in files.items()]
            return self.answer(200, json.dumps({"id": repo, "sha": SHA, "siblings": siblings}).encode())

        do_HEAD = do_GET

        def answer(self, code, body=b"", error=None):
            self.send_response(code)
            headers = {"Content-Length": len(body), "ETag": f'"{len(body)}"', "X-Repo-Commit": SHA}
            for name, value in (headers | ({"X-Error-Code": error} if error else {})).items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    point_hub_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield seen
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_fetched_once_and_then_used_from_the_cache(hub, one, monkeypatch):
    said = []
    loaded = load_model("org/model", CPU, said.append)
    assert torch.equal(logits_of(loaded.model), logits_of(load_model(str(one), CPU).model))
    assert any("org/model" in text for text in said)
    fetched = {path.split(f"/resolve/{SHA}/")[1] for path in hub if "/resolve/" in path}
    unwanted = {"evil.py", "pytorch_model.bin", "onnx/config.json", "consolidated.safetensors"}
    assert "model.safetensors" in fetched and not fetched & unwanted
    hub.clear()
    assert load_model("org/model", CPU).fingerprint == loaded.fingerprint
    assert describe("org/model").parameters == loaded.parameters
    assert not hub, "what is in the cache costs no request"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("org/model", CPU).parameters == loaded.parameters
    assert unavailable("org/model", CPU) is None


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
    assert not any("/resolve/" in path for path in hub)


def test_an_interrupted_download_is_completed(hub):
    load_model("org/model", CPU)
    weights = next(Path(constants.HF_HUB_CACHE).rglob("snapshots/*/model.safetensors"))
    weights.resolve().unlink()
    weights.unlink()
    assert describe("org/model") is None
    hub.clear()
    load_model("org/model", CPU)
    assert any(path.endswith("model.safetensors") for path in hub)
