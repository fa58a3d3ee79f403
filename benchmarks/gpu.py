"""All that needs a GPU, in ten minutes: the marked tests, and the benchmarks at the paper's shapes with random weights.

    scripts/gpu_check.sh [--seconds 540] [--out docs/gpu.md] [--only tests,waits] [--tiny]

Every section runs in a process of its own with a share of the time that is left. One that outruns its share is cut and
what it printed stays; one that fails does not stop the others. The report is written anew after every section. --tiny,
the default without CUDA: tiny shapes, to see that the program works.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from benchmarks.gpu_sections import SECTIONS
from benchmarks.measuring import say
from lightreasoner.errors import first_line
from lightreasoner.settings import ROOT


def in_process(name: str, folder: Path, seconds: float, tiny: bool, log: Path) -> None:
    """A section in its own process: what it prints goes into `log`, a traceback to the terminal."""
    os.setsid()  # so that it can be ended with the processes that it starts
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["LIGHTREASONER_WORKSPACE"] = str(folder / "workspace")
    try:
        SECTIONS[name].run(folder, seconds, tiny)
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            return
        say("", f"{type(error).__name__}: {first_line(error, 300)}")
        raise


def run_section(how: str, name: str, folder: Path, seconds: float, tiny: bool) -> tuple[list[str], bool]:
    """(the part of the report, whether all went well). The lines are echoed as they come. how: fork or spawn."""
    log, began, echoed = folder / f"{name}.log", time.monotonic(), 0
    print(f"\n## {SECTIONS[name].title} (at most {seconds:.0f} s)", flush=True)
    process = get_context(how).Process(target=in_process, args=(name, folder, seconds, tiny, log))
    process.start()
    while True:
        running = process.is_alive() and time.monotonic() - began < seconds
        process.join(0.2 if running else 0)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        whole = text.rstrip().split("\n") if not running else text.split("\n")[:-1]
        for line in whole[echoed:]:
            print(f"[{time.monotonic() - began:5.1f}] {line}", flush=True)
        echoed = len(whole)
        if not running:
            break
    took, cut = time.monotonic() - began, process.is_alive()
    if cut:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    note = f"took {took:.0f} s"
    if process.exitcode:
        note = f"was **cut** after its share of {seconds:.0f} s" if cut else f"**failed** after {took:.0f} s"
    print(note, flush=True)
    lines = [line for line in text.rstrip().split("\n") if not line.startswith("USDT:")]  # of torch's profiler
    if sum(line.startswith("```") for line in lines) % 2:
        lines.append("```")
    return [f"## {SECTIONS[name].title}", "", *lines, "", f"*This section {note}.*", ""], not process.exitcode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=540, help="for all sections together")
    parser.add_argument("--out", type=Path, help="the report; default: docs/gpu.md, without CUDA none")
    parser.add_argument("--only", default="", help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    names = [name for name in SECTIONS if not options.only or name in options.only.split(",")]
    place, cuda = ask_device()
    out = options.out or (ROOT / "docs" / "gpu.md" if cuda else None)
    report = [
        "# On a GPU",
        "",
        f"Written by `scripts/gpu_check.sh` on {time.strftime('%Y-%m-%d')}, on: **{place}**. The paper's shapes have "
        "random weights (`benchmarks/random_pair.py`): their times and memory are real, their texts and losses mean "
        "nothing, and every step diverges, which is the most work that sampling can be.",
        "",
    ]
    print("\n".join(report), flush=True)
    failed, how = [], "fork"  # the imports are made once; no CUDA in this process
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for n, name in enumerate(names):
            share = SECTIONS[name].share / sum(SECTIONS[other].share for other in names[n:])
            left = options.seconds - (time.monotonic() - began)
            if left < 5:
                part, well = [f"## {SECTIONS[name].title}", "", "*No time was left for this section.*", ""], False
                print("\n".join(part), flush=True)
            else:
                arguments = (name, Path(folder), max(left * share, 5), options.tiny or not cuda)
                part, well = run_section(how, *arguments)
                if not well and n == 0:
                    how = "spawn"  # perhaps a library has touched CUDA while it was imported
            report += part
            failed += [] if well else [name]
            if out:
                out.write_text("\n".join(report), encoding="utf-8")
    print(f"\n{time.monotonic() - began:.0f} s in all; {', '.join(failed) or 'nothing'} failed or was cut", flush=True)
    raise SystemExit(1 if failed else 0)


def ask_device() -> tuple[str, bool]:
    """(the device's name, whether it is a GPU), asked in another process: CUDA must not be touched before a fork."""
    code = (
        "import torch; found = torch.cuda.is_available(); print(torch.cuda.get_device_name() if found else 'the CPU')"
    )
    name = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip().splitlines()[-1]
    return name, name != "the CPU"


if __name__ == "__main__":
    main()
