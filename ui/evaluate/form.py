"""The form that starts an evaluation: base model, adapters, problems, and the equivalent command line."""

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.models.references import BUNDLED
from lightreasoner.paper import ALPHA, PREVIEW_BETAS
from lightreasoner.problems.rows import Problem
from lightreasoner.settings import Settings
from lightreasoner.training.runs import tuned_run, tuned_runs
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.form_values import cap_field, checked_problems, first_problem, stop_field
from ui.components.pair_card import OTHER
from ui.components.pair_form import model_field
from ui.components.prompt_form import prompt_form, wire_preview
from ui.components.run_form import RunForm, command_line, problem_fields
from ui.components.run_list import without_folders
from ui.evaluate.catalogue import canonical
from ui.evaluate.request import base_of, read_form
from ui.studio import Studio

FIELDS = (
    *("model", "own_model", "adapters", "adapter_folder", "source", "upload", "limit", "max_new_tokens", "with_base"),
    *("batch_size", "stop", "skip_unreadable"),
)
AFTER_PROMPT = ("samples", "temperature", "amateur", "alpha", "beta", "takeover", "cap")
SMALL, USUAL = 256, 1024  # max new tokens: the context of the bundled model allows 256
NO_ADAPTERS = "No fine-tuned models for this base yet; create one in the Fine-tune tab."
COMPARED = "Each is compared with the base model and with the others."


class Adapters(gr.CheckboxGroup):
    """Checkboxes of the fine-tuned models.

    The values are checked when they are used: Gradio would check them against the choices of its session, which are
    lost when the server restarts.
    """

    is_template = True  # the page has no component of this name, so it is drawn as its base class

    def preprocess(self, payload):
        return payload


class EvaluateForm(RunForm):
    """Lays the form out and wires the events inside it."""

    def __init__(self, studio: Studio):
        self.settings = studio.settings
        models = self._lay_out_models()
        first = {"info": "the first ones; 0: all"}
        problems = problem_fields(self.settings, "evaluate", "lr-ev", "bundled-test", graded=True, **first)
        parts = models | problems | preview_fields()
        prompt = prompt_form("lr-ev")
        parts |= further_fields() | prompt.fields
        command = command_line("lr-ev-command")
        self.fields = {name: parts[name] for name in (*FIELDS, *prompt.fields, *AFTER_PROMPT)}
        asked = [self.model, self.own_model, problems["source"], problems["upload"]]
        wire_preview(prompt, "evaluate.show_prompt", self.first_problem, asked)
        tokens = parts["max_new_tokens"]
        inputs, outputs = [*self.prefilled_fields, tokens], [self.own_model, self.adapters, tokens]
        gr.on([self.model.input, self.own_model.input], self.choose_model, inputs, outputs, **PRIVATE)
        self.wire_command("evaluate", command, read_form, "my-evaluation")

    def _lay_out_models(self) -> dict[str, gr.components.Component]:
        choices = base_choices()
        with gr.Group():
            self.model = gr.Dropdown(choices, value=choices[0][1], label="Base model", elem_id="lr-ev-model")
            self.own_model = model_field("Model name", visible=False, elem_id="lr-ev-own")
            # every visitor of a public server gets this layout; the owner's script then requests the list
            offered = adapter_choices(self.settings, None if self.settings.public else canonical(choices[0][1]), [])
            self.adapters = Adapters(label="Fine-tuned models", elem_id="lr-ev-adapters", **offered)
        return {"model": self.model, "own_model": self.own_model, "adapters": self.adapters}

    @property
    def prefilled_fields(self) -> list:
        """The fields that a link to a fine-tuned model sets."""
        return [self.model, self.own_model, self.adapters]

    def first_problem(self, model, own_model, source, upload) -> tuple[str, Problem]:
        """(the base model, the first problem) of the form. Raises UserError."""
        return base_of(model, own_model), first_problem(self.settings, checked_problems(source, upload))

    @action("evaluate.choose_model")
    def choose_model(self, model, own_model, selected, tokens) -> tuple:
        """Updates for the model's name, its adapters and the token limit, which keeps a value of the user."""
        usual = SMALL if model in BUNDLED else USUAL
        adapters = gr.CheckboxGroup(**adapter_choices(self.settings, base_or_none(model, own_model), selected))
        return gr.Textbox(visible=model == OTHER), adapters, usual if tokens in (SMALL, USUAL) else gr.skip()


def preview_fields() -> dict[str, gr.components.Component]:
    """Decoding by contrast with an amateur."""
    with gr.Accordion("Preview of training", open=False, elem_id="lr-ev-preview"):
        amateurs = dict.fromkeys(pair.amateur for pair in presets())
        amateur = gr.Dropdown(
            [("none", ""), *((without_folders(ref), ref) for ref in amateurs)],
            value="",
            label="Amateur",
            info="the expert decodes by contrast with it: what training would come to. Or type a model’s name",
            allow_custom_value=True,
            elem_id="lr-ev-amateur",
        )
        beta = gr.Textbox(PREVIEW_BETAS, label="β in nats", max_lines=1, max_length=200)
        alpha = gr.Textbox(f"{ALPHA:g}", label="α", max_lines=1, max_length=200)
        cap = cap_field("lr-ev-cap")
        takeovers = gr.Checkbox(label="Takeover", info="the amateur writes, and above β the expert’s choice is taken")
    return {"amateur": amateur, "alpha": alpha, "beta": beta, "takeover": takeovers, "cap": cap}


def further_fields() -> dict[str, gr.components.Component]:
    with gr.Accordion("More", open=False, elem_id="lr-ev-more"):
        folder = gr.Textbox(label="Another adapter", placeholder="the path of its folder", max_lines=1, max_length=1000)
        with gr.Row(elem_id="lr-ev-sampling"):
            samples = gr.Number(1, label="Responses", info="per problem", precision=0, min_width=120)
            temperature = gr.Number(0, label="Temperature", info="0: greedy", step=0.1, min_width=120)
        tokens = gr.Number(SMALL, label="Max new tokens", info="longer responses are cut off", precision=0)
        batch_size = gr.Number(0, label="Batch size", info="0: as many problems as fit into memory", precision=0)
        stop = stop_field("lr-ev-stop")
        with_base = gr.Checkbox(
            True, label="Evaluate the base model too", info="the reference for the fine-tuned models"
        )
    decoding = {"samples": samples, "temperature": temperature, "max_new_tokens": tokens, "stop": stop}
    return decoding | {"adapter_folder": folder, "batch_size": batch_size, "with_base": with_base}


def base_choices() -> list[tuple[str, str]]:
    """(title, reference) of the models of the presets, experts first, and a choice for any other model."""
    pairs = presets()
    refs = dict.fromkeys([*(pair.expert for pair in pairs), *(pair.amateur for pair in pairs)])
    return [*((without_folders(ref), ref) for ref in refs), ("Another model …", OTHER)]


def adapter_choices(settings: Settings, base: str | None, selected: object) -> dict:
    """The update of the adapters' field to the fine-tuned models of this base; selected ones remain selected."""
    found = [(run.title, run.id) for run in tuned_runs(settings, base)] if base else []
    value = [run for _, run in found if isinstance(selected, list) and run in selected]
    return {"choices": found, "value": value, "info": COMPARED if found else NO_ADAPTERS}


def base_or_none(model: object, own_model: object) -> str | None:
    try:
        return base_of(model, own_model)
    except UserError:
        return None


def prefilled(settings: Settings, run_id: object) -> tuple:
    """Updates for base model, model name and adapters from a fine-tuning run, and an error's sentence or "".

    A run without an adapter changes nothing.
    """
    try:
        base = tuned_run(settings, run_id).expert
    except UserError as error:
        return gr.skip(), gr.skip(), gr.skip(), str(error)
    known = next((ref for _, ref in base_choices() if ref != OTHER and canonical(ref) == base), None)
    adapters = gr.CheckboxGroup(**adapter_choices(settings, base, [run_id]))
    return known or OTHER, gr.Textbox("" if known else base, visible=known is None), adapters, ""
