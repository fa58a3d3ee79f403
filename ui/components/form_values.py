"""Form values, checked and in the form that the engine takes: pairs, problems, uploads."""

import hashlib
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.grading.reference_answers import words_sentence
from lightreasoner.models.pairs import presets
from lightreasoner.models.turn_ends import parse_stops, written_stop
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import load_first, open_problems
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.validation import number
from ui.components.pair_form import pair_refs
from ui.components.problem_form import OWN_FILE, ask_about_rest, counted, escape, unread_rows, uploaded
from ui.components.run_list import without_folders
from ui.studio import Studio

MAX_PROBLEMS, MAX_SAMPLES_PER_PROBLEM, MAX_BATCH_SIZE = 100_000, 64, 1024


def describe_source(settings: Settings, source: object, upload: object) -> str:
    """What a source holds, as Markdown: its description; of an uploaded file the number of problems, the rows that
    cannot be read, and how many known answers can only be compared as text."""
    if source != OWN_FILE:
        return escape(SOURCES[source].description) if isinstance(source, str) and source in SOURCES else ""
    if not isinstance(upload, str) or not upload:
        return "JSON lines, JSON, CSV or Parquet with a column of questions."
    try:
        found = uploaded(settings, upload)
    except UserError as error:
        return escape(str(error))
    sentences = [f"{counted(found)}.", words_sentence(found.problems), unread_rows(found)]
    if found.skipped:
        sentences.append(ask_about_rest(found))
    return escape(" ".join(filter(None, sentences)))


def describe_answers(source: object) -> str:
    """How many known answers of a benchmark on the Hub can only be compared as text, as Markdown.

    Downloads the benchmark if necessary. "" where that fails: a run that needs it says why.
    """
    known = SOURCES.get(source) if isinstance(source, str) else None
    if known is None or known.repo is None:
        return ""
    try:
        said = _answers_of(source)
    except UserError:
        return ""
    return escape(f"{known.title}: {said}") if said else ""


@lru_cache(maxsize=64)
def _answers_of(source: str) -> str:
    return words_sentence(open_problems(source))


def stop_field(elem_id: str, kind: type[gr.Textbox] = gr.Textbox) -> gr.Textbox:
    return kind(
        label="Stop strings",
        info=r"one per line; a response also ends at these texts; \n is a line break",
        lines=1,
        max_lines=6,
        max_length=4000,
        elem_id=elem_id,
    )


def cap_field(elem_id: str) -> gr.Number:
    return gr.Number(
        0,
        label="Cap on the log ratio",
        info="of the targets, in nats: what the amateur all but rules out counts no more; 0: none",
        elem_id=elem_id,
    )


def checked_stops(text: object) -> tuple[str, ...]:
    """The stop strings of the field's text, one per line. Raises UserError."""
    if not isinstance(text, str | None):
        raise UserError("The stop strings did not arrive as text; type them again.")
    return parse_stops(line for line in (text or "").split("\n") if line.strip())


def submit(studio: Studio, verb: str, request: Any, *problems: str) -> str:
    """Queue the job of a form's request, whose problems are stored before; returns the run's id. Raises UserError."""
    places = [store_problems(studio.settings, each, request.skip_unreadable) for each in problems]
    return studio.jobs.submit(verb, request.argv(*places), request.title).run_dir.name


def stop_options(stop: tuple[str, ...]) -> list[str]:
    return [f"--stop={written_stop(text)}" for text in stop]


def pair_options(pair: tuple[str | None, str, str]) -> list[str]:
    preset, expert, amateur = pair
    return ["--pair", preset] if preset else ["--expert", expert, "--amateur", amateur]


def pair_title(pair: tuple[str | None, str, str]) -> str:
    """The preset's title, or the names of the two models."""
    preset = next((p for p in presets() if p.name == pair[0]), None)
    return preset.title if preset else " / ".join(map(without_folders, pair[1:]))


def checked_pair(preset: object, expert: object, amateur: object) -> tuple[str | None, str, str]:
    """(preset name or None, expert, amateur). Raises UserError for a value that cannot be a model's name."""
    pair = pair_refs(preset, expert, amateur)
    for role, ref in zip(("expert", "amateur"), pair[1:], strict=True):
        if not isinstance(ref, str) or not ref.strip() or len(ref) > 500 or ref.startswith("-"):
            raise UserError(f"The {role} is not a model; enter a Hub id, a folder or a GGUF file.")
    return pair[0], pair[1].strip(), pair[2].strip()


def pair_of(values: Mapping[str, object]) -> tuple[str | None, str, str]:
    """The checked pair of a form's values, by the names of their fields. Raises UserError."""
    return checked_pair(values["preset"], values["expert"], values["amateur"])


def whole_or_none(name: str, value: object, most: int) -> int | None:
    """A whole number; None for 0 and for an empty field. Raises UserError."""
    return number(name, value or 0, 0, most, whole=True) or None


def first_problem(settings: Settings, problems: str, split: str | None = None) -> Problem:
    """The first problem of a source or a file that can be read. Raises UserError."""
    limits = {"max_chars": settings.max_problem_chars, "max_bytes": settings.max_upload_mb * 1_000_000}
    return next(iter(open_problems(problems, split=split, limit=1, skip_unreadable=True, **limits)))


def checked_problems(source: object, upload: object) -> str:
    """A key of SOURCES, or the path of an uploaded file. Raises UserError."""
    if source == OWN_FILE:
        if not isinstance(upload, str) or not upload:
            raise UserError("No file of problems was uploaded; upload one, or select another source.")
        return upload
    if not isinstance(source, str) or source not in SOURCES:
        raise UserError(f"There is no problem source {str(source)[:40]!r}; select one from the list.")
    return source


def store_problems(settings: Settings, problems: str, skip_unreadable: bool) -> str:
    """The value of --problems: the key of a source, or the stored copy of an uploaded file. Raises UserError."""
    return problems if problems in SOURCES else str(store_upload(settings, problems, skip_unreadable).absolute())


def store_upload(settings: Settings, path: str, skip_unreadable: bool = False) -> Path:
    """Check an uploaded file of problems, of a large one its first rows, and store it. Raises UserError."""
    load_first(Path(path), skip_unreadable=skip_unreadable, max_bytes=settings.max_upload_mb * 1_000_000)
    return store_file(settings, Path(path), "problems")


def store_file(settings: Settings, source: Path, kind: str) -> Path:
    """Store a file under the hash of its content, so each is stored once. Raises UserError."""
    with source.open("rb") as file:
        folder = settings.workspace / kind / hashlib.file_digest(file, "sha256").hexdigest()[:24]
    stored = folder / (re.sub(r"[^\w. -]+", "-", source.stem).strip("-. ")[:60] + source.suffix.lower())
    if not stored.exists():  # an error calls it "The file", since its path means nothing to a user of the page
        with source.open("rb") as file, atomic_file(stored, "The file", "Free some space and try again.") as copy:
            shutil.copyfileobj(file, copy)
    return stored
