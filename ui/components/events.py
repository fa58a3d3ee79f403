"""How the page's events reach their functions, and what a script may send along."""

from __future__ import annotations

import gradio as gr

QUIET = {"show_progress": "hidden"}
#: Straight to the function. The queue answers over one stream a page, and closes it when nothing is left to answer;
#: Gradio's client loses an event that it sends in that very moment. So only what goes on for long stands in the queue.
AT_ONCE = QUIET | {"queue": False}
PRIVATE = AT_ONCE | {"api_visibility": "private"}


def said_by(event: gr.EventData) -> dict:
    """What the script sent along with an event. Anybody may send anything, over HTTP."""
    return event._data if isinstance(event._data, dict) else {}
