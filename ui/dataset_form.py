"""The form that builds a dataset: pair, problems, a few settings, and what they come to on the command line."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.files import new_id
from lightreasoner.pairs import presets
from lightreasoner.problems import SOURCES, load_file
from lightreasoner.settings import Settings
from lightreasoner.tracing import number
from lightreasoner.trajectories import BETA_FLOOR
from ui.pair_form import PRIVATE, PairForm, pair_form, pair_refs
from ui.problem_form import OWN_FILE, escape
from ui.studio import Studio

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
        preset, expert, amateur = self.pair
        words = ["sample", *(["--pair", preset] if preset else ["--expert", expert, "--amateur", amateur])]
        words += ["--problems", problems, "--limit", str(self.limit)]
        words += ["--max-new-tokens", str(self.max_new_tokens)] if self.max_new_tokens != 128 else []
        words += ["--batch-size", str(self.batch_size)] if self.batch_size else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--temperature", f"{self.temperature:g}"] if self.temperature else []
        words += ["--samples-per-problem", str(self.samples)] if self.samples != 1 else []
        return words + (["--beta-floor", "0"] if self.every_step else [])

    @property
    def title(self) -> str:
        preset = next((p for p in presets() if p.name == self.pair[0]), None)
        pair = preset.title if preset else " / ".join(ref.rstrip("/").rpartition("/")[2] for ref in self.pair[1:])
        return f"{pair} · {self.named} · {self.limit:,}"


def read_form(
    settings: Settings, preset, expert, amateur, source, upload, limit, tokens, temperature, samples, seed, batch, every
) -> SampleRequest:
    """The form's fields as a request. Anybody may send anything; raises UserError."""
    pair = pair_refs(preset, expert, amateur)
    for role, ref in zip(("expert", "amateur"), pair[1:], strict=True):
        if not isinstance(ref, str) or not ref.strip() or len(ref) > 500 or ref.startswith("-"):
            raise UserError(f"The {role} is no model; name a Hub id, a folder or a GGUF file.")
    if source == OWN_FILE:
        if not isinstance(upload, str) or not upload:
            raise UserError("There is no file of problems yet; upload one, or choose another source.")
        problems, named = upload, Path(upload).name
    elif isinstance(source, str) and source in SOURCES:
        problems, named = source, SOURCES[source].title
    else:
        raise UserError(f"There is no problem source {str(source)[:40]!r}; pick one of the list.")
    temperature = number("The temperature", temperature, 0, 10)
    samples = number("The samples a problem", samples, 1, MOST_SAMPLES, whole=True)
    if samples > 1 and not temperature:
        raise UserError(f"At temperature 0 all {samples} samples of a problem would be the same; raise it, or take 1.")
    return SampleRequest(
        (pair[0], pair[1].strip(), pair[2].strip()),
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


def what_is_there(settings: Settings, source: object, upload: object) -> str:
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


@dataclass(frozen=True)
class DatasetForm:
    pair: PairForm
    rest: list  # source, upload and what follows, in read_form's order
    command: gr.Textbox

    @property
    def fields(self) -> list:
        return [*self.pair.fields, *self.rest]


def dataset_form(studio: Studio) -> DatasetForm:
    """Lay the form out and wire what happens inside it."""
    settings = studio.settings
    pair = pair_form(studio, "lr-ds", "Build dataset")
    with gr.Group():
        sources = [(s.title, key) for key, s in SOURCES.items()] + [("A file of mine …", OWN_FILE)]
        source = gr.Dropdown(sources, value="bundled-train", label="Problems", elem_id="lr-ds-source")
        types = [".jsonl", ".json", ".csv", ".parquet"]
        upload = gr.File(label="File of problems", file_types=types, visible=False, height=120, elem_id="lr-ds-file")
        limit = gr.Number(200, label="How many", precision=0, elem_id="lr-ds-limit")
    there = gr.Markdown(what_is_there(settings, "bundled-train", None), elem_classes="lr-answer", elem_id="lr-ds-there")
    with gr.Accordion("More", open=False, elem_id="lr-ds-more"):
        tokens = gr.Number(128, label="Tokens a response, at most", precision=0)
        temperature = gr.Number(0, label="Sampling temperature", info="0 is greedy: the expert's favourite every time")
        samples = gr.Number(1, label="Samples a problem", info="more than one needs a temperature", precision=0)
        seed = gr.Number(0, label="Sampling seed", info="only used above temperature 0", precision=0)
        batch = gr.Number(0, label="Batch size", info="0: as many as fit into memory", precision=0)
        every = gr.Checkbox(
            label="Keep details of every step",
            info=f"else of those above {BETA_FLOOR} nats. The all-steps and random controls need it; takes more disk",
        )
    with gr.Accordion("The same on the command line", open=False):
        command = gr.Textbox(
            show_label=False,
            container=False,
            lines=3,
            max_lines=6,
            interactive=False,
            buttons=["copy"],
            elem_id="lr-ds-command",
        )
    form = DatasetForm(pair, [source, upload, limit, tokens, temperature, samples, seed, batch, every], command)

    def spelled(*fields) -> str:
        try:
            asked = read_form(settings, *fields)
        except UserError as error:
            return str(error)
        words = asked.argv(asked.problems if asked.problems in SOURCES else asked.named)
        return shlex.join(["python", "-m", "lightreasoner", *words, "--run-dir", "my-dataset"])

    source.change(lambda s: gr.File(visible=s == OWN_FILE), source, upload, **PRIVATE)
    for part in (source, upload):
        part.change(lambda s, u: what_is_there(settings, s, u), [source, upload], there, **PRIVATE)
    gr.on([part.change for part in form.fields], spelled, form.fields, command, trigger_mode="always_last", **PRIVATE)
    command.value = spelled(*(part.value for part in form.fields))
    return form
