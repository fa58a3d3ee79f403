"""Run folders: the folder of a long-running command, and the run.json that records its configuration.

A folder belongs to one configuration: the same command resumes it, and a different command is refused.
"""

import json
import math
import platform
import secrets
import shutil
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightreasoner import __version__
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, locked, write_json

FORMAT, VERSION = "lightreasoner-run", 1
RECORD = "run.json"
LOCK = ".lock"  # locked by the process that works in the folder
BEATING = ".heartbeat"  # touched by that process
#: The kinds of runs that are asked for, as sentences call them.
KINDS = {"dataset": "a dataset", "evaluation": "an evaluation", "experiment": "an experiment"}
RENAMED = {"finetune": {"group": "max_samples_per_trajectory"}}  # kind → setting until version 0.2 → its name now
ARROW = " → "  # between the versions of two starts
TRASH = ".deleted-"  # a folder that is being deleted


def versions() -> dict[str, str]:
    """The versions that the results of a run depend on."""
    known = {"lightreasoner": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "accelerate"):
        with suppress(PackageNotFoundError):
            known[package] = version(package)
    return known


def begin_run(folder: Path, kind: str, config: dict, about: dict) -> dict:
    """Write run.json, or check that the existing one is of the same run. Returns the record of the first start.

    config: the user's settings. about: facts such as versions and device, of which only about["fingerprints"]
    and about["marks"] (name → text) must stay the same. Raises UserError that names each difference with both values.
    """
    folder = Path(folder)
    record = {"format": FORMAT, "version": VERSION, "kind": kind, "config": config, "about": about}
    record = json.loads(json.dumps(record, default=str)) | {"created": time.time()}
    if not (folder / RECORD).exists():
        write_json(folder / RECORD, record)
        return record
    known = read_run(folder)
    differences = [] if known["kind"] == kind else [f"it holds a {known['kind']}, not a {kind}"]
    before, now = (flat_config(side["config"]) for side in (known, record))
    for name in before | now:
        if name not in before or name not in now or before[name] != now[name]:
            differences.append(f"{name} was {_shown(before.get(name))}, now {_shown(now.get(name))}")
    before, now = (side["about"].get("fingerprints", {}) | side["about"].get("marks", {}) for side in (known, record))
    differences += [f"the {name} has changed since" for name in now if name in before and before[name] != now[name]]
    if differences:
        raise UserError(
            f"{folder} belongs to another run: {'; '.join(differences)}. Use the old settings to resume it, or "
            "another folder."
        )
    return known


def note_versions(folder: Path) -> str | None:
    """Add the versions of this start to a run's record where they differ from those of its last start.

    Called before new work, so that a finished run stays as it is. Returns the sentence of `changed_versions`; None
    for a folder without a record.
    """
    if not (Path(folder) / RECORD).exists():
        return None
    record, now = read_run(folder), versions()
    starts = [record["about"].get("versions") or now, *(start["versions"] for start in _resumed(record))]
    if starts[-1] != now:
        record["about"]["resumed"] = [*_resumed(record), {"at": time.time(), "versions": now}]
        write_json(Path(folder) / RECORD, record)
    return changed_versions(record)


def _resumed(record: dict) -> list[dict]:
    return record["about"].get("resumed") or []


def changed_versions(record: dict) -> str | None:
    """A sentence on the packages whose versions changed between a run's starts; None where none did."""
    changed = [f"{name} {seen}" for name, seen in versions_shown(record).items() if ARROW in seen]
    return f"The run was resumed with other versions: {', '.join(changed)}." if changed else None


def versions_shown(record: dict) -> dict[str, str]:
    """The versions of a run for a card: of a package that changed between its starts, one after another."""
    starts = [record["about"].get("versions") or {}, *(start["versions"] for start in _resumed(record))]
    names = dict.fromkeys(name for start in starts for name in start)
    return {name: ARROW.join(dict.fromkeys(str(s[name]) for s in starts if name in s)) for name in names}


def stored_run(folder: Path) -> dict[str, dict]:
    """The parts "config" and "about" of the record in a folder; empty where there is none yet. Raises UserError."""
    known = read_run(folder) if (Path(folder) / RECORD).exists() else {}
    return {name: known.get(name, {}) for name in ("config", "about")}


def flat_config(config: dict) -> dict:
    """A configuration with the settings of its prompt one by one, so that each can be named and shown."""
    prompt = config.get("prompt")
    if not isinstance(prompt, dict):
        return config
    rest = {name: value for name, value in config.items() if name != "prompt"}
    return rest | {f"the prompt's {name}": value for name, value in prompt.items()}


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)[:80]


def read_run(folder: Path, kind: str | None = None) -> dict:
    """The record of a run folder. kind: the one that it must be, a key of KINDS; None: any.

    Raises UserError if there is no run.json, if it is damaged, or for a run of another kind.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a run folder: it has no {RECORD}. Check the path.") from None
    except (OSError, ValueError, RecursionError):
        record = None
    types = {"kind": str, "config": dict, "about": dict, "created": int | float}
    if (
        not isinstance(record, dict)
        or record.get("format") != FORMAT
        or not all(isinstance(record.get(name), kind) for name, kind in types.items())
        or not math.isfinite(record["created"])
        or not _has_usual_parts(record)
    ):
        raise UserError(f"{path} is damaged, so the run cannot be used; start a new one in another folder.")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path} has version {record.get('version')!r:.20} and this software reads {VERSION}; "
            "use the software that wrote it."
        )
    if kind and record["kind"] != kind:
        raise UserError(f"{folder} holds a {record['kind']} run, not {KINDS[kind]}; name the folder of {KINDS[kind]}.")
    names = RENAMED.get(record["kind"], {})
    record["config"] = {names.get(name, name): value for name, value in record["config"].items()}
    return record


def _has_usual_parts(record: dict) -> bool:
    """Whether what its readers open is there as an object, a list or a number, where it is there."""
    contrasts = record["config"].get("contrasts") or []
    return (
        all(isinstance(record["about"].get(name), dict | None) for name in ("pair", "dataset", "marks", "fingerprints"))
        and all(isinstance(record["config"].get(name), list | None) for name in ("contrasts", "adapters", "arm"))
        and all(isinstance(contrast, dict) for contrast in contrasts)
        and all(isinstance(c.get(name), int | float | None) for c in contrasts for name in ("alpha", "beta", "cap"))
    )


def add_to_run(folder: Path, **entries: Any) -> dict:
    """Add entries, such as the result, to a run's record. Returns the new record. Raises UserError."""
    reserved = {"format", "version", "kind", "config", "about", "created"} & set(entries)
    if reserved:
        raise ValueError(f"{', '.join(sorted(reserved))} of a run cannot be changed")
    record = read_run(folder) | entries
    write_json(Path(folder) / RECORD, record)
    return record


def list_runs(parent: Path, kind: str | None = None) -> list[tuple[Path, dict]]:
    """(folder, record) of the readable runs in a folder, newest first."""
    runs = []
    for folder in Path(parent).glob("[!.]*"):
        with suppress(UserError):
            record = read_run(folder)
            if kind in (None, record["kind"]):
                runs.append((folder, record))
    return sorted(runs, key=lambda run: (run[1]["created"], run[0].name), reverse=True)


def run_folder(settings: Settings, run_id: str) -> Path:
    """The folder of the run with this id, whether it exists or not, or of a run whose folder a user named, unless the
    server is public: there a link is a permission, so names must not be guessable. Raises UserError for an invalid id.
    """
    valid = isinstance(run_id, str) and ID_PATTERN.fullmatch(run_id)
    if not valid and (settings.public or run_id not in [folder.name for folder in settings.runs.glob("[!.]*")]):
        raise UserError("That is no valid run id; copy it again in full.")
    return settings.runs / run_id


def delete_run(folder: Path) -> None:
    """Delete a run folder. Raises UserError if it is none, or a process works in it."""
    folder = Path(folder)
    read_run(folder)
    with locked(folder / LOCK, "A job is working on this run; stop it first, then delete the run."):
        try:  # renamed first, so that an incomplete deletion leaves no half run
            folder.rename(folder.with_name(f"{TRASH}{folder.name}-{secrets.token_hex(4)}"))
        except OSError as error:
            raise UserError(f"{folder} cannot be deleted: {error.strerror}. Check its permissions.") from None
    for leftover in folder.parent.glob(f"{TRASH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
