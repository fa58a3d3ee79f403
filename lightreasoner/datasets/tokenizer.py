"""The words of a dataset: its expert's tokenizer, had without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import atomic_folder

FOLDER = "tokenizer"  # in the run folder, where whoever wrote the run may have kept a copy


def dataset_tokenizer(folder: Path, run: dict) -> Any:
    """The tokenizer of a dataset's ids: the copy in its folder, else the expert's. Loads no model, asks no network.

    Raises UserError where there is none, which leaves ids without texts and nothing else amiss.
    """
    from lightreasoner.models.loading import load_tokenizer

    own = Path(folder) / FOLDER
    if (own / "tokenizer.json").is_file():
        return load_tokenizer(own)
    expert = run["config"].get("expert")
    if not isinstance(expert, str):
        raise UserError("This dataset does not say which model wrote it, so its tokens have no texts.")
    try:
        return load_tokenizer(expert)
    except UserError as error:
        raise UserError(f"The tokens' texts need the tokenizer of {expert}, which cannot be had. {error}") from None


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Keep a copy in a run folder, so that its dataset stays readable when the model is gone.

    Whole or not at all; a copy that is there stays. Raises UserError when the disk refuses.
    """
    own = Path(folder) / FOLDER
    if own.exists():
        return
    with atomic_folder(own) as temporary:
        tokenizer.save_pretrained(temporary)
