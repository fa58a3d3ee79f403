"""The Jobs tab's panel and the page's header: static shells whose scripts ask the server and draw the answers."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from ui.components.html_component import OWNERS, script

HEADER = """<div class="lr-header"><h1>LightReasoner Studio</h1>
<p>Where does a stronger language model know more than a weaker one? Token by token.</p>
<div class="lr lr-glance"></div>%s</div>"""


def said(notice: str) -> str:
    return f'<p class="lr-place">{escape(notice)}</p>' if notice else ""


class JobPanel(gr.HTML):
    """The queue and the history. It has no value: the script asks for what it shows, so every visitor sees the same."""

    def __init__(self, calls: list[Callable[..., dict]], notice: str = "", **kwargs: Any):
        """notice: a sentence of ours above the list, e.g. why jobs are off; never what somebody else wrote."""
        super().__init__(
            value="",
            html_template=said(notice) + '<div class="lr lr-jobs"></div>',
            css_template="",
            js_on_load=script("shared/base", "shared/job_format", "jobs/details", "jobs/row", "jobs/panel")
            + OWNERS
            + "mountJobs(element, server);",
            apply_default_css=False,
            server_functions=calls,
            **kwargs,
        )


class Header(gr.HTML):
    """The page's name and, on every tab, what the jobs are doing."""

    def __init__(self, calls: list[Callable[..., dict]], notice: str = "", **kwargs: Any):
        """notice: a sentence of ours on the place where the app runs; never what somebody else wrote."""
        super().__init__(
            value="",
            html_template=HEADER % said(notice),
            css_template="",
            js_on_load=script("shared/base", "shared/job_format", "jobs/header") + "\nmountGlance(element, server);",
            apply_default_css=False,
            server_functions=calls,
            **kwargs,
        )
