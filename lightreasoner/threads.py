"""How much of the machine a process takes: OpenMP's threads by what other programs leave free, and a job's priority.

Threads of one operation wait for each other at its end. Beside another program one of them waits for a core, and the
others spin meanwhile: on two cores with one busy neighbour, two threads took 20.9 s where one took 11.1
(docs/log.md). So each second the number of threads follows the cores that are free, and jobs spin for a short time
only, which is set before torch is imported. The page's process keeps the long spinning: its traces have many small
operations. The environment of the user comes first: OMP_NUM_THREADS fixes the threads, GOMP_SPINCOUNT,
OMP_WAIT_POLICY or KMP_BLOCKTIME the waiting.
"""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SPINS = "10000"  # of GNU's OpenMP, some 0.1 ms: as fast as its default of 300,000 on a quiet machine
EVERY = 1.0  # seconds between two looks at what is free
FIXED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
_wanted: int | None = None  # threads; None: as the libraries have it
_HERE = threading.local()  # steady: see there


@dataclass(frozen=True)
class Group:
    """The control group whose quota binds first: cores it may use, and the file that counts its use."""

    cores: float
    usage: Path

    def used(self) -> float:
        """Core-seconds that all its processes have used."""
        text = self.usage.read_text()
        return int(text.split()[1]) / 1e6 if self.usage.name == "cpu.stat" else int(text) / 1e9


def group(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Group | None:
    """The control group (version 1 or 2) with the smallest quota among this process's; None without a quota."""
    found = []
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            for folder in _with_parents(cgroups / "cpu" if kinds else cgroups, path):
                with suppress(OSError, ValueError):
                    found += _quota(folder) if kinds in ("", "cpu", "cpu,cpuacct") else []
    return min(found, key=lambda each: each.cores, default=None)


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    """The folder of a control group and those above it. A container sees its own group as the root."""
    folder = root / path.strip("/").removeprefix("../")
    yield from [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _quota(folder: Path) -> list[Group]:
    if (file := folder / "cpu.max").exists():  # version 2: "200000 100000" or "max 100000"
        quota, period = file.read_text().split()
        return [] if quota == "max" else [Group(int(quota) / int(period), folder / "cpu.stat")]
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    period = int((folder / "cpu.cfs_period_us").read_text())
    return [Group(quota / period, folder / "cpuacct.usage")] if quota > 0 else []


def allowed() -> set[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def cores(quota: float | None = None) -> int:
    """Cores that this process may use at once. quota: of its control group, looked up by default."""
    if quota is None:
        quota = bound.cores if (bound := group()) else math.inf
    return max(1, min(len(allowed()), math.ceil(min(quota, 1e6) - 0.05)))


@dataclass(frozen=True)
class Look:
    """Counters at one moment, all in seconds: of the clock, of use by this process, idle and in all of the allowed
    processors, and of use by the control group."""

    clock: float
    own: float
    idle: float
    total: float
    group: float


def look(bound: Group | None) -> Look:
    mine, times = allowed(), psutil.cpu_times(percpu=True)
    times = [each for n, each in enumerate(times) if n in mine] or times
    # what a host takes from a virtual machine is not taken by programs in it, and fewer threads do not bring it back
    idle = sum(sum(getattr(each, name, 0.0) for name in ("idle", "iowait", "steal")) for each in times)
    used = 0.0
    with suppress(OSError, ValueError, IndexError):
        used = bound.used() if bound else 0.0
    return Look(time.monotonic(), time.process_time(), idle, sum(map(sum, times)), used)


def fitting(before: Look, now: Look, most: int, quota: float = math.inf) -> int:
    """The number of threads that find a core each: what this process used between two looks, and what was idle.

    most: threads at most; quota: cores of the control group, of which its other processes take a part.
    """
    seconds = now.clock - before.clock
    if seconds <= 0 or now.total - before.total < seconds / 2:  # the system does not count
        return most
    own = (now.own - before.own) / seconds
    free = own + (now.idle - before.idle) / seconds
    free = min(free, quota - max(0.0, (now.group - before.group) / seconds - own))
    return max(1, min(most, math.floor(free + 0.5)))


def wait_briefly() -> None:
    """Set how torch's threads wait. Call before torch is imported: OpenMP reads it when it is loaded."""
    if not any(os.environ.get(name) for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def prepare(for_page: bool = False) -> None:
    """Call before torch is imported: sets how its threads wait, and lets their number follow what is free.

    for_page: keep OpenMP's own waiting. On two quiet cores a trace took 0.10 s with it and 0.13 with short spinning;
    beside a job or a program there was no difference, since one thread waits for nobody (docs/log.md).
    """
    global _wanted
    if not for_page:
        wait_briefly()
    if _wanted is None and not any(os.environ.get(name) for name in FIXED):
        bound = group()
        quota = bound.cores if bound else math.inf
        most = _wanted = cores(quota)
        if most > 1:
            threading.Thread(target=_watch, args=(bound, quota, most), daemon=True, name="threads").start()


def _watch(bound: Group | None, quota: float, most: int) -> None:
    global _wanted
    before = look(bound)
    while True:
        time.sleep(EVERY)
        now = look(bound)
        _wanted, before = fitting(before, now, most, quota), now


def follow() -> None:
    """Let torch's operations in this thread use the threads that fit now. Without `prepare`, nothing changes."""
    if _wanted is None or getattr(_HERE, "steady", False):
        return
    import torch

    if torch.get_num_threads() != _wanted:
        torch.set_num_threads(_wanted)  # holds for this thread, and for those that are yet to compute


@contextmanager
def steady() -> Iterator[None]:
    """Inside, `follow` changes nothing in this thread. Another number of threads can round a sum another way."""
    _HERE.steady = True
    try:
        yield
    finally:
        _HERE.steady = False


def step_back(nice: int) -> None:
    """Run at a lower priority than the page, which started this process, by so many steps of niceness."""
    if nice <= 0 or not hasattr(os, "nice"):
        return
    with suppress(OSError):
        os.nice(min(nice, 19))
    with suppress(OSError, AttributeError):  # does not take a core from whoever wakes up; keeps its share otherwise
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):  # desktops weigh sessions, not processes, and a job has a session of its own
        Path("/proc/self/autogroup").write_text(str(min(nice, 19)))
