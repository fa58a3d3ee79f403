"""The Improve tab: the form that starts an experiment on the left, all experiments on the right."""

from collections.abc import Mapping

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.cache import missing_reason
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import load_file
from ui.access.actions import action, checked_calls
from ui.compat.gradio import event_data
from ui.components.events import CLEAR, PRIVATE, UNQUEUED
from ui.components.form_values import submit
from ui.components.html_component import HtmlComponent
from ui.components.notices import open_started
from ui.components.pair_card import IMPROVE
from ui.experiments.calls import ExperimentActions
from ui.experiments.catalogue import Experiments
from ui.experiments.form import ExperimentForm, prefilled
from ui.experiments.request import read_form
from ui.studio import Studio

INTRO = {
    "title": "One button: improve this expert",
    "sentences": [
        "An experiment samples a dataset with the pair, fine-tunes the expert on the steps where the two diverge, and "
        "measures it before and after on other problems.",
        "Beside it runs a control: the same training on random steps. So you see whether the method made the "
        "difference.",
        "Each stage opens on its own tab. What has ended is never done twice, so a failed arm is repeated alone.",
    ],
}


class ExperimentView(HtmlComponent):
    """Value: "" or the JSON document {"open": experiment id}, which shows that one. The script requests the rest.

    The event `prefill` with {"pair"} or {"expert", "amateur"} asks the form to take this pair.
    """

    script = "experiments/mount"
    own_events = ("prefill",)
    value_title = "the experiment to show, as JSON"


def build_experiments(studio: Studio) -> None:
    experiments = Experiments(studio.settings, studio.jobs)
    calls = checked_calls(studio.settings, ExperimentActions(experiments).calls)
    with gr.Row(elem_classes=["lr-tab-row"], equal_height=False):
        with gr.Column(elem_id="lr-ex-side", elem_classes=["lr-tab-side"], scale=0):
            form = ExperimentForm(studio)
            with gr.Column(elem_classes=["lr-go"]):
                notice = gr.HTML("", elem_id="lr-ex-notice")
                go = gr.Button(IMPROVE, variant="primary", elem_id="lr-ex-go")
        with gr.Column(elem_classes=["lr-tab-main"], scale=1):
            view = ExperimentView(calls, intro=INTRO, elem_id="lr-experiments")

    @action("experiments.start")
    def start(*values) -> tuple[str, str]:
        return open_started(lambda: start_experiment(studio, form.named(values)), "the Improve tab")

    @action("experiments.fill_form")
    def fill(event: gr.EventData) -> tuple:
        return prefilled(event_data(event))

    go.click(start, form.inputs, [view, notice], api_name="improve", **UNQUEUED)
    view.prefill(fill, None, form.pair.fields, **PRIVATE)
    form.pair.preset.change(outputs=notice, **CLEAR)


def start_experiment(studio: Studio, values: Mapping[str, object]) -> str:
    """Queue the job of the form's values; returns the experiment's id. Raises UserError."""
    request = read_form(studio.settings, values)
    for ref in request.pair[1:]:
        if why := missing_reason(ref, studio.settings):
            raise UserError(why)
    if request.test not in SOURCES:
        refuse_unanswered(request.test, request.skip_unreadable)
    return submit(studio, "experiment", request, request.problems, request.test)


def refuse_unanswered(path: str, skip_unreadable: bool) -> None:
    """Raises UserError where fewer than two problems of a file have known answers: after an hour of training it would
    be too late to say so."""
    answered = sum(problem.answer is not None for problem in load_file(path, skip_unreadable=skip_unreadable).problems)
    if answered < 2:
        raise UserError(
            f"Only problems with known answers can be measured on, and an interval needs two; this file has {answered}."
        )
