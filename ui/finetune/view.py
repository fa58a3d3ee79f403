"""The view of the runs: a static shell whose script lists them and draws what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.components.html_component import OWNERS, script

SCRIPTS = (
    "shared/base",
    "shared/job_format",
    "shared/charts",
    "shared/run_list",
    "shared/card",
    "shared/push_form",
    "finetune/line_charts",
    "finetune/run_list",
    "finetune/run",
    "finetune/compare",
    "finetune/mount",
)
INTRO = {
    "title": "No fine-tuning run yet",
    "sentences": [
        "Fine-tuning teaches the expert, through a small LoRA adapter, what sets it apart from the amateur at the "
        "steps of a dataset; no labels are needed.",
        "It starts from a dataset: build one first, then come back, or press Fine-tune there.",
    ],
}


class FinetuneView(gr.HTML):
    """Value: "" or the JSON document {"open": run id}, which shows that run.

    Everything else the script asks for by itself. The template is static: texts enter the page through textContent
    only. Its event "renew" asks for the form's list of datasets anew, with {"dataset": id} chosen, and α, β
    and selector set where it names them.
    """

    def __init__(self, calls: list[Callable[..., dict]], **kwargs: Any):
        super().__init__(
            value="",
            html_template='<div class="lr-root"></div>',
            css_template="",
            js_on_load=script(*SCRIPTS) + OWNERS + "mountFinetune(element, props, trigger, watch, server); // 'renew'",
            apply_default_css=False,
            server_functions=calls,
            intro=INTRO,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": "the run to show, as JSON"}
