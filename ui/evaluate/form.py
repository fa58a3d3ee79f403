"""The form that starts an evaluation: base model, adapters, problems, and what they come to on the command line."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.models.references import BUNDLED
from lightreasoner.problems.sources import SOURCES
from lightreasoner.settings import Settings
from lightreasoner.training.runs import tuned_run, tuned_runs
from ui.access.actions import action
from ui.components.command_line import command_line, spelled_out
from ui.components.events import PRIVATE
from ui.components.form_values import what_is_there
from ui.components.pair_card import OTHER
from ui.components.problem_form import OWN_FILE
from ui.components.run_list import short_name
from ui.evaluate.catalogue import canonical
from ui.evaluate.request import base_of, read_form
from ui.studio import Studio

SMALL, USUAL = 256, 1024  # tokens a response: what the bundled model can hold, and what others need
NONE_YET = "None of this base yet. Fine-tuning makes them."
TICK = "Compared with the base and with one another."


class Adapters(gr.CheckboxGroup):
    """Ticks over the fine-tuned models that there are by now.

    What was ticked is checked when it is used: Gradio's own check would be against the choices of its session, which
    are forgotten when the server is restarted.
    """

    is_template = True  # drawn as what it is

    def preprocess(self, payload):
        return payload


@dataclass(frozen=True)
class EvaluateForm:
    fields: list  # in read_form's order
    model: gr.Dropdown
    own: gr.Textbox
    adapters: Adapters

    @property
    def filled(self) -> list:
        """What a link to a fine-tuned model fills in."""
        return [self.model, self.own, self.adapters]


def base_choices() -> list[tuple[str, str]]:
    """The models of the catalogue, experts first."""
    pairs = presets()
    refs = dict.fromkeys([*(pair.expert for pair in pairs), *(pair.amateur for pair in pairs)])
    return [*((short_name(ref), ref) for ref in refs), ("Another model …", OTHER)]


def offered(settings: Settings, base: str | None, ticked: list) -> dict:
    """The update of the ticks: the fine-tuned models of this base; what was ticked stays so."""
    found = [(run.title, run.id) for run in tuned_runs(settings, base)] if base else []
    kept = [run for _, run in found if run in (ticked if isinstance(ticked, list) else [])]
    return {"choices": found, "value": kept, "info": TICK if found else NONE_YET}


def base_or_none(model: object, own: object) -> str | None:
    try:
        return base_of(model, own)
    except UserError:
        return None


def prefilled(settings: Settings, run_id: object) -> tuple:
    """Updates for base model, own reference and ticks: those of a fine-tuning run, and a mistake's sentence or "".

    A run without an adapter changes nothing.
    """
    try:
        base = tuned_run(settings, run_id).expert
    except UserError as error:
        return gr.skip(), gr.skip(), gr.skip(), str(error)
    known = next((ref for _, ref in base_choices() if ref != OTHER and canonical(ref) == base), None)
    ticks = gr.CheckboxGroup(**offered(settings, base, [run_id]))
    return known or OTHER, gr.Textbox("" if known else base, visible=known is None), ticks, ""


def evaluate_form(studio: Studio) -> EvaluateForm:
    """Lay the form out and wire what happens inside it."""
    settings, choices = studio.settings, base_choices()
    with gr.Group():
        model = gr.Dropdown(choices, value=choices[0][1], label="Base model", elem_id="lr-ev-model")
        own = gr.Textbox(
            label="Its name",
            placeholder="a Hub id, a folder, a GGUF file",
            visible=False,
            max_lines=1,
            max_length=500,
            elem_id="lr-ev-own",
        )
        # everybody gets the page as it is laid out; on a public server the owner's script asks for the list afterwards
        there = offered(settings, None if settings.public else canonical(choices[0][1]), [])
        adapters = Adapters(label="Its fine-tuned models", elem_id="lr-ev-adapters", **there)
    with gr.Group():
        sources = [(s.title, key) for key, s in SOURCES.items()] + [("A file of mine …", OWN_FILE)]
        source = gr.Dropdown(sources, value="bundled-test", label="Problems", elem_id="lr-ev-source")
        types = [".jsonl", ".json", ".csv", ".parquet"]
        upload = gr.File(
            label="Problems with answers", file_types=types, visible=False, height=120, elem_id="lr-ev-file"
        )
        limit = gr.Number(200, label="How many", info="the first ones; 0: all", precision=0, elem_id="lr-ev-limit")
    about = gr.Markdown(what_is_there(settings, "bundled-test", None), elem_classes="lr-answer", elem_id="lr-ev-there")
    with gr.Accordion("More", open=False, elem_id="lr-ev-more"):
        folder = gr.Textbox(label="Another adapter", placeholder="its folder", max_lines=1, max_length=1000)
        tokens = gr.Number(SMALL, label="Response tokens, at most", info="a longer one is cut off", precision=0)
        batch = gr.Number(0, label="Problems at once", info="0: as many as fit into memory", precision=0)
        with_base = gr.Checkbox(True, label="Evaluate the base model, too", info="so that there is a before")
    command = command_line("lr-ev-command")
    fields = [model, own, adapters, folder, source, upload, limit, tokens, with_base, batch]

    @action("evaluate.show_command")
    def spelled(*values) -> str:
        try:
            asked = read_form(settings, *values)
        except UserError as error:
            return str(error)
        words = asked.argv(asked.problems if asked.problems in SOURCES else asked.named)
        return spelled_out(words, "my-evaluation")

    @action("evaluate.choose_model")
    def chosen(ref, typed, ticked, most) -> tuple:
        usual = SMALL if ref in BUNDLED else USUAL
        ticks = gr.CheckboxGroup(**offered(settings, base_or_none(ref, typed), ticked))
        return gr.Textbox(visible=ref == OTHER), ticks, usual if most in (SMALL, USUAL) else gr.skip()

    @action("evaluate.choose_source")
    def choose_source(chosen) -> gr.File:
        return gr.File(visible=chosen == OWN_FILE)

    @action("evaluate.describe_problems")
    def describe_problems(chosen, path) -> str:
        return what_is_there(settings, chosen, path)

    gr.on([model.input, own.input], chosen, [model, own, adapters, tokens], [own, adapters, tokens], **PRIVATE)
    source.change(choose_source, source, upload, **PRIVATE)
    for part in (source, upload):
        part.change(describe_problems, [source, upload], about, **PRIVATE)
    gr.on([part.change for part in fields], spelled, fields, command, trigger_mode="always_last", **PRIVATE)
    command.value = spelled(*(part.value for part in fields))
    return EvaluateForm(fields, model, own, adapters)
