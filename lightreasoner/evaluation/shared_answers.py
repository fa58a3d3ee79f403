"""Answers that several evaluations share: those of the same base model to the same problems in the same batches."""

import shutil
from pathlib import Path

from lightreasoner.evaluation.results import FOLDER
from lightreasoner.storage.checksums import note_checksum


def share_answers(source: Path, target: Path) -> None:
    """Copy the base's answers from one evaluation's folder to another's that lacks them."""
    for path in sorted((source / FOLDER).glob("00-*.parquet")):
        copy = target / FOLDER / path.name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(path, part)
            note_checksum(copy, part)
            part.replace(copy)
