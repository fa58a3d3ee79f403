"""HtmlComponent: a gr.HTML whose content a script of assets/js draws. The base class of the page's own components."""

from collections.abc import Callable
from typing import Any, ClassVar

import gradio as gr

from ui.html_templates import render
from ui.scripts import start_script


class HtmlComponent(gr.HTML):
    """A static frame that a script fills.

    Gradio executes `{{…}}` and `${…}` in a template, so texts of models, data and users must not be part of the frame.
    They reach the script as values or answers, and it sets them as textContent.
    """

    script: ClassVar[str]  # the module under assets/js, without the suffix, whose mount() fills the frame
    own_events: ClassVar[tuple[str, ...]] = ()  # that the script triggers
    template: ClassVar[str] = "component"  # of the frame
    root: ClassVar[str] = "lr-root"  # class names of the element that the script fills
    value_title: ClassVar[str] = "not used"  # the meaning of the value, for the API's documentation
    owners_only: ClassVar[bool] = True  # not mounted for visitors of a public server

    def __init__(self, calls: list[Callable[..., dict]], notice: str = "", **kwargs: Any):
        """calls: the functions that the script calls as `await server.NAME([…])`, with their permission checks.
        notice: a sentence of ours above the component."""
        super().__init__(
            value="",
            html_template=render(self.template, root=self.root, notice=notice),
            css_template="",
            js_on_load=start_script(self.script, self.owners_only, self.own_events),
            apply_default_css=False,
            server_functions=calls,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": self.value_title}
