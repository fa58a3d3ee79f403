"""The named problem sources (assets/problems.toml), and the rows of those on the Hugging Face Hub."""

from __future__ import annotations

import itertools
import logging
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightreasoner.compat.transformers import datasets_offline
from lightreasoner.errors import UserError
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
    repo: str | None = None
    configs: tuple[str | None, ...] = (None,)  # read in turn, one row each, so that a limit covers all of them


def _read_sources() -> dict[str, Source]:
    """The sources of assets/problems.toml by key, in its order."""
    read = tomllib.loads((ASSETS / "problems.toml").read_text(encoding="utf-8"))["source"]
    rows = [{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()} for row in read]
    return {row["key"]: Source(**row) for row in rows}


SOURCES = _read_sources()


def hub_rows(source: Source, split: str) -> Iterator[Row]:
    """The rows of a benchmark, from the Hub or from an earlier download on this computer.

    Reads data files only: `datasets` runs no code from a repository. Raises UserError without a connection and a
    copy, or when the repository is missing, gated or changed.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source.title} needs the package datasets; run: pip install datasets") from None
    try:
        with _offline_unless_reachable(datasets):
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
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"{source.title} could not be downloaded from {source.repo} ({type(error).__name__}: {reason}). "
            "Try again later, or load a file of your own."
        ) from None
    in_turn = (row for rows in itertools.zip_longest(*parts) for row in rows if row is not None)
    return enumerate(in_turn, 1)


@contextmanager
def _offline_unless_reachable(datasets) -> Iterator[None]:
    """Makes `datasets` read its cache at once without a connection; by itself it would retry for 24 seconds."""
    from huggingface_hub import get_session

    try:
        # any answer means a connection; with HF_HUB_OFFLINE set this raises, and `datasets` is offline anyway
        get_session().head(datasets.config.HF_ENDPOINT, timeout=HUB_SECONDS)
        reachable = True
    except Exception:
        reachable = False
    if reachable or datasets.config.HF_HUB_OFFLINE:
        yield
        return
    with datasets_offline():
        yield
