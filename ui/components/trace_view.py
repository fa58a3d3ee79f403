"""The scripts that draw a trace, on the page and in an exported file."""

from __future__ import annotations

import json

from lightreasoner.settings import ASSETS
from ui.components.html_component import bundle

SCRIPTS = (
    "shared/base",
    "inspect/heatmap",
    "inspect/kl_curve",
    "inspect/step_view",
    "inspect/exports",
    "inspect/viewer",
)


def style() -> str:
    return (ASSETS / "css" / "inspect.css").read_text(encoding="utf-8")


def standalone(record: dict) -> str:
    """A trace's JSON as one HTML file that shows itself, offline, with the same script as the page."""
    # "<" never appears inside the data, so that no text in it can close the script element
    data = json.dumps(record, ensure_ascii=True).replace("<", "\\u003c")
    shell = (ASSETS / "templates" / "standalone.html").read_text(encoding="utf-8")
    parts = {"STYLE": style(), "SCRIPT": bundle(*SCRIPTS), "DATA": data}
    for name, text in parts.items():
        shell = shell.replace(f"/*{name}*/", text, 1)
    return shell
