"""The form that starts an experiment: a pair, what it learns from and is measured on, and the arms to compare."""

import gradio as gr

from lightreasoner.datasets.selectors import SELECTORS
from lightreasoner.experiments.plan import MOST_ROUNDS, Plan
from lightreasoner.models.pairs import presets
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.pair_card import IMPROVE, OTHER
from ui.components.pair_form import pair_form
from ui.components.run_form import RunForm, command_line, problem_fields
from ui.experiments.request import FULL, LENGTH, QUICK, read_form, usual_amounts, usual_settings
from ui.studio import Studio

AGAIN = [("The same", "same"), ("The expert of the round before", "expert")]
SIZES = [("Quick", QUICK), ("Full", FULL)]
SAYS = {
    QUICK: "From nothing to a measured gain in about a minute, with the bundled pair on two CPU cores.",
    FULL: "As many problems and updates as fit into the budget.",
}
FIELDS = (  # after the pair and the problems
    *("learning_rate", "max_steps", "control", "preview", "arms", "stop_worse", "rounds", "max_new_tokens"),
    *("test_max_new_tokens", "minutes", "next_amateur", "selector", "tau", "size"),
)
ARMS = "One arm per line, with the settings that differ from the form’s: seed=1|2 makes an arm of each value."


class ExperimentForm(RunForm):
    """Lays the form out and wires the events inside it."""

    places = ("problems", "test")

    def __init__(self, studio: Studio):
        self.settings, usual = studio.settings, usual_amounts(presets()[0].name, QUICK)
        self.pair = pair_form(studio, "lr-ex", IMPROVE)
        with gr.Group():
            size = gr.Radio(SIZES, value=QUICK, label="Size", info=SAYS[QUICK], elem_id="lr-ex-size")
        problems = self._lay_out_problems(usual)
        parts = amount_fields(usual) | arm_fields() | further_fields() | {"size": size}
        command = command_line("lr-ex-command")
        self.fields = self.pair.named | problems | {name: parts[name] for name in FIELDS}
        amounts = [self.fields[name] for name in usual]
        size.input(self.choose_size, [self.pair.preset, size], [size, *amounts], **PRIVATE)
        training = [parts["learning_rate"], parts["max_steps"]]
        self.pair.preset.change(self.choose_pair, [self.pair.preset, size, *training], training, **PRIVATE)
        self.wire_command("experiments", command, read_form, "my-experiment")

    def _lay_out_problems(self, usual: dict) -> dict[str, gr.components.Component]:
        first = {"info": "the first ones; 0: all"}
        learn = {"label": "Problems to learn from", "value": usual["limit"]} | first
        measured = {"label": "Problems to measure on", "value": usual["test_limit"], "graded": True} | first
        shared = (self.settings, "experiments")
        fields = problem_fields(*shared, "lr-ex", "bundled-train", "Learn from", **learn)
        test = problem_fields(*shared, "lr-ex-test", "bundled-test", "Measure on", **measured)
        return fields | {f"test_{name}": field for name, field in test.items()}

    @action("experiments.choose_size")
    def choose_size(self, preset, size) -> tuple:
        """Updates of the size's own description, and of the numbers that it decides."""
        return gr.Radio(info=SAYS[QUICK if size == QUICK else FULL]), *usual_amounts(preset, size).values()

    @action("experiments.choose_pair")
    def choose_pair(self, preset, size, rate, steps) -> tuple:
        """Updates of learning rate and updates to the pair's own, where the user has not changed them."""
        names = (OTHER, *(pair.name for pair in presets()))
        known = [usual_settings(name, kind) for name in names for kind in (QUICK, FULL)]
        given, own = {"learning_rate": rate, "max_steps": steps}, usual_settings(preset, size)
        return tuple(own[name] if value in [one[name] for one in known] else gr.skip() for name, value in given.items())


def amount_fields(usual: dict) -> dict[str, gr.components.Component]:
    """How much is done: the budget, and the size of the training."""
    with gr.Group():
        minutes = gr.Number(
            usual["minutes"],
            label="Budget in minutes",
            info="the numbers are then upper bounds; 0: none",
            minimum=0,
            elem_id="lr-ex-minutes",
        )
        with gr.Row():
            rate = gr.Number(usual["learning_rate"], label="Learning rate", min_width=120, elem_id="lr-ex-rate")
            steps = gr.Number(usual["max_steps"], label="Updates", precision=0, min_width=120, elem_id="lr-ex-steps")
        control = gr.Checkbox(True, label="Control", info="the same with random steps: does the method matter?")
        preview = gr.Checkbox(
            usual["preview"], label="Preview", info=f"forecast on {Plan.preview} problems before training"
        )
    return {"minutes": minutes, "learning_rate": rate, "max_steps": steps, "control": control, "preview": preview}


def arm_fields() -> dict[str, gr.components.Component]:
    with gr.Accordion("Further arms", open=False, elem_id="lr-ex-arms"):
        arms = gr.Textbox(
            label="Arms",
            info=ARMS,
            placeholder="method=sft\nlearning_rate=1e-4\nseed=1|2",
            lines=3,
            max_lines=12,
            max_length=20_000,
        )
        worse = gr.Checkbox(label="Stop clearly worse arms", info="their evaluation ends early")
    return {"arms": arms, "stop_worse": worse}


def further_fields() -> dict[str, gr.components.Component]:
    with gr.Accordion("More", open=False, elem_id="lr-ex-more"):
        selector = gr.Dropdown(
            [(s.title, s.name) for s in SELECTORS],
            value=SELECTORS[0].name,
            label="Selector",
            info="the steps that the first arm trains on",
            elem_id="lr-ex-selector",
        )
        tau = gr.Number(None, label="τ", info="of the selector Teaching signal: only steps above τ nats")
        rounds = gr.Number(
            1, label="Rounds", info=f"up to {MOST_ROUNDS}: the best tuned expert is tuned again", precision=0
        )
        again = gr.Radio(
            AGAIN,
            value="same",
            label="Amateur of later rounds",
            info="the former expert diverges less and less from its tuned self",
            elem_id="lr-ex-next",
        )
        tokens = gr.Number(LENGTH, label="Max new tokens", info="of a response to learn from", precision=0)
        longest = gr.Number(
            0, label="Max new tokens, measured", info="0: as many as the model’s context allows", precision=0
        )
    fields = {"selector": selector, "tau": tau, "rounds": rounds, "next_amateur": again}
    return fields | {"max_new_tokens": tokens, "test_max_new_tokens": longest}


def prefilled(link: dict) -> tuple:
    """Updates of preset, expert and amateur to the pair of a link: {"pair": name} or {"expert", "amateur"}."""
    if link.get("pair") in [pair.name for pair in presets()]:
        return link["pair"], gr.skip(), gr.skip()
    refs = [link.get(role) for role in ("expert", "amateur")]
    if not all(isinstance(ref, str) and ref.strip() for ref in refs):
        return gr.skip(), gr.skip(), gr.skip()
    return OTHER, *(ref[:500] for ref in refs)
