"""Pulling a published dataset from the Hub into a run folder: downloaded, checked, then moved into place."""

import os
import re
import secrets
import shutil
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars

from lightreasoner.datasets.amateurs import FOLDER as AMATEURS
from lightreasoner.datasets.amateurs import MOST, amateur_datasets
from lightreasoner.datasets.annotations import load_annotations
from lightreasoner.datasets.imported import FILE as SAMPLES
from lightreasoner.datasets.imported import is_imported, read_imported
from lightreasoner.datasets.trajectories import FOLDER as TRAJECTORIES
from lightreasoner.datasets.trajectories import read_shard, shards
from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.hub.errors import hub_errors, refuse_offline
from lightreasoner.progress import Progress
from lightreasoner.publishing.contents import CARD, MANIFEST
from lightreasoner.publishing.push import checked_repo, read_manifest
from lightreasoner.storage.atomic import sha256, sync_folder
from lightreasoner.storage.runs import RECORD, add_to_run, read_run

MANIFEST_BYTES = 50e6
#: The only files that a published dataset may have: no code, no other paths.
_RUN = (r"run\.json|marks\.json|README\.md|samples\.parquet|trajectories/[\w-]{1,40}\.parquet|"
        r"tokenizer/[A-Za-z0-9][\w-]{0,60}(\.[\w-]{1,20})?\.(json|txt|model|jinja)")  # fmt: skip
ALLOWED = re.compile(rf"({AMATEURS}/[A-Za-z0-9_][A-Za-z0-9_.-]{{0,60}}/)?({_RUN})")
_SHA = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")


def pull(repo: str, revision: str | None, folder: Path, token: str | None, progress: Progress) -> dict:
    """Download the dataset of `repo` into `folder`, which may only hold a log. Returns the run's record.

    After an error nothing is left in the folder. Raises UserError.
    """
    refuse_offline()
    repo, folder = checked_repo(repo), Path(folder)
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UserError(f"{revision[:40]!r} is not a revision; give a branch, a tag or a commit.")
    if (folder / RECORD).exists() or shards(folder) or (folder / SAMPLES).exists():
        raise UserError(f"{folder} holds a run already; choose a new folder for {repo}.")
    disable_progress_bars()
    staging = folder / f".pulled-{secrets.token_hex(4)}"
    try:
        staging.mkdir(parents=True)
        with hub_errors(repo):
            commit = _fetch(HfApi(token=token or False), repo, revision, staging, progress)
        progress.status("Checking the downloaded files")
        record = _checked(repo, staging)
        _check_amateurs(repo, staging)
        _settle(staging, folder)
        return add_to_run(folder, pulled={"repo": repo, "revision": commit}) if record else record
    except OSError as error:
        trouble = disk_trouble(error, "Free some space or choose another.", writing=True)
        raise UserError(f"{folder} is not writable: {trouble}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(api: HfApi, repo: str, revision: str | None, staging: Path, progress: Progress) -> str:
    """Download and verify every file of the manifest. Returns the commit."""
    progress.status(f"Looking for {repo} on the Hugging Face Hub")
    try:
        commit = api.dataset_info(repo, revision=revision or "main").sha
    except RepositoryNotFoundError:
        raise UserError(
            f"The Hub knows no dataset {repo}, or it is private and needs a token; check the spelling. A published "
            f"adapter needs no pull: name it after its base model, as BASE::{repo}."
        ) from None
    entries = list(api.list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True))
    sizes = {entry.path: entry.size for entry in entries if hasattr(entry, "blob_id")}
    if MANIFEST not in sizes or sizes[MANIFEST] > MANIFEST_BYTES:
        raise UserError(
            f"{repo} was not published by LightReasoner: {MANIFEST} is missing. Only such datasets can be pulled."
        )
    place = {"repo_id": repo, "repo_type": "dataset", "revision": commit, "local_dir": staging}
    listed = read_manifest(Path(api.hf_hub_download(filename=MANIFEST, **place)))
    files = listed["files"]
    if listed["kind"] != "dataset":
        raise UserError(f"{repo} holds a {str(listed['kind'])[:20]}, not a dataset; nothing is pulled.")
    if odd := [name for name in files if not ALLOWED.fullmatch(name)]:
        raise UserError(f"{repo} lists {odd[0][:60]!r}, which no dataset of LightReasoner contains; nothing is pulled.")
    if absent := [name for name in files if sizes.get(name) != files[name][1]]:
        raise UserError(
            f"{repo} is incomplete: {len(absent):,} of its {len(files):,} files are missing ({absent[0][:60]} …). "
            "Its push was interrupted; running the same push again completes it."
        )
    total, done = sum(size for _, size in files.values()), 0
    free = shutil.disk_usage(staging).free
    if total > free:
        raise UserError(
            f"{repo} has {total / 1e9:.2f} GB, but {staging.parent} has only {free / 1e9:.2f} GB free; free some space."
        )
    progress.status(f"Downloading {repo}")
    for n, (name, (digest, size)) in enumerate(files.items()):
        progress.checkpoint()
        progress.update(done, total, files=n, files_in_all=len(files))
        try:
            path = Path(api.hf_hub_download(filename=name, **place))
        except RemoteEntryNotFoundError:
            raise UserError(f"{repo} was changed during the download: {name} is gone. Pull it again.") from None
        if not _SHA.fullmatch(digest) or sha256(path) != digest:
            raise UserError(
                f"{name} of {repo} differs from the published file: its SHA-256 differs. Nothing is pulled."
            )
        done += size
    progress.update(total, total, files=len(files), files_in_all=len(files))
    return commit


def _checked(repo: str, staging: Path) -> dict:
    """The record of the downloaded run, after a check that all of it is a readable dataset."""
    record = read_run(staging)
    config, about = record["config"], record["about"]
    texts = [config.get(name) for name in ("expert", "amateur", "problems", "source")]
    sound = all(text is None or (isinstance(text, str) and len(text) <= 500 and text.isprintable()) for text in texts)
    prints, pair = about.get("fingerprints", {}), about.get("pair", {})
    if record["kind"] != "dataset" or not sound or not isinstance(prints, dict) or not isinstance(pair, dict):
        raise UserError(f"The {RECORD} of {repo} does not describe a dataset; nothing is pulled.")
    for role in ("expert", "amateur"):
        if os.path.isabs(config.get(role) or "") or (config.get(role) or "").startswith("~"):
            raise UserError(f"The {RECORD} of {repo} names a local path as its {role}; nothing is pulled.")
    try:
        if is_imported(record):
            held = sum(len(part) for part in read_imported(staging))
        else:
            held = sum(len(read_shard(path)) for path in shards(staging))
        load_annotations(staging)
    except UserError as error:
        raise UserError(f"{repo} cannot be read as a dataset, so nothing is pulled. {error}") from None
    if not held:
        raise UserError(f"{repo} has no rows; nothing is pulled.")
    return record


def _check_amateurs(repo: str, staging: Path) -> None:
    """Raises UserError unless every folder of a further amateur is a whole dataset."""
    folders = sorted((staging / AMATEURS).glob("*"))
    for folder in folders:
        _checked(f"{AMATEURS}/{folder.name[:60]} of {repo}", folder)
    if len(amateur_datasets(staging)) > MOST:
        raise UserError(f"{repo} has more than {MOST} amateurs; nothing is pulled.")


def _settle(staging: Path, folder: Path) -> None:
    """Move the files into place, run.json last, since it makes the folder a run."""
    for name in (TRAJECTORIES, "tokenizer", SAMPLES, "marks.json", AMATEURS, CARD, RECORD):
        if (staging / name).exists():
            os.replace(staging / name, folder / name)
    sync_folder(folder)
