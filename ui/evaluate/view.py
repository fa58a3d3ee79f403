"""The component that lists the evaluations and shows one of them."""

from __future__ import annotations

from ui.components.html_component import HtmlComponent
from ui.components.trace_view import SCRIPTS

INTRO = {
    "title": "No evaluation yet",
    "sentences": [
        "An evaluation lets models solve problems with known answers and counts how many each gets right: pass@1.",
        "Tick a fine-tuned model beside its base, and every problem that changed sides is listed, both ways.",
    ],
}


class EvaluateView(HtmlComponent):
    """Value: "" or the JSON document {"open": evaluation id}, which shows that evaluation. The script requests the
    rest.

    The event `prefill` with {"run": id} asks the form to take the settings of a fine-tuning run; `tuned` says that the
    list of fine-tuned models has changed.
    """

    scripts = (
        *SCRIPTS,
        "shared/job_format",
        "evaluate/plots",
        "evaluate/run_list",
        "evaluate/run",
        "evaluate/flips",
        "evaluate/cost_table",
        "evaluate/mount",
    )
    mount = "mountEvaluate(element, props, trigger, watch, server);"
    value_title = "the evaluation to show, as JSON"
