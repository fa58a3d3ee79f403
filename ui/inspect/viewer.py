"""The viewer component: a static shell whose script draws the run, and the calls that the script makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.components.html_component import script
from ui.components.trace_view import SCRIPTS

INTRO = {
    "title": "What you are about to see",
    "sentences": [
        "A stronger model, the expert, solves a problem token by token; a weaker one, the amateur, reads along.",
        "Every token is coloured by how far apart their expectations were: that is KL divergence, in nats.",
        "Where they part, the expert knows something worth reinforcing: press Run, then select a token to see what.",
    ],
}


class Viewer(gr.HTML):
    """Value: one growing string, a JSON document a line. The first line opens a run, arrays are steps.

    The template is static: model text inside a template would be executed, so it enters the page through textContent.
    """

    def __init__(self, calls: list[Callable[..., dict]] = (), **kwargs: Any):
        super().__init__(
            value="",
            html_template='<div class="lr-root"></div>',
            css_template="",
            js_on_load=script(*SCRIPTS, "inspect/mount") + "\nmountPage(element, props, trigger, watch, server);",
            apply_default_css=False,
            intro=INTRO,
            server_functions=list(calls),
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": "the run, one JSON document a line"}
