"""The component that shows a trace."""

from __future__ import annotations

from ui.components.html_component import HtmlComponent
from ui.components.trace_view import SCRIPTS

INTRO = {
    "title": "What you are about to see",
    "sentences": [
        "A stronger model, the expert, solves a problem token by token; a weaker one, the amateur, reads along.",
        "Every token is coloured by how far apart their expectations were: that is KL divergence, in nats.",
        "Where they diverge, the expert knows something worth reinforcing: press Run, then select a token to see what.",
    ],
}


class Viewer(HtmlComponent):
    """Value: one growing text with a JSON document per line. The first line opens a run; arrays are steps."""

    scripts = (*SCRIPTS, "inspect/mount")
    mount = "mountPage(element, props, trigger, watch, server);"
    value_title = "the run, one JSON document per line"
    owners_only = False
