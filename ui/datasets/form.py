"""The form that builds a dataset: pair, problems, a few settings, and what they come to on the command line."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.sources import SOURCES
from ui.access.actions import action
from ui.components.command_line import command_line, spelled_out
from ui.components.events import PRIVATE
from ui.components.form_values import what_is_there
from ui.components.pair_check_card import preflight_card, wire_preflight
from ui.components.pair_form import PairForm, pair_form
from ui.components.problem_form import OWN_FILE
from ui.datasets.request import read_form
from ui.studio import Studio


@dataclass(frozen=True)
class DatasetForm:
    pair: PairForm
    rest: list  # source, upload and what follows, in read_form's order
    estimate: gr.HTML  # what the dataset would bring and cost; cleared when anything changes

    @property
    def fields(self) -> list:
        return [*self.pair.fields, *self.rest]


def dataset_form(studio: Studio) -> DatasetForm:
    """Lay the form out and wire what happens inside it."""
    settings = studio.settings
    pair = pair_form(studio, "lr-ds", "Build dataset")
    card = preflight_card(studio, "lr-ds")
    with gr.Group():
        sources = [(s.title, key) for key, s in SOURCES.items()] + [("A file of mine …", OWN_FILE)]
        source = gr.Dropdown(sources, value="bundled-train", label="Problems", elem_id="lr-ds-source")
        types = [".jsonl", ".json", ".csv", ".parquet"]
        upload = gr.File(label="File of problems", file_types=types, visible=False, height=120, elem_id="lr-ds-file")
        limit = gr.Number(200, label="How many", precision=0, elem_id="lr-ds-limit")
    there = gr.Markdown(what_is_there(settings, "bundled-train", None), elem_classes="lr-answer", elem_id="lr-ds-there")
    with gr.Accordion("More", open=False, elem_id="lr-ds-more"):
        tokens = gr.Number(128, label="Tokens a response, at most", precision=0)
        temperature = gr.Number(0, label="Sampling temperature", info="0 is greedy: the expert's favourite every time")
        samples = gr.Number(1, label="Samples a problem", info="more than one needs a temperature", precision=0)
        seed = gr.Number(0, label="Sampling seed", info="only used above temperature 0", precision=0)
        batch = gr.Number(0, label="Batch size", info="0: as many as fit into memory", precision=0)
        every = gr.Checkbox(
            label="Keep details of every step",
            info=f"else of those above {BETA_FLOOR} nats. The all-steps and random controls need it; takes more disk",
        )
    command = command_line("lr-ds-command")
    estimate = gr.HTML("", elem_id="lr-ds-estimate")
    form = DatasetForm(pair, [source, upload, limit, tokens, temperature, samples, seed, batch, every], estimate)
    wire_preflight(studio, card, pair, [source, upload, tokens, limit])

    @action("datasets.show_command")
    def spelled(*fields) -> tuple[str, str]:
        try:
            asked = read_form(settings, *fields)
        except UserError as error:
            return str(error), ""
        words = asked.argv(asked.problems if asked.problems in SOURCES else asked.named)
        return spelled_out(words, "my-dataset"), ""

    @action("datasets.choose_source")
    def choose_source(chosen) -> gr.File:
        return gr.File(visible=chosen == OWN_FILE)

    @action("datasets.describe_problems")
    def describe_problems(chosen, path) -> str:
        return what_is_there(settings, chosen, path)

    source.change(choose_source, source, upload, **PRIVATE)
    for part in (source, upload):
        part.change(describe_problems, [source, upload], there, **PRIVATE)
    told = [command, estimate]
    gr.on([part.change for part in form.fields], spelled, form.fields, told, trigger_mode="always_last", **PRIVATE)
    command.value, _ = spelled(*(part.value for part in form.fields))
    return form
