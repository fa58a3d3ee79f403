"""What a public server's page says about permissions, and where the owner signs in."""

import gradio as gr

from lightreasoner.serving.permissions import oauth_available, sign_in_hint
from lightreasoner.settings import Settings
from ui.access.actions import OWNERS_ONLY, VISITORS_ONLY, action
from ui.compat.gradio import LOGIN_STATUS_HANDLER
from ui.html_templates import render

#: Tab title → its purpose, for visitors, who see nothing else of it.
PURPOSES = {
    "Datasets": "Build datasets of training samples from many problems, and explore them.",
    "Fine-tune": "Teach the expert, through a small adapter, what sets it apart from the amateur.",
    "Evaluate": "Measure models before and after fine-tuning.",
    "Improve": "Sample, fine-tune and evaluate an expert in one go, beside a control.",
    "Jobs": "Long-running work runs as jobs; this is the queue.",
}


def welcome(settings: Settings) -> None:
    """The line under the header: for visitors, and for the owner."""
    oauth = oauth_available()
    bar = {"form": not oauth, "hint": ""}
    gr.HTML(render("access_bar", owner=True, **bar), elem_classes=[OWNERS_ONLY], elem_id="lr-owning")
    bar = {"form": bool(settings.login) and not oauth, "hint": "" if oauth else sign_in_hint(settings)}
    gr.HTML(render("access_bar", owner=False, **bar), elem_classes=[VISITORS_ONLY], elem_id="lr-visiting")
    if oauth:
        gr.LoginButton(size="sm")
        action("access.show_sign_in", visitors=True)(LOGIN_STATUS_HANDLER)


def belongs_to_owner(settings: Settings, title: str) -> None:
    """What visitors see in place of a tab."""
    text = f"{PURPOSES[title]} This tab belongs to the owner of this server. {sign_in_hint(settings)}"
    gr.HTML(render("owner_tab", title=title, text=text), elem_classes=[VISITORS_ONLY])
