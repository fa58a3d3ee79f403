"""The form that starts a fine-tuning run: dataset, method, selection, LoRA and optimizer settings."""

from collections.abc import Sequence

import gradio as gr

from lightreasoner.datasets.selectors import SELECTORS
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_time, format_value, plural
from lightreasoner.models.adapters import USUAL as USUAL_LAYERS
from lightreasoner.models.adapters import linear_layers
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.training.config import AUTO, METHOD_TITLES, METHODS
from lightreasoner.training.presets import load_preset, preset_names, settings_of
from ui.access.actions import action
from ui.components.dataset_catalogue import Dataset, Datasets
from ui.components.events import CLEAR, PRIVATE
from ui.components.form_values import cap_field
from ui.components.notices import notice_html
from ui.components.pair_form import model_field
from ui.components.problem_form import escape
from ui.components.run_form import RunForm, command_line, shell_command
from ui.finetune.catalogue import LABELS, USUAL
from ui.finetune.request import (
    CONFIG,
    SELECTING,
    UNCAPPED,
    amount,
    defaults,
    expert_of,
    read_form,
    source_of_defaults,
    targets_of,
)

FIRST = ("max_steps", "samples_per_update", "learning_rate")
PLAIN = ("max_steps", "samples_per_update", "learning_rate", "dropout")  # settings that need no explanation
LORA = ("target_modules", "rank", "lora_alpha", "dropout")
QUICK, FULL = "quick", "full"
SIZES = [("Quick", QUICK), ("Full", FULL)]
QUICK_SAYS = "quick: few updates at a higher rate"
FIELDS = ("dataset", "method", "alpha", "beta", "selector", "expert", *CONFIG, "tau", "box", "cap")
LATEST = PRIVATE | {"trigger_mode": "always_last"}


class Layers(gr.CheckboxGroup):
    """Checkboxes of linear layers. A forged value that is not a list counts as none."""

    is_template = True  # the page has no component of this name, so it is drawn as its base class

    def preprocess(self, payload):
        return super().preprocess(payload if isinstance(payload, list) else [])


class FinetuneForm(RunForm):
    """Lays the form out and wires the events inside it.

    `notice` shows an estimate or an error until a field changes; `defaults` are the defaults last put into the form.
    """

    def __init__(self, datasets: Datasets):
        self.datasets = datasets
        usual = defaults(None)
        self.defaults = gr.State(usual)
        parts = self._lay_out_dataset()
        with gr.Group():
            titles = [(title, name) for name, title in METHOD_TITLES.items()]
            parts["method"] = gr.Radio(titles, value="lightreasoner", label="Method", elem_id="lr-ft-method")
        self.about_method = gr.Markdown(describe("lightreasoner"), elem_classes="lr-answer", elem_id="lr-ft-says")
        parts |= threshold_fields()
        with gr.Group():
            self.size = gr.Radio(SIZES, value=FULL, label="Size", info=QUICK_SAYS, elem_id="lr-ft-size")
            parts |= in_rows(FIRST, usual)
        self.source = gr.Markdown(source_of_defaults(None), elem_classes="lr-answer", elem_id="lr-ft-whence")
        with gr.Accordion("LoRA", open=False, elem_id="lr-ft-lora"):
            parts |= in_rows(LORA[:1], usual) | in_rows(LORA[1:], usual)
        with gr.Accordion("More", open=False, elem_id="lr-ft-more"):
            parts |= selector_fields()
            parts |= in_rows([name for name in CONFIG if name not in parts], usual)
        self.about_amount = gr.Markdown("", elem_classes="lr-answer", elem_id="lr-ft-amount")
        self.command_line = command_line("lr-ft-command")
        self.estimate = gr.Button("Estimate time and memory", size="sm", elem_id="lr-ft-estimate")
        with gr.Column(elem_classes=["lr-go"]):
            self.notice = gr.HTML("", elem_id="lr-ft-notice")
            self.start = gr.Button("Start fine-tuning", variant="primary", elem_id="lr-ft-start")
        self.fields = {name: parts[name] for name in FIELDS}
        self.dataset = parts["dataset"]
        self.selection = [parts[name] for name in ("alpha", "beta", "selector")]
        self.further_selection = [parts[name] for name in ("tau", "box", "cap")]
        self._wire_defaults()
        self._wire_method()
        self._wire_preset()
        changes = [part.change for part in self.inputs]
        gr.on(changes, self.show_command, self.inputs, [self.about_amount, self.command_line], **LATEST)
        # only input by the user clears the notice: the form also changes by itself, right after a notice has appeared
        gr.on([part.input for part in self.inputs], outputs=self.notice, **CLEAR)

    def _lay_out_dataset(self) -> dict[str, gr.components.Component]:
        # every visitor of a public server gets this layout; the owner's script then requests the list
        choices = [] if self.datasets.settings.public else dataset_choices(self.datasets)
        with gr.Group():
            dataset = gr.Dropdown(
                choices, value=None, label="Dataset", elem_id="lr-ft-dataset", allow_custom_value=True
            )
            expert = model_field("Model to train", visible=False, elem_id="lr-ft-expert")
            self.preset = gr.Dropdown(
                [],
                value=None,
                label="Settings of a preset",
                info="saved from a run: “Save settings …” above its curves",
                allow_custom_value=True,
                elem_id="lr-ft-preset",
            )
        return {"dataset": dataset, "expert": expert}

    def _wire_defaults(self) -> None:
        """The settings follow the dataset and the size; the layers to choose from follow the model."""
        size, settings, layers = self.size, self.settings_fields, self.fields["target_modules"]
        model, limits = [self.dataset, self.fields["expert"], layers], [layers, self.fields["rank"]]
        adopted = gr.on(
            [self.dataset.change, size.input],
            self.choose_dataset,
            [self.dataset, size, self.defaults, *settings],
            [self.fields["expert"], self.source, self.defaults, *settings],
            **LATEST,
        )
        adopted.then(self.update_layers, model, limits, **PRIVATE)
        self.fields["expert"].change(self.update_layers, model, limits, **LATEST)
        layers.input(self.update_layers, model, limits, **LATEST)

    def _wire_method(self) -> None:
        """Only some methods have α, β and a selector; only some selectors have τ."""
        method, selector = self.fields["method"], self.fields["selector"]
        method.change(self.choose_method, method, [self.about_method, *self.selection], **LATEST)
        inputs, outputs = [method, selector], [self.fields["tau"], self.fields["cap"]]
        gr.on([method.change, selector.change], self.choose_selector, inputs, outputs, **LATEST)

    def _wire_preset(self) -> None:
        known = gr.State([])  # names; a list that is updated while it is open loses its position
        self.preset.focus(self.list_presets, known, [self.preset, known], **PRIVATE)
        taken = [self.fields["method"], *self.selection, *self.further_selection, *self.settings_fields, self.notice]
        self.preset.input(self.choose_preset, self.preset, taken, **LATEST)

    @property
    def settings_fields(self) -> list[gr.components.Component]:
        """The fields of FinetuneConfig, in CONFIG's order."""
        return [self.fields[name] for name in CONFIG]

    @action("finetune.show_command")
    def show_command(self, *values) -> tuple[str, str]:
        """The amount of training data, or an error's sentence, in Markdown; and the command line."""
        form = self.named(values)
        if not form["dataset"]:
            return "", ""
        try:
            request = read_form(self.datasets, form)
            command = shell_command(request.argv(str(request.dataset.folder)), "my-run")
            return escape(amount(self.datasets, request).sentence()), command
        except UserError as error:
            return f"**{escape(str(error))}**", ""

    @action("finetune.choose_dataset")
    def choose_dataset(self, dataset_id, size, known, *values) -> tuple:
        """Updates to the defaults of the dataset, or to its quick ones, of the settings that the user has not
        changed."""
        chosen, quick = find_dataset(self.datasets, dataset_id), size == QUICK
        new = defaults(chosen, quick)
        imported = chosen is not None and not expert_of(chosen)
        settings = carried(known, new, values)
        source = source_of_defaults(chosen, quick) + moved(values, settings)
        return gr.Textbox(visible=imported), source, new, *settings

    @action("finetune.list_presets")
    def list_presets(self, known) -> tuple:
        names = preset_names(self.datasets.settings)
        return (gr.skip(), gr.skip()) if names == known else (gr.Dropdown(choices=names), names)

    @action("finetune.choose_preset")
    def choose_preset(self, name) -> tuple:
        """Updates of method, α, β, the steps and the settings in CONFIG's order to a preset's, and of the notice."""
        unchanged = [gr.skip()] * (7 + len(CONFIG))
        if not name:
            return *unchanged, ""
        try:
            config, selection = settings_of(load_preset(self.datasets.settings, str(name)[:200]), f"The preset {name}")
            if selection.budget is not None:
                raise UserError(
                    f"The preset {name} selects a share of {selection.budget:g} of the steps, which this form cannot "
                    f"say; use it on the command line: finetune --preset {name}"
                )
        except UserError as error:
            return *unchanged, notice_html(str(error), "error")
        values = [getattr(config, key) for key in CONFIG]
        values = [list(value) if isinstance(value, tuple) else value for value in values]
        values = [gr.skip() if value == list(AUTO) else value for value in values]
        notice = notice_html(f"All settings are those of the preset {name} now.", "note")
        steps = [getattr(selection, key) for key in ("alpha", "beta", "selector", "tau")]
        return config.method, *steps, selection.box or "", selection.cap or 0, *values, notice

    @action("finetune.update_layers")
    def update_layers(self, dataset_id, model, selected) -> tuple:
        """Updates of the target modules and of the highest rank, from the layers of the model."""
        expert = chosen_expert(find_dataset(self.datasets, dataset_id), model)
        layers = layers_of(expert)
        field = layer_field(layers, selected or [], targets_of(expert))
        return gr.CheckboxGroup(**field), gr.Number(info=rank_info(layers, field["value"]))

    @action("finetune.choose_method")
    def choose_method(self, name) -> tuple:
        """Updates of the method's description, and of α, β and the selector, which only some methods use."""
        contrastive = name != "sft"
        return (
            describe(name),
            gr.Number(visible=contrastive),
            gr.Number(visible=contrastive and name != "all-steps"),
            gr.Dropdown(visible=name in SELECTING),
        )

    @action("finetune.choose_selector")
    def choose_selector(self, method, selector) -> tuple:
        """Updates of τ, which only the selector by the teaching signal has, and of the cap: of contrastive targets."""
        teaching = method in SELECTING and selector == "teaching"
        return gr.Number(visible=teaching), gr.Number(visible=method not in UNCAPPED)


def threshold_fields() -> dict[str, gr.components.Component]:
    with gr.Group(), gr.Row():
        info = "tokens with at least α times the top probability count as plausible"
        alpha = gr.Number(ALPHA, label="α", info=info, min_width=120)
        beta = gr.Number(BETA, label="β", info="steps with a KL above β nats are selected", min_width=120)
    return {"alpha": alpha, "beta": beta}


def selector_fields() -> dict[str, gr.components.Component]:
    """The selector, and what else decides which steps are trained on, and to which targets."""
    names = [(s.title, s.name) for s in SELECTORS]
    selector = gr.Dropdown(names, value="kl", label="Selector", elem_id="lr-ft-selector")
    tau = gr.Number(
        None,
        label="τ",
        info="only steps that teach more than τ nats; empty: as many as have KL above β",
        visible=False,
        elem_id="lr-ft-tau",
    )
    cap = cap_field("lr-ft-cap")
    box = gr.Textbox(
        "",
        label="Box",
        info="only steps inside: expert’s entropy from : to : KL from : to, in nats; empty: everywhere",
        placeholder="0:1:0.4:inf",
        max_lines=1,
        max_length=100,
        elem_id="lr-ft-box",
    )
    return {"selector": selector, "tau": tau, "cap": cap, "box": box}


def dataset_choices(datasets: Datasets) -> list[tuple[str, str]]:
    """(label, id) of all datasets that are not empty, newest first."""
    samples = {d["id"]: d["samples"] for d in datasets.summaries()}

    def label(entry: Dataset) -> str:
        count = samples.get(entry.id)
        return " · ".join(
            [entry.name, *([plural(count, "sample")] if count is not None else []), format_time(entry.created)]
        )

    listed = [entry for entry in datasets.listed() if entry.run]
    return [(label(each), each.id) for entry in listed for each in (entry, *datasets.further(entry))]


def find_dataset(datasets: Datasets, dataset_id: object) -> Dataset | None:
    try:
        return datasets.find(dataset_id) if dataset_id else None
    except UserError:
        return None


def describe(method: object) -> str:
    return escape(METHODS[method][0].upper() + METHODS[method][1:] + ".") if method in METHOD_TITLES else ""


def chosen_expert(dataset: Dataset | None, named: object) -> str | None:
    """The model to train: the dataset's expert, else the one that the form names."""
    return (dataset and expert_of(dataset)) or (named if isinstance(named, str) and named.strip() else None)


def layers_of(ref: str | None) -> dict[str, int] | None:
    """Name → highest rank of the linear layers; None where the model is not on this disk."""
    try:
        return linear_layers(ref) if ref else None
    except UserError:
        return None


def layer_field(layers: dict[str, int] | None, selected: list[str], usual: Sequence[str] = ()) -> dict:
    """Choices, value and info of the field of target modules.

    usual: the value where all that are selected belong to another model.
    """
    info = "linear layers of this model"
    if layers is None:
        info = "the usual names; the model is not on this disk, so they are checked when the run starts"
    names = list(USUAL_LAYERS if layers is None else layers)
    value = [name for name in selected if name in names] or [name for name in usual if selected and name in names]
    return {"choices": names, "value": value, "info": info}


def rank_info(layers: dict[str, int] | None, selected: list[str]) -> str:
    ranks = [layers[name] for name in selected if layers and name in layers]
    return f"at most {min(ranks)} with these modules" if ranks else "of the update of each layer"


def setting(name: str, value: object) -> gr.components.Component:
    """The field of a setting of FinetuneConfig."""
    spec, label = USUAL.__dataclass_fields__[name], LABELS[name]
    info = {"rank": rank_info(None, [])}.get(name, spec.metadata["help"])
    if spec.metadata["choices"]:
        return gr.Dropdown(list(spec.metadata["choices"]), value=value, label=label, info=info)
    if name == "target_modules":
        return Layers(label=label, **layer_field(None, value), elem_id="lr-ft-layers")
    whole = {"precision": 0} if spec.type == "int" else {}
    info = None if name in PLAIN else info
    return gr.Number(value, label=label, info=info, elem_id=f"lr-ft-{name.replace('_', '-')}", min_width=120, **whole)


def in_rows(names: Sequence[str], values: dict) -> dict[str, gr.components.Component]:
    """The fields of these settings, two in a row."""
    fields = {}
    for n in range(0, len(names), 2):
        with gr.Row():
            fields |= {name: setting(name, values[name]) for name in names[n : n + 2]}
    return fields


def carried(old: dict, new: dict, values: tuple) -> list:
    """The settings in CONFIG's order: the new default where the value is the old one, else the value."""
    return [new[name] if value == old.get(name) else value for name, value in zip(CONFIG, values, strict=True)]


def moved(values: tuple, settings: list) -> str:
    """A sentence on the settings that changed with the dataset; empty where none did."""
    pairs = zip(CONFIG, values, settings, strict=True)
    changes = [f"{LABELS[n].lower()} {format_value(a)} → {format_value(b)}" for n, a, b in pairs if a != b]
    return f" Changed with the dataset: {', '.join(changes)}." if changes else ""
