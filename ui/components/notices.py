"""Notices on the page, and the answer of handlers that start a run."""

import json
from collections.abc import Callable

import gradio as gr

from lightreasoner.errors import UserError, log_unexpected
from ui.html_templates import render


def open_started(start: Callable[[], str | tuple[str, str]], doing: str = "the Datasets tab") -> tuple:
    """(value of the tab's view, HTML of the notice) after `start`, which returns a run id, or (run id, text of the
    notice or "").

    A UserError becomes a notice; so does any other exception, which is logged under `doing`.
    """
    try:
        started = start()
    except UserError as error:
        return gr.skip(), notice_html(str(error), "error")
    except Exception:
        return gr.skip(), notice_html(log_unexpected(doing), "error")
    run_id, text = (started, "") if isinstance(started, str) else started
    return json.dumps({"open": run_id}), notice_html(text, "note") if text else ""


def notice_html(text: str, tone: str) -> str:
    """A notice, escaped, one paragraph per line. tone: "error", "note" or "status"."""
    return render("notice", text=text, tone=tone)
