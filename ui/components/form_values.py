"""Form values as the engine takes them: pairs, problems, uploads."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import load_file
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_bytes
from ui.components.pair_form import pair_refs
from ui.components.problem_form import OWN_FILE, escape
from ui.components.run_list import short_name


def describe_source(settings: Settings, source: object, upload: object) -> str:
    """How many problems a source has, in Markdown; a mistake in a file comes as its sentence."""
    if source != OWN_FILE:
        return escape(SOURCES[source].description) if isinstance(source, str) and source in SOURCES else ""
    if not isinstance(upload, str) or not upload:
        return "JSON lines, JSON, CSV or Parquet with a column of questions."
    try:
        found = load_file(Path(upload), max_bytes=settings.max_upload_mb * 1_000_000)
    except UserError as error:
        return escape(str(error))
    said = f"{len(found.problems):,} problem{'' if len(found.problems) == 1 else 's'} in it."
    if found.skipped:
        line, why = found.skipped[0]
        said += f" {len(found.skipped):,} rows were left out, the first in line {line}: {why}."
    return escape(said)


def pair_options(pair: tuple[str | None, str, str]) -> list[str]:
    """The command line's options that name a pair."""
    preset, expert, amateur = pair
    return ["--pair", preset] if preset else ["--expert", expert, "--amateur", amateur]


def pair_title(pair: tuple[str | None, str, str]) -> str:
    preset = next((p for p in presets() if p.name == pair[0]), None)
    return preset.title if preset else " / ".join(map(short_name, pair[1:]))


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


def store_problems(settings: Settings, problems: str) -> str:
    """What --problems names: a key as it is, an upload where it stays. Raises UserError."""
    return problems if problems in SOURCES else str(store_upload(settings, problems).absolute())


def store_upload(settings: Settings, path: str) -> Path:
    """An uploaded file, checked and put where it stays: under the hash of its content, so each is there once."""
    source = Path(path)
    load_file(source, limit=1, max_bytes=settings.max_upload_mb * 1_000_000)
    content = source.read_bytes()
    folder = settings.workspace / "problems" / hashlib.sha256(content).hexdigest()[:24]
    kept = folder / (re.sub(r"[^\w. -]+", "-", source.stem).strip("-. ")[:60] + source.suffix.lower())
    if not kept.exists():
        write_bytes(kept, content, "The file", "Free some space and try again.")  # no path of the server's to visitors
    return kept


MAX_PROBLEMS, MAX_SAMPLES_PER_PROBLEM, MAX_BATCH_SIZE = 100_000, 64, 1024
