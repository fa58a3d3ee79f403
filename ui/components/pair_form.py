"""The form for a pair: a preset or two other models, and the card that describes it."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from lightreasoner.models.pairs import find_preset, presets
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.pair_card import OTHER, pair_card
from ui.studio import Studio


@dataclass(frozen=True)
class PairForm:
    preset: gr.Dropdown
    expert: gr.Textbox
    amateur: gr.Textbox
    own: gr.Column  # holds the two text fields; visible when no preset is selected
    card: gr.HTML

    @property
    def named(self) -> dict[str, Component]:
        return {"preset": self.preset, "expert": self.expert, "amateur": self.amateur}

    @property
    def fields(self) -> list:
        return list(self.named.values())


def pair_refs(preset: str, expert: str, amateur: str) -> tuple[str | None, str, str]:
    """(preset name or None, expert, amateur) from the values of the form. Raises UserError for an unknown preset."""
    if preset == OTHER:
        return None, expert, amateur
    chosen = find_preset(preset)
    return chosen.name, chosen.expert, chosen.amateur


def model_field(label: str, **options) -> gr.Textbox:
    """The field for a model's reference. options: more arguments of gr.Textbox."""
    hint = "a Hub id, a folder or a GGUF file"
    return gr.Textbox(label=label, placeholder=hint, max_lines=1, max_length=500, **options)


def pair_form(studio: Studio, prefix: str = "lr", button: str = "Run") -> PairForm:
    """Lay out and wire the form. prefix: begins the ids of the elements; button: the one that loads the pair."""

    @action("components.describe_pair", visitors=True)
    def described(preset, expert, amateur) -> str:
        return pair_card(studio, preset, expert, amateur, button)

    @action("components.choose_pair", visitors=True)
    def shown(chosen) -> gr.Column:
        return gr.Column(visible=chosen == OTHER)

    @action("components.list_pairs", visitors=True)
    def offered() -> gr.Dropdown:
        return gr.Dropdown(choices=pairs + own_models if studio.user.owner else pairs)

    pairs, own_models = [(p.title, p.name) for p in presets()], [("Two models of my own …", OTHER)]
    # visitors of a public server see this form on the Inspect tab only, with the presets
    for_visitors = studio.settings.public and prefix == "lr"
    choices = pairs if for_visitors else pairs + own_models
    with gr.Group():
        preset = gr.Dropdown(choices, value=choices[0][1], label="Pair", elem_id=f"{prefix}-pair")
        with gr.Column(visible=False) as own:
            expert = model_field("Expert (the stronger model)", elem_id=f"{prefix}-expert")
            amateur = model_field("Amateur (the weaker model)", elem_id=f"{prefix}-amateur")
    card = gr.HTML(described(choices[0][1], "", ""), elem_id=f"{prefix}-card")
    form = PairForm(preset, expert, amateur, own, card)
    preset.change(shown, preset, own, **PRIVATE)
    if for_visitors:
        gr.on(None, offered, None, preset, **PRIVATE)  # when the page loads
    for part in form.fields:
        part.change(described, form.fields, card, **PRIVATE)
    return form
