"""The viewer component: a static shell whose script draws the run, and the calls that the script makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from lightreasoner.settings import ASSETS

SCRIPTS = (
    "shared/base",
    "inspect/heatmap",
    "inspect/kl_curve",
    "inspect/step_view",
    "inspect/exports",
    "inspect/viewer",
)
INTRO = {
    "title": "What you are about to see",
    "sentences": [
        "A stronger model, the expert, solves a problem token by token; a weaker one, the amateur, reads along.",
        "Every token is coloured by how far apart their expectations were: that is KL divergence, in nats.",
        "Where they part, the expert knows something worth reinforcing: press Run, then select a token to see what.",
    ],
}


OWNERS = "\nif (!window.lrVisitor) "  # before what mounts a part that visitors of a public server do not see


def script(*names: str) -> str:
    return "\n".join((ASSETS / "js" / f"{name}.js").read_text(encoding="utf-8") for name in names)


def style() -> str:
    return (ASSETS / "css" / "inspect.css").read_text(encoding="utf-8")


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


def standalone(record: dict) -> str:
    """A trace's JSON as one HTML file that shows itself, offline, with the same script as the page."""
    # "<" never appears inside the data, so that no text in it can close the script element
    data = json.dumps(record, ensure_ascii=True).replace("<", "\\u003c")
    shell = (ASSETS / "templates" / "standalone.html").read_text(encoding="utf-8")
    parts = {"STYLE": style(), "SCRIPT": script(*SCRIPTS), "DATA": data}
    for name, text in parts.items():
        shell = shell.replace(f"/*{name}*/", text, 1)
    return shell
