"""Notices on the page."""

from __future__ import annotations

import json

import gradio as gr

from lightreasoner.errors import UserError, log_unexpected
from ui.templates import render


def open_started(work, doing: str = "the Datasets tab") -> tuple:
    """(the view's value, the notice's HTML): what `work` returns as (run id, text), or a mistake's sentence."""
    try:
        run_id, said = work()
    except UserError as error:
        return gr.skip(), notice_html(str(error), "error")
    except Exception:
        return gr.skip(), notice_html(log_unexpected(doing), "error")
    return json.dumps({"open": run_id}), notice_html(said, "note") if said else ""


def notice_html(text: str, tone: str) -> str:
    """A notice, escaped, one paragraph per line. tone: "error", "note" or "status"."""
    return render("notice", text=text, tone=tone)
