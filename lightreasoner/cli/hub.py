"""The commands push and pull: publish a run on the Hugging Face Hub, and pull a published dataset into a run folder."""

import argparse
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lightreasoner.cli.options import add_run_dir
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes
from lightreasoner.progress import ConsoleProgress
from lightreasoner.settings import Settings


def add(verbs) -> None:
    push = verbs.add_parser(
        "push",
        help="publish a dataset, an adapter or a merged model on the Hugging Face Hub",
        description="Uses your token (`hf auth login` or HF_TOKEN). If interrupted, run it again to resume.",
    )
    push.add_argument("folder", type=Path, metavar="RUN_DIR", help="the run folder of a dataset or a fine-tuning run")
    push.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="the repository on the Hub; created if missing"
    )
    push.add_argument("--public", action="store_true", help="make it public (default: private)")
    push.add_argument("--license", metavar="ID", help="licence id of the Hub: mit, apache-2.0, cc-by-4.0, other …")
    push.add_argument(
        "--merged", type=Path, metavar="DIR", help="push this merged model (written by `merge`) instead of the adapter"
    )
    push.add_argument("--replace", action="store_true", help="replace other contents of the repository")
    add_run_dir(push, "folder of the event log (for jobs)", required=False)
    push.set_defaults(run=run_push)

    pull = verbs.add_parser("pull", help="pull a dataset that was published with `push` into a new run folder")
    pull.add_argument("repo", metavar="OWNER/NAME", help="a dataset repository created by `push`")
    pull.add_argument("--revision", metavar="R", help="a branch, tag or commit (default: the latest)")
    add_run_dir(pull, "the new run's folder")
    pull.set_defaults(run=run_pull)


def line(done: float, total: float, numbers: dict) -> str:
    return f"{numbers['files']:,} of {numbers['files_in_all']:,} files, {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"


@contextmanager
def reporting(folder: Path | None, verb: str, title: str, settings: Settings):
    """Progress to the event log of a folder, or to the terminal without one."""
    if folder is None:
        yield ConsoleProgress(line, always=True)
        return
    from lightreasoner.jobs.context import job_context

    # its token is not saved, so the job itself cannot be resumed; a new push from the form resumes
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
            progress.status("Reading the run")
            with publication(options.folder, Path(staging), options.license, options.merged) as what:
                address = push(what, target, token, progress)
        files, size = len(what.files), sum(what.sizes.values())
        progress.result(address=address, files=files, bytes=size)
    visibility = "public" if options.public else "private"
    print(f"Published: {what.kind}, {files:,} files, {format_bytes(size)}, {visibility}, at {address}")


def run_pull(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.hub.token import token_of
    from lightreasoner.publishing.pull import pull
    from lightreasoner.publishing.push import checked_repo

    repo, folder = checked_repo(options.repo), options.run_dir
    is_new = not folder.exists()
    if not settings.job and not is_new and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already and is not empty; choose a new folder for {repo}.")
    try:
        with reporting(folder, "pull", f"Pull {repo}", settings) as progress:
            record = pull(repo, options.revision, folder, token_of(settings), progress)
            progress.result(repo=repo, revision=record["pulled"]["revision"])
    except BaseException:
        if is_new and not settings.job and not (folder / "run.json").exists():
            shutil.rmtree(folder, ignore_errors=True)  # it only holds a log; the log of a job is shown on the page
        raise
    print(f"Pulled {repo} at {record['pulled']['revision'][:12]} into {folder}; all checksums match.")
