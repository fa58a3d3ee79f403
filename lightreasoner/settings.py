"""The settings, read from environment variables into one typed object."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from lightreasoner.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
PREFIX = "LIGHTREASONER_"
#: Former names of variables, which are still read: field → name without the prefix.
FORMER = {
    "archive": "KEEP",
    "lock_folder": "LEASE",
    "traces_per_minute": "TRACES_A_MINUTE",
    "uploads_per_hour": "UPLOADS_AN_HOUR",
    "max_uploads_mb": "KEPT_UPLOADS_MB",
    "max_traces_mb": "KEPT_TRACES_MB",
}


@dataclass(frozen=True)
class Settings:
    """Each field is read from LIGHTREASONER_<NAME>, e.g. LIGHTREASONER_MEMORY_GB=12.

    The limits apply to the page, the command line and direct HTTP calls alike.
    """

    workspace: Path = ROOT / "workspace"  # folder of traces, runs and jobs
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps; cuda:1,cuda:0 uses the second for what has no room
    dtype: str = "auto"  # auto, float32, bfloat16, float16
    memory_gb: float = 0.0  # budget for loaded models in GB; 0: 85 % of what a GPU has free, half elsewhere
    lean: bool = True  # read models with a lean forward pass where its logits equal those of transformers
    graphs: bool = True  # replay its single steps as CUDA graphs where their logits differ by no more than rounding
    packed: bool = True  # on a CPU copy its weights into a faster layout, which rounds otherwise, where memory allows
    conversions_gb: float = 20.0  # disk space of converted GGUF files, which load faster; 4 on Spaces; 0: none are kept
    max_problem_chars: int = 20_000
    max_prompt_tokens: int = 4_096
    max_new_tokens: int = 2_048
    max_upload_mb: int = 20
    max_waiting: int = 16  # traces that may wait for the accelerator
    max_queued: int = 20  # jobs in the queue
    archive: str = ""  # archive of finished runs: a folder's path, s3://BUCKET/PATH, or hf://datasets/OWNER/NAME
    no_jobs: str = ""  # a sentence saying why jobs are disabled; empty: they are enabled
    ray_address: str = ""  # HOST:PORT of a Ray cluster's head, auto, or local; empty: no Ray
    lock_folder: str = ""  # folder of the accelerator's lock; empty: the workspace
    report_to: str = ""  # a tracker that mirrors the runs' numbers: trackio, tensorboard or wandb; empty: none
    job_nice: int = 1  # steps of priority by which jobs are below the page; at 10 two other programs leave a tenth
    warm_jobs: bool = True  # fork jobs from a process that has made their imports, where that is possible
    job: str = ""  # "id/attempt" in processes started by the scheduler, else empty
    hosts: str = (
        ""  # more names under which the page is reached, and sites that frame it, comma-separated: *.example.org
    )
    proxies: str = ""  # addresses whose X-Forwarded-For is believed; empty: this machine's; also FORWARDED_ALLOW_IPS
    public: bool = False  # visitors with limited permissions (serving/permissions.py); the default on Spaces
    owners: str = ""  # users or organisations that are the owner by OAuth, comma-separated
    login: str = ""  # "user:password" of the owner, without OAuth
    visitor_tokens: int = 512  # per trace of a visitor; this and the following limits only apply to visitors
    visitor_traces: int = 2  # at once per visitor; twice as many per network address
    public_traces: int = 8  # at once, all visitors together
    traces_per_minute: int = 10  # per visitor; three times as many per network address
    uploads_per_hour: int = 20  # per visitor; three times as many per network address
    max_uploads_mb: int = 500  # disk space of uploads
    max_traces_mb: int = 1_000  # disk space of traces on a public server; the oldest are deleted

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
        if name not in env and field.name in FORMER:
            name = PREFIX + FORMER[field.name]
        if not env.get(name):
            continue
        cast = {"Path": Path, "str": str, "float": float, "int": int, "bool": yes_or_no}[field.type]
        try:
            values[field.name] = cast(env[name])
        except KeyError:
            raise UserError(f"{name} is {env[name]!r}; set it to 1 or 0, or unset it.") from None
        except ValueError:
            raise UserError(f"{name} is {env[name]!r}, which is not a number; set it to one or unset it.") from None
        if cast in (int, float) and not 0 <= values[field.name] < 1e12:  # also refuses NaN
            raise UserError(f"{name} is {env[name]!r}; it must be a number of at least 0.")
    values.setdefault("proxies", env.get("FORWARDED_ALLOW_IPS", ""))  # the web server's own variable
    if env.get("SPACE_ID"):
        values.setdefault("public", True)
        values.setdefault("conversions_gb", 4.0)
        values.setdefault("owners", env.get("SPACE_AUTHOR_NAME", ""))
    if values.get("login") and not all(values["login"].partition(":")[::2]):  # the value itself is not shown
        raise UserError(f"{PREFIX}LOGIN is not of the form user:password; correct or unset it.")
    return Settings(**values)


def yes_or_no(text: str) -> bool:
    """Parse a Boolean variable. Raises KeyError."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[text.strip().lower()]


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which a job's process reads these settings. The owner's password is replaced by an empty
    value, which hides the server's own variable."""
    names = {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields(Settings)}
    return names | {f"{PREFIX}LOGIN": ""}
