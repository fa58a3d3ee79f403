"""Permalinks: what an address says, shown again without loading any model."""

from __future__ import annotations

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.pairs import presets
from ui.pair_card import OTHER, pair_card
from ui.studio import Studio, failure, replay

GENERATE, SCORE = "Generate", "Score a text of mine"


def open_link(studio: Studio, request: gr.Request) -> tuple:
    """Updates for viewer, preset, expert, amateur, own, question, mode, response and card, the form as it was."""
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
