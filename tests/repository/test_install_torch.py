"""The build of PyTorch that `make run` asks for: scripts/install_torch.sh with stand-ins for pip and uname."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname", "grep", "cat"):
        folder.joinpath(name).symlink_to(next(p for d in ("/bin", "/usr/bin") if (p := Path(d, name)).exists()))
    return folder


def install(programs: Path, *, system="Linux", gpu=False, reachable=True, there=False, option="") -> tuple[str, str]:
    """(how pip was called, what was printed)."""
    calls = programs / "calls"

    def program(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    program("uname", f"echo {system}")
    program(
        "python", f'case "$1" in -c) exit {0 if there else 1};; esac\necho "$@" > {calls}\nexit {int(not reachable)}'
    )
    if gpu:
        program("nvidia-smi", "exit 0")
    command = [str(ROOT / "scripts" / "install_torch.sh"), str(programs / "python"), *([option] if option else [])]
    done = subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return (calls.read_text() if calls.exists() else ""), done.stdout


def test_linux_without_a_card_gets_the_cpu_build_that_is_pinned(programs):
    called, _ = install(programs)
    pinned = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch=="))
    assert called.split()[-1] == pinned and "--index-url https://download.pytorch.org/whl/cpu" in called
    assert "--timeout 10 --retries 0" in called, "a network that does not answer costs seconds"


@pytest.mark.parametrize("given", [{"gpu": True}, {"system": "Darwin"}, {"option": "default"}, {"there": True}])
def test_everybody_else_gets_the_default_build(programs, given):
    assert install(programs, **given) == ("", "")


def test_an_index_that_cannot_be_reached_is_passed_over(programs):
    called, said = install(programs, reachable=False)
    assert called and "default build" in said


def test_make_passes_the_choice_on():
    for choice in ("", "default"):
        words = ["make", "-n", "-B", ".venv/app", *([f"TORCH={choice}"] if choice else [])]
        done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=30)
        line = next(line for line in done.stdout.splitlines() if "install_torch" in line)
        assert line.split()[1:] == [".venv/bin/python", *([choice] if choice else [])]
