"""Presets: settings saved from a run are loaded again as the same, by name or as a file, and options count more."""

from __future__ import annotations

import pytest

from lightreasoner.cli.finetune import config_of, take_preset
from lightreasoner.cli.main import build_parser, main
from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import read_run
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.presets import load_preset, preset_names, save_preset, settings_of
from tests.support.tiny_tuning import make_run

#: What the made-up run's modules are is not what its expert, the bundled one, has by default.
CHOSEN = {"rank": 4, "learning_rate": 1e-3, "schedule": "cosine", "seed": 3, "target_modules": ("q_proj",)}


@pytest.fixture
def settings(tmp_path):
    return Settings(workspace=tmp_path)


@pytest.fixture
def record(tmp_path):
    return read_run(make_run(tmp_path / "runs" / "a", tmp_path / "data", **CHOSEN))


def test_a_run_s_settings_are_saved_and_loaded(settings, record):
    assert preset_names(settings) == [] and save_preset(settings, " Good  one ", record) == "Good one"
    config, selection = settings_of(load_preset(settings, "Good one"), "x")
    assert config == FinetuneConfig(**CHOSEN, max_steps=40) and selection == Selection(alpha=0.2, beta=0.4, seed=3)
    file = settings.workspace / "presets" / "Good one.toml"
    assert load_preset(settings, str(file)) == load_preset(settings, "Good one") and "rank = 4" in file.read_text()
    assert preset_names(settings) == ["Good one"]


def test_usual_layers_are_left_to_the_next_model(settings, record):
    from lightreasoner.models.adapters import usual_targets

    record["config"]["target_modules"] = list(usual_targets(record["about"]["expert"]))
    save_preset(settings, "x", record)
    assert "target_modules" not in load_preset(settings, "x")


def test_on_the_command_line_options_count_more_than_a_preset(settings, record, capsys, monkeypatch):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(settings.workspace))
    assert main(["save-preset", "--run-dir", str(settings.workspace / "runs" / "a"), "good"]) == 0
    assert "--preset good" in capsys.readouterr().out
    given = ["finetune", "--dataset", "d", "--run-dir", "r", "--rank", "8", "--preset", "good", "--max-steps", "7"]
    options = build_parser().parse_args(given)  # 8 is the usual rank, and it was asked for
    take_preset(options, settings)
    assert config_of(options) == FinetuneConfig(**CHOSEN | {"rank": 8, "max_steps": 7})
    plain = build_parser().parse_args(["finetune", "--dataset", "d", "--run-dir", "r"])
    assert config_of(plain) == FinetuneConfig()


@pytest.mark.parametrize("name", [None, 7, "", " ", "../x", "a/b", ".hidden", "x" * 61, "a\0"])
def test_what_is_no_name_is_refused(settings, record, name):
    with pytest.raises(UserError, match="is no name for a preset"):
        save_preset(settings, name, record)


def test_what_is_no_preset_is_refused_in_a_sentence(settings, record):
    save_preset(settings, "good", record)
    with pytest.raises(UserError, match="There is no preset 'bad'; there are: good"):
        load_preset(settings, "bad")
    with pytest.raises(UserError, match="only the settings of fine-tuning"):
        save_preset(settings, "x", {"kind": "dataset", "config": {}, "about": {}})
    file = settings.workspace / "presets" / "bad.toml"
    for text, says in (
        ("rank = ", "cannot be read"),
        ("rang = 3", "has 'rang', which is unknown"),
        ("rank = 0", "rank"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            load_preset(settings, "bad")
