"""The private parts of Gradio behave as ui/compat/gradio.py says, and nothing else uses them."""

from __future__ import annotations

import ast
import inspect
import time
from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from gradio.state_holder import StateHolder
from starlette.requests import Request

from ui.compat import gradio as compat

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "app.py", *(path for folder in ("lightreasoner", "ui") for path in (ROOT / folder).rglob("*.py"))]
#: Modules of Gradio without a page in its documentation.
PRIVATE_MODULES = ("gradio.context", "gradio.oauth", "gradio.routes", "gradio.utils", "gradio.blocks", "gradio.helpers")
PRIVATE_MODULES += ("gradio.state_holder",)


def test_gradio_is_the_version_that_was_checked():
    assert gr.__version__ == compat.CHECKED_VERSION


@pytest.mark.parametrize(("sent", "fields"), [({"run": "a"}, {"run": "a"}), (None, {}), ("x", {}), ([1], {})])
def test_an_events_data_are_the_fields_that_a_script_sent(sent, fields):
    assert compat.event_data(gr.EventData(None, sent)) == fields


def test_the_request_is_starlettes_own():
    request = Request({"type": "http", "headers": []})
    assert compat.current_request() is None
    for known in (request, gr.Request(request)):
        before = LocalContext.request.set(known)
        try:
            assert compat.current_request() is request
        finally:
            LocalContext.request.reset(before)


def test_a_sign_in_counts_until_it_expires():
    info = {"userinfo": {"preferred_username": "ann"}, "expires_at": time.time() + 60}
    assert compat.oauth_info({"oauth_info": info}) == info
    assert compat.oauth_info({"oauth_info": info | {"expires_at": time.time() - 60}}) == {}
    assert compat.oauth_info({}) == {}


def test_all_that_a_browser_can_call_is_found():
    def event():
        """Of the page."""

    def of_instance(arguments):
        """Given to one component."""

    class Component(gr.HTML):
        @gr.components.base.server
        def of_class(self, arguments):
            """Declared by a component's class."""

    with gr.Blocks() as page:
        component = Component(server_functions=[of_instance])
        component.click(event)
    assert {function.__name__ for function in compat.callable_functions(page)} == {"event", "of_instance", "of_class"}


def test_the_login_button_wires_the_known_handler(monkeypatch):
    monkeypatch.setattr("gradio.routes.attach_oauth", lambda app: None)
    with gr.Blocks() as page:
        gr.LoginButton()
    wired = [event.fn for event in page.fns.values() if event.fn]
    assert [inspect.unwrap(getattr(fn, "__func__", fn)) for fn in wired] == [compat.LOGIN_STATUS_HANDLER]


def test_an_idle_queue_looks_a_hundred_times_a_second():
    """Gradio's own thousand took a server that did nothing 5 % of a core."""
    with compat.Page() as page:
        assert page.queue()._queue.sleep_when_free == compat.QUEUE_SECONDS == 0.01


def test_no_table_of_past_events_is_made_after_each_event():
    """Gradio's dashboard, which is closed here, took 12 ms of CPU after an event, and more the more there had been."""
    with compat.Page() as page:
        queue = page.queue()._queue
    queue.events_recorded, before = 10_000, queue.cached_event_analytics_summary
    events = [{"function": "trace", "status": "success", "process_time": 1.0}]
    assert queue.compute_analytics_summary(events) is before == {"functions": {}}
    assert queue.ANALYTICS_MAX_EVENTS == 1


def test_nothing_is_copied_of_a_pages_components():
    """For each new page, and each call of the API, Gradio copied the settings of all 309 components: 20 ms, 360 kB."""
    with compat.Page() as page:
        box = gr.Textbox("a")
    holder = StateHolder()
    holder.set_blocks(page)
    state = holder["a page"]
    state._update_value_in_config(box._id, "b")
    assert state[box._id] is box and list(state.components) == []


def private_uses(path: Path) -> list[str]:
    """Names of Gradio's that begin with an underscore or stand in a module it does not document."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradio":
            named = [alias.name for alias in node.names]
            if node.module in PRIVATE_MODULES or any(name.startswith("_") or name == "oauth" for name in named):
                found.append(f"from {node.module} import {', '.join(named)}")
        elif isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name in PRIVATE_MODULES]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            text = ast.unparse(node.value)
            if text.split(".")[0] in ("gr", "gradio", "event", "page", "block", "request"):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Constant) and node.value == "_is_server_fn":
            found.append(node.value)
    return found


def test_nothing_else_uses_gradios_private_names():
    users = {path.relative_to(ROOT).as_posix(): uses for path in FILES if (uses := private_uses(path))}
    uses = users.pop("ui/compat/gradio.py")
    assert len(uses) >= 4, "the test finds what it looks for"
    assert users == {}, "Gradio's private names belong into ui/compat/gradio.py"


def test_the_frontend_carries_what_renders_formulas():
    """A module whose default export renders the formulas of an element, as Gradio's own Markdown uses it."""
    name = compat.formulas_script()
    assert name.startswith("assets/auto-render-")
    text = (Path(gr.__file__).parent / "templates" / "frontend" / name).read_text(encoding="utf-8")
    assert text.rstrip().endswith("as default};") and "mathml" in text and "import" not in text[:40]
