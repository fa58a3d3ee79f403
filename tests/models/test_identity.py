"""Whether a model is the one that a record names, whatever wrote its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from lightreasoner.errors import UserError
from lightreasoner.models.identity import describe_models, differences, same_model
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import begin_run, changed_versions, note_versions, read_run
from tests.support.tiny_models import TEXTS, save_tiny, tiny_tokenizer

CPU = Settings(device="cpu", dtype="float32")


def load(folder: Path):
    return load_model(str(folder), CPU)


def edit(path: Path, **changes) -> None:
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: item for name, item in value.items() if item != "gone"}))


def resave(folder: Path) -> None:
    AutoConfig.from_pretrained(folder).save_pretrained(folder)


def older_names(folder: Path) -> None:
    theta = json.loads((folder / "config.json").read_text())["rope_parameters"]["rope_theta"]
    edit(folder / "config.json", rope_parameters="gone", rope_theta=theta, dtype="gone", torch_dtype="float32")


def in_two_files(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"b.safetensors": names[::2], "a.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name].clone() for name in held}, folder / shard, {"format": "pt"})
    index = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "model.safetensors").unlink()


SAME = {
    "another version": lambda folder: edit(folder / "config.json", transformers_version="4.44.0"),
    "a local path": lambda folder: edit(folder / "config.json", _name_or_path="/home/me/model"),
    "saved again": resave,
    "names of transformers 4": older_names,
    "names of transformers 4, saved again": lambda folder: (
        older_names(folder),
        edit(folder / "config.json", use_cache=False),
        resave(folder),
    ),
    "another order of keys": lambda folder: (folder / "config.json").write_text(
        json.dumps(dict(reversed(json.loads((folder / "config.json").read_text()).items())), indent=7)
    ),
    "weights in two files": in_two_files,
}
OTHER = {
    "weights": lambda folder: save_tiny(folder, 2),
    "configuration": lambda folder: edit(folder / "config.json", rms_norm_eps=0.1),
    "tokenizer": lambda folder: tiny_tokenizer([*TEXTS, "zq zq zq zq zq"]).save_pretrained(folder),
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
}


@pytest.mark.parametrize("change", SAME)
def test_a_model_saved_again_is_the_same(tmp_path, change):
    """config.json saved again, by another version or in another order, made a dataset "another expert's"."""
    before = load(save_tiny(tmp_path, 1))
    about = describe_models({"expert": before})
    begin_run(tmp_path / "run", "dataset", {}, about)
    SAME[change](tmp_path)
    after = load(tmp_path)
    assert (after.fingerprint != before.fingerprint) is (change != "saved again"), "the same bytes here"
    assert differences(about, "expert", after) == []
    begin_run(tmp_path / "run", "dataset", {}, describe_models({"expert": after}, about))


@pytest.mark.parametrize("part", OTHER)
def test_what_changed_is_named(tmp_path, part):
    """The fingerprint covered weights and config only: half a dataset could have another prompt."""
    about = describe_models({"expert": load(save_tiny(tmp_path, 1))})
    begin_run(tmp_path / "run", "dataset", {}, about)
    OTHER[part](tmp_path)
    after = load(tmp_path)
    assert differences(about, "expert", after) == [part]
    with pytest.raises(UserError, match=f"the expert's {part} has changed since|the expert has changed since"):
        begin_run(tmp_path / "run", "dataset", {}, describe_models({"expert": after}, about))


def test_records_of_former_versions_are_accepted_as_before(tmp_path):
    """They have one fingerprint of the files and no marks."""
    old = {"fingerprints": {"expert": load(save_tiny(tmp_path, 1)).fingerprint}}
    begin_run(tmp_path / "run", "dataset", {}, old)
    assert differences(old, "expert", load(tmp_path)) == []
    begin_run(tmp_path / "run", "dataset", {}, describe_models({"expert": load(tmp_path)}, old))
    assert differences(old, "expert", load(save_tiny(tmp_path, 2))) == ["weights"]
    assert differences({}, "expert", load(tmp_path)) == [], "an imported dataset"


def test_another_library_may_describe_the_same_files_in_other_words(tmp_path, monkeypatch):
    """An upgrade of transformers that renames settings must not part a run from its model."""
    about = describe_models({"expert": load(save_tiny(tmp_path, 1))})
    monkeypatch.setattr("lightreasoner.models.identity.configuration", lambda config: {"renamed": 1})
    assert differences(about, "expert", load(tmp_path)) == []


def test_an_adapter_saved_again_is_the_same(tmp_path):
    from tests.support.tiny_models import save_tiny_adapter, tiny_model

    base = save_tiny(tmp_path / "base", 1)
    save_tiny_adapter(tmp_path / "lora", tiny_model(1))
    before = load_model(f"{base}::{tmp_path / 'lora'}", CPU)
    edit(tmp_path / "lora/adapter_config.json", peft_version="0.1", base_model_name_or_path="elsewhere", revision="x")
    after = load_model(f"{base}::{tmp_path / 'lora'}", CPU)
    assert differences(describe_models({"expert": before}), "expert", after) == [] and same_model(before, after)
    edit(tmp_path / "lora/adapter_config.json", lora_alpha=99)
    louder = load_model(f"{base}::{tmp_path / 'lora'}", CPU)
    assert differences(describe_models({"expert": before}), "expert", louder) == ["weights"]
    assert not same_model(before, louder)


def test_changed_versions_are_named_on_resume(tmp_path, monkeypatch):
    """A run that was resumed with other libraries showed those of its first start only."""
    first = {"torch": "2.13.0", "transformers": "5.23.0"}
    monkeypatch.setattr("lightreasoner.storage.runs.versions", lambda: now)
    now = first
    begin_run(tmp_path, "dataset", {}, {"versions": first})
    assert note_versions(tmp_path) is None and "resumed" not in read_run(tmp_path)["about"]
    now = first | {"transformers": "5.24.0"}
    sentence = "The run was resumed with other versions: transformers 5.23.0 → 5.24.0."
    assert note_versions(tmp_path) == note_versions(tmp_path) == sentence == changed_versions(read_run(tmp_path))
    assert len(read_run(tmp_path)["about"]["resumed"]) == 1
    assert note_versions(tmp_path / "none") is None
    torch.manual_seed(0)
