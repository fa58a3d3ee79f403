"""The form that names the columns of a user's file of problems, shown where the file does not say which is which."""

from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.problems.column_mapping import column_names, named_rows, wordiest_column
from lightreasoner.problems.stream import load_first
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import atomic_file
from ui.access.actions import action
from ui.components.events import PRIVATE

NONE = "none"
FOLDER = "named"  # beside an upload


def columns_form(settings: Settings, upload: gr.File, activity: str, prefix: str, visitors: bool = False):
    """Lay the form out and wire it; it is shown where a file has no column for the question, or none for answers.

    Returns the event after which `upload` holds the file with the chosen names. activity: begins the actions' names.
    """
    most = settings.max_upload_mb * 1_000_000
    with gr.Column(visible=False, elem_id=f"{prefix}-columns") as form:
        question = gr.Dropdown(
            [],
            label="Column of the questions",
            info="the file names no questions, or no known answers: say which columns hold them",
            interactive=True,
            elem_id=f"{prefix}-of-question",
        )
        answer = gr.Dropdown([], label="Column of the answers", interactive=True, elem_id=f"{prefix}-of-answer")
        use = gr.Button("Use these columns", size="sm")
        trouble = gr.Markdown("", elem_classes="lr-answer")

    @action(f"{activity}.offer_columns", visitors=visitors, costly=visitors)
    def offer(path) -> tuple:
        names = unnamed_columns(settings, path)
        first = wordiest_column(Path(path), most) if names else None
        lists = gr.Dropdown(choices=names, value=first), gr.Dropdown(choices=[NONE, *names], value=NONE)
        return gr.Column(visible=bool(names)), *lists, ""

    @action(f"{activity}.name_columns", visitors=visitors, costly=visitors)
    def name(path, question, answer) -> tuple:
        try:
            if not path:
                raise UserError("There is no file any more; upload it again.")
            source = Path(str(path))
            out = source.parent / FOLDER / f"{source.stem}.jsonl"
            columns = {"question": question, "answer": None if answer == NONE else answer}
            with atomic_file(out, "The file", "Free some space and try again.") as file:
                file.writelines(line.encode() for line in named_rows(source, columns, most))
        except UserError as error:
            return gr.skip(), f"**{error}**".replace("<", "‹")
        return str(out), ""

    upload.change(offer, upload, [form, question, answer, trouble], **PRIVATE)
    return use.click(name, [upload, question, answer], [upload, trouble], **PRIVATE)


def unnamed_columns(settings: Settings, path: object) -> list[str]:
    """The columns of a file that says nowhere which of them holds the questions, or that has no known answers; empty
    where nothing is to be named."""
    if not isinstance(path, str) or not path:
        return []
    most = settings.max_upload_mb * 1_000_000
    try:
        names = column_names(Path(path), most)
    except UserError:
        return []
    try:
        found = load_first(Path(path), max_bytes=most)
    except UserError:
        return names
    return names if "answer" not in found.columns and len(names) > 1 else []
