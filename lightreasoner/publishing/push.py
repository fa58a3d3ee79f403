"""Pushing a publication to the Hub: checks the token and the repository, sends missing files, verifies the result."""

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
from lightreasoner.progress import Progress
from lightreasoner.publishing.contents import FIRST, FORMAT, LAST, MANIFEST, VERSION, Publication

GROUP, GROUP_BYTES = 8, 64e6  # files and bytes uploaded in parallel, between two progress reports
COMMIT, COMMIT_BYTES = 100, 1e9  # files and bytes per commit; the Hub allows about a hundred commits per hour
HUB_FILES = (".gitattributes",)  # created by the Hub itself


@dataclass(frozen=True)
class Target:
    repo: str
    public: bool = False
    replace: bool = False


def checked_repo(repo: object) -> str:
    """The repository OWNER/NAME, if the Hub's rules allow it. Raises UserError."""
    shown = repr(repo)[:60]
    text = repo.strip() if isinstance(repo, str) else ""
    try:
        validate_repo_id(text)
        if text.count("/") != 1 or not text.isascii():
            raise HFValidationError
    except HFValidationError:
        raise UserError(
            f"{shown} is not a repository; write OWNER/NAME with letters, digits, '-', '_' and '.', at most 96."
        ) from None
    return text


def push(publication: Publication, target: Target, token: str, progress: Progress) -> str:
    """Send the files that the repository lacks; a repeated call resumes. Returns the address. Raises UserError."""
    refuse_offline()
    repo = checked_repo(target.repo)
    disable_progress_bars()
    api = HfApi(token=token)
    with hub_errors(repo):
        progress.status("Checking the token")
        check_owner(api, repo)
        progress.status(f"Checking {repo}")
        remote = _listed(api, publication, repo)
        if remote is None:
            api.create_repo(repo, repo_type=publication.repo_type, private=not target.public, exist_ok=False)
            remote = {}
        else:
            _check_existing(api, publication, target, remote, progress)
        _send(api, publication, target, remote, progress)
        left = _missing(publication, _listed(api, publication, repo) or {})
        if left:
            raise UserError(f"The Hub's {', '.join(left[:3])} differs from the file that was sent; push again.")
    kind = "datasets/" if publication.repo_type == "dataset" else ""
    return f"{api.endpoint}/{kind}{repo}"


def check_owner(api: HfApi, repo: str) -> None:
    """Raises UserError for a token that is invalid, read-only, or of another account."""
    me = api.whoami()
    role = ((me.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError(
            "This access token is read-only; create one with write access on https://huggingface.co/settings/tokens."
        )
    mine = [str(me.get("name", "")), *(str(org.get("name", "")) for org in me.get("orgs") or ())]
    owner = repo.partition("/")[0]
    if owner.casefold() not in {name.casefold() for name in mine}:
        raise UserError(f"{repo} belongs to another account: this token can only write as {' or '.join(mine)[:200]}.")


def _listed(api: HfApi, publication: Publication, repo: str) -> dict[str, Any] | None:
    """The files in the repository by name, or None if it does not exist."""
    try:
        entries = list(api.list_repo_tree(repo, repo_type=publication.repo_type, recursive=True))
    except RepositoryNotFoundError:
        return None
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _check_existing(
    api: HfApi, publication: Publication, target: Target, remote: dict[str, Any], progress: Progress
) -> None:
    """Raises UserError unless an existing repository may be written to."""
    private = bool(api.repo_info(target.repo, repo_type=publication.repo_type).private)
    if private == target.public:
        now, wanted = ("private", "public") if private else ("public", "private")
        hint = "omit --public" if target.public else "add --public"
        raise UserError(f"{target.repo} exists already and is {now}, not {wanted}: {hint}, or change that on its page.")
    others = [name for name in remote if name not in HUB_FILES]
    started = MANIFEST in remote and _same(remote[MANIFEST], publication.manifest.encode())
    if not others or started or target.replace:
        return
    size = sum(remote[name].size or 0 for name in others)
    progress.result(existing=True)  # the page then asks whether to replace it
    count = "another file" if len(others) == 1 else f"{len(others):,} other files"
    named = ["".join(c if c.isprintable() else "·" for c in name)[:60] for name in others]
    shown = ", ".join(sorted(named, key=lambda name: name not in (MANIFEST, *FIRST, *LAST))[:3])
    shown += " …" if len(others) > 3 else ""
    raise UserError(
        f"{target.repo} exists already and holds {count}, {size / 1e6:,.3f} MB: {shown}. Push with --replace to "
        "replace its contents, or choose another repository."
    )


def _same(entry: Any, content: bytes) -> bool:
    """Whether a file on the Hub has this content."""
    if getattr(entry, "lfs", None):
        return entry.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _missing(publication: Publication, remote: dict[str, Any]) -> list[str]:
    def differs(name: str) -> bool:
        entry = remote.get(name)
        if entry is None or entry.size != publication.sizes[name]:
            return True
        if getattr(entry, "lfs", None):
            return entry.lfs.sha256 != publication.sha256[name]
        return not _same(entry, publication.files[name].read_bytes())

    return [name for name in publication.files if differs(name)]


def _send(api: HfApi, publication: Publication, target: Target, remote: dict[str, Any], progress: Progress) -> None:
    missing = _missing(publication, remote)
    total, files = sum(publication.sizes.values()), len(publication.files)
    sent = [name for name in publication.files if name not in missing]
    bytes_done = sum(publication.sizes[name] for name in sent)
    place = {"repo_id": target.repo, "repo_type": publication.repo_type}

    def report(text: str = "") -> None:
        if text:
            progress.status(text)
        progress.update(bytes_done, total, files=len(sent), files_in_all=files)

    report(f"Sending to {target.repo}" if not sent else f"Sending to {target.repo}; {len(sent):,} files are up to date")
    old = [name for name in remote if name not in (*publication.files, MANIFEST, *HUB_FILES)]
    first = [CommitOperationAdd(name, str(publication.files[name])) for name in missing if name in FIRST]
    if MANIFEST not in remote or not _same(remote[MANIFEST], publication.manifest.encode()):
        # The manifest marks the repository as ours, even if the push is interrupted. An older publication's run.json
        # is deleted at once, so that the mixture does not count as complete.
        gone = [CommitOperationDelete(name) for name in LAST if name in remote and name in missing]
        first += [CommitOperationAdd(MANIFEST, publication.manifest.encode()), *gone]
    if first:
        api.create_commit(**place, operations=first, commit_message="Begin")
        sent += [name for name in missing if name in FIRST]
        bytes_done = sum(publication.sizes[name] for name in sent)
    pending: list[CommitOperationAdd] = []
    for group in _groups([name for name in missing if name not in (*FIRST, *LAST)], publication.sizes):
        progress.checkpoint()
        adds = [CommitOperationAdd(name, str(publication.files[name])) for name in group]
        api.preupload_lfs_files(**place, additions=adds, num_threads=4, free_memory=False)
        pending += adds
        sent += group
        bytes_done += sum(publication.sizes[name] for name in group)
        report()
        if len(pending) >= COMMIT or sum(publication.sizes[add.path_in_repo] for add in pending) >= COMMIT_BYTES:
            api.create_commit(**place, operations=pending, commit_message=f"Add {len(pending)} files")
            pending = []
    last = [name for name in missing if name in LAST]
    closing = [CommitOperationAdd(name, str(publication.files[name])) for name in last]
    operations = [*pending, *closing, *(CommitOperationDelete(name) for name in old)]
    if operations:
        progress.checkpoint()
        api.create_commit(**place, operations=operations, commit_message=f"Publish: {publication.title}"[:100])
    sent += last
    bytes_done = total
    report("Checking the uploaded files")


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
    """The kind and the files, name → (SHA-256, bytes), of an untrusted manifest. Raises UserError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == FORMAT and document["version"] == VERSION
        files = {str(name): (str(one["sha256"]), int(one["bytes"])) for name, one in document["files"].items()}
        if not known or not files or any(size < 0 for _, size in files.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"The repository's {MANIFEST} is damaged or of another version; it cannot be pulled.") from None
    return {"kind": document.get("kind"), "files": files}
