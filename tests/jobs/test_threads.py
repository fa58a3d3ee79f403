"""Tests of lightreasoner.threads: threads by what is free, and the priority of jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightreasoner import threads
from lightreasoner.settings import ROOT
from lightreasoner.threads import Look, cores, fitting, group

QUIET = Look(clock=0, own=0, idle=0, total=0, group=0)


@pytest.mark.parametrize(
    ("own", "idle", "in_group", "quota", "expected"),
    [
        (2.0, 0.0, 0, 9, 2),  # alone, spinning
        (1.6, 0.4, 0, 9, 2),  # alone, waiting in between
        (1.3, 0.0, 0, 9, 1),  # one other program on two cores
        (1.0, 0.0, 0, 9, 1),
        (1.0, 1.0, 0, 9, 2),  # it ended
        (0.7, 0.0, 0, 9, 1),  # two others
        (0.0, 0.0, 0, 9, 1),  # nothing to do, and nothing free
        (2.0, 62.0, 2.0, 2.0, 2),  # a share of a large machine, all of it ours
        (1.0, 60.0, 2.0, 2.0, 1),  # the page beside the job in one container: two training processes on two cores
        (0.5, 63.0, 0.5, 0.5, 1),
    ],
)
def test_threads_are_as_many_as_find_a_core(own, idle, in_group, quota, expected):
    """Two threads beside a busy program took 1.9 times as long as one: each operation waits for both."""
    now = Look(clock=1, own=own, idle=idle, total=2, group=in_group)
    assert fitting(QUIET, now, 2, quota) == expected


def test_a_system_that_counts_nothing_leaves_all_threads():
    assert fitting(QUIET, Look(clock=1, own=0.5, idle=0, total=0, group=0), 2) == 2


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, 2.0),  # the parent's is smaller
        ("3:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "300000", "cpu/d/cpu.cfs_period_us": "100000"}, 3.0),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("5:memory:/\n", {}, None),
        ("damaged", {}, None),
    ],
)
def test_a_containers_quota_counts_and_not_the_machines_cores(tmp_path, own, files, expected):
    """A container of two cores on a machine of sixty-four started sixty-four threads."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    found = group(tmp_path, tmp_path / "own")
    assert (found and found.cores) == expected


def test_cores_are_those_of_the_affinity_and_the_quota(monkeypatch):
    monkeypatch.setattr(threads, "allowed", lambda: set(range(4)))
    assert [cores(quota) for quota in (0.2, 1.0, 1.5, 2.0, 64.0)] == [1, 1, 2, 2, 4]


REPORT = """
import json, os, sys
from lightreasoner import threads
threads.prepare(for_page=sys.argv[2] == "page")
import torch
threads._wanted = threads._wanted and 1  # as a busy machine has it
threads.step_back(int(sys.argv[1]))
threads.follow()
print(json.dumps([os.environ.get("GOMP_SPINCOUNT"), torch.get_num_threads(), os.nice(0), os.sched_getscheduler(0)]))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux's scheduler")
@pytest.mark.parametrize(
    ("given", "nice", "place", "expected"),
    [
        ({}, 1, "job", ["10000", 1, 1, os.SCHED_BATCH]),
        ({"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "7"}, 0, "job", ["7", 2, 0, os.SCHED_OTHER]),  # the user's own
        ({}, 0, "page", [None, 1, 0, os.SCHED_OTHER]),  # a trace has many small operations: OpenMP's long spinning
    ],
)
def test_the_environment_comes_first(given, nice, place, expected):
    names = {*threads.WAITING, *threads.FIXED}
    env = {name: value for name, value in os.environ.items() if name not in names} | given
    command = [sys.executable, "-c", REPORT, str(nice), place]
    printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    base = os.nice(0)
    assert json.loads(printed) == [*expected[:2], min(19, base + expected[2]), expected[3]]


def test_every_program_prepares_before_torch_is_imported():
    """OpenMP reads how to wait when it is loaded: a variable that is set later has no effect."""
    check = """
import sys, app, lightreasoner.cli.main
from lightreasoner import threads
threads.prepare = lambda for_page=False: sys.exit("torch" in sys.modules or not for_page)
app.main()
"""
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False, timeout=60).returncode == 0
    forked = Path(ROOT / "lightreasoner/cli/warm_worker.py").read_text(encoding="utf-8")
    assert forked.index("threads.wait_briefly()") < forked.index("import_module(name)")
