"""The explorer component: a static shell whose script lists the datasets and draws the open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.components.html_component import OWNERS, script
from ui.components.trace_view import SCRIPTS

DATASET_SCRIPTS = (
    "shared/job_format",
    "shared/push_form",
    "shared/charts",
    "shared/run_list",
    "datasets/step_table",
    "datasets/explorer",
    "datasets/trajectory",
    "datasets/mount",
)
INTRO = {
    "title": "No dataset yet",
    "sentences": [
        "A dataset is what the expert wrote for many problems, together with how far the amateur's expectation was "
        "from its own at every token.",
        "The steps where the two part are training samples: which ones, and with what targets, is decided here "
        "afterwards, by moving β and α.",
    ],
}


class DatasetExplorer(gr.HTML):
    """Value: "" or the JSON document {"open": dataset id}, which shows that dataset.

    Everything else the script asks for by itself. The template is static: model text enters the page through
    textContent only.
    """

    def __init__(self, calls: list[Callable[..., dict]], **kwargs: Any):
        names = (*SCRIPTS, *DATASET_SCRIPTS)
        super().__init__(
            value="",
            html_template='<div class="lr-root"></div>',
            css_template="",
            js_on_load=script(*names) + OWNERS + "mountDatasets(element, props, trigger, watch, server);",
            apply_default_css=False,
            server_functions=calls,
            intro=INTRO,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": "the dataset to show, as JSON"}
