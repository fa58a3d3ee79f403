"""The Inspect tab: the forms for pair, problem and response on the left, the trace on the right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.references import parse_ref
from lightreasoner.problems.rows import Problem
from lightreasoner.serving.live_runs import LiveRun
from lightreasoner.serving.permissions import visitor_pair
from lightreasoner.settings import Settings
from lightreasoner.tracing.trace import MOST_READERS, TraceRequest
from lightreasoner.validation import number
from ui.access.actions import OWNERS_ONLY, action, checked_calls
from ui.compat.gradio import event_data
from ui.components.events import PRIVATE, QUIET
from ui.components.form_values import checked_stops, stop_field
from ui.components.html_component import HtmlComponent
from ui.components.pair_card import pair_card
from ui.components.pair_check_card import pair_check_card, wire_pair_check
from ui.components.pair_form import PairForm, pair_form, pair_refs
from ui.components.problem_form import ProblemForm, problem_form
from ui.components.prompt_form import PromptForm, Text, prompt_form, read_prompt, wire_preview
from ui.html_templates import render
from ui.inspect.calls import viewer_calls
from ui.inspect.comparison import comparison_calls
from ui.inspect.links import (
    GENERATE,
    SCORE,
    linked_others,
    linked_prompt,
    linked_stop,
    linked_writer,
    open_link,
    open_tuned_run,
)
from ui.inspect.tuned_form import requested_tuned, tuned_form, wire_tuned
from ui.inspect.writer_form import WriterForm, requested_contrast, writer_form
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


@dataclass(frozen=True)
class ResponseForm:
    mode: gr.Radio
    response: gr.Textbox
    tokens: gr.Number
    temperature: gr.Number
    seed: gr.Number
    stop: gr.Textbox
    writer: WriterForm

    @property
    def fields(self) -> list:
        return [self.mode, self.response, self.tokens, self.temperature, self.seed]


def response_form(settings: Settings) -> ResponseForm:
    with gr.Group():
        mode = gr.Radio([GENERATE, SCORE], value=GENERATE, label="Response", elem_id="lr-mode")
        response = gr.Textbox(
            label="Text to score",
            lines=4,
            max_lines=12,
            visible=False,
            max_length=settings.max_problem_chars,
            elem_id="lr-own-response",
            placeholder="Let's work it out. …",
        )
        writer = writer_form()
        with gr.Accordion("Decoding", open=False):
            tokens = gr.Number(128, label="Max new tokens")
            temperature = gr.Number(
                0, label="Temperature", info="0 is greedy: always the top-1 token", elem_id="lr-temperature"
            )
            seed = gr.Number(0, label="Seed", info="used above temperature 0 only")
            stop = stop_field("lr-stop-strings", Text)

    @action("inspect.choose_mode", visitors=True)
    def show_response(chosen) -> tuple:
        return gr.Textbox(visible=chosen == SCORE), *[gr.update(visible=chosen != SCORE)] * 2

    mode.change(show_response, mode, [response, writer.writer, writer.row], **PRIVATE)
    return ResponseForm(mode, response, tokens, temperature, seed, stop, writer)


def build_inspect(studio: Studio) -> None:
    """Lay out and wire the tab."""
    with gr.Row(elem_id="lr-row", equal_height=False):
        with gr.Column(elem_id="lr-side", scale=0):
            gr.HTML(render("fold"), elem_id="lr-fold-line")
            pair = pair_form(studio)
            problem = problem_form(studio.settings)
            response = response_form(studio.settings)
            tuned = tuned_form()
            others = Text(
                label="Further amateurs",
                info=f"one per line, up to {MOST_READERS - 1}; they read along, each with a line in the curve",
                placeholder="a Hub id, a folder or a GGUF file",
                lines=1,
                max_lines=MOST_READERS - 1,
                max_length=2_000,
                elem_id="lr-others",
                elem_classes=[OWNERS_ONLY],
            )
            prompt = prompt_form("lr")
            card = pair_check_card(studio, "lr-pair")
            with gr.Row(elem_id="lr-go"):
                run = gr.Button("Run", variant="primary", elem_id="lr-run")
                gr.Button("Stop", variant="stop", elem_id="lr-stop")
        with gr.Column(elem_id="lr-main", scale=1):
            calls = checked_calls(studio.settings, viewer_calls(studio) + comparison_calls(studio))
            viewer = Viewer(calls, intro=INTRO, elem_id="lr-viewer")
    checked = [problem.source, problem.upload, problem.rest, response.tokens, response.stop]
    wire_pair_check(studio, card, pair, checked, prompt)
    question = [problem.question, problem.picked]
    wire_preview(prompt, "inspect.show_prompt", asked_of(studio), [*pair.fields, *question], visitors=True)
    offered = gr.State("")
    changed = [problem.picked, response.response, offered]
    problem.picked.change(offer_response, changed, [response.response, offered], **PRIVATE)
    wire_runs(studio, run, viewer, pair, tuned, problem, response, prompt, others)
    wire_tuned(studio, tuned, pair, response.writer)
    models = [viewer, *pair.fields, pair.own, pair.card, tuned, response.writer.writer]
    form = [*models, problem.picked, problem.question, response.mode, response.response]

    @action("inspect.follow_link", visitors=True)
    def follow_link(request: gr.Request) -> tuple:
        return open_link(studio, request)

    @action("inspect.follow_link_prompt", visitors=True)
    def follow_link_prompt(request: gr.Request) -> tuple:
        return linked_prompt(studio, request)

    @action("inspect.open_tuned_expert")
    def follow_tuned(event: gr.EventData) -> tuple:
        return open_tuned_run(studio, event_data(event).get("run"))

    @action("inspect.follow_link_stop", visitors=True)
    def follow_link_stop(request: gr.Request) -> object:
        return linked_stop(studio, request)

    @action("inspect.follow_link_writer", visitors=True)
    def follow_link_writer(request: gr.Request) -> tuple:
        return linked_writer(studio, request)

    @action("inspect.follow_link_others", visitors=True)
    def follow_link_others(request: gr.Request) -> object:
        return linked_others(studio, request)

    writer = response.writer
    gr.on(None, follow_link, None, form, **PRIVATE)  # when the page loads
    gr.on(None, follow_link_others, None, others, **PRIVATE)
    gr.on(None, follow_link_writer, None, [writer.writer, *writer.thresholds], **PRIVATE)
    gr.on(None, follow_link_stop, None, response.stop, **PRIVATE)
    gr.on(None, follow_link_prompt, None, prompt.inputs, **PRIVATE)
    viewer.lens(follow_tuned, None, models, **PRIVATE)  # a link on another tab


def further_amateurs(text: object, refs: tuple[str | None, str, str]) -> tuple[str, ...]:
    """The references of a form's lines. Raises UserError for too many, and for one that reads already."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    if len(lines) >= MOST_READERS:
        raise UserError(f"These are {len(lines)} further amateurs; at most {MOST_READERS - 1} read along. Name fewer.")
    found = [parse_ref(line).text for line in lines]
    if twice := next((ref for n, ref in enumerate(found) if ref in (parse_ref(refs[2]).text, *found[:n])), None):
        raise UserError(f"The amateur {twice} is named twice, and would read along twice; name it once.")
    return tuple(found)


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


def wire_runs(
    studio: Studio,
    run: gr.Button,
    viewer: Viewer,
    pair: PairForm,
    tuned_expert: gr.Dropdown,
    problem: ProblemForm,
    response: ResponseForm,
    prompt: PromptForm,
    others: Text,
) -> None:
    """Wire the events that start a run (the button, a branch) or show one again (the link to a parent)."""

    @action("inspect.run", visitors=True)
    def start(
        preset, expert, amateur, question, mode, response, tokens, temperature, seed, tuned, writer, picked, *asked
    ) -> Iterator[str]:
        """Run one problem. Streams the viewer's value: one JSON document per line."""
        try:
            stop, *rest = asked or [""]
            named = dict(zip([*prompt.fields, "alpha", "beta", "others", "cap"], rest, strict=False))
            contrast = requested_contrast(writer, *(named.get(name) for name in ("alpha", "beta", "cap")))
            request = TraceRequest(
                question,
                response if mode == SCORE else None,
                max_new_tokens=number("The token limit", tokens, 1, studio.settings.max_new_tokens, whole=True),
                temperature=number("The temperature", temperature, 0, 10),
                seed=number("The seed", seed, 0, 2**53, whole=True),
                stop=checked_stops(stop),
                context=picked.context if isinstance(picked, Problem) else (),
                prompt=read_prompt({name: named[name] for name in prompt.fields if name in named}),
                contrast=None if mode == SCORE else contrast,
            )
            known = isinstance(picked, Problem) and picked.question.strip() == str(question).strip()
            refs = pair_refs(preset, expert, amateur)
            compared = requested_tuned(studio, tuned, writer, refs[1])
            of_problem = {"problem_id": picked.id, "answer": picked.answer} if known else {}
            along = further_amateurs(named.get("others"), refs)
            live = studio.start(request, refs, tuned=compared, others=along, **of_problem)
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

    def start_again(record: dict, request: TraceRequest, parent: dict) -> LiveRun:
        pair, answer = record["pair"], (record.get("graded") or {}).get("answer")
        refs = (pair["name"], pair["expert"], pair["amateur"])
        more = {"tuned": record.get("lens"), "answer": answer, "others": pair.get("others") or ()}
        return studio.start(request, refs, parent, record["problem_id"], **more)

    @action("inspect.branch", visitors=True)
    def branch(event: gr.EventData) -> Iterator[str]:
        try:
            data = event_data(event)
            record = studio.record(data.get("run"))
            request = branch_request(record, data.get("step"), data.get("token"))
            live = start_again(record, request, {"id": record["id"], "step": data["step"]})
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

    @action("inspect.compare_with_greedy", visitors=True)
    def compare(event: gr.EventData) -> Iterator[str]:
        """The expert's greedy response beside one by contrast."""
        try:
            record = studio.record(event_data(event).get("run"))
            request, step = greedy_request(record)
            parent = {"id": record["id"], "step": step, "contrast": record["request"]["contrast"]}
            live = start_again(record, request, parent)
        except UserError as error:
            yield failure(str(error))
            return
        yield from stream(studio, live)

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
    inputs = [*pair.fields, problem.question, *response.fields, tuned_expert, response.writer.writer, problem.picked]
    contrast = response.writer
    inputs += [response.stop, *prompt.inputs, contrast.alpha, contrast.beta, others, contrast.cap]
    running = run.click(start, inputs, viewer, api_name="trace", **limit, **QUIET)
    running.then(describe, pair.fields, pair.card, **PRIVATE)
    viewer.branch(branch, None, viewer, api_visibility="private", **limit, **QUIET)
    viewer.compare(compare, None, viewer, api_visibility="private", **limit, **QUIET)
    viewer.open(reopen, None, viewer, **PRIVATE)
