"""Pushing a publication to the Hub: who may, what is there already, sending the rest, and whether all arrived."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import HFValidationError, disable_progress_bars, validate_repo_id

from lightreasoner.errors import UserError
from lightreasoner.hub.errors import hub_errors, refuse_offline
from lightreasoner.publishing.contents import FIRST, LAST, MANIFEST, Publication

GROUP, GROUP_BYTES = 8, 64e6  # files and bytes sent side by side; after each group it is told how far it is
COMMIT, COMMIT_BYTES = 100, 1e9  # files and bytes a commit; the Hub allows about a hundred commits an hour
OURS = (".gitattributes",)  # what the Hub itself puts into a new repository


@dataclass(frozen=True)
class Target:
    """Where a publication goes."""

    repo: str
    public: bool = False
    replace: bool = False


def checked_repo(repo: object) -> str:
    """OWNER/NAME by the Hub's own rules. Raises UserError."""
    shown = repr(repo)[:60]
    text = repo.strip() if isinstance(repo, str) else ""
    try:
        validate_repo_id(text)
        if text.count("/") != 1 or not text.isascii():
            raise HFValidationError
    except HFValidationError:
        raise UserError(
            f"{shown} names no repository; write OWNER/NAME, of letters, digits, '-', '_' and '.', at most 96."
        ) from None
    return text


def push(what: Publication, target: Target, token: str, progress: Any) -> str:
    """Send what is not there yet; the repository's address. The same call again goes on where one was cut off.

    Raises UserError.
    """
    refuse_offline()
    repo = checked_repo(target.repo)
    disable_progress_bars()
    api = HfApi(token=token)
    with hub_errors(repo):
        progress.status("Asking the Hub who this token belongs to")
        check_owner(api, repo)
        progress.status(f"Looking at {repo}")
        there = _listed(api, what, repo)
        if there is None:
            api.create_repo(repo, repo_type=what.repo_type, private=not target.public, exist_ok=False)
            there = {}
        else:
            _check_there(api, what, target, there, progress)
        _send(api, what, target, there, progress)
        left = _missing(what, _listed(api, what, repo) or {})
        if left:
            raise UserError(f"The Hub holds something else as {', '.join(left[:3])} than was sent; push once more.")
    kind = "datasets/" if what.repo_type == "dataset" else ""
    return f"{api.endpoint}/{kind}{repo}"


def check_owner(api: HfApi, repo: str) -> None:
    """Raises UserError for a token that is none, may not write, or is another account's."""
    me = api.whoami()
    role = ((me.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError(
            "This access token may only read; make one that may write on https://huggingface.co/settings/tokens."
        )
    mine = [str(me.get("name", "")), *(str(org.get("name", "")) for org in me.get("orgs") or ())]
    owner = repo.partition("/")[0]
    if owner.casefold() not in {name.casefold() for name in mine}:
        raise UserError(f"{repo} belongs to somebody else: this token may write as {' or '.join(mine)[:200]} only.")


def _listed(api: HfApi, what: Publication, repo: str) -> dict[str, Any] | None:
    """The files in the repository by name, or None where there is no such repository."""
    try:
        entries = list(api.list_repo_tree(repo, repo_type=what.repo_type, recursive=True))
    except RepositoryNotFoundError:
        return None
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _check_there(api: HfApi, what: Publication, target: Target, there: dict[str, Any], progress: Any) -> None:
    """Whether a repository that exists may be written to. Raises UserError saying what is in it."""
    private = bool(api.repo_info(target.repo, repo_type=what.repo_type).private)
    if private == target.public:
        now, asked = ("private", "public") if private else ("public", "private")
        hint = "leave --public out" if target.public else "say --public"
        raise UserError(
            f"{target.repo} exists already and is {now}, but it was to be {asked}: {hint}, or change that on its page."
        )
    held = [name for name in there if name not in OURS]
    begun = MANIFEST in there and _same(there[MANIFEST], what.manifest.encode())
    if not held or begun or target.replace:
        return
    size = sum(there[name].size or 0 for name in held)
    progress.result(existing=True)  # a page asks whether to replace it
    others = "another file" if len(held) == 1 else f"{len(held):,} other files"
    named = ["".join(c if c.isprintable() else "·" for c in name)[:60] for name in held]
    shown = ", ".join(sorted(named, key=lambda name: name not in (MANIFEST, *FIRST, *LAST))[:3]) + (
        " …" if len(held) > 3 else ""
    )
    raise UserError(
        f"{target.repo} exists already and holds {others}, {size / 1e6:,.3f} MB: {shown}. Push with --replace to put "
        "this in its place, or name another repository."
    )


def _same(entry: Any, content: bytes) -> bool:
    """Whether a file on the Hub has this content."""
    if getattr(entry, "lfs", None):
        return entry.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _missing(what: Publication, there: dict[str, Any]) -> list[str]:
    """The files that the repository lacks, or has otherwise."""

    def differs(name: str) -> bool:
        entry = there.get(name)
        if entry is None or entry.size != what.sizes[name]:
            return True
        if getattr(entry, "lfs", None):
            return entry.lfs.sha256 != what.sha256[name]
        return not _same(entry, what.files[name].read_bytes())

    return [name for name in what.files if differs(name)]


def _send(api: HfApi, what: Publication, target: Target, there: dict[str, Any], progress: Any) -> None:
    missing = _missing(what, there)
    total, files = sum(what.sizes.values()), len(what.files)
    sent = [name for name in what.files if name not in missing]
    bytes_done = sum(what.sizes[name] for name in sent)
    place = {"repo_id": target.repo, "repo_type": what.repo_type}

    def told(text: str = "") -> None:
        if text:
            progress.status(text)
        progress.update(bytes_done, total, files=len(sent), files_in_all=files)

    told(
        f"Sending to {target.repo}" if not sent else f"Sending to {target.repo}; {len(sent):,} files are there already"
    )
    old = [name for name in there if name not in (*what.files, MANIFEST, *OURS)]
    first = [CommitOperationAdd(name, str(what.files[name])) for name in missing if name in FIRST]
    if MANIFEST not in there or not _same(there[MANIFEST], what.manifest.encode()):
        # From here on this repository is known as ours, however far it gets. What an older publication closed with goes
        # first: nobody may take the two together for a whole.
        gone = [CommitOperationDelete(name) for name in LAST if name in there and name in missing]
        first += [CommitOperationAdd(MANIFEST, what.manifest.encode()), *gone]
    if first:
        api.create_commit(**place, operations=first, commit_message="Begin")
        sent += [name for name in missing if name in FIRST]
        bytes_done = sum(what.sizes[name] for name in sent)
    pending: list[CommitOperationAdd] = []
    for group in _groups([name for name in missing if name not in (*FIRST, *LAST)], what.sizes):
        progress.checkpoint()
        adds = [CommitOperationAdd(name, str(what.files[name])) for name in group]
        api.preupload_lfs_files(**place, additions=adds, num_threads=4, free_memory=False)
        pending += adds
        sent += group
        bytes_done += sum(what.sizes[name] for name in group)
        told()
        if len(pending) >= COMMIT or sum(what.sizes[add.path_in_repo] for add in pending) >= COMMIT_BYTES:
            api.create_commit(**place, operations=pending, commit_message=f"Add {len(pending)} files")
            pending = []
    last = [name for name in missing if name in LAST]
    closing = [CommitOperationAdd(name, str(what.files[name])) for name in last]
    operations = [*pending, *closing, *(CommitOperationDelete(name) for name in old)]
    if operations:
        progress.checkpoint()
        api.create_commit(**place, operations=operations, commit_message=f"Publish: {what.title}"[:100])
    sent += last
    bytes_done = total
    told("Checking what arrived")


def _groups(names: list[str], sizes: dict[str, int]) -> list[list[str]]:
    groups: list[list[str]] = []
    room, space = 0, 0.0
    for name in names:
        if not groups or room == 0 or sizes[name] > space:
            groups.append([])
            room, space = GROUP, GROUP_BYTES
        groups[-1].append(name)
        room, space = room - 1, space - sizes[name]
    return groups


def read_manifest(path: Path) -> dict[str, Any]:
    """The list of a publication's files, as it came from the Hub: anybody may have written it. Raises UserError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == "lightreasoner-publication" and document["version"] == 1
        files = {str(name): (str(one["sha256"]), int(one["bytes"])) for name, one in document["files"].items()}
        if not known or not files or any(size < 0 for _, size in files.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(
            "The repository's lightreasoner.json is damaged or of another version; it cannot be pulled."
        ) from None
    return {"kind": document.get("kind"), "files": files}
