"""Permalinks: what an address says, shown again without loading any model."""

from __future__ import annotations

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.serving.permissions import check_permission
from ui.components.pair_card import OTHER, pair_card
from ui.inspect.tuned_form import run_form, shown_tuned
from ui.studio import Studio, failure, replay

GENERATE, SCORE = "Generate", "Score a text of mine"


def open_link(studio: Studio, request: gr.Request) -> tuple:
    """Updates for viewer, preset, expert, amateur, own, card, tuned, writer, question, mode and response: the form as
    it was when the trace was made, or as a fine-tuning run's tuned expert calls for it."""
    asked = dict(request.query_params) if request else {}
    if "trace" not in asked and "lens" in asked:
        return *open_tuned_run(studio, asked["lens"]), *[gr.skip()] * 3
    usual = pair_card(studio, presets()[0].name, "", "")
    nothing = [*[gr.skip()] * 4, usual, *[gr.skip()] * 5]
    if "trace" not in asked:
        return gr.skip(), *nothing
    try:
        record = studio.record(asked["trace"])
    except UserError as error:
        return failure(str(error)), *nothing
    view = {name: linked_number(asked.get(name)) for name in ("step", "alpha", "beta")}
    pair, said = record["pair"], record["request"]
    known = any(p.name == pair["name"] for p in presets())
    refs = (pair["name"], "", "") if known else (OTHER, pair["expert"], pair["amateur"])
    tuned = record.get("lens")
    if not studio.visitor.owner:  # the trace is shown; only what a visitor may run goes into the form
        refs, tuned = (pair["name"] if known else presets()[0].name, "", ""), None
    scored = said["response"] is not None
    return (
        replay(record, view),
        *pair_updates(studio, refs),
        *shown_tuned(tuned),
        said["question"],
        SCORE if scored else GENERATE,
        gr.Textbox(said["response"] or "", visible=scored),
    )


def open_tuned_run(studio: Studio, run: object) -> tuple:
    """Updates for viewer, preset, expert, amateur, own, card, tuned and writer: a fine-tuning run's tuned expert beside
    its pair. Nothing is loaded."""
    try:
        check_permission(studio.visitor, None, studio.settings)  # asked for by a link, too, which visitors may follow
        refs, tuned, say = run_form(studio, run)
    except UserError as error:
        usual = pair_card(studio, presets()[0].name, "", "")
        return failure(str(error)), *[gr.skip()] * 4, usual, *[gr.skip()] * 2
    return failure(say) if say else gr.skip(), *pair_updates(studio, refs), *shown_tuned(tuned)


def pair_updates(studio: Studio, refs: tuple[str, str, str]) -> tuple:
    """Updates for preset, expert, amateur, own and card."""
    return *refs, gr.Column(visible=refs[0] == OTHER), pair_card(studio, *refs)


def linked_number(text: str | None) -> float | None:
    """A number out of a link; anything else is ignored."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value <= 1e6 else None
