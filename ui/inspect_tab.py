"""The Inspect tab: pick a pair and a problem on the left, watch the two models part on the right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.pairs import presets
from lightreasoner.problems import SOURCES, Problem, load_file, load_problems
from lightreasoner.tracing import TraceRequest, number
from ui.calls import viewer_calls
from ui.pair_card import pair_card
from ui.studio import Studio, branch_request, failure, replay, stream
from ui.viewer import Viewer

OTHER = "other"
OWN_FILE = "file"
LISTED = 1000  # problems offered in the list; "Another" draws from all of them
GENERATE, SCORE = "Generate", "Score a text of mine"


def pair_refs(preset: str, expert: str, amateur: str) -> tuple[str | None, str, str]:
    """(preset name or None, expert, amateur) of the form's pair fields."""
    if preset == OTHER:
        return None, expert, amateur
    chosen = next((p for p in presets() if p.name == preset), None)
    if chosen is None:
        raise UserError(f"There is no pair called {str(preset)[:60]!r}; pick one of the list.")
    return chosen.name, chosen.expert, chosen.amateur


def label(n: int, problem: Problem) -> str:
    question = " ".join(problem.question.split())
    return f"{n + 1} · {question[:60]}{'…' if len(question) > 60 else ''}"


def choices_of(problems: list[Problem]) -> list[tuple[str, int]]:
    return [(label(n, problem), n) for n, problem in enumerate(problems[:LISTED])]


def build_inspect(studio: Studio) -> None:
    """Lay the tab out and wire it."""
    first = load_problems("bundled-test")
    choices = [(p.title, p.name) for p in presets()] + [("Two models of my own …", OTHER)]
    with gr.Row(elem_id="lr-row", equal_height=False):
        with gr.Column(elem_id="lr-side", scale=0):
            with gr.Group():
                preset = gr.Dropdown(choices, value=choices[0][1], label="Pair", elem_id="lr-pair")
                with gr.Column(visible=False) as own:
                    hint = "a Hub id, a folder, a GGUF file"
                    expert = gr.Textbox(label="Expert, the stronger", placeholder=hint, max_lines=1, max_length=500)
                    amateur = gr.Textbox(label="Amateur, the weaker", placeholder=hint, max_lines=1, max_length=500)
            card = gr.HTML(pair_card(studio, choices[0][1], "", ""), elem_id="lr-card")
            with gr.Group():
                sources = [(s.title, key) for key, s in SOURCES.items()] + [("A file of mine …", OWN_FILE)]
                source = gr.Dropdown(sources, value="bundled-test", label="Problems from")
                upload = gr.File(
                    label="JSON lines, JSON, CSV or Parquet",
                    file_types=[".jsonl", ".json", ".csv", ".parquet"],
                    visible=False,
                    height=120,
                )
                pick = gr.Dropdown(choices_of(first.problems), value=0, label="Problem", elem_id="lr-pick")
                question = gr.Textbox(
                    first.problems[0].question,
                    label="Text (change it, or write your own)",
                    lines=4,
                    max_lines=7,
                    max_length=studio.settings.max_problem_chars,
                    elem_id="lr-question",
                )
                another = gr.Button("Another problem", size="sm")
            note = gr.Markdown(known_answer(first.problems[0]), elem_classes="lr-answer", elem_id="lr-answer")
            with gr.Group():
                mode = gr.Radio([GENERATE, SCORE], value=GENERATE, label="The response", elem_id="lr-mode")
                response = gr.Textbox(
                    label="Text to score",
                    lines=4,
                    max_lines=12,
                    visible=False,
                    max_length=studio.settings.max_problem_chars,
                    elem_id="lr-own-response",
                    placeholder="Let's work it out. …",
                )
                with gr.Accordion("Decoding", open=False):
                    tokens = gr.Number(128, label="At most this many tokens", precision=0)
                    temperature = gr.Number(0, label="Temperature", info="0 is greedy: always the expert's favourite")
                    seed = gr.Number(0, label="Seed", info="only used above temperature 0", precision=0)
            with gr.Row(elem_id="lr-go"):
                run = gr.Button("Run", variant="primary", elem_id="lr-run")
                gr.Button("Stop", variant="stop", elem_id="lr-stop")
        with gr.Column(elem_id="lr-main", scale=1):
            viewer = Viewer(elem_id="lr-viewer", server_functions=viewer_calls(studio))
    problems, picked = gr.State(first.problems), gr.State(first.problems[0])

    pair_fields = [preset, expert, amateur]
    quiet = {"show_progress": "hidden"}
    private = quiet | {"api_visibility": "private"}
    preset.change(lambda p: gr.Column(visible=p == OTHER), preset, own, **private)
    for part in pair_fields:
        part.change(lambda *refs: pair_card(studio, *refs), pair_fields, card, **private)
    mode.change(lambda m: gr.Textbox(visible=m == SCORE), mode, response, **private)

    shown = [problems, pick, picked, question, note]
    source.change(choose_source, source, [upload, *shown], **private)
    upload.upload(lambda path: open_file(studio, path), upload, shown, **private)
    pick.input(choose_problem, [problems, pick], [picked, question, note], **private)
    another.click(another_problem, problems, [pick, picked, question, note], **private)

    def start(preset, expert, amateur, question, mode, response, tokens, temperature, seed, picked) -> Iterator[str]:
        """Run one problem. Streams the viewer's value: a JSON document a line."""
        try:
            request = TraceRequest(
                question,
                response if mode == SCORE else None,
                max_new_tokens=number("The token limit", tokens, 1, studio.settings.max_new_tokens, whole=True),
                temperature=number("The temperature", temperature, 0, 10),
                seed=number("The seed", seed, 0, 2**53, whole=True),
            )
            known = isinstance(picked, Problem) and picked.question.strip() == str(question).strip()
            live = studio.start(request, pair_refs(preset, expert, amateur), problem_id=picked.id if known else None)
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

    inputs = [*pair_fields, question, mode, response, tokens, temperature, seed, picked]
    places = {"concurrency_limit": studio.settings.max_waiting + 1}
    running = run.click(start, inputs, viewer, api_name="trace", **places, **quiet)
    running.then(lambda *refs: pair_card(studio, *refs), pair_fields, card, **private)

    def branch(event: gr.EventData) -> Iterator[str]:
        try:
            data = event._data or {}
            record = studio.record(data.get("run"))
            request = branch_request(record, data.get("step"), data.get("token"))
            pair = record["pair"]
            parent = {"id": record["id"], "step": data["step"]}
            live = studio.start(request, (pair["name"], pair["expert"], pair["amateur"]), parent, record["problem_id"])
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

    viewer.branch(branch, None, viewer, **places, **private)

    def reopen(event: gr.EventData) -> str:
        try:
            return replay(studio.record((event._data or {}).get("run")))
        except UserError as error:
            return failure(str(error))

    viewer.open(reopen, None, viewer, **private)

    form = [viewer, preset, expert, amateur, own, question, mode, response, card]

    def follow_link(request: gr.Request) -> tuple:
        return open_link(studio, request)

    gr.on(None, follow_link, None, form, **private)  # when the page loads


def known_answer(problem: Problem) -> str:
    return f"Known answer: **{problem.answer}**" if problem.answer else "No known answer."


def show_problem(problem: Problem) -> tuple:
    return problem, problem.question, known_answer(problem)


def listed(found: list[Problem]) -> tuple:
    """Updates for problems, pick, picked, question and note."""
    return found, gr.Dropdown(choices_of(found), value=0), *show_problem(found[0])


def choose_source(source: str) -> tuple:
    """Updates for upload, problems, pick, picked, question and note."""
    if source == OWN_FILE:
        return gr.File(visible=True), *([gr.skip()] * 5)
    try:
        return gr.File(visible=False), *listed(load_problems(source).problems)
    except UserError as error:
        return gr.File(visible=False), *([gr.skip()] * 4), warn(error)


def open_file(studio: Studio, path: str | None) -> tuple:
    if not path:
        return tuple([gr.skip()] * 5)
    try:
        found = load_file(Path(path), max_bytes=studio.settings.max_upload_mb * 1_000_000)
    except UserError as error:
        return *([gr.skip()] * 4), warn(error)
    columns = ", ".join(f"{what} from “{column}”" for what, column in found.columns.items() if column)
    said = f"{len(found.problems):,} problems: {columns}."
    if found.skipped:
        line, why = found.skipped[0]
        said += f" {len(found.skipped):,} rows were left out, the first in line {line}: {why}."
    *rest, answer = listed(found.problems)
    return *rest, escape(said) + "\n\n" + answer


def escape(text: str) -> str:
    """As plain text inside Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-!|<>~$&" else c for c in text)


def warn(error: UserError) -> str:
    gr.Warning(str(error), duration=10)
    return escape(str(error))


def choose_problem(problems: list[Problem], index: int) -> tuple:
    return show_problem(problems[index if isinstance(index, int) and 0 <= index < len(problems) else 0])


def another_problem(problems: list[Problem]) -> tuple:
    n = random.randrange(len(problems))
    return (n if n < LISTED else gr.skip()), *show_problem(problems[n])


def open_link(studio: Studio, request: gr.Request) -> tuple:
    """A permalink: show the trace without loading any model, and fill the form as it was."""
    asked = dict(request.query_params) if request else {}
    nothing = [gr.skip()] * 7
    usual = pair_card(studio, presets()[0].name, "", "")
    if "trace" not in asked:
        return gr.skip(), *nothing, usual
    try:
        record = studio.record(asked["trace"])
    except UserError as error:
        return failure(str(error)), *nothing, usual
    view = {name: linked_number(asked.get(name)) for name in ("step", "alpha", "beta")}
    pair, said = record["pair"], record["request"]
    known = any(p.name == pair["name"] for p in presets())
    refs = (pair["name"], "", "") if known else (OTHER, pair["expert"], pair["amateur"])
    scored = said["response"] is not None
    return (
        replay(record, view),
        *refs,
        gr.Column(visible=not known),
        said["question"],
        SCORE if scored else GENERATE,
        gr.Textbox(said["response"] or "", visible=scored),
        pair_card(studio, *refs),
    )


def linked_number(text: str | None) -> float | None:
    """A number out of a link; anything else is ignored."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value <= 1e6 else None
