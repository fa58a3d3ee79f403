"""Settings of fine-tuning under a name: saved from a run, and loaded by the form, the command line and plans.

A preset is a TOML file in the workspace's folder `presets`: the settings of FinetuneConfig and Selection that differ
from their defaults, as in an arm of an experiment's plan.
"""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError, first_line
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.training.config import FinetuneConfig

TRAINED = {field.name: field for field in fields(FinetuneConfig)}
SELECTED = {field.name: field for field in fields(Selection)}
NAME = re.compile(r"\w[\w .+-]{0,59}")
SUFFIX = ".toml"


def settings_table(config: FinetuneConfig, selection: Selection) -> dict[str, Any]:
    chosen = {}
    for known, given in ((SELECTED, selection), (TRAINED, config)):
        for name, spec in known.items():
            value = getattr(given, name)
            if value != spec.default:
                chosen[name] = list(value) if isinstance(value, tuple) else value
    return chosen


def settings_of(table: dict[str, Any], whose: str) -> tuple[FinetuneConfig, Selection]:
    """The settings of a table. whose: begins an error's sentence. Raises UserError."""
    refuse_unknown(whose, table, TRAINED | SELECTED)
    trained = {key: value for key, value in table.items() if key in TRAINED}
    if isinstance(modules := trained.get("target_modules"), list):
        trained["target_modules"] = tuple(modules)
    selected = {key: value for key, value in table.items() if key in SELECTED}
    if trained.get("method") == "random-steps":
        selected.setdefault("selector", "random")
    for key in ("method", "selector"):
        if not isinstance(table.get(key, ""), str):
            raise UserError(f"{whose} has the {key} {table[key]!r:.40}, which is no name.")
    return FinetuneConfig(**trained), Selection(**selected)


def refuse_unknown(whose: str, given: dict, known) -> None:
    if unknown := next((key for key in given if key not in known), None):
        raise UserError(f"{whose} has {unknown!r:.60}, which is unknown; use {', '.join(sorted(known))}.")


def toml_value(value: Any) -> str:
    """A text, number, truth value or list of these; JSON writes all of them as TOML does, but for a surrogate."""
    return json.dumps(value, ensure_ascii=False)


def preset_names(settings: Settings) -> list[str]:
    return sorted(path.stem for path in (settings.workspace / "presets").glob(f"[!.]*{SUFFIX}"))


def save_preset(settings: Settings, name: object, record: dict[str, Any]) -> str:
    """Save the settings of a fine-tuning run under a name, which replaces an older preset. Returns the name.

    record: of the run. Raises UserError.
    """
    name = _checked(name)
    if record["kind"] != "finetune":
        raise UserError(f"This is a {record['kind']} run; only the settings of fine-tuning can be saved as a preset.")
    known = {key: value for key, value in record["config"].items() if key in TRAINED | SELECTED}
    about = record["about"].get("expert")
    lines = [f"# Settings of a fine-tuning run of {' '.join(str(about).split())}" if about else "#"]
    table = settings_table(*settings_of({k: v for k, v in known.items() if v is not None}, "This run"))
    if set(table.get("target_modules") or ()) == set(_usual_modules(about)):
        del table["target_modules"]  # so that the preset suits models with other names of layers
    lines += [f"{key} = {toml_value(value)}" for key, value in table.items()]
    write_text(settings.workspace / "presets" / f"{name}{SUFFIX}", "\n".join(lines) + "\n")
    return name


def _usual_modules(expert: object) -> tuple[str, ...]:
    """The layers that are adapted by default, of an expert on this disk; else the usual names."""
    from lightreasoner.models.adapters import TARGETS, usual_targets

    try:
        return (usual_targets(expert) if isinstance(expert, str) else None) or TARGETS[0]
    except UserError:
        return TARGETS[0]


def load_preset(settings: Settings, ref: str) -> dict[str, Any]:
    """The settings of a preset that are not the usual ones. ref: its name, or the path of a file. Raises UserError."""
    path = Path(ref)
    if path.suffix != SUFFIX:
        path = settings.workspace / "presets" / f"{_checked(ref)}{SUFFIX}"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(preset_names(settings)) or "none yet"
        raise UserError(f"There is no preset {ref!r:.80}; there are: {there}.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"The preset {path} cannot be read: {why}. Save it again.") from None
    settings_of(table, f"The preset {path.stem!r:.60}")
    return table


def _checked(name: object) -> str:
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not NAME.fullmatch(text) or text.endswith("."):
        raise UserError(
            f"{str(name)[:60]!r} is no name for a preset; use 1 to 60 letters, digits, spaces and . + - _ characters."
        )
    return text
