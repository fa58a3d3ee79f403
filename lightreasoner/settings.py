"""Everything that is read from the environment, in one typed object."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from lightreasoner.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
PREFIX = "LIGHTREASONER_"


@dataclass(frozen=True)
class Settings:
    """Each field is read from LIGHTREASONER_<NAME>, e.g. LIGHTREASONER_MEMORY_GB=12.

    The limits bind everybody, the page, the command line and direct HTTP calls alike.
    """

    workspace: Path = ROOT / "workspace"  # traces, runs and jobs live here
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: str = "auto"  # auto, float32, bfloat16, float16
    memory_gb: float = 0.0  # budget for loaded models in GB; 0: half of what the device has free
    max_problem_chars: int = 20_000
    max_prompt_tokens: int = 4_096
    max_new_tokens: int = 2_048
    max_upload_mb: int = 20
    max_waiting: int = 16  # runs that may wait for the accelerator
    max_queued: int = 20  # jobs that may wait in the queue
    ray_address: str = ""  # HOST:PORT of a Ray cluster's head, auto, or local; empty: no Ray
    lease: str = ""  # folder of the accelerator's lock; empty: the workspace
    job: str = ""  # "id/attempt" in a process that the scheduler started, empty in all others

    @property
    def traces(self) -> Path:
        return self.workspace / "traces"

    @property
    def runs(self) -> Path:
        return self.workspace / "runs"

    @property
    def jobs(self) -> Path:
        return self.workspace / "jobs"


def from_environment(env: dict[str, str] | None = None) -> Settings:
    """Settings from environment variables. Raises UserError on a value of the wrong type."""
    env = dict(os.environ) if env is None else env
    values = {}
    for field in fields(Settings):
        name = PREFIX + field.name.upper()
        if not env.get(name):
            continue
        cast = {"Path": Path, "str": str, "float": float, "int": int}[field.type]
        try:
            values[field.name] = cast(env[name])
        except ValueError:
            raise UserError(f"{name} is {env[name]!r}, which is not a number; give it one or unset it.") from None
        if cast in (int, float) and not 0 <= values[field.name] < 1e12:  # also refuses NaN
            raise UserError(f"{name} is {env[name]!r}; it must be a number from 0 up.")
    return Settings(**values)


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which `from_environment` makes these settings again, for a process of one's own."""
    return {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields(Settings)}
