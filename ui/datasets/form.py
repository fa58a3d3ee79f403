"""The form that builds a dataset: pair, problems, sampling settings, and the equivalent command line."""

from collections.abc import Callable

import gradio as gr

from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import training_split
from lightreasoner.settings import Settings
from ui.components.form_values import checked_pair, checked_problems, first_problem, stop_field
from ui.components.pair_check_card import pair_check_card, wire_pair_check
from ui.components.pair_form import pair_form
from ui.components.prompt_form import prompt_form, wire_preview
from ui.components.run_form import RunForm, command_line, problem_fields
from ui.datasets.request import read_form
from ui.studio import Studio


def asked_of(settings: Settings) -> Callable[..., tuple[str, Problem]]:
    """A function of pair and problems in the form: (the expert, the first problem). It raises UserError."""

    def asked(preset, expert, amateur, source, upload) -> tuple[str, Problem]:
        problems = checked_problems(source, upload)
        first = first_problem(settings, problems, training_split(problems))
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
        rest = {"skip_unreadable": problems.pop("skip_unreadable")}
        self.fields = self.pair.named | problems | more | rest | prompt.fields
        asked = [*self.pair.fields, problems["source"], problems["upload"]]
        wire_preview(prompt, "datasets.show_prompt", asked_of(self.settings), asked)
        wire_pair_check(
            studio,
            card,
            self.pair,
            [self.fields[n] for n in ("source", "upload", "skip_unreadable", "max_new_tokens", "stop", "limit")],
            prompt,
        )
        self.wire_command("datasets", command, read_form, "my-dataset", clears=[self.estimate])
