"""The command jobs: lists and controls the jobs of a workspace, with or without a running server."""

import argparse
import sys
import time

from lightreasoner.cli.console import print_json
from lightreasoner.errors import UserError
from lightreasoner.formatting import printable
from lightreasoner.jobs.backend import OUTPUT_FILE
from lightreasoner.jobs.ray import backends
from lightreasoner.jobs.scheduler import TICK, Scheduler, runs_elsewhere, servers
from lightreasoner.jobs.store import FINISHED, Job, JobStore
from lightreasoner.jobs.view import job_view, log_tail
from lightreasoner.processes import announced
from lightreasoner.settings import Settings

SHORT = 8  # characters of an id in the list; any unambiguous prefix identifies a job


def add(verbs) -> None:
    jobs = verbs.add_parser("jobs", help="list and control the jobs of this workspace")
    what = jobs.add_subparsers(dest="what", required=True, metavar="ACTION")
    listing = what.add_parser("list", help="the running job, the queue and finished jobs")
    listing.add_argument("--json", action="store_true", help="as a JSON array")
    listing.set_defaults(run=run_list)
    runner = what.add_parser("run", help="run the queue until it is empty (a running job survives Ctrl+C)")
    runner.set_defaults(run=run_queue)
    actions = {
        "show": (run_show, "show a job"),
        "logs": (run_logs, "show its output"),
        "cancel": (run_cancel, "cancel it within ten seconds"),
        "retry": (run_again, "queue a new job with the same settings"),
        "resume": (run_again, "queue it again, to continue where it stopped"),
    }
    for name, (run, text) in actions.items():
        action = what.add_parser(name, help=text)
        action.add_argument("id", metavar="ID", help="the job's id, or an unambiguous prefix of it")
        action.set_defaults(run=run)
        if name == "show":
            action.add_argument("--json", action="store_true", help="as JSON")
        if name == "logs":
            action.add_argument("--follow", action="store_true", help="follow until the job ends")


def open_jobs(settings: Settings) -> Scheduler:
    """The workspace's jobs, updated from the running processes. Starts none."""
    store = JobStore(settings.jobs / "jobs.sqlite")
    scheduler = Scheduler(store, backends(settings), settings)
    scheduler.tick(start=False)
    return scheduler


def find(store: JobStore, given: str) -> Job:
    """The job with this id prefix. Raises UserError for none or several."""
    matches = [job for job in store.jobs(limit=100_000) if job.id.startswith(given)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise UserError(f"No job's id begins with {given!r:.40}; see `jobs list`.")
    raise UserError(f"The ids of {len(matches)} jobs begin with {given!r:.40}; give more of it.")


def run_list(options: argparse.Namespace, settings: Settings) -> None:
    store = open_jobs(settings).store
    views = [job_view(store, job) for job in store.jobs()]
    if options.json:
        print_json(views, 1)
        return
    for view in views:
        where = f" · runs on {view['host']}" if view["host"] else ""
        print(printable(f"{view['id'][:SHORT]}  {view['state']:<11}  {_share(view):>5}  {view['title']}{where}"))
    if not views:
        print("No jobs yet.")


def run_show(options: argparse.Namespace, settings: Settings) -> None:
    store = open_jobs(settings).store
    view = job_view(store, find(store, options.id))
    if options.json:
        print_json(view, 1)
        return
    for name, value in view.items():
        if value not in (None, "", {}, []):
            value = _when(value) if name in ("created", "started", "ended") else value
            value = ", ".join(value) if isinstance(value, list) else value
            value = f"{value:.4g}" if isinstance(value, float) else value
            print(printable(f"{name:<12} {value}".replace("\n", " ")))


def run_logs(options: argparse.Namespace, settings: Settings) -> None:
    scheduler = open_jobs(settings)
    job = find(scheduler.store, options.id)
    if not options.follow:
        print(printable(log_tail(scheduler.store, job)))
        return
    path, offset = scheduler.store.folder(job.id) / OUTPUT_FILE, 0
    while True:
        scheduler.tick(start=False)
        over = scheduler.store.get(job.id).state in FINISHED  # checked first, so that its output is complete
        if path.exists():
            with open(path, "rb") as file:
                file.seek(offset)
                text = file.read()
            whole = len(text) if over else text.rfind(b"\n") + 1  # whole lines, whole characters
            offset += whole
            sys.stdout.write(printable(text[:whole].decode(errors="replace")))
            sys.stdout.flush()
        if over:
            return
        time.sleep(TICK)


def run_cancel(options: argparse.Namespace, settings: Settings) -> None:
    scheduler = open_jobs(settings)
    job = scheduler.cancel(find(scheduler.store, options.id).id)
    if where := runs_elsewhere(job):
        print(printable(f"It runs on {where} and stops at its next step."), file=sys.stderr)
    while job.state not in FINISHED:  # continues the cancellation, in case no server runs
        time.sleep(TICK / 2)
        scheduler.tick(start=False)
        job = scheduler.store.get(job.id)
    print(f"{job.id}  {job.state}")


def run_again(options: argparse.Namespace, settings: Settings) -> None:
    """Retry or resume a job."""
    scheduler = open_jobs(settings)
    job = find(scheduler.store, options.id)
    job = scheduler.retry(job.id) if options.what == "retry" else scheduler.resume(job.id)
    print(f"{job.id}  queued")
    if not announced(servers(settings)):
        print("No server runs on this workspace; `python -m lightreasoner jobs run` runs the queue.", file=sys.stderr)


def run_queue(options: argparse.Namespace, settings: Settings) -> None:
    scheduler = open_jobs(settings).start()
    shown = {job.id: job.state for job in scheduler.store.jobs(active=False)}
    try:
        while True:
            if scheduler.trouble:
                raise UserError(scheduler.trouble)
            active = scheduler.store.jobs(active=True)
            for job in (*active, *scheduler.store.jobs(active=False)):
                if shown.get(job.id) != job.state:
                    shown[job.id] = job.state
                    print(
                        printable(f"{job.id[:SHORT]}  {job.state:<11}  {job.title}  {job.message}".rstrip()), flush=True
                    )
            if not active:
                return
            time.sleep(TICK)
    finally:
        scheduler.close()


def _share(view: dict) -> str:
    return f"{view['fraction']:.0%}" if view["fraction"] is not None else ""


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
