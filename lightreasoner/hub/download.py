"""Downloads model repositories from the Hugging Face Hub into its cache."""

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from tqdm import tqdm

from lightreasoner.errors import UserError
from lightreasoner.hub.errors import OFFLINE, HubUnreachable, hub_errors

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MEASURED = "measured.json"  # in an adapter that is not its run's last: {"update", "held_out_loss", "drift"}, in nats
#: Only files at the top level; no pickles and no code.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")  # all but the weights
MODEL_FILES = (*SMALL_FILES, "*.safetensors")
IGNORED = ("*/*", "consolidated*")
TIMEOUT = 5  # seconds until the Hub counts as unreachable
PAUSE = 0.5  # seconds between reports


class NotCached(UserError):
    """The cache holds no complete copy, and downloading was not allowed."""


def cached_snapshot(repo: str, revision: str | None, wanted: tuple[str, ...] = MODEL_FILES) -> Path | None:
    """A repository's folder in the Hub's cache, or None unless it is known to be complete. Makes no request."""
    try:
        path = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=list(wanted), ignore_patterns=list(IGNORED)
        )
    except (LocalEntryNotFoundError, OSError):
        return None
    return Path(path)


def not_cached(repo: str, revision: str | None, reason: str = OFFLINE) -> str:
    """The sentence for a repository that is neither in the cache nor can be downloaded."""
    return (
        f"No complete copy of {_name(repo, revision)} is in the local cache, and the Hugging Face Hub cannot be "
        f"reached ({reason}). Connect once to download it, or name a folder or GGUF file on this machine."
    )


def download_snapshot(
    repo: str,
    revision: str | None,
    wanted: tuple[str, ...] = MODEL_FILES,
    on_status: Callable[[str], None] | None = None,
) -> Path:
    """Download a repository's files into the Hub's cache; their folder. on_status gets one line per change.

    Raises UserError, within seconds, when the Hub is unreachable or the repository or revision is unknown or gated,
    has no safetensors, or does not fit on the disk.
    """
    name, status = _name(repo, revision), on_status or (lambda text: None)
    if constants.is_offline_mode():
        raise UserError(not_cached(repo, revision))
    try:
        with hub_errors(repo, revision, "model"):
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
    except HubUnreachable as error:
        raise UserError(not_cached(repo, revision, error.reason)) from error
    return Path(path)


def _check_listing(name: str, sizes: dict[str, int], wanted: tuple[str, ...]) -> None:
    """Raises UserError for a repository that could not be used. sizes: file name → bytes."""
    if wanted == ADAPTER_FILES:
        if not set(ADAPTER_FILES) <= set(sizes):
            raise UserError(f"{name} is no LoRA adapter in safetensors format: it lacks {' or '.join(ADAPTER_FILES)}.")
    elif "adapter_config.json" in sizes:
        raise UserError(f"{name} is an adapter, not a whole model; write it after its base, as BASE::{name}.")
    elif not any(file.endswith(".safetensors") for file in sizes):
        gguf = any(file.lower().endswith(".gguf") for file in sizes)
        hint = "download one of its GGUF files and name that file" if gguf else "choose a model that has them"
        raise UserError(f"{name} has no safetensors weights, and pickled weights are never loaded; {hint}.")
    needed = sum(size for file, size in sizes.items() if file.endswith((".safetensors", ".json")))
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    if needed > free:
        raise UserError(f"{name} has {needed / 1e9:.1f} GB, but {cache} has only {free / 1e9:.1f} GB free; make room.")


def _bar_into(status: Callable[[str], None], name: str) -> type[tqdm]:
    """A progress bar class that reports to `status` and prints nothing. What `status` raises ends the download."""
    due = [0.0]

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **(kwargs | {"file": io.StringIO(), "disable": False}))

        def display(self, *args, **kwargs): ...  # tqdm holds its lock here, which an exception would leave locked

        def update(self, n=1):
            super().update(n)
            if self.unit == "B" and self.n and self.total and time.monotonic() >= due[0]:  # another bar counts files
                due[0] = time.monotonic() + PAUSE
                status(f"Downloading {name}: {self.n / 1e6:,.0f} of {self.total / 1e6:,.0f} MB")

    return Bar


def _name(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo
