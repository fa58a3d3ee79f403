"""The tokenizer of a dataset's token ids: saved with the dataset, loaded without the model."""

from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import atomic_folder

FOLDER = "tokenizer"  # in the run folder


def dataset_tokenizer(folder: Path, run: dict) -> Any:
    """The tokenizer saved in the dataset's folder, otherwise the expert's. Loads no model and makes no request.

    Raises UserError when it is not available; the dataset is then still readable as token ids.
    """
    from lightreasoner.models.loading import load_tokenizer

    own = Path(folder) / FOLDER
    if (own / "tokenizer.json").is_file():
        return load_tokenizer(own)
    expert = run["config"].get("expert")
    if not isinstance(expert, str):
        raise UserError("This dataset does not name the model that generated it, so its token ids have no texts.")
    try:
        return load_tokenizer(expert)
    except UserError as error:
        raise UserError(f"The tokens' texts need the tokenizer of {expert}, which is not available. {error}") from None


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save the tokenizer in a run folder, so that its dataset stays readable without the model.

    Atomic; an existing copy stays. Raises UserError when it cannot be written.
    """
    own = Path(folder) / FOLDER
    if own.exists():
        return
    with atomic_folder(own) as temporary:
        tokenizer.save_pretrained(temporary)
