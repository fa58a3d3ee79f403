"""Answers that several evaluations share: those of the same base model to the same problems in the same batches."""

import shutil
from functools import partial
from pathlib import Path

from lightreasoner.evaluation.results import FOLDER
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.checksums import note_checksum


def share_answers(source: Path, target: Path) -> None:
    """Copy the base's answers from one evaluation's folder to another's that lacks them."""
    for path in sorted((source / FOLDER).glob("00-*.parquet")):
        copy = target / FOLDER / path.name
        if not copy.exists():
            with open(path, "rb") as own, atomic_file(copy, before=partial(note_checksum, copy)) as file:
                shutil.copyfileobj(own, file)
