"""HtmlComponent: a gr.HTML whose content a script of assets/js draws. The base class of the page's own components."""

import json
from collections.abc import Callable
from typing import Any, ClassVar

import gradio as gr

from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA, TIE
from lightreasoner.scoring.measures import MEASURES
from ui.templates import asset, render

SHARED = ("shared/dom", "shared/format", "shared/poll")


def bundle(*names: str) -> str:
    """The shared scripts and these of assets/js as one text, after the engine's constants that they read."""
    constants = {
        "PAPER": {"alpha": ALPHA, "beta": BETA, "alphaFloor": ALPHA_FLOOR, "tie": TIE},
        "MEASURES": [{name: getattr(m, name) for name in ("key", "name", "says", "full", "tuned")} for m in MEASURES],
    }
    lines = [f"const {name} = {json.dumps(value)};" for name, value in constants.items()]
    return "\n".join(lines + [asset("js", f"{name}.js") for name in (*SHARED, *names)])


class HtmlComponent(gr.HTML):
    """A static frame that a script fills.

    Gradio executes `{{…}}` and `${…}` in a template, so texts of models, data and users must not be part of the frame:
    they reach the script as values or answers, and the script sets them as textContent.
    """

    scripts: ClassVar[tuple[str, ...]]  # names under assets/js, without the suffix
    mount: ClassVar[str]  # the call that starts the script; Gradio provides element, props, trigger, watch and server
    template: ClassVar[str] = "component"  # of the frame
    root: ClassVar[str] = "lr-root"  # class names of the element that the script fills
    value_title: ClassVar[str] = "not used"  # the meaning of the value, for the API's documentation
    owners_only: ClassVar[bool] = True  # not mounted for visitors of a public server

    def __init__(self, calls: list[Callable[..., dict]], notice: str = "", **kwargs: Any):
        """calls: the functions that the script calls as `await server.NAME([…])`, with their permission checks.
        notice: a sentence of ours above the component."""
        guard = "if (!window.lrVisitor) " if self.owners_only else ""
        super().__init__(
            value="",
            html_template=render(self.template, root=self.root, notice=notice),
            css_template="",
            js_on_load=f"{bundle(*self.scripts)}\n{guard}{self.mount}",
            apply_default_css=False,
            server_functions=calls,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "title": self.value_title}
