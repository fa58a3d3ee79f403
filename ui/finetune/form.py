"""The form that starts a fine-tuning run: dataset, method, what to select, LoRA and optimiser settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from lightreasoner.datasets.selectors import SELECTORS
from lightreasoner.errors import UserError
from lightreasoner.models.architecture import USUAL as USUAL_LAYERS
from lightreasoner.models.architecture import linear_layers
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.training.config import METHODS
from ui.access.actions import action
from ui.components.command_line import command_line, spelled_out
from ui.components.dataset_catalogue import Dataset, Datasets
from ui.components.events import PRIVATE
from ui.components.problem_form import escape
from ui.components.run_list import METHOD_TITLES, ago
from ui.finetune.catalogue import USUAL
from ui.finetune.request import (
    CONFIG,
    LABELS,
    SELECTING,
    amount,
    defaults,
    expert_of,
    read_form,
    said,
    source_of_defaults,
)

FIRST = ("max_steps", "samples_per_update", "learning_rate")
LORA = ("target_modules", "rank", "lora_alpha", "dropout")
IN_STEP = PRIVATE | {"trigger_mode": "always_last"}


@dataclass(frozen=True)
class FinetuneForm:
    dataset: gr.Dropdown
    method: gr.Radio
    rest: list  # α, β, selector, expert, then CONFIG, as read_form takes them
    known: gr.State  # the defaults that the settings were last set to
    notice: gr.HTML  # the estimate, or what is wrong; cleared when anything changes
    estimate: gr.Button
    start: gr.Button

    @property
    def fields(self) -> list:
        return [self.dataset, self.method, *self.rest]


def dataset_choices(datasets: Datasets) -> list[tuple[str, str]]:
    """(what people read, id) of all datasets with something in them, newest first."""
    found = {entry.id: entry for entry in datasets.listed() if entry.run}
    said_samples = {d["id"]: d["samples"] for d in datasets.summaries()}

    def named(id: str) -> str:
        samples = said_samples.get(id)
        counted = f" · {samples:,} samples" if samples is not None else ""
        return f"{found[id].name}{counted} · {ago(found[id].created)}"

    return [(named(id), id) for id in found]


def find_dataset(datasets: Datasets, dataset_id: object) -> Dataset | None:
    try:
        return datasets.find(dataset_id) if dataset_id else None
    except UserError:
        return None


def method_says(method: object) -> str:
    return escape(METHODS[method][0].upper() + METHODS[method][1:] + ".") if method in METHOD_TITLES else ""


def layers_of(dataset: Dataset | None, expert: object) -> dict[str, int] | None:
    """The layers that can be adapted, where the model is on this disk."""
    ref = (dataset and expert_of(dataset)) or (expert if isinstance(expert, str) and expert.strip() else None)
    try:
        return linear_layers(ref) if ref else None
    except UserError:
        return None


def layer_field(there: dict[str, int] | None, chosen: list[str]) -> dict:
    """Choices, value and explanation of the layers' field."""
    if there is None:
        names, info = list(USUAL_LAYERS), "the usual names; the model is not on this disk, so it is asked at the start"
    else:
        names, info = list(there), "linear layers of this model"
    return {"choices": names, "value": [name for name in chosen if name in names], "info": info}


def rank_says(there: dict[str, int] | None, chosen: list[str]) -> str:
    ranks = [there[name] for name in chosen if there and name in there]
    return f"at most {min(ranks)} with these layers" if ranks else "of each layer's update"


class Layers(gr.CheckboxGroup):
    """What is no list, which only a forged call sends, is none of them."""

    is_template = True  # the page has no component of this name: it is drawn as what it is made of

    def preprocess(self, payload):
        return super().preprocess(payload if isinstance(payload, list) else [])


def setting(name: str, value: object) -> gr.components.Component:
    """The field of a setting of FinetuneConfig."""
    spec, label, says = USUAL.__dataclass_fields__[name], LABELS[name], said(name)
    if spec.metadata["choices"]:
        return gr.Dropdown(list(spec.metadata["choices"]), value=value, label=label, info=says)
    if name == "target_modules":
        return Layers(label=label, **layer_field(None, value), elem_id="lr-ft-layers")
    says = {
        "max_steps": "",
        "rank": rank_says(None, []),
        "learning_rate": "",
        "samples_per_update": "",
        "dropout": "",
    }.get(name, says)
    whole = {"precision": 0} if spec.type == "int" else {}
    return gr.Number(
        value, label=label, info=says or None, elem_id=f"lr-ft-{name.replace('_', '-')}", min_width=120, **whole
    )


def in_rows(names: Sequence[str], values: dict) -> dict[str, gr.components.Component]:
    """The fields of these settings, two in a row."""
    found = {}
    for n in range(0, len(names), 2):
        with gr.Row():
            found |= {name: setting(name, values[name]) for name in names[n : n + 2]}
    return found


def carried(known: dict, begin: dict, values: tuple) -> list:
    """The settings in CONFIG's order: the new defaults where the old ones stand, and what a person changed."""
    return [begin[name] if value == known.get(name) else value for name, value in zip(CONFIG, values, strict=True)]


def finetune_form(datasets: Datasets) -> FinetuneForm:
    """Lay the form out and wire what happens inside it."""
    # everybody gets the page as it is laid out; on a public server the owner's script asks for the list afterwards
    choices = [] if datasets.settings.public else dataset_choices(datasets)
    usual = defaults(None)
    with gr.Group():
        dataset = gr.Dropdown(choices, value=None, label="Dataset", elem_id="lr-ft-dataset", allow_custom_value=True)
        hint = "a Hub id, a folder, a GGUF file"
        expert = gr.Textbox(
            label="Model to train", placeholder=hint, max_lines=1, visible=False, elem_id="lr-ft-expert"
        )
    with gr.Group():
        methods = [(title, name) for name, title in METHOD_TITLES.items()]
        method = gr.Radio(methods, value="lightreasoner", label="Method", elem_id="lr-ft-method")
    says = gr.Markdown(method_says("lightreasoner"), elem_classes="lr-answer", elem_id="lr-ft-says")
    with gr.Group(), gr.Row():
        alpha = gr.Number(
            ALPHA, label="α", info="plausible from this share of the favourite's probability", min_width=120
        )
        beta = gr.Number(BETA, label="β", info="selected above this KL, in nats", min_width=120)
    with gr.Group():
        with gr.Row():
            parts = {name: setting(name, usual[name]) for name in FIRST[:2]}
        parts |= {name: setting(name, usual[name]) for name in FIRST[2:]}
    whence = gr.Markdown(source_of_defaults(None), elem_classes="lr-answer", elem_id="lr-ft-whence")
    with gr.Accordion("LoRA", open=False, elem_id="lr-ft-lora"):
        parts |= {name: setting(name, usual[name]) for name in LORA[:1]}
        parts |= in_rows(LORA[1:], usual)
    with gr.Accordion("More", open=False, elem_id="lr-ft-more"):
        selector = gr.Dropdown(
            [(s.title, s.name) for s in SELECTORS], value="kl", label="Selector", elem_id="lr-ft-selector"
        )
        parts |= in_rows([name for name in CONFIG if name not in parts], usual)
    comes_to = gr.Markdown("", elem_classes="lr-answer", elem_id="lr-ft-amount")
    command = command_line("lr-ft-command")
    estimate = gr.Button("Estimate time and memory", size="sm", elem_id="lr-ft-estimate")
    with gr.Column(elem_id="lr-ft-go"):
        notice = gr.HTML("", elem_id="lr-ft-notice")
        start = gr.Button("Start fine-tuning", variant="primary", elem_id="lr-ft-start")
    rest = [alpha, beta, selector, expert, *(parts[name] for name in CONFIG)]
    form = FinetuneForm(dataset, method, rest, gr.State(usual), notice, estimate, start)

    @action("finetune.show_command")
    def spelled(*fields) -> tuple[str, str]:
        if not fields[0]:
            return "", ""
        try:
            asked = read_form(datasets, *fields)
            words = asked.argv(str(asked.dataset.folder))
            line = spelled_out(words, "my-run")
            return escape(amount(datasets, asked).sentence()), line
        except UserError as error:
            return f"**{escape(str(error))}**", ""

    @action("finetune.choose_dataset")
    def adopt(dataset_id, known, *values) -> tuple:
        """The settings that still are as they were set go along with the dataset; what a person changed stays."""
        chosen = find_dataset(datasets, dataset_id)
        begin = defaults(chosen)
        now = carried(known, begin, values)
        own = chosen is not None and not expert_of(chosen)
        return gr.Textbox(visible=own), source_of_defaults(chosen), begin, *now

    @action("finetune.update_layers")
    def fit(dataset_id, model, modules) -> tuple:
        """What the model has decides what can be chosen."""
        there = layers_of(find_dataset(datasets, dataset_id), model)
        field = layer_field(there, modules or [])
        return gr.CheckboxGroup(**field), gr.Number(info=rank_says(there, field["value"]))

    @action("finetune.choose_method")
    def shown(name) -> tuple:
        trains = name != "sft"
        return (
            method_says(name),
            gr.Number(visible=trains),
            gr.Number(visible=trains and name != "all-steps"),
            gr.Dropdown(visible=name in SELECTING),
        )

    settings = rest[4:]
    layers, rank = parts["target_modules"], parts["rank"]
    asked_for = [dataset, expert, layers]
    adopted = dataset.change(
        adopt, [dataset, form.known, *settings], [expert, whence, form.known, *settings], **IN_STEP
    )
    adopted.then(fit, asked_for, [layers, rank], **PRIVATE)
    expert.change(fit, asked_for, [layers, rank], **IN_STEP)
    layers.input(fit, asked_for, [layers, rank], **IN_STEP)
    method.change(shown, method, [says, alpha, beta, selector], **IN_STEP)
    gr.on([part.change for part in form.fields], spelled, form.fields, [comes_to, command], **IN_STEP)
    # only what a person changes answers a notice: the form also changes by itself, right after one has appeared
    gr.on([part.input for part in form.fields], None, None, notice, js="() => ''", **PRIVATE)
    return form
