"""The user's annotations of single steps of a dataset, stored in its marks.json.

keep: always a training sample. drop: never a training sample. pin: a bookmark, listed first.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from filelock import FileLock

from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import write_text

Kind = Literal["keep", "drop", "pin"]
KINDS: tuple[Kind, ...] = ("keep", "drop", "pin")
MAX_ANNOTATIONS = 20_000  # every change rewrites the whole file
StepKey = tuple[str, int, int]  # problem id, sample, step


@dataclass(frozen=True)
class Annotations:
    """The annotations of a dataset by (problem id, sample, step)."""

    by_step: MappingProxyType[StepKey, Kind] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, problem_id: str, sample: int, step: int) -> Kind | None:
        return self.by_step.get((problem_id, sample, step))

    def of(self, kind: Kind) -> set[StepKey]:
        return {key for key, own in self.by_step.items() if own == kind}


def load_annotations(folder: Path) -> Annotations:
    """The annotations of the dataset in this folder; none without a file. Raises UserError for a damaged file."""
    return Annotations(MappingProxyType(_read(annotations_path(folder))))


def set_annotation(folder: Path, key: StepKey, kind: Kind | None) -> Annotations:
    """Annotate one step, or remove its annotation with None. Returns all annotations. Safe for concurrent writers.

    Raises UserError for an unknown kind, for a dataset that was deleted and for a damaged file, which stays as it is.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"There is no annotation {str(kind)[:20]!r}; use keep, drop or pin, or none to remove it.")
    key = check_step_key(key)
    if not folder.is_dir():
        raise UserError(f"There is no dataset in {folder}; it was deleted or moved.")
    path = annotations_path(folder)
    with FileLock(folder / ".marks.lock"):
        annotations = _read(path)
        if kind is None:
            annotations.pop(key, None)
        else:
            annotations[key] = kind
        if len(annotations) > MAX_ANNOTATIONS:
            raise UserError(
                f"This dataset already has {MAX_ANNOTATIONS:,} annotations, the maximum; remove some first."
            )
        lines = [json.dumps([*step, own], ensure_ascii=False) for step, own in annotations.items()]
        head = '{"format": "lightreasoner-marks", "version": 1, "marks": ['
        write_text(path, head + ",\n".join(["", *lines]).removeprefix(",") + "\n]}\n")
    return Annotations(MappingProxyType(annotations))


def annotations_path(folder: Path) -> Path:
    return folder / "marks.json"


def check_step_key(key: object) -> StepKey:
    """The key as a tuple. Raises UserError unless it is (problem id, sample, step)."""
    ok = isinstance(key, tuple | list) and len(key) == 3 and isinstance(key[0], str) and 0 < len(key[0]) <= 500
    if not ok or not all(isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**31 for x in key[1:]):
        raise UserError(f"{str(key)[:60]} is not a step; give a problem's id, a sample and a step.")
    return (key[0], key[1], key[2])


def _read(path: Path) -> dict[StepKey, Kind]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != "lightreasoner-marks" or document["version"] != 1:
            raise ValueError
        annotations = {check_step_key(entry[:3]): entry[3] for entry in document["marks"]}
        if not set(annotations.values()) <= set(KINDS):
            raise ValueError
        return annotations
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, UserError):
        raise UserError(
            f"{path} cannot be read, so the annotations of this dataset are unknown; repair it, or move it away to "
            "start without annotations."
        ) from None
