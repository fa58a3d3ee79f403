"""From a request to what a job does first: started as a process of its own, and as a fork with its imports, by turns.

    python -m benchmarks.job_start [--rounds 5]

The requests go through the scheduler, as those of the page do. "said": until the first event is in the job's log.
"works": until its first progress, so until its models are loaded and it has done something. Seconds of
the clock, and seconds of computing by the job's process until then, which a busy machine changes little.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from lightreasoner.jobs.events import EVENTS_FILE, read_events
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import FINISHED, JobStore
from lightreasoner.jobs.warm_worker import OUTPUT, WarmWorker
from lightreasoner.settings import Settings

EXPERT = "lightreasoner-expert-4m"
TARGET = 0.5  # of the ordinary start's time until a job works


def warm() -> WarmWorker:
    """The process that jobs are forks of, when it has made its imports; prints what they took."""
    began, worker = time.perf_counter(), WarmWorker("lightreasoner.cli.warm_worker")
    while not worker._fits(os.environ | OUTPUT):
        time.sleep(0.02)
    process = psutil.Process(worker.process.pid)
    cpu, memory = process.cpu_times(), process.memory_full_info()
    print(
        f"the imports took {time.perf_counter() - began:.1f} s ({cpu.user + cpu.system:.1f} of computing); "
        f"the process has {memory.uss / 1e6:.0f} MB of its own, {memory.rss / 1e6:.0f} with what others share"
    )
    return worker


def measure(scheduler: Scheduler, words: tuple[str, ...]) -> tuple[dict[str, float], Path]:
    """Seconds of a job by what they were measured of, and its run folder."""
    began, found = time.perf_counter(), {}
    job = scheduler.submit(words[0], words, "benchmark")
    while scheduler.store.get(job.id).state not in FINISHED:
        time.sleep(0.01)
        kinds = {event["kind"] for event in read_events(job.run_dir / EVENTS_FILE)}
        for name, kind in (("said", "start"), ("works", "progress")):
            if kind in kinds and name not in found:
                found[name] = time.perf_counter() - began
                cpu = psutil.Process(scheduler.store.get(job.id).pid).cpu_times()
                found[f"{name}, computing"] = cpu.user + cpu.system
    if (ended := scheduler.store.get(job.id)).state != "succeeded":
        raise SystemExit(scheduler.backends["local"].logs(scheduler.store.folder(job.id), 2000) + ended.message)
    return found, job.run_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    times: dict[tuple, list[float]] = defaultdict(list)  # (job, way, what) → one a round
    with tempfile.TemporaryDirectory() as place:
        settings, local = Settings(workspace=Path(place), device="cpu"), LocalBackend()
        scheduler = Scheduler(JobStore(settings.jobs / "jobs.sqlite"), {"local": local}, settings).start()
        worker = warm()
        try:
            few = ("--max-new-tokens", "32", "--problems")
            _, data = measure(scheduler, ("sample", *few, "bundled-train", "--limit", "64"))
            jobs = {
                "sample": ("sample", *few, "bundled-train", "--limit", "128"),
                "finetune": ("finetune", "--dataset", str(data), "--max-steps", "10"),
                "evaluate": ("evaluate", "--model", EXPERT, *few, "bundled-test", "--limit", "64"),
            }
            for turn in range(options.rounds):
                for name, words in jobs.items():
                    for forked in (turn % 2 == 0, turn % 2 == 1):
                        local.warm = worker if forked else None
                        for what, seconds in measure(scheduler, words)[0].items():
                            times[name, forked, what].append(seconds)
        finally:
            scheduler.close()
            worker.stop()
    report({key: statistics.median(seconds) for key, seconds in times.items()})


def report(found: dict[tuple, float]) -> None:
    """Print medians. Exits with 1 where the target is missed."""
    missed = []
    for (name, forked, what), seconds in found.items():
        if forked:
            before = found[name, False, what]
            print(f"{name}, {what}: {seconds:.2f} s as a fork, {before:.2f} as a process, {seconds / before:.2f} times")
            if what == "works" and seconds > TARGET * before:
                missed.append(name)
    raise SystemExit(f"missed: {', '.join(missed)}" if missed else None)


if __name__ == "__main__":
    main()
