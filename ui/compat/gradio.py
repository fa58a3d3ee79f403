"""Everything that Gradio does not document and the page needs, checked against Gradio 6.31.0.

Nothing else in the project touches Gradio's private names, so an upgrade is checked here and in
tests/compat/test_gradio.py.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

import gradio as gr
from gradio import oauth
from gradio.context import LocalContext
from starlette.requests import Request

CHECKED_VERSION = "6.31.0"
#: The handler that gr.LoginButton wires to the loading of the page; it returns the button with its present label.
LOGIN_STATUS_HANDLER = gr.LoginButton._check_login_status


def event_data(event: gr.EventData) -> dict:
    """The fields that a script sent along with an event; {} if it sent anything but an object. They are untrusted."""
    return event._data if isinstance(event._data, dict) else {}


def current_request() -> Request | None:
    """The HTTP request whose handler runs in this thread, queued or not; None outside of one."""
    request = LocalContext.request.get(None)
    return getattr(request, "request", request)  # Gradio's class wraps Starlette's


def oauth_info(session: MutableMapping[str, Any]) -> dict:
    """The Hugging Face sign-in of a session: "userinfo", "access_token", … Empty if there is none or it has expired."""
    return oauth._get_valid_oauth_info_from_session(session) or {}


def callable_functions(page: gr.Blocks) -> list[Callable]:
    """All functions on the server that a browser can call: the page's events and the components' server functions."""
    functions = [event.fn for event in page.fns.values() if event.fn is not None]
    for block in page.blocks.values():
        members = [value for owner in (block, type(block)) for value in vars(owner).values() if callable(value)]
        functions += [value for value in members if getattr(value, "_is_server_fn", False)]
    return functions
