"""A trace on the page and in files: the scripts that draw it, and its export as JSON, CSV or HTML."""

import json
from collections.abc import Callable

from markupsafe import Markup

from lightreasoner.errors import UserError
from lightreasoner.tracing.records import reweigh, trace_csv
from lightreasoner.validation import check_alpha_beta
from ui.components.html_component import bundle
from ui.templates import asset, render

SCRIPTS = (
    "inspect/measures",
    "inspect/heatmap",
    "inspect/kl_curve",
    "inspect/step_view",
    "inspect/exports",
    "inspect/viewer",
)


def standalone(record: dict) -> str:
    """A trace's JSON as one HTML file that shows itself offline, with the scripts of the page."""
    return render("standalone", style=asset("css", "inspect.css"), script=Markup(bundle(*SCRIPTS)), record=record)


#: Export formats of a trace.
WRITERS: dict[str, Callable[[dict], str]] = {
    "json": lambda record: json.dumps(record, ensure_ascii=False, indent=1),
    "csv": trace_csv,
    "html": standalone,
}


def export_trace(record: dict, kind: object, alpha: object, beta: object) -> dict:
    """{"content": the text of a trace as a "json", "csv" or "html" file, at this α and β}. Raises UserError."""
    record = reweigh(record, *check_alpha_beta(alpha, beta))
    if not isinstance(kind, str) or kind not in WRITERS:
        raise UserError(f"There is no export called {str(kind)[:20]!r}; choose json, csv or html.")
    return {"content": WRITERS[kind](record)}
