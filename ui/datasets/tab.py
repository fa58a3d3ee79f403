"""The Datasets tab: the form that builds a dataset on the left, the explorer of all datasets on the right."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import gradio as gr

from lightreasoner.datasets.imported import import_samples
from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import run_folder
from ui.access.actions import action, checked_calls
from ui.components.dataset_catalogue import Datasets
from ui.components.estimate import stream_estimate
from ui.components.events import CLEAR, QUIET, UNQUEUED
from ui.components.form_values import submit
from ui.components.html_component import HtmlComponent
from ui.components.notices import open_started
from ui.components.push_calls import push_calls
from ui.datasets.amateurs_form import AmateursForm
from ui.datasets.calls import DatasetActions
from ui.datasets.estimate import measured
from ui.datasets.form import DatasetForm
from ui.datasets.request import read_form
from ui.datasets.responses_form import ResponsesForm, start_scoring
from ui.studio import Studio

INTRO = {
    "title": "No dataset yet",
    "sentences": [
        "A dataset holds the expert's responses to many problems, with the KL divergence of the two models at every "
        "token.",
        "Steps where the models diverge become training samples. β and α decide afterwards which steps and which "
        "targets.",
    ],
}


class DatasetExplorer(HtmlComponent):
    """Value: "" or the JSON document {"open": dataset id}, which shows that dataset. The script requests the rest."""

    script = "datasets/mount"
    value_title = "the dataset to show, as JSON"


def build_datasets(studio: Studio) -> None:
    datasets = Datasets(studio.settings, studio.jobs)
    calls = checked_calls(studio.settings, [*DatasetActions(datasets).calls, *push_calls(studio)])
    with gr.Row(elem_classes=["lr-tab-row"], equal_height=False):
        with gr.Column(elem_id="lr-data-side", elem_classes=["lr-tab-side"], scale=0):
            form = DatasetForm(studio)
            probe = gr.Button("Estimate", size="sm", elem_id="lr-ds-probe")
            with gr.Column(elem_classes=["lr-go"]):
                notice = gr.HTML("", elem_id="lr-ds-notice")
                build = gr.Button("Build dataset", variant="primary", elem_id="lr-ds-build")
            amateurs = AmateursForm(studio, form)
            written = ResponsesForm(studio.settings, form.fields)
            types = [".jsonl"]
            imported = gr.UploadButton("Import samples (JSONL) …", file_types=types, size="sm", elem_id="lr-ds-import")
        with gr.Column(elem_classes=["lr-tab-main"], scale=1):
            explorer = DatasetExplorer(calls, intro=INTRO, elem_id="lr-datasets")

    @action("datasets.estimate")
    def measure(*values) -> Iterator[str]:
        yield from stream_estimate(
            studio, lambda: read_form(studio.settings, form.named(values)), measured, "Reading the problems"
        )

    @action("datasets.build")
    def start(*values) -> tuple[str, str]:
        return open_started(lambda: start_build(studio, form.named(values)))

    @action("datasets.compare_amateurs")
    def compare(*values) -> tuple[str, str]:
        return open_started(lambda: amateurs.start(values))

    @action("datasets.score")
    def score(*values) -> tuple[str, str]:
        return open_started(lambda: start_scoring(studio, written.read(values)))

    @action("datasets.import")
    def take_in(path: str) -> tuple[str, str]:
        return open_started(lambda: import_file(studio, path))

    places = studio.settings.max_waiting + 1
    measuring = probe.click(
        measure, form.inputs, form.estimate, api_name="estimate_dataset", concurrency_limit=places, **QUIET
    )
    build.click(start, form.inputs, [explorer, notice], api_name="build_dataset", cancels=[measuring], **UNQUEUED)
    amateurs.compare.click(compare, amateurs.inputs, [explorer, notice], api_name="compare_amateurs", **UNQUEUED)
    written.button.click(score, written.inputs, [explorer, notice], api_name="score_responses", **UNQUEUED)
    imported.upload(
        take_in, imported, [explorer, notice], api_name="import_dataset", queue=False, show_progress_on=[imported]
    )
    form.pair.preset.change(outputs=notice, **CLEAR)


def start_build(studio: Studio, values: Mapping[str, object]) -> str:
    """Queue the job that builds the dataset of the form's values; returns the dataset's id. Raises UserError."""
    request = read_form(studio.settings, values)
    return submit(studio, "sample", request, request.problems)


def import_file(studio: Studio, path: str) -> tuple[str, str]:
    """Make a dataset of an uploaded file of samples: (its id, sentences on unreadable lines). Raises UserError."""
    if not isinstance(path, str):  # a forged call without an upload
        raise UserError("No file was uploaded; choose a file of samples.")
    dataset_id = new_id()
    most = studio.settings.max_upload_mb * 1_000_000
    report = import_samples(Path(path), run_folder(studio.settings, dataset_id), most)
    return dataset_id, report.sentences() if report.unreadable else ""
