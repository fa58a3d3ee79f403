"""The Evaluate tab's component: a static shell whose script lists the evaluations and draws the open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.components.html_component import OWNERS, script
from ui.components.trace_view import SCRIPTS

EVALUATE_SCRIPTS = (
    "shared/job_format",
    "evaluate/plots",
    "evaluate/run_list",
    "evaluate/run",
    "evaluate/flips",
    "evaluate/cost_table",
    "evaluate/mount",
)
INTRO = {
    "title": "No evaluation yet",
    "sentences": [
        "An evaluation lets models solve problems with known answers and counts how many each gets right: pass@1.",
        "Tick a fine-tuned model beside its base, and every problem that changed sides is listed, both ways.",
    ],
}


class EvaluateView(gr.HTML):
    """Value: "" or the JSON document {"open": evaluation id}, which shows that evaluation.

    Everything else the script asks for by itself. Events: `prefill` with {"run"} asks that the form be filled in from a
    fine-tuning run, `tuned` says that there are other fine-tuned models than before. The template is static: model text
    enters the page through textContent only.
    """

    def __init__(self, calls: list[Callable[..., dict]], **kwargs: Any):
        names = (*SCRIPTS, *EVALUATE_SCRIPTS)
        super().__init__(
            value="",
            html_template='<div class="lr-root"></div>',
            css_template="",
            js_on_load=script(*names) + OWNERS + "mountEvaluate(element, props, trigger, watch, server);",
            apply_default_css=False,
            server_functions=calls,
            intro=INTRO,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": "the evaluation to show, as JSON"}
