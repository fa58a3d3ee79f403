"""The form for one problem: its source, the problem in it, and the text, which can be edited."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.formatting import plural
from lightreasoner.problems.conversations import context_text
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import ProblemSet, load_first, load_problems
from lightreasoner.settings import Settings
from ui.access.actions import action
from ui.components.columns_form import columns_form
from ui.components.events import PRIVATE

OWN_FILE = "file"
OWN_TEXT = "This text is your own, so no answer is known."
NO_FILE = "No problem is selected: choose a file, or write one of your own."
REST = "Use the rows that can be read"
LISTED = 1000  # problems in the list; "Another problem" draws from all of them
DRAWS = 3  # rows that are drawn until one is a problem


class LargeFile(Sequence):
    """The problems of the first rows of a large file, and then its other rows, which are read when they are taken.

    Taking one of those raises UserError where it is no problem.
    """

    def __init__(self, found: ProblemSet):
        self.first, self._unread = found.problems, found.unread

    def __len__(self) -> int:
        return len(self.first) + self._unread.count

    def __getitem__(self, n: int) -> Problem:
        return self.first[n] if n < len(self.first) else self._unread.problem(n - len(self.first))


@dataclass(frozen=True)
class ProblemForm:
    """The components that other parts of the tab read. `picked` holds the selected problem with its original text."""

    question: gr.Textbox
    picked: gr.State
    note: gr.Markdown
    source: gr.Dropdown
    upload: gr.File
    rest: gr.Checkbox


def problem_form(settings: Settings) -> ProblemForm:
    """Lay out and wire the form, with a bundled problem selected."""
    first = load_problems("bundled-test").problems
    with gr.Group():
        fields = source_fields("bundled-test", "Problem source", "JSON lines, JSON, CSV or Parquet", "lr")
        source, upload, rest = fields
        named = columns_form(settings, upload, "inspect", "lr", visitors=True)
        pick = gr.Dropdown(choices_of(first), value=0, label="Problem", elem_id="lr-pick")
        question = gr.Textbox(
            first[0].question,
            label="Text (edit it, or write your own)",
            lines=4,
            max_lines=7,
            max_length=settings.max_problem_chars,
            elem_id="lr-question",
        )
        another = gr.Button("Another problem", size="sm")
    note = gr.Markdown(known_answer(first[0]), elem_classes="lr-answer", elem_id="lr-answer")
    problems, picked = gr.State(first), gr.State(first[0])

    @action("inspect.open_problem_file", visitors=True, costly=True)
    def opened(path) -> tuple:
        return *shown_file(settings, path), rest_box(settings, path)

    @action("inspect.use_readable_rows", visitors=True, costly=True)
    def use_rest(path, use) -> tuple:
        return shown_file(settings, path, use is True)

    @action("inspect.remove_problem_file", visitors=True)
    def cleared() -> tuple:
        return *emptied(NO_FILE), gr.Checkbox(False, visible=False)

    waiting = PRIVATE | {"show_progress": "minimal", "show_progress_on": note}
    shown = [problems, pick, picked, question, note]
    source.change(choose_source, source, [upload, *shown, rest], **waiting)
    upload.upload(opened, upload, [*shown, rest], **waiting)
    upload.clear(cleared, None, [*shown, rest], **PRIVATE)
    rest.input(use_rest, [upload, rest], shown, **waiting)
    pick.input(choose_problem, [problems, pick], [picked, question, note], **PRIVATE)
    question.change(own_text, [question, picked, note], note, **PRIVATE)
    another.click(another_problem, problems, [pick, picked, question, note], **PRIVATE)
    named.then(opened, upload, [*shown, rest], **waiting)
    return ProblemForm(question, picked, note, source, upload, rest)


def source_fields(default: str, label: str, upload_label: str, prefix: str) -> tuple[gr.Dropdown, gr.File, gr.Checkbox]:
    """(the list of problem sources, the field for a file, the box that says to use the rest of a file).

    The caller shows the field when OWN_FILE is selected, and the box where rows of the file cannot be read.
    default: the key of a source; prefix: begins the ids of the elements.
    """
    sources = [(s.title, key) for key, s in SOURCES.items()] + [("Upload a file …", OWN_FILE)]
    source = gr.Dropdown(sources, value=default, label=label, elem_id=f"{prefix}-source")
    types = [".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet"]
    file_id = f"{prefix}-file"
    upload = gr.File(label=upload_label, file_types=types, visible=False, height=120, elem_id=file_id)
    return source, upload, gr.Checkbox(False, label=REST, visible=False, elem_id=f"{prefix}-rest")


def label(n: int, problem: Problem) -> str:
    question = " ".join(problem.question.split())
    return f"{n + 1} · {question[:60]}{'…' if len(question) > 60 else ''}"


def in_list(problems: Sequence[Problem]) -> list[Problem]:
    return (problems.first if isinstance(problems, LargeFile) else problems)[:LISTED]


def choices_of(problems: Sequence[Problem]) -> list[tuple[str, int]]:
    return [(label(n, problem), n) for n, problem in enumerate(in_list(problems))]


def known_answer(problem: Problem) -> str:
    """Markdown: the known answer, the file's own response, and the turns before the question."""
    text = f"Known answer: **{escape(problem.answer)}**" if problem.answer else "No known answer."
    if problem.response:
        text += " The file has a response, too: choose “Score a text of mine” to score it."
    return text + before_it(problem)


def before_it(problem: Problem) -> str:
    """Markdown: the turns before a problem, which are part of its prompt; "" if there are none."""
    if not problem.context:
        return ""
    shown = "\n".join(f"> {escape(line)}" for line in context_text(problem.context)[:2000].splitlines())
    return f"\n\nBefore the question, in the prompt:\n\n{shown}"


@action("inspect.edit_problem", visitors=True)
def own_text(text: str, picked: Problem, note: str) -> str:
    """The note under a text that may have been edited: the known answer belongs to the original text only."""
    if not str(text).strip() and not picked.question:
        return gr.skip()  # the note says why there is none
    if str(text).strip() != picked.question.strip():
        return OWN_TEXT + (before_it(picked) if isinstance(picked, Problem) else "")
    return (
        known_answer(picked) if str(note).startswith(OWN_TEXT) else gr.skip()
    )  # the note of an upload also describes the file


def show_problem(problem: Problem) -> tuple:
    return problem, problem.question, known_answer(problem)


#: What is selected where there is no problem.
NONE = Problem("", "")


def emptied(note: str) -> tuple:
    """Updates of problems, pick, picked, question and note where a source has no problem to show, and why: the one that
    was selected before would otherwise be taken for the source's."""
    return [], gr.Dropdown([], value=None), NONE, "", note


def listed(found: Sequence[Problem]) -> tuple:
    """Updates of problems, pick, picked, question and note."""
    return found, gr.Dropdown(choices_of(found), value=0), *show_problem(found[0])


@action("inspect.choose_source", visitors=True, costly=True)
def choose_source(source: str) -> tuple:
    """Updates of upload, problems, pick, picked, question, note and the box for the rest of a file."""
    if source == OWN_FILE:
        return gr.File(value=None, visible=True), *emptied(NO_FILE), gr.Checkbox(False, visible=False)
    none = gr.Checkbox(False, visible=False)
    try:
        return gr.File(visible=False), *listed(load_problems(source).problems), none
    except UserError as error:
        return gr.File(visible=False), *emptied(warn(error)), none


def rest_box(settings: Settings, path: object) -> gr.Checkbox:
    """The update of the box for the rest of a file: shown, without its tick, where rows may be unreadable."""
    try:
        found = uploaded(settings, path) if path else None
        visible = found is not None and bool(found.skipped or found.unread)
    except UserError:
        visible = False
    return gr.Checkbox(False, visible=visible)


def uploaded(settings: Settings, path: object) -> ProblemSet:
    """The problems of an uploaded file; of a large one, those of its first rows. Raises UserError."""
    return load_first(Path(str(path)), max_bytes=settings.max_upload_mb * 1_000_000)


def open_file(settings: Settings, path: str | None, use_rest: bool = False) -> tuple:
    """Updates of problems, pick, picked, question and note. use_rest: although rows of the file cannot be read."""
    if not path:
        return tuple([gr.skip()] * 5)
    try:
        found = uploaded(settings, path)
    except UserError as error:
        return *([gr.skip()] * 4), warn(error)
    if found.skipped and not use_rest:
        return *([gr.skip()] * 4), f"**{escape(ask_about_rest(found))}**"
    columns = ", ".join(f"{field} from “{column}”" for field, column in found.columns.items() if column)
    text = " ".join(filter(None, (f"{counted(found)}: {columns}.", found.unreadable(), unread_rows(found))))
    *rest, answer = listed(LargeFile(found) if found.unread else found.problems)
    return *rest, escape(text) + "\n\n" + answer


def shown_file(settings: Settings, path: str | None, use_rest: bool = False) -> tuple:
    """The same, but no problem is selected where the file is rejected."""
    found = open_file(settings, path, use_rest)
    return found if isinstance(found[0], Sequence) else emptied(found[-1] if path else NO_FILE)


def counted(found: ProblemSet) -> str:
    """The problems of a file: "7 problems"; of a large one those of the rows that were read, and the rows."""
    problems = plural(len(found.problems), "problem")
    return f"{problems} in the first {found.unread.after:,} of {found.rows:,} rows" if found.unread else problems


def unread_rows(found: ProblemSet) -> str:
    """A sentence on the rows of a large file that were not read; "" if there are none."""
    return "Each other row is read when it is used, and named if it cannot be." if found.unread else ""


def ask_about_rest(found: ProblemSet) -> str:
    """What cannot be read in a file, and the question whether to use the rest."""
    count = len(found.problems)
    rest = "the other row" if count == 1 else f"the other {count:,} rows"
    if found.unread:
        rest = "those that can"
    return f"{found.unreadable()} Correct the file, or tick “{REST}” to use {rest}."


def escape(text: str) -> str:
    """The text escaped for Markdown, in which bare addresses would become links."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-!|<>~$&:.@" else c for c in text)


def warn(error: UserError) -> str:
    return f"**{escape(str(error))}**"


@action("inspect.choose_problem", visitors=True)
def choose_problem(problems: Sequence[Problem], index: int) -> tuple:
    problems = in_list(problems)
    if not problems:
        return NONE, "", NO_FILE
    return show_problem(problems[index if isinstance(index, int) and 0 <= index < len(problems) else 0])


@action("inspect.draw_problem", visitors=True)
def another_problem(problems: Sequence[Problem]) -> tuple:
    """Updates of pick, picked, question and note. The note names rows that were drawn and cannot be read."""
    reasons = []
    for _ in range(DRAWS if problems else 0):
        n = random.randrange(len(problems))
        try:
            *shown, answer = show_problem(problems[n])
        except UserError as error:
            reasons.append(warn(error))
            continue
        return (n if n < len(in_list(problems)) else gr.skip()), *shown, "\n\n".join([*reasons, answer])
    return *([gr.skip()] * 3), "\n\n".join(reasons) or NO_FILE
