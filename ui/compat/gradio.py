"""Everything that Gradio does not document and the page needs, checked against Gradio 6.31.0.

Nothing else in the project touches Gradio's private names, so an upgrade is checked here and in
tests/compat/test_gradio.py.
"""

import math
import re
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import oauth, state_holder
from gradio.context import LocalContext
from gradio.routes import templates
from jinja2 import BaseLoader, Environment
from starlette.requests import Request

from lightreasoner.errors import UserError, first_line
from lightreasoner.serving.log import log_line
from lightreasoner.settings import ASSETS

CHECKED_VERSION = "6.31.0"
#: What the page of gr.Markdown loads for formulas: KaTeX's auto-render, whose default export renders the formulas of an
#: element. Its name holds a hash.
_FORMULAS = "auto-render-*.js"
QUEUE_SECONDS = 0.01  # between looks for waiting events: Gradio's 0.001 takes an idle server 5 % of a core
_MODULE = 'script type="module"'  # Gradio's own, in the head of its page
#: The handler that gr.LoginButton wires to the loading of the page; it returns the button with its present label.
LOGIN_STATUS_HANDLER = gr.LoginButton._check_login_status


@cache
def formulas_script() -> str:
    """The address of KaTeX's auto-render as Gradio serves it, relative to the page; "" where there is none."""
    found = sorted((Path(gr.__file__).parent / "templates" / "frontend" / "assets").glob(_FORMULAS))
    return f"assets/{found[0].name}" if len(found) == 1 else ""


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


class _PageTemplates(BaseLoader):
    """Gradio's templates, with a script of ours before its own."""

    def __init__(self, theirs: BaseLoader):
        self._theirs = theirs

    def get_source(self, environment: Environment, template: str) -> tuple:
        source, *rest = self._theirs.get_source(environment, template)
        start = (ASSETS / "templates" / "before_gradio.html").read_text(encoding="utf-8")
        return source.replace(f"<{_MODULE}", f"{start}<{_MODULE}", 1), *rest


class PageState(state_holder.SessionState):
    """What the server keeps of an open page, without the settings of every component. Gradio copies them for links to a
    page's state, whose route is closed (ui/access/gate.py); the copy took a new page 20 ms and 360 kB."""

    def __init__(self, blocks: gr.Blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Page(gr.Blocks):
    """gr.Blocks that takes an event's values as HTTP clients send them, and refuses wrong ones in a sentence to the
    client and one line of the log. Gradio logs a traceback of kilobytes, and its clients leave fields out.

    Where nothing happens, neither server nor page computes."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        state_holder.SessionState = PageState
        if not isinstance(templates.env.loader, _PageTemplates):
            templates.env.loader = _PageTemplates(templates.env.loader)

    def queue(self, *args: Any, **options: Any) -> "Page":
        super().queue(*args, **options)
        self._queue.sleep_when_free = QUEUE_SECONDS
        # of its last 10,000 events Gradio makes a table for its dashboard, which nobody can open here, after each event
        self._queue.ANAYLTICS_CACHE_FREQUENCY = math.inf
        self._queue.ANALYTICS_MAX_EVENTS = 1
        return self

    async def call_function(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().call_function(*args, **options)
        except UserError as error:  # of any handler
            raise gr.Error(str(error), print_exception=False) from None

    async def preprocess_data(self, block_fn: Any, inputs: list, state: Any, explicit_call: bool = False) -> Any:
        try:
            return await super().preprocess_data(block_fn, all_inputs(block_fn, inputs), state, explicit_call)
        except Exception as error:
            text = error.message if isinstance(error, gr.Error) else "A value is none that its field takes."
            text = re.sub(r": \[.*", ".", first_line(Exception(text)))  # the choices may be the owner's
            log_line(f"refused values of {block_fn.name}: {type(error).__name__}: {first_line(error)!a}")
            raise gr.Error(text.encode("utf-8", "backslashreplace").decode(), print_exception=False) from None


def all_inputs(event: Any, data: list) -> list:
    """The values of all inputs of an event, None for those that a client left out.

    The JavaScript client sends all, curl only what the API's documentation shows, gradio_client that and a None for
    each state.
    """
    shown = [not block.skip_api for block in event.inputs]
    with_states = [listed or isinstance(block, gr.State) for listed, block in zip(shown, event.inputs, strict=True)]
    for sent in (shown, with_states):
        if len(data) == sum(sent) < len(sent):
            values = iter(data)
            return [next(values) if is_sent else None for is_sent in sent]
    return data


def event_of(page: gr.Blocks, index: int | None, name: str | None) -> Any:
    """The event with this index, or this name, whose handler runs on the server; None if there is none."""
    if index is None:
        named = (event for event in page.fns.values() if name and event.api_name == name)
        return next((event for event in named if event.fn), None)
    event = page.fns.get(index)
    return event if event and event.fn else None


def server_function(page: gr.Blocks, component: int, name: str) -> Callable | None:
    """The function that a component's script may call under this name."""
    function = getattr(page.blocks.get(component), name, None)
    return function if getattr(function, "_is_server_fn", False) else None
