"""RunForm, the base of the forms that start a run: named fields, the problems, and the equivalent command line."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import ClassVar

import gradio as gr
from gradio.components import Component

from lightreasoner.cli.prompt import prompt_argument
from lightreasoner.errors import UserError
from lightreasoner.models.prompt_settings import PromptSettings
from lightreasoner.problems.sources import SOURCES
from lightreasoner.settings import Settings
from ui.access.actions import action
from ui.components.columns_form import columns_form
from ui.components.events import PRIVATE
from ui.components.form_values import describe_answers, describe_source
from ui.components.problem_form import OWN_FILE, rest_box, source_fields


class RunForm:
    """`fields` maps the names of the inputs to their components, in the order of the API's arguments."""

    settings: Settings
    fields: dict[str, Component]
    places: ClassVar[tuple[str, ...]] = ("problems",)  # what a request calls its problems

    @property
    def inputs(self) -> list[Component]:
        return list(self.fields.values())

    def named(self, values: Sequence[object]) -> dict[str, object]:
        """The values that a handler got from `inputs`, by the names of their fields."""
        return dict(zip(self.fields, values, strict=True))

    def command(self, values: Sequence[object], read_form: Callable, folder: str) -> str:
        """The command line of the form's values, or an error's sentence. Uploads are named without their folders."""
        try:
            request = read_form(self.settings, self.named(values))
        except UserError as error:
            return str(error)
        places = (getattr(request, name) for name in self.places)
        return shell_command(request.argv(*(p if p in SOURCES else Path(p).name for p in places)), folder)

    def wire_command(
        self, activity: str, field: gr.Textbox, read_form: Callable, folder: str, clears: Sequence[Component] = ()
    ) -> None:
        """Let a field show the command line of the form's values.

        activity: begins the action's name; folder: a name for the run folder; clears: what a changed value empties.
        """

        @action(f"{activity}.show_command")
        def show_command(*values) -> str | tuple[str, ...]:
            text = self.command(values, read_form, folder)
            return (text, *[""] * len(clears)) if clears else text

        changes = [part.change for part in self.inputs]
        gr.on(changes, show_command, self.inputs, [field, *clears], trigger_mode="always_last", **PRIVATE)
        field.value = self.command([part.value for part in self.inputs], read_form, folder)


def problem_fields(
    settings: Settings, activity: str, prefix: str, default: str, title: str = "Problems", graded: bool = False, **limit
) -> dict[str, Component]:
    """Lay out and wire the fields source, upload, limit and skip_unreadable, with a description of the problems below.

    activity: begins the names of the actions; prefix: begins the ids of the elements. default: the key of a source;
    title: of the field for the source. graded: look at the known answers of a benchmark when it is chosen. limit:
    arguments of the field for the number of problems.
    """
    with gr.Group():
        source, upload, rest = source_fields(default, title, "File of problems", prefix)
        columns_form(settings, upload, activity, prefix)
        limit = gr.Number(
            **{"value": 200, "label": "Number of problems"} | limit, precision=0, elem_id=f"{prefix}-limit"
        )
    about = gr.Markdown(describe_source(settings, default, None), elem_classes="lr-answer", elem_id=f"{prefix}-there")

    @action(f"{activity}.choose_source")
    def choose_source(chosen) -> gr.File:
        return gr.File(visible=chosen == OWN_FILE)

    @action(f"{activity}.describe_problems")
    def describe_problems(chosen, path) -> tuple[str, gr.Checkbox]:
        return describe_source(settings, chosen, path), rest_box(settings, path if chosen == OWN_FILE else None)

    if graded:
        answers = gr.Markdown("", elem_classes="lr-answer", elem_id=f"{prefix}-answers")

        @action(f"{activity}.count_answers")
        def count_answers(chosen) -> str:
            return describe_answers(chosen)

        source.change(count_answers, source, answers, **PRIVATE)  # beside the description: it may be downloaded first
    source.change(choose_source, source, upload, **PRIVATE)
    for part in (source, upload):
        part.change(describe_problems, [source, upload], [about, rest], **PRIVATE)
    return {"source": source, "upload": upload, "limit": limit, "skip_unreadable": rest}


def command_line(elem_id: str) -> gr.Textbox:
    """A field for the equivalent command line, in an accordion of its own."""
    with gr.Accordion("The same on the command line", open=False):
        bare = {"show_label": False, "container": False, "interactive": False}
        return gr.Textbox(lines=3, max_lines=6, buttons=["copy"], elem_id=elem_id, **bare)


def shell_command(argv: Sequence[str], folder: str) -> str:
    """The command to type into a shell. argv: the verb and its options; folder: a name for the run folder."""
    return shlex.join(["python", "-m", "lightreasoner", *argv, "--run-dir", folder])


def options(values: object, *names: str) -> list[str]:
    """["--some-name", "value", …] for the fields of a dataclass that differ from their defaults.

    names: the fields, in this order; without them all that have a default. Tuples are joined by commas.
    """
    defaults = {field.name: field.default for field in fields(values) if field.default is not MISSING}
    argv = []
    for name in names or defaults:
        value = getattr(values, name)
        if value is True:
            argv.append("--" + name.replace("_", "-"))
        elif isinstance(value, PromptSettings):
            argv += prompt_argument(value)
        elif value != defaults.get(name):
            text = ",".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0")
            argv += ["--" + name.replace("_", "-"), text]
    return argv
