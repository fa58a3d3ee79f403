"""The form that builds a dataset: pair, problems, sampling settings, and the equivalent command line."""

from collections.abc import Callable

import gradio as gr

from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.settings import Settings
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.components.form_values import checked_pair, checked_problems, stop_field
from ui.components.pair_check_card import pair_check_card, wire_pair_check
from ui.components.pair_form import pair_form
from ui.components.prompt_form import prompt_form, wire_preview
from ui.components.run_form import RunForm, command_line, problem_fields
from ui.datasets.request import read_form
from ui.studio import Studio


def first_problem(settings: Settings) -> Callable[..., tuple[str, Problem]]:
    """A function of pair and problems in the form: (the expert, the first problem). It raises UserError."""

    def asked(preset, expert, amateur, source, upload) -> tuple[str, Problem]:
        problems = checked_problems(source, upload)
        limits = {"limit": 1, "max_chars": settings.max_problem_chars, "skip_unreadable": True}
        limits["max_bytes"] = settings.max_upload_mb * 1_000_000
        first = next(iter(open_problems(problems, split=training_split(problems), **limits)))
        return checked_pair(preset, expert, amateur)[1], first

    return asked


class DatasetForm(RunForm):
    """Lays the form out and wires the events inside it. `estimate` shows the estimate until a field changes."""

    def __init__(self, studio: Studio):
        self.settings = studio.settings
        self.pair = pair_form(studio, "lr-ds", "Build dataset")
        card = pair_check_card(studio, "lr-ds")
        problems = problem_fields(self.settings, "datasets", "lr-ds", "bundled-train")
        prompt = prompt_form("lr-ds")
        with gr.Accordion("More", open=False, elem_id="lr-ds-more"):
            more = {
                "max_new_tokens": gr.Number(128, label="Max new tokens", precision=0),
                "temperature": gr.Number(0, label="Sampling temperature", info="0 is greedy: always the top-1 token"),
                "samples_per_problem": gr.Number(
                    1, label="Samples per problem", info="more than one requires a temperature above 0", precision=0
                ),
                "seed": gr.Number(0, label="Sampling seed", info="only used at temperatures above 0", precision=0),
                "batch_size": gr.Number(0, label="Batch size", info="0: as many as fit into memory", precision=0),
                "every_step": gr.Checkbox(
                    True,
                    label="Store the details of every step",
                    info=f"All steps, Random steps and most selectors need them; without, those with a KL above "
                    f"{BETA_FLOOR} nats, in less than half of the disk space",
                ),
                "stop": stop_field("lr-ds-stop"),
            }
        command = command_line("lr-ds-command")
        self.estimate = gr.HTML("", elem_id="lr-ds-estimate")
        pair = {"preset": self.pair.preset, "expert": self.pair.expert, "amateur": self.pair.amateur}
        rest = {"skip_unreadable": problems.pop("skip_unreadable")}
        self.fields = pair | problems | more | rest | prompt.fields
        asked = [*self.pair.fields, problems["source"], problems["upload"]]
        wire_preview(prompt, "datasets.show_prompt", first_problem(self.settings), asked)
        wire_pair_check(
            studio,
            card,
            self.pair,
            [self.fields[n] for n in ("source", "upload", "skip_unreadable", "max_new_tokens", "stop", "limit")],
            prompt,
        )
        changes, shown = [part.change for part in self.inputs], [command, self.estimate]
        gr.on(changes, self.show_command, self.inputs, shown, trigger_mode="always_last", **PRIVATE)
        command.value, _ = self.show_command(*(part.value for part in self.inputs))

    @action("datasets.show_command")
    def show_command(self, *values) -> tuple[str, str]:
        """The command line or an error's sentence, and an empty estimate."""
        return self.command(values, read_form, "my-dataset"), ""
