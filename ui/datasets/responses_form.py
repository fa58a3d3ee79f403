"""The form for responses that something else wrote: a file, checked as it arrives, and the job that scores it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.formatting import plural
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.problems.response_files import KnownProblems, ResponseFile
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.settings import Settings
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.form_values import (
    checked_problems,
    checked_stops,
    pair_of,
    pair_options,
    pair_title,
    stop_options,
    store_file,
    store_problems,
)
from ui.components.problem_form import REST, escape
from ui.components.prompt_form import read_prompt
from ui.components.run_form import options
from ui.studio import Studio

EXPLAINED = (
    "Responses of vLLM, SGLang, llama.cpp, an API or a person: a problem and a text, or token ids, per line. "
    "The pair above reads them; nothing is generated."
)


@dataclass(frozen=True)
class ScoreRequest:
    """Checked values of the form. `problems` is a key of SOURCES or an uploaded file; None: those in the file."""

    pair: tuple[str | None, str, str]
    responses: str
    problems: str | None = None
    stop: tuple[str, ...] = ()
    skip_unreadable: bool = False
    prompt: PromptSettings = PAPER

    def argv(self, responses: str, problems: str | None) -> list[str]:
        """The verb's arguments without --run-dir. responses, problems: as stored."""
        argv = ["score", *pair_options(self.pair), "--responses", responses]
        argv += ["--problems", problems] if problems else []
        return [*argv, *options(self, "skip_unreadable", "prompt"), *stop_options(self.stop)]


class ResponsesForm:
    """Lays the form out below that of a dataset, whose pair, problems, prompt and stop strings count here, too."""

    def __init__(self, settings: Settings, fields: Mapping[str, gr.components.Component]):
        """fields: DatasetForm.fields."""
        self._settings, self._names = settings, (*fields, "responses", "set", "rest")
        types = [".jsonl", ".json", ".csv", ".tsv", ".parquet"]
        with gr.Accordion("Responses that something else wrote", open=False, elem_id="lr-ds-written"):
            gr.Markdown(EXPLAINED, elem_classes="lr-answer")
            upload = gr.File(label="Responses", file_types=types, height=120, elem_id="lr-ds-responses")
            of_set = gr.Checkbox(
                label="They answer the problems selected above",
                info="by id or question; otherwise each line holds its problem, and an answer if it is known",
                elem_id="lr-ds-of-set",
            )
            about = gr.Markdown("", elem_classes="lr-answer", elem_id="lr-ds-responses-there")
            rest = gr.Checkbox(False, label=REST, visible=False, elem_id="lr-ds-responses-rest")
            self.button = gr.Button("Score responses", size="sm", elem_id="lr-ds-score")
        self.inputs = [*fields.values(), upload, of_set, rest]
        asked = [upload, of_set, fields["source"], fields["upload"]]
        gr.on([upload.change, of_set.change], self.describe, asked, [about, rest], **PRIVATE)

    @action("datasets.describe_responses")
    def describe(self, path, of_set, source, upload) -> tuple[str, gr.Checkbox]:
        """What the file holds, as Markdown, and the box for the rest of a file, shown where rows cannot be used."""
        if not path:
            return "", gr.Checkbox(False, visible=False)
        try:
            problems = checked_problems(source, upload) if of_set is True else None
            found = read_responses(self._settings, path, problems, skip_unreadable=True)
        except UserError as error:
            return escape(str(error)), gr.Checkbox(False, visible=False)
        text = f"{plural(found.count, 'response')}."
        if found.left_out:
            text = f"{found.reasons()} Correct the file, or tick “{REST}” to use the other {found.count:,} responses."
        return escape(text), gr.Checkbox(False, visible=bool(found.left_out))

    def read(self, values: tuple) -> ScoreRequest:
        """The form's values as a request. Raises UserError."""
        named = dict(zip(self._names, values, strict=True))
        pair = pair_of(named)
        path = named["responses"]
        if not isinstance(path, str) or not path:
            raise UserError(
                "No file of responses was uploaded; upload one below “Responses that something else wrote”."
            )
        return ScoreRequest(
            pair,
            path,
            problems=checked_problems(named["source"], named["upload"]) if named["set"] is True else None,
            stop=checked_stops(named.get("stop")),
            skip_unreadable=named["rest"] is True,
            prompt=read_prompt(named),
        )


def read_responses(settings: Settings, path: object, problems: str | None, skip_unreadable: bool) -> ResponseFile:
    """An uploaded file of responses, read to its end without a model. problems: of a set. Raises UserError."""
    limits = {"max_bytes": settings.max_upload_mb * 1_000_000, "max_chars": settings.max_problem_chars}
    known = None
    if problems is not None:
        stream = open_problems(problems, split=training_split(problems), skip_unreadable=True, **limits)
        known = KnownProblems(stream.title, stream, later=True)
    found = ResponseFile(Path(str(path)), known, skip_unreadable=skip_unreadable, **limits)
    for _ in found:
        pass
    return found


def start_scoring(studio: Studio, request: ScoreRequest) -> str:
    """Queue the job that scores the request's responses; returns the dataset's id. Raises UserError."""
    settings = studio.settings
    read_responses(settings, request.responses, request.problems, request.skip_unreadable)
    problems = request.problems and store_problems(settings, request.problems, request.skip_unreadable)
    stored = str(store_file(settings, Path(request.responses), "responses").absolute())
    title = f"{pair_title(request.pair)} · {Path(request.responses).name[:60]} · scored"
    return studio.jobs.submit("score", request.argv(stored, problems), title).run_dir.name
