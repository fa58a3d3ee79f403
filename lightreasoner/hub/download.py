"""Fetching model repositories from the Hugging Face Hub into its cache, and saying plainly why one cannot be had."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from lightreasoner.errors import UserError

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: Only the top level, and nothing that is pickled or code.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
IGNORED = ("*/*", "consolidated*")
TIMEOUT = 5  # seconds until the Hub counts as out of reach


class NotCached(UserError):
    """No complete copy is in the cache, and the Hub was not to be asked."""


def cached_snapshot(repo: str, revision: str | None, wanted: tuple[str, ...] = MODEL_FILES) -> Path | None:
    """The folder of a repository in the Hub's cache, or None where it is not known to be complete. No network."""
    try:
        path = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=list(wanted), ignore_patterns=list(IGNORED)
        )
    except (LocalEntryNotFoundError, OSError):
        return None
    return Path(path)


def unreachable(repo: str, revision: str | None, reason: str = "HF_HUB_OFFLINE is set") -> str:
    """The sentence for a repository that is neither in the cache nor within reach."""
    return (
        f"No complete copy of {_name(repo, revision)} is in the local cache, and the Hugging Face Hub cannot be "
        f"reached ({reason}). Connect once to fetch it, or name a folder or GGUF file on this machine."
    )


def download_snapshot(
    repo: str,
    revision: str | None,
    wanted: tuple[str, ...] = MODEL_FILES,
    on_status: Callable[[str], None] | None = None,
) -> Path:
    """Fetch a repository's files into the Hub's cache and return their folder.

    Raises UserError, within seconds, when the Hub is out of reach or the repository or revision is unknown or gated,
    has no safetensors, or does not fit on the disk.
    """
    name, status = _name(repo, revision), on_status or (lambda text: None)
    if constants.is_offline_mode():
        raise UserError(unreachable(repo, revision))
    try:
        status(f"Looking for {name} on the Hugging Face Hub")
        info = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
        sizes = {s.rfilename: s.size or 0 for s in info.siblings or () if "/" not in s.rfilename}
        _check_listing(name, sizes, wanted)
        path = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(wanted),
            ignore_patterns=list(IGNORED),
            etag_timeout=TIMEOUT,
            tqdm_class=_bar_into(status, name),
        )
    except GatedRepoError:  # before RepositoryNotFoundError, whose child it is
        raise UserError(
            f"{name} is gated: its authors give access on its page, https://huggingface.co/{repo}. "
            "Accept the terms there and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{repo} has no revision {revision!r}; name a branch, tag or commit that it has.") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"The Hugging Face Hub knows no model {repo}, or it is private; check the spelling, or set HF_TOKEN."
        ) from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "an error"
        raise UserError(f"The Hugging Face Hub answered {code} when asked for {name}; try again later.") from error
    except (UserError, MemoryError):
        raise
    except PermissionError:
        raise UserError(f"{constants.HF_HUB_CACHE} cannot be written; set HF_HOME to a folder that can.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(unreachable(repo, revision, "the connection failed")) from error
    except Exception as error:  # the HTTP library's own family, which changes between versions of huggingface_hub
        raise UserError(unreachable(repo, revision, type(error).__name__)) from error
    return Path(path)


def _check_listing(name: str, sizes: dict[str, int], wanted: tuple[str, ...]) -> None:
    """Refuse before downloading what could not be used. sizes: file name → bytes."""
    if wanted == ADAPTER_FILES:
        if not set(ADAPTER_FILES) <= set(sizes):
            raise UserError(f"{name} is no LoRA adapter in safetensors: it lacks {' or '.join(ADAPTER_FILES)}.")
    elif "adapter_config.json" in sizes:
        raise UserError(f"{name} is an adapter, not a whole model; write it after its base, as BASE::{name}.")
    elif not any(file.endswith(".safetensors") for file in sizes):
        gguf = any(file.lower().endswith(".gguf") for file in sizes)
        hint = "download one of its GGUF files and name that file" if gguf else "choose a model that has them"
        raise UserError(f"{name} has no safetensors weights, and pickled ones are never loaded; {hint}.")
    needed = sum(size for file, size in sizes.items() if file.endswith((".safetensors", ".json")))
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    if needed > free:
        raise UserError(f"{name} has {needed / 1e9:.1f} GB, but {cache} has only {free / 1e9:.1f} GB free; make room.")


def _bar_into(status: Callable[[str], None], name: str) -> type[tqdm]:
    """A progress bar class that reports to `status` and prints nothing."""

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **(kwargs | {"file": io.StringIO(), "disable": False, "mininterval": 0.5}))

        def display(self, *args, **kwargs):
            if self.unit == "B" and self.n and self.total:  # bytes; another bar counts files
                status(f"Downloading {name}: {self.n / 1e6:,.0f} of {self.total / 1e6:,.0f} MB")

    return Bar


def _name(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo
