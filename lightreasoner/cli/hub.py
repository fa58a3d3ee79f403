"""The verbs push and pull: a run to the Hugging Face Hub, and a published dataset back as a run."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.progress import ConsoleProgress
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path


def add(verbs) -> None:
    push = verbs.add_parser(
        "push",
        help="publish a dataset, an adapter or a merged model on the Hugging Face Hub",
        description="With your own token: `hf auth login`, or HF_TOKEN. Run the same command again to go on where it "
        "was cut off.",
    )
    push.add_argument("folder", type=Path, metavar="RUN_DIR", help="a dataset's or a fine-tuning run's folder")
    push.add_argument("--repo", required=True, metavar="OWNER/NAME", help="where to")
    push.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    push.add_argument("--license", metavar="ID", help="as the Hub names it: mit, apache-2.0, cc-by-4.0, other …")
    push.add_argument(
        "--merged", type=Path, metavar="DIR", help="the folder that `merge` wrote, instead of the adapter"
    )
    push.add_argument("--replace", action="store_true", help="put it in the place of what is in the repository")
    push.add_argument("--run-dir", type=run_path, metavar="DIR", help="where its own log goes (for jobs)")
    push.set_defaults(run=run_push)

    pull = verbs.add_parser("pull", help="bring a dataset that was pushed back in, as a run that explores and trains")
    pull.add_argument("repo", metavar="OWNER/NAME", help="a dataset repository that `push` made")
    pull.add_argument("--revision", metavar="R", help="a branch, tag or commit (default: the latest)")
    pull.add_argument("--run-dir", type=run_path, required=True, metavar="DIR", help="the new run's folder")
    pull.set_defaults(run=run_pull)


def line(done: float, total: float, numbers: dict) -> str:
    """One line of progress for the terminal."""
    return f"{numbers['files']:,} of {numbers['files_in_all']:,} files, {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"


@contextmanager
def reporting(folder: Path | None, verb: str, title: str, settings: Settings):
    """Progress to the event log of a folder, or to the terminal where there is none."""
    if folder is None:
        yield ConsoleProgress(line, always=True)
        return
    from lightreasoner.jobs.context import job_context

    # its token is not kept, so a job cannot be resumed as it is; its form starts one that goes on
    with job_context(folder, verb, settings, title=title, accelerator=False, keeps=False, resumes=False) as progress:
        yield progress


def run_push(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.hub.token import needed_token
    from lightreasoner.publishing.contents import publication
    from lightreasoner.publishing.push import Target, checked_repo, push

    with reporting(options.run_dir, "push", f"Push to {options.repo}"[:200], settings) as progress:
        target = Target(checked_repo(options.repo), options.public, options.replace)
        token = needed_token(settings)
        with tempfile.TemporaryDirectory(prefix="lightreasoner-push-") as staging:
            progress.status("Reading what is to be published")
            with publication(options.folder, Path(staging), options.license, options.merged) as what:
                address = push(what, target, token, progress)
        files, size = len(what.files), sum(what.sizes.values())
        progress.result(address=address, files=files, bytes=size)
    seen = "everybody" if options.public else "its owner"
    print(f"{what.kind.capitalize()}, {files:,} files, {size / 1e6:,.1f} MB, is at {address} for {seen} to see.")


def run_pull(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.hub.token import token_of
    from lightreasoner.publishing.pull import pull
    from lightreasoner.publishing.push import checked_repo

    repo, folder = checked_repo(options.repo), options.run_dir
    made = not folder.exists()
    if not settings.job and not made and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; name a new folder to pull {repo} into.")
    try:
        with reporting(folder, "pull", f"Pull {repo}", settings) as progress:
            record = pull(repo, options.revision, folder, token_of(settings), progress)
            progress.result(repo=repo, revision=record["pulled"]["revision"])
    except BaseException:
        if made and not settings.job and not (folder / "run.json").exists():
            shutil.rmtree(folder, ignore_errors=True)  # its log is all there is; a job's is what its page shows
        raise
    print(f"{repo} at {record['pulled']['revision'][:12]} is in {folder}, every file as it was published.")
