"""Notices on the page, and where a started job is to be found."""

from __future__ import annotations

import json
import zlib
from html import escape

import gradio as gr

from lightreasoner.errors import UserError, broke


def answered(work, doing: str = "the Datasets tab") -> tuple:
    """(the view's value, the notice's HTML): what `work` returns as (run id, text), or a mistake's sentence."""
    try:
        run_id, said = work()
    except UserError as error:
        return gr.skip(), notice_html(str(error), "error")
    except Exception:
        return gr.skip(), notice_html(broke(doing), "error")
    return json.dumps({"open": run_id}), notice_html(said, "note") if said else ""


def notice_html(text: str, tone: str) -> str:
    role, look = ("alert", "lr-error") if tone == "error" else ("status", f"lr-note lr-{tone}")
    lines = "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())
    return f'<div class="lr"><div class="{look}" role="{role}">{lines}</div></div>'


def send(answer: dict, name: str, value: object, seen: dict) -> None:
    """Put a part of the answer into it, unless the page has just that already."""
    answer["marks"][name] = mark = f"{zlib.crc32(json.dumps(value).encode()):08x}"
    if seen.get(name) != mark:
        answer[name] = value
