"""The Evaluate tab: the form that starts an evaluation on the left, all evaluations on the right."""

from collections.abc import Mapping

import gradio as gr

from ui.access.actions import action, checked_calls
from ui.compat.gradio import event_data
from ui.components.events import CLEAR, PRIVATE, UNQUEUED
from ui.components.form_values import submit
from ui.components.html_component import HtmlComponent
from ui.components.notices import notice_html, open_started
from ui.evaluate.calls import EvaluateActions
from ui.evaluate.catalogue import Evaluations
from ui.evaluate.form import EvaluateForm, adapter_choices, base_or_none, prefilled
from ui.evaluate.request import read_form
from ui.studio import Studio

INTRO = {
    "title": "No evaluation yet",
    "sentences": [
        "In an evaluation, models solve problems with known answers; pass@1 is the fraction of correct responses.",
        "Select a fine-tuned model and its base to list every problem that only one of them solves.",
    ],
}


class EvaluateView(HtmlComponent):
    """Value: "" or the JSON document {"open": evaluation id}, which shows that evaluation. The script requests the
    rest.

    The event `prefill` with {"run": id} asks the form to take the settings of a fine-tuning run; `tuned` says that the
    list of fine-tuned models has changed.
    """

    script = "evaluate/mount"
    own_events = ("prefill", "tuned")
    value_title = "the evaluation to show, as JSON"


def build_evaluate(studio: Studio) -> None:
    evaluations = Evaluations(studio.settings, studio.jobs)
    calls = checked_calls(studio.settings, EvaluateActions(studio, evaluations).calls)
    with gr.Row(elem_classes=["lr-tab-row"], equal_height=False):
        with gr.Column(elem_id="lr-ev-side", elem_classes=["lr-tab-side"], scale=0):
            form = EvaluateForm(studio)
            with gr.Column(elem_classes=["lr-go"]):
                notice = gr.HTML("", elem_id="lr-ev-notice")
                go = gr.Button("Evaluate", variant="primary", elem_id="lr-ev-go")
        with gr.Column(elem_classes=["lr-tab-main"], scale=1):
            view = EvaluateView(calls, intro=INTRO, elem_id="lr-evaluate")

    @action("evaluate.start")
    def start(*values) -> tuple[str, str]:
        return open_started(lambda: start_evaluation(studio, form.named(values)), "the Evaluate tab")

    @action("evaluate.fill_form")
    def fill(event: gr.EventData) -> tuple:
        *updates, wrong = prefilled(studio.settings, event_data(event).get("run"))
        return *updates, notice_html(wrong, "error") if wrong else ""

    @action("evaluate.update_adapters")
    def renew(model, own_model, selected) -> gr.CheckboxGroup:
        return gr.CheckboxGroup(**adapter_choices(studio.settings, base_or_none(model, own_model), selected))

    go.click(start, form.inputs, [view, notice], api_name="evaluate", **UNQUEUED)
    view.prefill(fill, None, [*form.prefilled_fields, notice], **PRIVATE)
    view.tuned(renew, form.prefilled_fields, form.adapters, **PRIVATE)
    form.model.input(outputs=notice, **CLEAR)


def start_evaluation(studio: Studio, values: Mapping[str, object]) -> str:
    """Queue the job of the form's values; returns the evaluation's id. Raises UserError."""
    request = read_form(studio.settings, values)
    return submit(studio, "evaluate", request, request.problems)
