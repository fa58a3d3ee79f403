"""What a form asks a job to do with a pair and problems: checked, kept, and as words of the command line."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import load_file
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.validation import number
from ui.pair_form import pair_refs
from ui.problem_form import OWN_FILE

MOST_PROBLEMS, MOST_SAMPLES, MOST_AT_ONCE = 100_000, 64, 1024


@dataclass(frozen=True)
class SampleRequest:
    """What the form asks for, checked. `problems` is a key of SOURCES or an uploaded file's path."""

    pair: tuple[str | None, str, str]  # preset name or None, expert, amateur
    problems: str
    named: str  # the problems, for people
    limit: int
    max_new_tokens: int = 128
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    batch_size: int | None = None  # None: as much as memory allows
    every_step: bool = False

    def argv(self, problems: str) -> list[str]:
        """The command line without its --run-dir; what is as usual is left out."""
        words = ["sample", *pair_words(self.pair), "--problems", problems, "--limit", str(self.limit)]
        words += ["--max-new-tokens", str(self.max_new_tokens)] if self.max_new_tokens != 128 else []
        words += ["--batch-size", str(self.batch_size)] if self.batch_size else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--temperature", f"{self.temperature:g}"] if self.temperature else []
        words += ["--samples-per-problem", str(self.samples)] if self.samples != 1 else []
        return words + (["--beta-floor", "0"] if self.every_step else [])

    @property
    def title(self) -> str:
        return f"{pair_title(self.pair)} · {self.named} · {self.limit:,}"


def pair_words(pair: tuple[str | None, str, str]) -> list[str]:
    """The command line's options that name a pair."""
    preset, expert, amateur = pair
    return ["--pair", preset] if preset else ["--expert", expert, "--amateur", amateur]


def pair_title(pair: tuple[str | None, str, str]) -> str:
    preset = next((p for p in presets() if p.name == pair[0]), None)
    return preset.title if preset else " / ".join(ref.rstrip("/").rpartition("/")[2] for ref in pair[1:])


def checked_pair(preset: object, expert: object, amateur: object) -> tuple[str | None, str, str]:
    """(preset name or None, expert, amateur). Raises UserError for what could not be a model's name."""
    pair = pair_refs(preset, expert, amateur)
    for role, ref in zip(("expert", "amateur"), pair[1:], strict=True):
        if not isinstance(ref, str) or not ref.strip() or len(ref) > 500 or ref.startswith("-"):
            raise UserError(f"The {role} is no model; name a Hub id, a folder or a GGUF file.")
    return pair[0], pair[1].strip(), pair[2].strip()


def checked_problems(source: object, upload: object) -> tuple[str, str]:
    """(a key of SOURCES or an uploaded file's path, its name for people). Raises UserError."""
    if source == OWN_FILE:
        if not isinstance(upload, str) or not upload:
            raise UserError("There is no file of problems yet; upload one, or choose another source.")
        return upload, Path(upload).name
    if not isinstance(source, str) or source not in SOURCES:
        raise UserError(f"There is no problem source {str(source)[:40]!r}; pick one of the list.")
    return source, SOURCES[source].title


def kept_problems(settings: Settings, problems: str) -> str:
    """What --problems names: a key as it is, an upload where it stays. Raises UserError."""
    return problems if problems in SOURCES else str(stored_upload(settings, problems).absolute())


def read_form(
    settings: Settings, preset, expert, amateur, source, upload, limit, tokens, temperature, samples, seed, batch, every
) -> SampleRequest:
    """The form's fields as a request. Anybody may send anything; raises UserError."""
    pair, (problems, named) = checked_pair(preset, expert, amateur), checked_problems(source, upload)
    temperature = number("The temperature", temperature, 0, 10)
    samples = number("The samples a problem", samples, 1, MOST_SAMPLES, whole=True)
    if samples > 1 and not temperature:
        raise UserError(f"At temperature 0 all {samples} samples of a problem would be the same; raise it, or take 1.")
    return SampleRequest(
        pair,
        problems,
        named,
        limit=number("The number of problems", limit, 1, MOST_PROBLEMS, whole=True),
        max_new_tokens=number("The token limit", tokens, 1, settings.max_new_tokens, whole=True),
        temperature=temperature,
        samples=samples,
        seed=number("The seed", seed, 0, 2**53, whole=True),
        batch_size=number("The batch size", batch or 0, 0, MOST_AT_ONCE, whole=True) or None,
        every_step=every is True,
    )


def stored_upload(settings: Settings, path: str) -> Path:
    """An uploaded file, checked and put where it stays: under the hash of its content, so each is there once."""
    source = Path(path)
    load_file(source, limit=1, max_bytes=settings.max_upload_mb * 1_000_000)
    content = source.read_bytes()
    folder = settings.workspace / "problems" / hashlib.sha256(content).hexdigest()[:24]
    kept = folder / (re.sub(r"[^\w. -]+", "-", source.stem).strip("-. ")[:60] + source.suffix.lower())
    if kept.exists():
        return kept
    temporary = folder / f".{kept.name}.{new_id()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, kept)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"The file could not be kept: {error.strerror}. Free some space and try again.") from None
    return kept
