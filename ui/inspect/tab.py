"""The Inspect tab: the forms for pair, problem and response on the left, the trace on the right."""

from collections.abc import Callable, Iterator

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.problems.rows import Problem
from lightreasoner.serving.live_runs import LiveRun
from lightreasoner.serving.permissions import visitor_pair
from lightreasoner.tracing.trace import TraceRequest
from ui.access.actions import action, checked_calls
from ui.compat.gradio import event_data
from ui.components.events import PRIVATE, QUIET
from ui.components.html_component import HtmlComponent
from ui.components.pair_card import pair_card
from ui.components.pair_check_card import pair_check_card, wire_pair_check
from ui.components.pair_form import pair_refs
from ui.components.prompt_form import wire_preview
from ui.html_templates import render
from ui.inspect.calls import viewer_calls
from ui.inspect.comparison import comparison_calls
from ui.inspect.form import InspectForm, inspect_form
from ui.inspect.links import linked_others, linked_prompt, linked_stop, linked_writer, open_link, open_tuned_run
from ui.inspect.request import read_form
from ui.inspect.tuned_form import wire_tuned
from ui.studio import Studio, branch_request, failure, greedy_request, replay, stream

INTRO = {
    "title": "What you see here",
    "sentences": [
        "A stronger model, the expert, solves a problem token by token; a weaker one, the amateur, reads along.",
        "Every token is coloured by how far apart their expectations were: that is KL divergence, in nats.",
        "Where they diverge, the expert knows something worth reinforcing: select a token to see what.",
    ],
}


class Viewer(HtmlComponent):
    """Value: one growing text with a JSON document per line. The first line opens a run; arrays are steps."""

    script = "inspect/mount"
    own_events = ("branch", "compare", "open", "lens")
    value_title = "the run, one JSON document per line"
    owners_only = False


def build_inspect(studio: Studio) -> None:
    with gr.Row(elem_id="lr-row", elem_classes=["lr-tab-row"], equal_height=False):
        with gr.Column(elem_id="lr-side", elem_classes=["lr-tab-side"], scale=0):
            gr.HTML(render("fold"), elem_id="lr-fold-line")
            form = inspect_form(studio)
            card = pair_check_card(studio, "lr-pair")
            with gr.Row(elem_id="lr-go"):
                run = gr.Button("Run", variant="primary", elem_id="lr-run")
                gr.Button("Stop", variant="stop", elem_id="lr-stop")
        with gr.Column(elem_id="lr-main", elem_classes=["lr-tab-main"], scale=1):
            calls = checked_calls(studio.settings, viewer_calls(studio) + comparison_calls(studio))
            viewer = Viewer(calls, intro=INTRO, elem_id="lr-viewer")
    pair, problem, response = form.pair, form.problem, form.response
    checked = [problem.source, problem.upload, problem.rest, response.tokens, response.stop]
    wire_pair_check(studio, card, pair, checked, form.prompt)
    question = [problem.question, problem.picked]
    wire_preview(form.prompt, "inspect.show_prompt", asked_of(studio), [*pair.fields, *question], visitors=True)
    offered = gr.State("")
    changed = [problem.picked, response.response, offered]
    problem.picked.change(offer_response, changed, [response.response, offered], **PRIVATE)
    wire_runs(studio, form, run, viewer)
    wire_tuned(studio, form.tuned, pair, response.writer)
    wire_links(studio, form, viewer)


def asked_of(studio: Studio) -> Callable[..., tuple[str, Problem]]:
    """A function of the form's pair and problem: (the expert, the problem). It raises UserError."""

    def asked(preset, expert, amateur, question, picked) -> tuple[str, Problem]:
        refs = pair_refs(preset, expert, amateur)
        if not studio.user.owner:
            refs = visitor_pair(refs, None)
        context = picked.context if isinstance(picked, Problem) else ()
        return refs[1], Problem("", str(question)[: studio.settings.max_problem_chars], None, None, context)

    return asked


@action("inspect.offer_response", visitors=True)
def offer_response(picked: Problem, written: str, offered: str) -> tuple:
    """Updates of the text to score and of what was offered last: a file's response, unless the user wrote a text."""
    if str(written or "").strip() not in ("", str(offered).strip()):
        return gr.skip(), gr.skip()
    response = (picked.response if isinstance(picked, Problem) else None) or ""
    return response, response


def wire_runs(studio: Studio, form: InspectForm, run: gr.Button, viewer: Viewer) -> None:
    """Wire the events that start a run (the button, a branch) or show one again (the link to a parent)."""

    def streamed(start: Callable[[], LiveRun]) -> Iterator[str]:
        try:
            live = start()
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

    @action("inspect.run", visitors=True)
    def start(
        preset, expert, amateur, question, mode, response, tokens, temperature, seed, tuned, writer, picked, *more
    ) -> Iterator[str]:
        """Run one problem. Streams the viewer's value: one JSON document per line."""
        listed = (preset, expert, amateur, question, mode, response, tokens, temperature, seed, tuned, writer, picked)
        values = dict(zip(form.fields, (*listed, *more), strict=False))
        yield from streamed(lambda: studio.start(**read_form(studio, values)))

    @action("inspect.branch", visitors=True)
    def branch(event: gr.EventData) -> Iterator[str]:
        def leave() -> LiveRun:
            data = event_data(event)
            record = studio.record(data.get("run"))
            request = branch_request(record, data.get("step"), data.get("token"))
            return start_again(studio, record, request, {"id": record["id"], "step": data["step"]})

        yield from streamed(leave)

    @action("inspect.compare_with_greedy", visitors=True)
    def compare(event: gr.EventData) -> Iterator[str]:
        """The expert's greedy response beside one by contrast."""

        def start_greedy() -> LiveRun:
            record = studio.record(event_data(event).get("run"))
            request, step = greedy_request(record)
            parent = {"id": record["id"], "step": step, "contrast": record["request"]["contrast"]}
            return start_again(studio, record, request, parent)

        yield from streamed(start_greedy)

    @action("inspect.reopen", visitors=True)
    def reopen(event: gr.EventData) -> str:
        try:
            return replay(studio.record(event_data(event).get("run")))
        except UserError as error:
            return failure(str(error))

    @action("inspect.update_pair_card", visitors=True)
    def describe(preset, expert, amateur) -> str:
        return pair_card(studio, preset, expert, amateur)

    limit = {"concurrency_limit": studio.settings.max_waiting + 1}
    running = run.click(start, list(form.fields.values()), viewer, api_name="trace", **limit, **QUIET)
    running.then(describe, form.pair.fields, form.pair.card, **PRIVATE)
    viewer.branch(branch, None, viewer, api_visibility="private", **limit, **QUIET)
    viewer.compare(compare, None, viewer, api_visibility="private", **limit, **QUIET)
    viewer.open(reopen, None, viewer, **PRIVATE)


def start_again(studio: Studio, record: dict, request: TraceRequest, parent: dict) -> LiveRun:
    """Start a run with the models of a saved one. Raises UserError."""
    pair, answer = record["pair"], (record.get("graded") or {}).get("answer")
    refs = (pair["name"], pair["expert"], pair["amateur"])
    more = {"tuned": record.get("lens"), "answer": answer, "others": pair.get("others") or ()}
    return studio.start(request, refs, parent, record["problem_id"], **more)


def wire_links(studio: Studio, form: InspectForm, viewer: Viewer) -> None:
    """Fill form and viewer from the page's address when it loads, and from a link on another tab."""
    pair, problem, response, writer = form.pair, form.problem, form.response, form.response.writer
    models = [viewer, *pair.fields, pair.own, pair.card, form.tuned, writer.writer]

    def on_load(name: str, update: Callable[[Studio, gr.Request], object], outputs: object) -> None:
        @action(name, visitors=True)
        def follow_link(request: gr.Request) -> object:
            return update(studio, request)

        gr.on(None, follow_link, None, outputs, **PRIVATE)

    @action("inspect.open_tuned_expert")
    def follow_tuned(event: gr.EventData) -> tuple:
        return open_tuned_run(studio, event_data(event).get("run"))

    asked = [problem.picked, problem.question, response.mode, response.response]
    on_load("inspect.follow_link", open_link, models + asked)
    on_load("inspect.follow_link_others", linked_others, form.others)
    on_load("inspect.follow_link_writer", linked_writer, [writer.writer, *writer.thresholds])
    on_load("inspect.follow_link_stop", linked_stop, response.stop)
    on_load("inspect.follow_link_prompt", linked_prompt, form.prompt.inputs)
    viewer.lens(follow_tuned, None, models, **PRIVATE)
