"""A damaged adapter, or one of another base, is one sentence wherever an adapter is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lightreasoner.errors import UserError
from lightreasoner.evaluation.evaluate import activate_adapter
from lightreasoner.evaluation.results import Variant
from lightreasoner.evaluation.run import adapter_of
from lightreasoner.models.adapters import add_lora, save_adapter
from lightreasoner.models.identity import describe_models
from lightreasoner.models.loading import load_model
from lightreasoner.publishing.contents import publication
from lightreasoner.settings import Settings
from lightreasoner.storage.checksums import FILE as CHECKSUMS
from lightreasoner.storage.runs import begin_run
from lightreasoner.training.merge import merge_run
from tests.support.tiny_models import save_tiny, tiny_model

CPU = Settings(device="cpu", dtype="float32")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with two models of one shape, and a fine-tuning run of the first one."""
    place = tmp_path_factory.mktemp("made")
    for seed in (1, 2):
        save_tiny(place / f"base{seed}", seed=seed)
    loaded = load_model(str(place / "base1"), CPU)
    about = {"expert": str(place / "base1"), "dataset": {}} | describe_models({"expert": loaded})
    begin_run(place / "run", "finetune", {"method": "lightreasoner"}, about)
    model = add_lora(AutoModelForCausalLM.from_pretrained(place / "base1"), 4, 8, 0.0, ("q_proj",), seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    save_adapter(model, place / "run/adapter", "# a card")
    return place


def read_everywhere(run: Path, base: Path, out: Path) -> list[str]:
    """What those who read an adapter say of the one in a run; "" for nothing."""

    def evaluate():
        activate_adapter(load_model(str(base), CPU), None, Variant("tuned", adapter_of(run)))

    def push():
        out.mkdir()
        with publication(run, out, None):
            pass

    readers = [lambda: load_model(f"{base}::{run / 'adapter'}", CPU), evaluate, push]
    readers += [lambda: merge_run(run, out / "merged", CPU)]
    said = []
    for read in readers:
        try:
            read()
            said.append("")
        except UserError as error:
            said.append(str(error))
    return said


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def edit(path: Path, **values) -> None:
    """Change a configuration as somebody without a checksum might find it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    (path.with_name(CHECKSUMS)).unlink()


def garble(adapter: Path) -> None:
    data = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(data[: -len(data) // 2] + b"\xff" * (len(data) // 2))
    (adapter / CHECKSUMS).unlink()


DAMAGES = {
    "truncated": lambda a: (a / WEIGHTS).write_bytes((a / WEIGHTS).read_bytes()[:-100]),
    "empty": lambda a: (a / WEIGHTS).write_bytes(b""),
    "garbage": lambda a: (a / WEIGHTS).write_bytes(b"\x93 garbage " * 1000),
    "a bad header": lambda a: (a / WEIGHTS).write_bytes(b"\xff" * 8 + (a / WEIGHTS).read_bytes()[8:]),
    "one flipped byte of its weights": lambda a: flip(a / WEIGHTS, -9),
    "one flipped byte of its header": lambda a: flip(a / WEIGHTS, 40),
    "one flipped byte of its configuration": lambda a: flip(
        a / CONFIG, (a / CONFIG).read_text().index("lora_alpha") + 13
    ),
    "values that are no numbers": garble,
    "a rank beyond all memory": lambda a: edit(a / CONFIG, r=10**9),
    "a rank that is text": lambda a: edit(a / CONFIG, r="4"),
    "an alpha that is text": lambda a: edit(a / CONFIG, lora_alpha="much"),
    "targets that are a number": lambda a: edit(a / CONFIG, target_modules=7),
    "other layers": lambda a: edit(a / CONFIG, target_modules=["v_proj"]),
    "no configuration": lambda a: (a / CONFIG).write_text("[]"),
    "a file that cannot be text": lambda a: (a / CONFIG).write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_one_sentence_everywhere(made, tmp_path, damage):
    """It was a traceback in `evaluate` and `merge`, and one flipped byte was never noticed."""
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    DAMAGES[damage](run / "adapter")
    *read, merged = read_everywhere(run, made / "base1", tmp_path / "out")
    harmless_to_send = damage.startswith(("values", "an alpha", "targets", "other"))
    for sentence in (*read[: 2 if harmless_to_send else 3], merged):
        assert "adapter" in sentence and "\n" not in sentence and len(sentence) < 600


def test_an_adapter_of_another_base_is_refused_everywhere(made, tmp_path):
    """Of the same shape, so that it fits: it was loaded without a word. A copy without its run is known by its base."""
    shutil.copytree(made / "run/adapter", tmp_path / "copy")
    for adapter in (made / "run/adapter", tmp_path / "copy"):
        loaded = load_model(str(made / "base2"), CPU)
        for read in (
            lambda adapter=adapter: load_model(f"{made / 'base2'}::{adapter}", CPU),
            lambda adapter=adapter, loaded=loaded: activate_adapter(loaded, None, Variant("t", adapter)),
        ):
            with pytest.raises(UserError, match=r"was trained on .*base1, whose weights are others\. Use the base"):
                read()


def test_a_copy_of_the_base_is_the_base(made, tmp_path):
    """Also where the copy is saved by another version, and for adapters without a checksum."""
    tiny_model(1).save_pretrained(tmp_path / "again", max_shard_size="40KB")
    for file in (made / "base1").glob("*token*"):
        shutil.copy(file, tmp_path / "again")
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run/adapter" / CHECKSUMS).unlink()
    assert read_everywhere(tmp_path / "run", tmp_path / "again", tmp_path / "out") == ["", "", "", ""]
