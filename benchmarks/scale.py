"""Sampling and exploring as the number of problems grows, and the cost of Ray on one machine.

    python -m benchmarks.scale [--sizes 1000,10000,100000] [--tokens N] [--ray]

Each run is the command `sample` in a separate process, on a file of that many distinct problems (the bundled ones,
numbered). It prints problems per second from the first batch to the last, the process's peak memory, and bytes on disk;
then what the explorer needs for the dataset: for pages of 25 rows the median of five in milliseconds.
--tokens: the response limit, where a hundred thousand whole responses would take too long. --ray: repeats the first
size with --backend ray at one and two workers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.explorer_page import Filters, page
from lightreasoner.problems.stream import load_problems
from lightreasoner.settings import ROOT


def problems_file(path: Path, count: int) -> Path:
    """Distinct problems as JSON lines."""
    bundled = load_problems("bundled-train").problems
    with open(path, "w", encoding="utf-8") as file:
        for n in range(count):
            problem = bundled[n % len(bundled)]
            question = problem.question if n < len(bundled) else f"Problem {n}. {problem.question}"
            file.write(json.dumps({"question": question, "answer": problem.answer}) + "\n")
    return path


def run(problems: Path, folder: Path, *options: str) -> tuple[float, float, dict]:
    """(seconds in all, largest memory in MB, the run's result) of the verb in a process of its own."""
    words = [sys.executable, "-m", "lightreasoner", "sample", "--problems", str(problems), "--run-dir", str(folder)]
    env = os.environ | {"LIGHTREASONER_WORKSPACE": str(folder.parent / "workspace")}
    began = time.perf_counter()
    with open(folder.parent / "output", "w") as output:
        process = subprocess.Popen([*words, *options], cwd=ROOT, env=env, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit((folder.parent / "output").read_text())
    scale = 1e6 if sys.platform == "darwin" else 1e3  # kilobytes, but on a Mac bytes
    return seconds, usage.ru_maxrss / scale, json.loads((folder / "run.json").read_text())["result"]


def explore(folder: Path) -> str:
    """How long the explorer takes to read a dataset and to show pages of it, and the memory that it keeps."""
    explorer = Explorer(folder)
    tracemalloc.start()
    began = time.perf_counter()
    explorer.refresh()
    page(explorer, limit=25)
    seconds, steps = time.perf_counter() - began, explorer.view.data.steps
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    pages = {
        "the first page": {},
        "the middle one": {"offset": steps // 2},
        "sorted by entropy": {"sort": "expert-entropy"},
        "as sampled": {"sort": "order"},
        "filtered": {"filters": Filters(low=0.1, high=2, category="number")},
        "searched": {"filters": Filters(search="Problem 7")},
    }
    measured = []
    for name, options in pages.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            page(explorer, limit=25, **options)
            times.append(1000 * (time.perf_counter() - began))
        measured.append(f"{name} {statistics.median(times):.1f} ms")
    return (
        f"  explored: {steps:,} steps read in {seconds:.1f} s, {memory / steps:.0f} bytes a step; {', '.join(measured)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--tokens", help="new tokens of a response, at most (default: the verb's)")
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    cut = ["--max-new-tokens", options.tokens] if options.tokens else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for size in sizes:
            seconds, memory, result = run(problems_file(folder / f"{size}.jsonl", size), folder / str(size), *cut)
            print(
                f"{size:,} problems: {result['problems'] / result['seconds']:.1f} problems/s over "
                f"{result['seconds']:,.0f} s ({seconds:,.0f} s with the start), {memory:,.0f} MB at most, "
                f"{result['bytes'] / result['problems']:,.0f} bytes a problem on disk",
                flush=True,
            )
            print(explore(folder / str(size)), flush=True)
        if options.ray:
            os.environ["LIGHTREASONER_RAY_ADDRESS"] = "local"
            for workers in (1, 2):
                extra = ("--backend", "ray", "--num-workers", str(workers), *cut)
                seconds, memory, result = run(folder / f"{sizes[0]}.jsonl", folder / f"ray-{workers}", *extra)
                print(
                    f"Ray, {workers} worker(s), {sizes[0]:,} problems: {result['problems'] / result['seconds']:.1f} "
                    f"problems/s over {result['seconds']:,.0f} s ({seconds:,.0f} s with the start), driver "
                    f"{memory:,.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
