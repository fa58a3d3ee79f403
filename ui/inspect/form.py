"""The forms of the Inspect tab: pair, problem, response, tuned expert, further amateurs and prompt."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from lightreasoner.settings import Settings
from lightreasoner.tracing.trace import MOST_READERS
from ui.access.actions import OWNERS_ONLY, action
from ui.components.events import PRIVATE
from ui.components.form_values import stop_field
from ui.components.pair_form import PairForm, pair_form
from ui.components.problem_form import ProblemForm, problem_form
from ui.components.prompt_form import PromptForm, Text, prompt_form
from ui.inspect.links import GENERATE, SCORE
from ui.inspect.tuned_form import tuned_form
from ui.inspect.writer_form import WriterForm, writer_form
from ui.studio import Studio


@dataclass(frozen=True)
class ResponseForm:
    mode: gr.Radio
    response: gr.Textbox
    tokens: gr.Number
    temperature: gr.Number
    seed: gr.Number
    stop: gr.Textbox
    writer: WriterForm

    @property
    def fields(self) -> list:
        return [self.mode, self.response, self.tokens, self.temperature, self.seed]


def response_form(settings: Settings) -> ResponseForm:
    with gr.Group():
        mode = gr.Radio([GENERATE, SCORE], value=GENERATE, label="Response", elem_id="lr-mode")
        response = gr.Textbox(
            label="Text to score",
            lines=4,
            max_lines=12,
            visible=False,
            max_length=settings.max_problem_chars,
            elem_id="lr-own-response",
            placeholder="Let's work it out. …",
        )
        writer = writer_form()
        with gr.Accordion("Decoding", open=False):
            tokens = gr.Number(128, label="Max new tokens")
            temperature = gr.Number(
                0, label="Temperature", info="0 is greedy: always the top-1 token", elem_id="lr-temperature"
            )
            seed = gr.Number(0, label="Seed", info="used above temperature 0 only")
            stop = stop_field("lr-stop-strings", Text)

    @action("inspect.choose_mode", visitors=True)
    def show_response(chosen) -> tuple:
        return gr.Textbox(visible=chosen == SCORE), *[gr.update(visible=chosen != SCORE)] * 2

    mode.change(show_response, mode, [response, writer.writer, writer.row], **PRIVATE)
    return ResponseForm(mode, response, tokens, temperature, seed, stop, writer)


@dataclass(frozen=True)
class InspectForm:
    pair: PairForm
    problem: ProblemForm
    response: ResponseForm
    tuned: gr.Dropdown
    others: Text
    prompt: PromptForm

    @property
    def fields(self) -> dict[str, Component]:
        """What defines a run, in the order of the API's arguments. Calls over HTTP leave out all after `picked`."""
        response, writer = self.response, self.response.writer
        names = ("preset", "expert", "amateur", "question", "mode", "response", "tokens", "temperature", "seed")
        parts = [*self.pair.fields, self.problem.question, *response.fields]
        fields = dict(zip(names, parts, strict=True))
        fields |= {"tuned": self.tuned, "writer": writer.writer, "picked": self.problem.picked, "stop": response.stop}
        fields |= self.prompt.fields
        return fields | {"alpha": writer.alpha, "beta": writer.beta, "others": self.others, "cap": writer.cap}


def inspect_form(studio: Studio) -> InspectForm:
    """Lay the forms out, one below the other. tab.py wires what connects them."""
    pair = pair_form(studio)
    problem = problem_form(studio.settings)
    response = response_form(studio.settings)
    tuned = tuned_form()
    others = Text(
        label="Further amateurs",
        info=f"one per line, up to {MOST_READERS - 1}; they read along, each with a line in the curve",
        placeholder="a Hub id, a folder or a GGUF file",
        lines=1,
        max_lines=MOST_READERS - 1,
        max_length=2_000,
        elem_id="lr-others",
        elem_classes=[OWNERS_ONLY],
    )
    return InspectForm(pair, problem, response, tuned, others, prompt_form("lr"))
