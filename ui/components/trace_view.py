"""A trace on the page and in files: the scripts that draw it, and its export as JSON, CSV or HTML."""

import json
import re
from collections.abc import Callable

from lightreasoner.errors import UserError
from lightreasoner.tracing.records import reweigh, trace_csv
from lightreasoner.validation import check_alpha_beta, check_cap
from ui.html_templates import asset, render
from ui.scripts import engine_constants, modules_of

START = "inspect/standalone.js"
#: Of a picture of the curve, as the page sends it.
PICTURE = re.compile(r"data:image/svg\+xml,[\w%.!~*'()-]*", re.ASCII)
MAX_PICTURE = 400_000  # characters


def standalone(record: dict, curve: str = "") -> str:
    """A trace's JSON as one HTML file that shows itself offline, with the scripts of the page.

    curve: the address of an SVG picture of its KL, which the page drew; without it the file has no curve.
    """
    return render(
        "standalone",
        style=asset("css", "inspect.css"),
        constants=engine_constants(public=False),
        modules=modules_of(START),
        start=START,
        record=record,
        curve=curve,
    )


#: Export formats of a trace.
WRITERS: dict[str, Callable[[dict, str], str]] = {
    "json": lambda record, curve: json.dumps(record, ensure_ascii=False, indent=1),
    "csv": lambda record, curve: trace_csv(record),
    "html": standalone,
}


def export_trace(
    record: dict, kind: object, alpha: object, beta: object, curve: object = "", cap: object = None
) -> dict:
    """{"content": the text of a trace as a "json", "csv" or "html" file, at this α, β and cap}. Raises UserError."""
    record = reweigh(record, *check_alpha_beta(alpha, beta), check_cap(cap))
    if not isinstance(kind, str) or kind not in WRITERS:
        raise UserError(f"There is no export called {str(kind)[:20]!r}; choose json, csv or html.")
    if not isinstance(curve, str) or len(curve) > MAX_PICTURE or not (curve == "" or PICTURE.fullmatch(curve)):
        raise UserError("The picture of the curve is no SVG picture; export the trace without it.")
    return {"content": WRITERS[kind](record, curve)}
