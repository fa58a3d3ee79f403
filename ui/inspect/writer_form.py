"""The form for who writes the response: the expert, its tuned version, or both models of the pair by contrast."""

from collections.abc import Mapping
from dataclasses import dataclass

import gradio as gr

from lightreasoner.decoding.contrast import Contrast, takeover
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.validation import check_alpha_beta, check_cap
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.prompt_form import UNLISTED

BY_EXPERT, BY_TUNED, BY_CONTRAST, BY_TAKEOVER = "Expert", "Tuned expert", "Contrast", "Takeover"
WRITERS = (BY_EXPERT, BY_TUNED, BY_CONTRAST, BY_TAKEOVER)
SAYS = "contrast: above β the contrastive target chooses; takeover: the amateur writes, above β the expert"
WITH_TUNED = "lr-with-tuned"  # without this class the page does not show BY_TUNED


class Threshold(gr.Number):
    """α, β or the cap of a contrast. The sliders beside the response fill it when they are moved."""

    is_template, skip_api = True, UNLISTED


@dataclass(frozen=True)
class WriterForm:
    writer: gr.Radio
    row: gr.Row  # of the next three
    alpha: Threshold
    beta: Threshold
    cap: Threshold

    @property
    def thresholds(self) -> list:
        return [self.alpha, self.beta, self.cap]


def writer_form() -> WriterForm:
    """Lay the form out. wire_tuned of tuned_form.py offers the tuned expert."""
    writer = gr.Radio(list(WRITERS), value=BY_EXPERT, label="Written by", info=SAYS, elem_id="lr-writer")
    with gr.Row(elem_id="lr-thresholds") as row:
        shared = {"visible": "hidden", "min_width": 100, "step": 0.05}
        alpha = Threshold(ALPHA, label="α, plausible set", elem_id="lr-alpha", **shared)
        beta = Threshold(BETA, label="β, in nats", elem_id="lr-beta", **shared)
        cap = Threshold(0, label="Cap, 0: none", elem_id="lr-cap", **shared)
    form = WriterForm(writer, row, alpha, beta, cap)
    writer.change(choose_writer, writer, form.thresholds, **PRIVATE)
    return form


@action("inspect.choose_writer", visitors=True)
def choose_writer(writer) -> tuple:
    """Updates of α, β and the cap: shown where they decide on the tokens. A takeover has β only."""
    contrast = writer == BY_CONTRAST
    return shown(contrast), shown(contrast or writer == BY_TAKEOVER), shown(contrast)


def shown(visible: bool) -> gr.Number:
    return gr.Number(visible=True if visible else "hidden")  # the sliders fill hidden fields, too


def requested_contrast(writer: object, alpha: object, beta: object, cap: object = None) -> Contrast | None:
    """The form's contrast; None where one model writes alone. Fields that a client left out are the paper's.

    Raises UserError.
    """
    if writer not in WRITERS:
        raise UserError(f"{str(writer)[:40]!r} cannot generate the response; choose {', '.join(WRITERS)}.")
    if writer not in (BY_CONTRAST, BY_TAKEOVER):
        return None
    usual = ALPHA if alpha is None or writer == BY_TAKEOVER else alpha
    alpha, beta = check_alpha_beta(usual, BETA if beta is None else beta)
    return Contrast(alpha, beta, cap=check_cap(cap or None)) if writer == BY_CONTRAST else takeover(beta)


def writer_of(contrast: Contrast | None, tuned: dict | None) -> str:
    """The choice of the form that wrote a trace. tuned: the trace's "lens"."""
    if contrast:
        return BY_TAKEOVER if contrast.takeover else BY_CONTRAST
    return BY_TUNED if (tuned or {}).get("writer") == "tuned" else BY_EXPERT


def linked_contrast(query: Mapping[str, str]) -> Contrast | None:
    """The contrast that an address asks for, as `writer=contrast&alpha=0.2&beta=0.4`; None where it asks for none."""
    writer = {"contrast": BY_CONTRAST, "takeover": BY_TAKEOVER}.get(query.get("writer", ""))
    try:
        numbers = [float(query[name]) if name in query else None for name in ("alpha", "beta", "cap")]
        return requested_contrast(writer, *numbers) if writer else None
    except (ValueError, UserError):
        return None


def writer_updates(contrast: Contrast | None) -> tuple:
    """Updates of writer, α, β and the cap to a contrast; nothing without one."""
    if contrast is None:
        return tuple([gr.skip()] * 4)
    alpha, cap = [gr.skip()] * 2 if contrast.takeover else (contrast.alpha, contrast.cap or 0)
    return writer_of(contrast, None), alpha, contrast.beta, cap
