"""Whether this account may download a repository of the Hugging Face Hub, and how large it is; downloads nothing."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import repo_folder_name

from lightreasoner.errors import UserError
from lightreasoner.hub.download import TIMEOUT, not_cached
from lightreasoner.hub.errors import OFFLINE, HubUnreachable, hub_errors


def look_up(repo: str, revision: str | None, kind: str, wanted: Callable[[list[str]], list[str]]) -> int:
    """The bytes that the wanted files of a "model" or "dataset" repository still lack in the Hub's cache.

    wanted: the paths of all files → those that count.

    Raises UserError where it is missing, gated, empty or cannot be reached: one sentence that says what to do.
    """
    if constants.is_offline_mode():
        raise UserError(_unreachable(repo, revision, kind, OFFLINE))
    try:
        with hub_errors(repo, revision, kind):
            api = HfApi()
            ask = api.model_info if kind == "model" else api.dataset_info
            info = ask(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
            paths = set(wanted([file.rfilename for file in info.siblings or ()]))
            files = [file for file in info.siblings or () if file.rfilename in paths]
            if not files:
                raise UserError(f"{repo} has none of the files that are needed; name another {kind}.")
            largest = max(files, key=lambda file: file.size or 0)
            url = hf_hub_url(repo, largest.rfilename, repo_type=kind, revision=revision)
            get_hf_file_metadata(url, timeout=TIMEOUT)  # anybody may read about a gated repository, but not its files
    except HubUnreachable as error:
        raise UserError(_unreachable(repo, revision, kind, error.reason)) from error
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind) / "blobs"
    sizes = {file.lfs.sha256 if file.lfs else file.blob_id or file.rfilename: file.size or 0 for file in files}
    return sum(size for name, size in sizes.items() if not (blobs / name).is_file())


def _unreachable(repo: str, revision: str | None, kind: str, reason: str) -> str:
    if kind == "model":
        return not_cached(repo, revision, reason)
    return (
        f"No copy of the dataset {repo} is on this machine, and the Hugging Face Hub cannot be reached ({reason}). "
        "Connect once to download it, or name a file of your own."
    )
