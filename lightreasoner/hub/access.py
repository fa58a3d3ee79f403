"""Whether this account may download a repository of the Hugging Face Hub, and how large it is; downloads nothing."""

from collections.abc import Callable

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url

from lightreasoner.errors import UserError
from lightreasoner.hub.download import TIMEOUT, not_cached
from lightreasoner.hub.errors import OFFLINE, HubUnreachable, hub_errors


def look_up(repo: str, revision: str | None, kind: str, wanted: Callable[[str], bool]) -> int:
    """The bytes of the wanted files of a "model" or "dataset" repository. wanted: a file's path → whether it counts.

    Raises UserError where it is missing, gated, empty or cannot be reached: one sentence that says what to do.
    """
    if constants.is_offline_mode():
        raise UserError(_unreachable(repo, revision, kind, OFFLINE))
    try:
        with hub_errors(repo, revision, kind):
            api = HfApi()
            ask = api.model_info if kind == "model" else api.dataset_info
            info = ask(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if wanted(file.rfilename)}
            if not sizes:
                raise UserError(f"{repo} has none of the files that are needed; name another {kind}.")
            largest = max(sizes, key=sizes.get)  # anybody may read about a gated repository, but not its files
            url = hf_hub_url(repo, largest, repo_type=kind, revision=revision)
            get_hf_file_metadata(url, timeout=TIMEOUT)
    except HubUnreachable as error:
        raise UserError(_unreachable(repo, revision, kind, error.reason)) from error
    return sum(sizes.values())


def _unreachable(repo: str, revision: str | None, kind: str, reason: str) -> str:
    if kind == "model":
        return not_cached(repo, revision, reason)
    return (
        f"No copy of the dataset {repo} is on this machine, and the Hugging Face Hub cannot be reached ({reason}). "
        "Connect once to download it, or name a file of your own."
    )
