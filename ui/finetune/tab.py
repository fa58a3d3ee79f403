"""The Fine-tune tab: the form that starts a run on the left, all runs on the right."""

from collections.abc import Iterator, Mapping

import gradio as gr

from lightreasoner.datasets.selectors import SELECTORS
from lightreasoner.errors import UserError
from lightreasoner.models.cache import missing_reason
from ui.access.actions import action, checked_calls
from ui.compat.gradio import event_data
from ui.components.dataset_catalogue import Datasets
from ui.components.estimate import stream_estimate
from ui.components.events import PRIVATE, QUIET, UNQUEUED
from ui.components.html_component import HtmlComponent
from ui.components.notices import notice_html, open_started
from ui.components.push_calls import push_calls
from ui.finetune.calls import FinetuneActions
from ui.finetune.catalogue import Tunings
from ui.finetune.estimate import measured
from ui.finetune.form import FinetuneForm, dataset_choices
from ui.finetune.request import EMPTY, amount, read_form
from ui.studio import Studio

INTRO = {
    "title": "No fine-tuning run yet",
    "sentences": [
        "Fine-tuning trains a small LoRA adapter of the expert on the steps of a dataset where it diverges from the "
        "amateur; no labels are needed.",
        "It requires a dataset: build one in the Datasets tab, then return here or follow its Fine-tune link.",
    ],
}


class FinetuneView(HtmlComponent):
    """Value: "" or the JSON document {"open": run id}, which shows that run. The script requests the rest.

    The event `renew` asks the form to list the datasets again, with {"dataset": id} selected, and to set α, β, the
    selector, its τ, the box and the cap if it names them.
    """

    script = "finetune/mount"
    own_events = ("renew",)
    value_title = "the run to show, as JSON"


def build_finetune(studio: Studio) -> None:
    datasets, tunings = Datasets(studio.settings, studio.jobs), Tunings(studio.settings, studio.jobs)
    calls = [*FinetuneActions(tunings, datasets).calls, *push_calls(studio, tunings.merged_folder)]
    calls = checked_calls(studio.settings, calls)
    visible = not studio.settings.public and bool(datasets.listed())  # else the owner's script requests it
    with gr.Row(elem_classes=["lr-tab-row"], equal_height=False):
        with gr.Column(elem_id="lr-ft-side", elem_classes=["lr-tab-side"], scale=0, visible=visible) as side:
            form = FinetuneForm(datasets)
        with gr.Column(elem_classes=["lr-tab-main"], scale=1):
            view = FinetuneView(calls, intro=INTRO, elem_id="lr-finetune")

    @action("finetune.estimate")
    def measure(*values) -> Iterator[str]:
        yield from stream_estimate(
            studio, lambda: read_form(datasets, form.named(values)), measured, "Waiting for the accelerator"
        )

    @action("finetune.start")
    def start(*values) -> tuple[str, str]:
        return open_started(lambda: start_run(studio, datasets, form.named(values)), "the Fine-tune tab")

    @action("finetune.update_datasets")
    def renew(current, event: gr.EventData) -> tuple:
        link = event_data(event)
        shown = renewed(datasets, current, link.get("dataset"), link.get("viewed"))
        return *shown, *linked_selection(link)

    places = studio.settings.max_waiting + 1
    estimating = form.estimate.click(
        measure, form.inputs, form.notice, api_name="estimate_finetune", concurrency_limit=places, **QUIET
    )
    form.start.click(start, form.inputs, [view, form.notice], api_name="finetune", cancels=[estimating], **UNQUEUED)
    view.renew(
        renew, form.dataset, [side, form.dataset, form.notice, *form.selection, *form.further_selection], **PRIVATE
    )


def start_run(studio: Studio, datasets: Datasets, values: Mapping[str, object]) -> str:
    """Queue the job of the form's values; returns the run's id.

    Raises UserError where the run would refuse, as far as it can be known now.
    """
    request = read_form(datasets, values)
    amount(datasets, request)
    if why := missing_reason(request.expert, studio.settings):
        raise UserError(why)
    argv = request.argv(str(request.dataset.folder.absolute()))
    return studio.jobs.submit("finetune", argv, request.title).run_dir.name


def renewed(datasets: Datasets, current: object, wanted: object, viewed: object = None) -> tuple:
    """Updates of the form's column, its list of datasets and its notice. Selected is `wanted`, if it is given, else the
    one that was looked at on the Datasets tab since, else the current dataset, else the newest."""
    choices = dataset_choices(datasets)
    ids = [id for _, id in choices]
    notice = "" if wanted else gr.skip()
    if wanted and wanted not in ids:
        try:
            datasets.find(wanted)
            notice = notice_html(EMPTY, "error")
        except UserError as error:
            notice = notice_html(str(error), "error")
    selected = next((id for id in (wanted, viewed, current) if id in ids), ids[0] if ids else None)
    return gr.Column(visible=bool(ids)), gr.Dropdown(choices=choices, value=selected), notice


def linked_selection(link: dict) -> tuple:
    """Updates of α, β, the selector, its τ, the box and the cap to the valid values of a link; a selector brings or
    clears the last three."""
    selector = link.get("selector")
    known = selector in [s.name for s in SELECTORS]
    tau = linked_number(link, "tau") if not known or "tau" in link else None
    cap = linked_number(link, "cap") if not known or "cap" in link else 0
    box = str(link.get("box") or "")[:100] if known else gr.skip()
    return linked_number(link, "alpha"), linked_number(link, "beta"), selector if known else gr.skip(), tau, box, cap


def linked_number(link: dict, name: str) -> object:
    try:
        value = float(link.get(name))
    except (TypeError, ValueError):
        return gr.skip()
    return value if 0 <= value <= 1000 else gr.skip()
