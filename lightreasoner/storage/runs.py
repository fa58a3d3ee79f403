"""Run folders: the folder of a long-running command, and the run.json that records its configuration.

A folder belongs to one configuration: the same command resumes it, and a different command is refused.
"""

from __future__ import annotations

import json
import math
import platform
import secrets
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightreasoner import __version__
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, write_text

FORMAT, VERSION = "lightreasoner-run", 1
RECORD = "run.json"
LOCK = ".lock"  # locked by the process that works in the folder
RENAMED = {"finetune": {"group": "max_samples_per_trajectory"}}  # kind → setting until version 0.2 → its name now
TRASH = ".deleted-"  # a folder that is being deleted


def versions() -> dict[str, str]:
    """The versions that the results of a run depend on."""
    known = {"lightreasoner": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "accelerate"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known


def begin_run(folder: Path, kind: str, config: dict, about: dict) -> dict:
    """Write run.json, or check that the existing one is of the same run. Returns the record of the first start.

    config: the user's settings. about: facts such as versions and device, of which only about["fingerprints"]
    (name → text) must stay the same. Raises UserError that names each difference with both values.
    """
    folder = Path(folder)
    record = {"format": FORMAT, "version": VERSION, "kind": kind, "config": config, "about": about}
    record = json.loads(json.dumps(record, default=str)) | {"created": time.time()}
    if not (folder / RECORD).exists():
        _write(folder, record)
        return record
    known = read_run(folder)
    differences = [] if known["kind"] == kind else [f"it holds a {known['kind']}, not a {kind}"]
    differences += _differences(known["config"], record["config"])
    now = record["about"].get("fingerprints", {})
    before = known["about"].get("fingerprints", {})
    differences += [f"the {name} has changed since" for name in now if name in before and before[name] != now[name]]
    if differences:
        raise UserError(
            f"{folder} belongs to another run: {'; '.join(differences)}. Use the old settings to resume it, or "
            "another folder."
        )
    return known


def _differences(before: dict, now: dict) -> list[str]:
    nothing = object()
    names = [*before, *(name for name in now if name not in before)]
    values = [(name, before.get(name, nothing), now.get(name, nothing)) for name in names]
    return [f"{name} was {_shown(b, nothing)}, now {_shown(n, nothing)}" for name, b, n in values if b != n]


def _shown(value: Any, nothing: object) -> str:
    return "not set" if value is nothing or value is None else str(value)[:80]


def read_run(folder: Path) -> dict:
    """The record of a run folder. Raises UserError if there is no run.json, or it is damaged."""
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a run folder: it has no {RECORD}. Check the path.") from None
    except (OSError, ValueError, RecursionError):
        record = None
    if (
        not isinstance(record, dict)
        or record.get("format") != FORMAT
        or not isinstance(record.get("kind"), str)
        or not isinstance(record.get("config"), dict)
        or not isinstance(record.get("about"), dict)
        or not isinstance(record.get("created"), int | float)
        or not math.isfinite(record["created"])
    ):
        raise UserError(f"{path} is damaged, so the run cannot be used; start a new one in another folder.")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path} has version {record.get('version')!r:.20} and this software reads {VERSION}; "
            "use the software that wrote it."
        )
    names = RENAMED.get(record["kind"], {})
    record["config"] = {names.get(name, name): value for name, value in record["config"].items()}
    return record


def add_to_run(folder: Path, **entries: Any) -> dict:
    """Add entries, such as the result, to a run's record. Returns the new record. Raises UserError."""
    reserved = {"format", "version", "kind", "config", "about", "created"} & set(entries)
    if reserved:
        raise ValueError(f"{', '.join(sorted(reserved))} of a run cannot be changed")
    record = read_run(folder) | entries
    _write(Path(folder), record)
    return record


def _write(folder: Path, record: dict) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def list_runs(parent: Path, kind: str | None = None) -> list[tuple[Path, dict]]:
    """(folder, record) of the readable runs in a folder, newest first."""
    runs = []
    parent = Path(parent)
    for folder in parent.iterdir() if parent.is_dir() else ():
        try:
            record = read_run(folder) if not folder.name.startswith(".") else None
        except UserError:
            continue
        if record and kind in (None, record["kind"]):
            runs.append((folder, record))
    return sorted(runs, key=lambda run: (run[1]["created"], run[0].name), reverse=True)


def run_folder(settings: Settings, run_id: str) -> Path:
    """The folder of the run with this id, whether it exists or not. Raises UserError for an invalid id."""
    if not isinstance(run_id, str) or not ID_PATTERN.fullmatch(run_id):
        raise UserError("That is no valid run id; copy it again in full.")
    return settings.runs / run_id


def delete_run(folder: Path) -> None:
    """Delete a run folder. Raises UserError if it is none, or a process works in it."""
    folder = Path(folder)
    read_run(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError("This run is being worked on; stop its job first, then delete it.") from None
    # renamed first, so that an incomplete deletion leaves no half run
    trash = folder.with_name(f"{TRASH}{folder.name}-{secrets.token_hex(4)}")
    try:
        folder.rename(trash)
    except OSError as error:
        raise UserError(f"{folder} cannot be deleted: {error.strerror}. Check its permissions.") from None
    finally:
        lock.release()
    for leftover in [trash, *folder.parent.glob(f"{TRASH}*")]:
        shutil.rmtree(leftover, ignore_errors=True)
