"""The lock on an accelerator of this machine: one process computes at a time, and every process can read which one.

It is a lock of the operating system, so the death of its holder frees it. Traces and estimates that a user waits for
are interactive: jobs yield to them at their checkpoints. The CPU counts as an accelerator.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lightreasoner.errors import UserError
from lightreasoner.processes import BEAT, alive, announce, announced, beat, elsewhere, mark
from lightreasoner.progress import StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import read_json, write_text

POLL = 0.05  # seconds between tries for the lock
NVIDIA = Path("/proc/driver/nvidia")
UNKNOWN = {"who": "another process", "job": None, "pid": None, "since": None}


def job_devices(settings: Settings) -> tuple[str, ...]:
    """The devices that each run one job at a time, as settings: every GPU that CUDA_VISIBLE_DEVICES leaves, or the one
    that is set."""
    if settings.device not in ("auto", "cuda") or not NVIDIA.exists():
        return (settings.device,)
    import torch  # takes a second, which only machines with GPUs pay

    count = torch.cuda.device_count()
    return tuple(f"cuda:{n}" for n in range(count)) if count > 1 else (settings.device,)


def describe_holder(holder: dict | None) -> str:
    """The holder of the accelerator, as part of a sentence."""
    who = (holder or {}).get("who") or "the accelerator"
    if who.startswith("job "):
        return f"the job “{who.removeprefix('job ')}”"
    return {"inspector": "a trace in the inspector", "trace": "a trace in a terminal"}.get(who, who)


class WaitCancelled(StopRequested):
    """The wait for the accelerator, or what came after it, was cancelled."""

    def __init__(self) -> None:
        super().__init__(keep=False)


class AcceleratorLock:
    """The lock of a workspace. The object itself holds nothing: each `acquire` makes a handle of its own."""

    def __init__(self, workspace: Path, device: str = "auto"):
        """device: as in the settings, of several the first. Every GPU but the first has a lock of its own."""
        further = re.match(r"cuda:([1-9]\d*)(?:,|$)", device)
        name = f"accelerator-{further[1]}" if further else "accelerator"
        self.path, self.folder = Path(workspace) / f"{name}.lock", Path(workspace) / name

    @contextmanager
    def acquire(
        self,
        who: str,
        stop: threading.Event | None = None,
        on_wait: Callable[[dict | None], None] | None = None,
        interactive: bool = False,
        job: str | None = None,
    ) -> Iterator[LockHandle]:
        """Wait for the accelerator and hold it inside the block.

        who: the name that others see, "inspector", "trace" or "job TITLE". job: the id of that job. on_wait: called
        with the holder (see `holder`) about 20 times per second while waiting. Raises WaitCancelled as soon as `stop`
        is set, and UserError when the workspace is not writable.
        """
        handle = LockHandle(self, who, stop or threading.Event(), on_wait or (lambda holder: None), interactive, job)
        try:
            handle.acquire()
            yield handle
        finally:
            handle.release()

    def holder(self) -> dict | None:
        """The current holder: {"who", "job" (id or None), "pid", "since" (unix s)}; None when the lock is free."""
        if not self.path.exists():
            return None
        lock = FileLock(self.path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # held, so holder.json may be current
            holder = self._read_holder()
            known = holder and (elsewhere(holder["mark"]) or alive(holder["pid"], holder["mark"]))
            return {name: holder[name] for name in UNKNOWN} if known else UNKNOWN
        lock.release()
        return None

    def wanted(self) -> bool:
        """Whether an interactive run waits."""
        return bool(announced(self.folder / "waiting"))

    def _read_holder(self) -> dict | None:
        holder = read_json(self.folder / "holder.json")
        return holder if isinstance(holder, dict) and {*UNKNOWN, "mark"} <= holder.keys() else None


class LockHandle:
    """One hold of the accelerator, which can be released and acquired again."""

    def __init__(self, accelerator, who, stop, on_wait, interactive, job):
        self._accelerator, self._who, self._job = accelerator, who, job
        self._stop, self._on_wait, self._interactive = stop, on_wait, interactive
        self._lock = FileLock(accelerator.path, thread_local=False)

    def acquire(self) -> None:
        """Wait for the lock. Raises WaitCancelled or UserError like `AcceleratorLock.acquire`."""
        announced = None
        try:
            if not self._try_lock():
                with suppress(OSError):  # on a full disk it waits without being announced
                    announced = announce(self._accelerator.folder / "waiting") if self._interactive else None
                last_beat = time.monotonic()
                while not self._try_lock():
                    self._on_wait(self._accelerator.holder())
                    if announced and time.monotonic() - last_beat >= BEAT:
                        last_beat = time.monotonic()
                        beat(announced)
                    if self._stop.wait(POLL):
                        raise WaitCancelled
        finally:
            if announced:
                announced.unlink(missing_ok=True)
        self._write_holder()

    def release(self) -> None:
        if self._lock.is_locked:
            with suppress(OSError):
                (self._accelerator.folder / "holder.json").unlink(missing_ok=True)
            self._lock.release()

    def yield_to_interactive(self) -> bool:
        """Let interactive runs that wait go first; whether one did. Raises WaitCancelled like `acquire`."""
        if self._interactive or not self._accelerator.wanted():
            return False
        self.release()
        self.acquire()
        return True

    def _try_lock(self) -> bool:
        if not self._interactive and self._accelerator.wanted():
            return False
        try:
            self._accelerator.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            why = error.strerror or error
            raise UserError(
                f"{self._accelerator.path} cannot be locked: {why}. Set LIGHTREASONER_WORKSPACE to a writable folder."
            ) from error
        return True

    def _write_holder(self) -> None:
        pid = os.getpid()
        holder = {"who": self._who, "job": self._job, "pid": pid, "mark": mark(pid), "since": time.time()}
        with suppress(UserError):  # the lock counts, not its description
            write_text(self._accelerator.folder / "holder.json", json.dumps(holder))
