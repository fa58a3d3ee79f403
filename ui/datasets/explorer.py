"""The component that lists the datasets and shows one of them."""

from __future__ import annotations

from ui.components.html_component import HtmlComponent
from ui.components.trace_view import SCRIPTS

INTRO = {
    "title": "No dataset yet",
    "sentences": [
        "A dataset is what the expert wrote for many problems, together with how far the amateur's expectation was "
        "from its own at every token.",
        "The steps where the two part are training samples: which ones, and with what targets, is decided here "
        "afterwards, by moving β and α.",
    ],
}


class DatasetExplorer(HtmlComponent):
    """Value: "" or the JSON document {"open": dataset id}, which shows that dataset. The script requests the rest."""

    scripts = (
        *SCRIPTS,
        "shared/job_format",
        "shared/push_form",
        "shared/charts",
        "shared/run_list",
        "datasets/step_table",
        "datasets/explorer",
        "datasets/trajectory",
        "datasets/mount",
    )
    mount = "mountDatasets(element, props, trigger, watch, server);"
    value_title = "the dataset to show, as JSON"
