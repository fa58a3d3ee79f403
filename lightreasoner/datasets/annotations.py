"""What a person said of single steps of a dataset, remembered with it in marks.json.

keep: always a training sample. drop: never one. pin: a bookmark, shown first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from filelock import FileLock

from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import write_text

KINDS = ("keep", "drop", "pin")
MOST = 20_000  # the file is written anew with every mark; on a public server anybody may set them
Kind = Literal["keep", "drop", "pin"]
Key = tuple[str, int, int]  # problem id, sample, step


@dataclass(frozen=True)
class Marks:
    """The marks of a dataset by (problem id, sample, step)."""

    by_step: MappingProxyType[Key, Kind] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, problem_id: str, sample: int, step: int) -> Kind | None:
        return self.by_step.get((problem_id, sample, step))

    def of(self, kind: Kind) -> set[Key]:
        return {key for key, mark in self.by_step.items() if mark == kind}


def load_marks(folder: Path) -> Marks:
    """The marks of the dataset in this folder; none where there is no file. Raises UserError for a damaged file."""
    return Marks(MappingProxyType(_read(marks_path(folder))))


def set_mark(folder: Path, key: Key, kind: Kind | None) -> Marks:
    """Mark one step, or take its mark away with None; all marks afterwards. Safe with several writers at once.

    Raises UserError for a mark that there is none of, for a dataset that is gone and for a damaged file, which stays
    as it is.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"There is no mark {str(kind)[:20]!r}; use keep, drop or pin, or none to take it away.")
    key = checked_key(key)
    if not folder.is_dir():
        raise UserError(f"There is no dataset in {folder}; it was deleted or moved.")
    path = marks_path(folder)
    with FileLock(folder / ".marks.lock"):
        marks = _read(path)
        if kind is None:
            marks.pop(key, None)
        else:
            marks[key] = kind
        if len(marks) > MOST:
            raise UserError(f"This dataset has {MOST:,} marks, as many as there can be; take some away first.")
        lines = [json.dumps([*key, mark], ensure_ascii=False) for key, mark in marks.items()]
        head = '{"format": "lightreasoner-marks", "version": 1, "marks": ['
        write_text(path, head + ",\n".join(["", *lines]).removeprefix(",") + "\n]}\n")
    return Marks(MappingProxyType(marks))


def marks_path(folder: Path) -> Path:
    return folder / "marks.json"


def checked_key(key: object) -> Key:
    """Raises UserError unless the key is what names a step."""
    ok = isinstance(key, tuple | list) and len(key) == 3 and isinstance(key[0], str) and 0 < len(key[0]) <= 500
    if not ok or not all(isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**31 for x in key[1:]):
        raise UserError(f"{str(key)[:60]} names no step; give a problem's id, a sample and a step.")
    return (key[0], key[1], key[2])


def _read(path: Path) -> dict[Key, Kind]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != "lightreasoner-marks" or document["version"] != 1:
            raise ValueError
        marks = {checked_key(entry[:3]): entry[3] for entry in document["marks"]}
        if not set(marks.values()) <= set(KINDS):
            raise ValueError
        return marks
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, UserError):
        raise UserError(
            f"{path} cannot be read, so the marks of this dataset are not known; repair it, or move it away to start "
            "without marks."
        ) from None
