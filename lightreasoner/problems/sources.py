"""The named problem sources (assets/problems.toml), and the rows of those on the Hugging Face Hub."""

import itertools
import logging
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lightreasoner.compat.transformers import datasets_offline
from lightreasoner.errors import UserError, first_line
from lightreasoner.problems.files import Row
from lightreasoner.settings import ASSETS

log = logging.getLogger(__name__)

HUB_SECONDS = 5  # time-out for a first answer from the Hub


@dataclass(frozen=True)
class Source:
    """A named set of problems. With `repo` it is on the Hugging Face Hub, otherwise it is bundled."""

    key: str
    title: str
    description: str  # one sentence
    license: str
    splits: tuple[str, ...]  # the first is the default
    columns: str  # the columns of question, answer and solution
    answer_form: str
    sizes: tuple[int, ...] = ()  # problems of each split
    repo: str | None = None
    configs: tuple[str | None, ...] = (None,)  # read in turn, one row each, so that a limit covers all of them


def _read_sources() -> dict[str, Source]:
    """The sources of assets/problems.toml by key, in its order."""
    read = tomllib.loads((ASSETS / "problems.toml").read_text(encoding="utf-8"))["source"]
    rows = [{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()} for row in read]
    return {row["key"]: Source(**row) for row in rows}


SOURCES = _read_sources()


def problems_title(problems: str) -> str:
    """The title of a source, by its key; the name of any other file of problems."""
    return SOURCES[problems].title if problems in SOURCES else Path(problems).name


def hub_rows(source: Source, split: str) -> Iterator[Row]:
    """The rows of a benchmark, from the Hub or from an earlier download on this computer.

    Reads data files only: `datasets` runs no code from a repository. Raises UserError without a connection and a
    copy, or when the repository is missing, gated or changed.
    """
    import datasets  # takes a second to import, and the bundled sets do not need it

    try:
        with nullcontext() if _is_reachable(datasets.config.HF_ENDPOINT) else datasets_offline():
            parts = [datasets.load_dataset(source.repo, config, split=split) for config in source.configs]
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(
            f"{source.title} could not be downloaded: {source.repo} is no longer on the Hub, or needs a login; "
            "run hf auth login, or load a file of your own."
        ) from None
    except ConnectionError:
        no_hub, remedy = f"no connection to {urlsplit(datasets.config.HF_ENDPOINT).hostname}", "Connect"
        if datasets.config.HF_HUB_OFFLINE:
            no_hub, remedy = "HF_HUB_OFFLINE is set and there is no copy on this computer", "Unset it"
        raise UserError(
            f"{source.title} could not be downloaded: {no_hub}. {remedy}, or load a file of your own."
        ) from None
    except Exception as error:  # httpx, Arrow, file system and server errors: a dozen families, one message
        log.warning("loading %s from %s failed", source.key, source.repo, exc_info=True)
        raise UserError(
            f"{source.title} could not be downloaded from {source.repo} ({type(error).__name__}: {first_line(error)}). "
            "Try again later, or load a file of your own."
        ) from None
    in_turn = (row for rows in itertools.zip_longest(*parts) for row in rows if row is not None)
    return enumerate(in_turn, 1)


def has_copy(source: Source) -> bool:
    """Whether an earlier download of a benchmark is on this computer."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / (source.repo or "").replace("/", "___")
    return all(any(folder.glob(f"{config or '*'}/*/*/dataset_info.json")) for config in source.configs)


def _is_reachable(endpoint: str) -> bool:
    """Whether the Hub answers at all. Without it, `datasets` would retry for 24 seconds before it reads its cache."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=HUB_SECONDS)
    except Exception:  # also where HF_HUB_OFFLINE is set
        return False
    return True
