"""Permalinks: show the trace or the tuned expert that an address names, without loading a model."""

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.models.turn_ends import written_stop
from lightreasoner.problems.conversations import stored_context
from lightreasoner.problems.rows import Problem
from lightreasoner.scoring.measures import MEASURES
from lightreasoner.serving.permissions import check_permission
from lightreasoner.tracing.records import contrast_of
from ui.components.pair_card import OTHER, pair_card
from ui.components.prompt_form import NAMES, prompt_updates, stored_prompt
from ui.inspect.tuned_form import run_fields, tuned_updates
from ui.inspect.writer_form import linked_contrast, writer_updates
from ui.studio import Studio, failure, replay

GENERATE, SCORE = "Generate", "Score a text of mine"


def open_link(studio: Studio, request: gr.Request) -> tuple:
    """Updates of viewer, preset, expert, amateur, own, card, tuned, writer, picked, question, mode and response: the
    form of the linked trace, or the pair of the linked fine-tuning run."""
    query = dict(request.query_params) if request else {}
    if "trace" not in query and "lens" in query:
        return *open_tuned_run(studio, query["lens"]), *[gr.skip()] * 4
    card = pair_card(studio, presets()[0].name, "", "")
    nothing = [*[gr.skip()] * 4, card, *[gr.skip()] * 6]
    if "trace" not in query:
        return gr.skip(), *nothing
    try:
        record = studio.record(query["trace"])
    except UserError as error:
        return failure(str(error)), *nothing
    view = {name: linked_number(query.get(name)) for name in ("step", "alpha", "beta")}
    if query.get("colour") in {measure.key for measure in MEASURES}:
        view["colour"] = query["colour"]
    view |= {"cap": linked_number(query["cap"])} if "cap" in query else {}
    pair, trace_request = record["pair"], record["request"]
    known = any(p.name == pair["name"] for p in presets())
    refs = (pair["name"], "", "") if known else (OTHER, pair["expert"], pair["amateur"])
    tuned = record.get("lens")
    if not studio.user.owner:  # the trace is shown, but the form gets only what a visitor may run
        refs, tuned = (pair["name"] if known else presets()[0].name, "", ""), None
    scored = trace_request["response"] is not None
    context = stored_context(trace_request.get("context"))  # else a run would ask it without the turns before it
    own = Problem(record["problem_id"] or "", trace_request["question"], context=context)
    return (
        replay(record, view),
        *pair_updates(studio, refs),
        *tuned_updates(tuned, contrast_of(record)),
        own if context else gr.skip(),
        trace_request["question"],
        SCORE if scored else GENERATE,
        gr.Textbox(trace_request["response"] or "", visible=scored),
    )


def linked_record(studio: Studio, request: gr.Request) -> dict | None:
    """The trace that the page's address names. None without one that can be read: open_link says what is wrong."""
    try:
        return studio.record(request.query_params["trace"]) if request else None
    except (KeyError, UserError):
        return None


def linked_stop(studio: Studio, request: gr.Request) -> object:
    """The update of the stop strings: those of the linked trace."""
    record = linked_record(studio, request)
    return "\n".join(map(written_stop, record["request"].get("stop") or ())) if record else gr.skip()


def linked_others(studio: Studio, request: gr.Request) -> object:
    """The update of the further amateurs: those of the linked trace, for whoever may run them."""
    record = linked_record(studio, request)
    return "\n".join(record["pair"].get("others") or ()) if record and studio.user.owner else gr.skip()


def linked_prompt(studio: Studio, request: gr.Request) -> tuple:
    """Updates of the prompt's fields to the prompt of the linked trace."""
    record = linked_record(studio, request)
    return prompt_updates(stored_prompt(record["request"].get("prompt"))) if record else (gr.skip(),) * len(NAMES)


def linked_writer(studio: Studio, request: gr.Request) -> tuple:
    """Updates of writer, α, β and the cap: the contrast that wrote the linked trace, or that the address asks for."""
    query = dict(request.query_params) if request else {}
    try:
        if "trace" not in query:
            return writer_updates(linked_contrast(query))
        writer, *written = writer_updates(contrast_of(studio.record(query["trace"])))
    except UserError:  # open_link says what is wrong
        return writer_updates(None)
    moved = (linked_number(query.get(name)) for name in ("alpha", "beta", "cap"))  # as the sliders were
    return writer, *(then if now is None else now for now, then in zip(moved, written, strict=True))


def open_tuned_run(studio: Studio, run: object) -> tuple:
    """Updates of viewer, preset, expert, amateur, own, card, tuned and writer: a fine-tuning run's tuned expert with
    its pair. Nothing is loaded."""
    try:
        check_permission(studio.user, None, studio.settings)  # visitors may follow the link, but not use it
        refs, tuned, notice = run_fields(studio, run)
    except UserError as error:
        card = pair_card(studio, presets()[0].name, "", "")
        return failure(str(error)), *[gr.skip()] * 4, card, *[gr.skip()] * 2
    return failure(notice) if notice else gr.skip(), *pair_updates(studio, refs), *tuned_updates(tuned)


def pair_updates(studio: Studio, refs: tuple[str, str, str]) -> tuple:
    """Updates of preset, expert, amateur, own and card."""
    return *refs, gr.Column(visible=refs[0] == OTHER), pair_card(studio, *refs)


def linked_number(text: str | None) -> float | None:
    """A number from 0 to 1e6 from a link; None for anything else."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value <= 1e6 else None
