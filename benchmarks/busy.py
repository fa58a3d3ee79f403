"""A busy machine: sampling, fine-tuning and the page's traces beside other programs, as set and as before, in turn.

    python -m benchmarks.busy [--rounds 2] [--problems 256] [--updates 150]
    python -m benchmarks.busy --also "GOMP_SPINCOUNT=0 OMP_NUM_THREADS=1"

Sampling and fine-tuning are jobs in processes of their own, with 0, 1 and 2 programs beside them that do nothing but
compute; their time is the run's own, without the start. The traces are those of a second process, alone and beside a
sampling job that yields to them. "as before": the threads of version 0.4, which spin for 3 ms and more.
--also: one more setting to compare.

Needs a quiet machine, and says so when it is not. On two cores a round takes some eight minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from lightreasoner import threads
from lightreasoner.settings import ROOT
from lightreasoner.storage.atomic import new_id

PROBLEM, TOKENS, TRACES = 20, 96, 6  # problems that are traced, and tokens of each
BEFORE = {
    "OMP_NUM_THREADS": str(len(threads.allowed())),
    "GOMP_SPINCOUNT": "300000",  # the default of GNU's OpenMP
    "LIGHTREASONER_JOB_NICE": "0",
}
SLOWER = {1: 1.6, 2: 3.0}  # programs beside it → times the quiet time, at most
QUIET, TRACE, FIRST = 1.03, 2.0, 1.0  # times the former time; times the quiet time; seconds to the first token


@contextmanager
def programs(count: int) -> Iterator[None]:
    """Inside, so many programs compute and do nothing else."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def verb(place: Path, setting: dict[str, str], *words: str) -> subprocess.Popen:
    given = {"LIGHTREASONER_WORKSPACE": str(place), "LIGHTREASONER_JOB": f"{new_id()}/1", "LIGHTREASONER_DEVICE": "cpu"}
    env = {name: value for name, value in os.environ.items() if name not in (*threads.FIXED, *threads.WAITING)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=env | given | setting, **output)


def said(process: subprocess.Popen) -> str:
    """What a process prints until it ends. Exits with it where that was an error."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return output


def job(place: Path, setting: dict[str, str], *words: str) -> float:
    folder = place / "runs" / new_id()
    said(verb(place, setting, "lightreasoner", *words, "--run-dir", str(folder)))
    return json.loads((folder / "run.json").read_text())["result"]["seconds"]


def traces(place: Path, setting: dict[str, str]) -> tuple[float, float]:
    """(median seconds of a trace, most seconds to a first token), of the page's traces in a process of their own."""
    output = said(verb(place, setting | {"LIGHTREASONER_JOB": ""}, "benchmarks.busy", "--traces", str(place)))
    whole, first = zip(*json.loads(next(line for line in output.splitlines() if line.startswith("[["))), strict=True)
    return statistics.median(whole), max(first)


def trace_all(place: Path) -> None:
    """Print [[seconds, seconds to the first token], …], waiting for the accelerator included."""
    threads.prepare(for_page=True)
    from lightreasoner.jobs.accelerator import AcceleratorLock
    from lightreasoner.models.cache import LoadedModels
    from lightreasoner.models.pairs import load_pair, presets
    from lightreasoner.problems.stream import load_problems
    from lightreasoner.settings import from_environment
    from lightreasoner.tracing.events import StepsEvent
    from lightreasoner.tracing.trace import TraceRequest, trace

    settings, first = from_environment(), presets()[0]
    pair = load_pair(first.expert, first.amateur, LoadedModels(settings), name=first.name)
    found = []
    for problem in load_problems("bundled-test").problems[PROBLEM : PROBLEM + TRACES + 1]:
        began, first = time.perf_counter(), None
        with AcceleratorLock(place).acquire("inspector", interactive=True):
            for event in trace(pair, TraceRequest(problem.question, max_new_tokens=TOKENS), settings):
                if isinstance(event, StepsEvent):
                    first = first or time.perf_counter() - began
        found.append((time.perf_counter() - began, first))
        time.sleep(1.5)  # a reader looks at it, and the job goes on
    print(json.dumps(found[1:]))  # the first one warms up


def beside_a_job(place: Path, setting: dict[str, str]) -> tuple[float, float]:
    """`traces` while a sampling job computes."""
    folder = str(place / "runs" / new_id())
    words = ("sample", "--problems", "bundled-train", "--limit", "100000", "--run-dir", folder)
    process = verb(place, setting, "lightreasoner", *words)
    try:
        while not list(Path(folder).glob("trajectories/*")) and process.poll() is None:
            time.sleep(0.1)
        return traces(place, setting)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--also", help='one more setting: "NAME=VALUE …"')
    parser.add_argument("--traces", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.traces:
        return trace_all(options.traces)
    settings = {"as before": BEFORE, "as set": {}}
    if options.also:
        settings[options.also] = dict(pair.split("=", 1) for pair in options.also.split())
    others = psutil.cpu_percent(3) * psutil.cpu_count() / 100
    print(f"{threads.cores()} cores may be used; other programs use {others:.2f} of the machine's now", flush=True)
    if others > 0.2:
        print("THE MACHINE IS NOT QUIET: these times say nothing", flush=True)
    times: dict[tuple, list[float]] = defaultdict(list)  # (what, programs beside it, setting) → one a round
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = place / "runs" / new_id()
        made = ("sample", "--problems", "bundled-train", "--limit", "200", "--run-dir", str(data))
        said(verb(place, {}, "lightreasoner", *made))
        jobs = {
            "sampling": ("sample", "--problems", "bundled-train", "--limit", str(options.problems)),
            "fine-tuning": ("finetune", "--dataset", str(data), "--max-steps", str(options.updates)),
        }
        for turn in range(options.rounds):
            order = list(settings)[:: 1 if turn % 2 == 0 else -1]
            for what, words in jobs.items():
                for count in (0, *SLOWER):
                    for setting in order:
                        with programs(count):
                            times[what, count, setting].append(job(place, settings[setting], *words))
            for setting in order:
                for what, call in (("a trace", traces), ("a trace beside a job", beside_a_job)):
                    whole, first = call(place, settings[setting])
                    times[what, 0, setting].append(whole)
                    times[f"first token of {what}", 0, setting].append(first)
            print(f"round {turn + 1} of {options.rounds} done", flush=True)
    found = {key: statistics.median(seconds) for key, seconds in times.items()}
    report(found, list(settings))


def report(found: dict[tuple, float], settings: list[str]) -> None:
    """Print medians and what they come to. Exits with 1 where a target is missed."""
    missed = []
    for (what, count, setting), seconds in found.items():
        ratio = seconds / found[what, 0, setting]
        print(f"{what}, {count} programs beside it, {setting}: {seconds:.2f} s, {ratio:.2f} times the quiet time")
        if setting == "as set" and ratio > SLOWER.get(count, 1):
            missed.append(f"{what} beside {count} programs")
    for setting in settings:
        ratio = found["a trace beside a job", 0, setting] / found["a trace", 0, setting]
        first = found["first token of a trace beside a job", 0, setting]
        print(f"traces, {setting}: beside a job {ratio:.2f} times the quiet time, first token within {first:.2f} s")
        if setting == "as set" and (ratio > TRACE or first > FIRST):
            missed.append("traces beside a job")
    for what in ("sampling", "fine-tuning", "a trace"):
        ratio = found[what, 0, "as set"] / found[what, 0, "as before"]
        print(f"{what}, quiet: as set {ratio:.3f} of the time as before")
        if ratio > QUIET:
            missed.append(f"{what} on a quiet machine")
    raise SystemExit(f"missed: {'; '.join(missed)}" if missed else None)


if __name__ == "__main__":
    main()
