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
    keep: str = ""  # where finished runs are kept too: a folder's path, s3://BUCKET/PATH, or hf://datasets/OWNER/NAME
    no_jobs: str = ""  # why no job may run here, a sentence; empty: they may
    ray_address: str = ""  # HOST:PORT of a Ray cluster's head, auto, or local; empty: no Ray
    lease: str = ""  # folder of the accelerator's lock; empty: the workspace
    job: str = ""  # "id/attempt" in a process that the scheduler started, empty in all others
    public: bool = (
        False  # strangers may come; on by itself on Spaces. What they may do: lightreasoner/serving/permissions.py
    )
    owners: str = ""  # names or organisations that sign in as the owner by OAuth, comma-separated
    login: str = ""  # "user:password" of the owner, for places without OAuth
    visitor_tokens: int = 512  # of a visitor's trace; the limits from here on bind visitors of a public server only
    visitor_traces: int = 2  # at once, of one visitor; of one network address twice as many
    public_traces: int = 8  # at once, of all visitors together
    traces_a_minute: int = 10  # of one visitor; of one network address three times as many
    uploads_an_hour: int = 20  # of one visitor; of one network address three times as many
    kept_uploads_mb: int = 500  # disk for uploads
    kept_traces_mb: int = 1_000  # disk for traces of a public server; the oldest go first

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
        cast = {"Path": Path, "str": str, "float": float, "int": int, "bool": yes_or_no}[field.type]
        try:
            values[field.name] = cast(env[name])
        except KeyError:
            raise UserError(f"{name} is {env[name]!r}; say 1 or 0, or unset it.") from None
        except ValueError:
            raise UserError(f"{name} is {env[name]!r}, which is not a number; give it one or unset it.") from None
        if cast in (int, float) and not 0 <= values[field.name] < 1e12:  # also refuses NaN
            raise UserError(f"{name} is {env[name]!r}; it must be a number from 0 up.")
    if env.get("SPACE_ID"):
        values.setdefault("public", True)
        values.setdefault("owners", env.get("SPACE_AUTHOR_NAME", ""))
    if values.get("login") and not all(values["login"].partition(":")[::2]):  # the value itself is not shown
        raise UserError(f"{PREFIX}LOGIN names no user and password; write it as user:password, or unset it.")
    return Settings(**values)


def yes_or_no(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[text.strip().lower()]


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which `from_environment` makes these settings again, for a process of one's own: a job. It
    need not know who the owner is, so the password stays here (an empty variable also hides the server's own)."""
    names = {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields(Settings)}
    return names | {f"{PREFIX}LOGIN": ""}
