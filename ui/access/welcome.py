"""What a public server's page says about who may do what, and where the owner signs in."""

from __future__ import annotations

import gradio as gr

from lightreasoner.serving.permissions import how_to_sign_in, oauth_here
from lightreasoner.settings import Settings
from ui.access.actions import action
from ui.access.visitors import OWNERS_ONLY, VISITORS_ONLY
from ui.compat.gradio import LOGIN_STATUS_HANDLER

#: Tab title → what it is, for those who see nothing else of it.
WHAT = {
    "Datasets": "Datasets of training samples, built from many problems, are made and explored here.",
    "Fine-tune": "Here the expert is taught, through a small adapter, what sets it apart from the amateur.",
    "Evaluate": "Models before and after fine-tuning are measured here.",
    "Jobs": "What takes long runs as a job; the queue of jobs is here.",
}


def welcome(settings: Settings) -> None:
    """The line under the header: for visitors, and for the owner."""
    oauth = oauth_here()
    sign_in = '<a href="sign-in">Sign in as the owner</a>' if settings.login and not oauth else ""
    none = "" if oauth or settings.login else f"<span>{how_to_sign_in(settings)}</span>"
    said = "<p>You are a visitor: any pair of the list can be inspected here, within limits.</p>"
    gr.HTML(
        f'<div class="lr lr-access">{said}{sign_in}{none}</div>', elem_classes=[VISITORS_ONLY], elem_id="lr-visiting"
    )
    out = '<form method="post" action="sign-out"><button>Sign out</button></form>' if not oauth else ""
    said = "<p>You are signed in as the owner.</p>"
    gr.HTML(f'<div class="lr lr-access">{said}{out}</div>', elem_classes=[OWNERS_ONLY], elem_id="lr-owning")
    if oauth:
        gr.LoginButton(size="sm")
        action("access.show_sign_in", visitors=True)(LOGIN_STATUS_HANDLER)


def belongs_to_owner(settings: Settings, title: str) -> None:
    """What visitors see in place of a tab."""
    said = f"{WHAT[title]} It belongs to the owner of this server. {how_to_sign_in(settings)}"
    gr.HTML(f'<div class="lr lr-belongs"><h2>{title}</h2><p>{said}</p></div>', elem_classes=[VISITORS_ONLY])
