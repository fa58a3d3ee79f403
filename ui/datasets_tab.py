"""The Datasets tab: build one at the left; the list, and one dataset in full, at the right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

import gradio as gr

from lightreasoner.datasets.external import import_samples
from lightreasoner.errors import UserError, broke
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import run_folder
from ui.actions import action
from ui.dataset_calls import dataset_calls
from ui.dataset_explorer import DatasetExplorer
from ui.dataset_form import dataset_form
from ui.datasets import Datasets
from ui.estimate import estimate
from ui.events import AT_ONCE, PRIVATE, QUIET
from ui.push_calls import push_calls
from ui.sample_request import kept_problems, read_form
from ui.studio import Studio
from ui.visitors import checked_calls


def build_datasets(studio: Studio) -> None:
    """Lay the tab out and wire it."""
    datasets = Datasets(studio.settings, studio.jobs)
    calls = checked_calls(studio.settings, [*dataset_calls(datasets), *push_calls(studio)])
    with gr.Row(elem_id="lr-data-row", equal_height=False):
        with gr.Column(elem_id="lr-data-side", scale=0):
            form = dataset_form(studio)
            probe = gr.Button("Estimate", size="sm", elem_id="lr-ds-probe")
            build = gr.Button("Build dataset", variant="primary", elem_id="lr-ds-build")
            notice = gr.HTML("", elem_id="lr-ds-notice")
            types = [".jsonl"]
            imported = gr.UploadButton("Import samples (JSONL) …", file_types=types, size="sm", elem_id="lr-ds-import")
        with gr.Column(elem_id="lr-data-main", scale=1):
            explorer = DatasetExplorer(calls, elem_id="lr-datasets")

    @action("datasets.estimate")
    def measure(*fields) -> Iterator[str]:
        try:
            asked = read_form(studio.settings, *fields)
        except UserError as error:
            yield notice_html(str(error), "error")
            return
        for tone, said in estimate(studio, asked):
            yield notice_html(said, tone)

    @action("datasets.build")
    def start(*fields) -> tuple[str, str]:
        return answered(lambda: (start_build(studio, fields), ""))

    @action("datasets.import")
    def take_in(path: str) -> tuple[str, str]:
        return answered(lambda: import_file(studio, path))

    @action("datasets.clear_notice")
    def clear_notice() -> str:
        return ""

    places = studio.settings.max_waiting + 1
    measuring = probe.click(
        measure, form.fields, form.estimate, api_name="estimate_dataset", concurrency_limit=places, **QUIET
    )
    build.click(start, form.fields, [explorer, notice], api_name="build_dataset", cancels=[measuring], **AT_ONCE)
    imported.upload(
        take_in, imported, [explorer, notice], api_name="import_dataset", queue=False, show_progress_on=[imported]
    )
    form.pair.preset.change(clear_notice, None, notice, **PRIVATE)


def answered(work, doing: str = "the Datasets tab") -> tuple:
    """(the view's value, the notice's HTML): what `work` returns as (run id, text), or a mistake's sentence."""
    try:
        run_id, said = work()
    except UserError as error:
        return gr.skip(), notice_html(str(error), "error")
    except Exception:
        return gr.skip(), notice_html(broke(doing), "error")
    return json.dumps({"open": run_id}), notice_html(said, "note") if said else ""


def notice_html(text: str, tone: str) -> str:
    role, look = ("alert", "lr-error") if tone == "error" else ("status", f"lr-note lr-{tone}")
    lines = "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())
    return f'<div class="lr"><div class="{look}" role="{role}">{lines}</div></div>'


def start_build(studio: Studio, fields: tuple) -> str:
    """Queue the job that builds what the form asks for; the dataset's id. Raises UserError."""
    asked = read_form(studio.settings, *fields)
    argv, dataset_id = asked.argv(kept_problems(studio.settings, asked.problems)), new_id()
    studio.jobs.submit("sample", argv, asked.title, run_folder(studio.settings, dataset_id))
    return dataset_id


def import_file(studio: Studio, path: str) -> tuple[str, str]:
    """Make a dataset of an uploaded file of samples: (its id, what could not be read). Raises UserError."""
    if not isinstance(path, str):  # a call that nobody's upload came with
        raise UserError("No file arrived; choose a file of samples.")
    dataset_id = new_id()
    most = studio.settings.max_upload_mb * 1_000_000
    report = import_samples(Path(path), run_folder(studio.settings, dataset_id), most)
    return dataset_id, report.sentences() if report.unreadable else ""
