"""The scripts that draw a trace, on the page and in an exported file."""

from __future__ import annotations

from markupsafe import Markup

from ui.components.html_component import bundle
from ui.templates import asset, render

SCRIPTS = (
    "shared/base",
    "inspect/heatmap",
    "inspect/kl_curve",
    "inspect/step_view",
    "inspect/exports",
    "inspect/viewer",
)


def standalone(record: dict) -> str:
    """A trace's JSON as one HTML file that shows itself offline, with the scripts of the page."""
    return render("standalone", style=asset("css", "inspect.css"), script=Markup(bundle(*SCRIPTS)), record=record)
