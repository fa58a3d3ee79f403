"""The form for the prompt: a preset, its parts, and the exact prompt that results, before anything is computed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from lightreasoner.cli.prompt import solved
from lightreasoner.errors import UserError
from lightreasoner.models.loading import load_tokenizer
from lightreasoner.models.prompt_settings import MAX_CHARS, PAPER, PRESETS, TITLES, PromptSettings, preset_of, prompt_of
from lightreasoner.models.prompts import render, settle_date
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.problems.cells import UnusableRow
from lightreasoner.problems.rows import Problem, read_row
from lightreasoner.storage.runs import changed_versions
from ui.access.actions import action
from ui.components.events import PRIVATE
from ui.html_templates import render as render_html

OWN = "own"  # the choice for settings that are no preset
THINKING = {"As the template has it": None, "On": True, "Off": False}
SHOWN = 4000  # tokens of a prompt
NAMES = ("preset", "system", "wrapping", "template", "thinking", "prefix", "arguments", "examples", "date")


@dataclass(frozen=True)
class PromptForm:
    """The fields by the names of NAMES, each with "prompt_" before it."""

    fields: dict[str, Component]
    button: gr.Button
    preview: gr.HTML

    @property
    def inputs(self) -> list[Component]:
        return list(self.fields.values())


#: The page sends these fields, but calls over HTTP leave them out: their arguments are counted.
UNLISTED = property(lambda component: True)


class Text(gr.Textbox):
    is_template, skip_api = True, UNLISTED  # a template is drawn as its base class


class Choice(gr.Radio):
    is_template, skip_api = True, UNLISTED


class Tick(gr.Checkbox):
    is_template, skip_api = True, UNLISTED


class Menu(gr.Dropdown):
    is_template, skip_api = True, UNLISTED


def prompt_form(prefix: str) -> PromptForm:
    """Lay out the form and wire its presets. prefix: begins the ids of the elements."""
    long = {"lines": 1, "max_lines": 6, "max_length": MAX_CHARS}
    with gr.Accordion("Prompt", open=False, elem_id=f"{prefix}-prompt"):
        titles = [(title, name) for name, title in TITLES.items()]
        preset = Menu([*titles, ("A prompt of my own", OWN)], value="paper", label="Prompt", elem_id=f"{prefix}-preset")
        system = Text(PAPER.system, label="System prompt", info="empty: none", elem_id=f"{prefix}-system", **long)
        wrapping = Text(
            PAPER.wrapping,
            label="Question",
            info="{question} stands for the problem",
            elem_id=f"{prefix}-wrapping",
            **long,
        )
        begin = Text("", label="Beginning of the response", elem_id=f"{prefix}-begin", **long)
        thinking = Choice(
            list(THINKING), value="As the template has it", label="Thinking", info="where the template has a switch"
        )
        template = Tick(PAPER.template, label="In the chat template")
        arguments = Text("", label="Arguments of the chat template", placeholder='{"name": "value"}', **long)
        examples = Text(
            "",
            label="Solved examples before the question",
            placeholder='{"question": "1 + 2?", "answer": "3"}',
            info="rows of JSON, one per line",
            **long,
        )
        date = Text(
            "",
            label="Date",
            info="for templates that name today; empty: the day of the start",
            max_lines=1,
            max_length=10,
        )
        button = gr.Button("Show the prompt", size="sm", elem_id=f"{prefix}-show")
        preview = gr.HTML("", elem_id=f"{prefix}-preview")
    parts = (preset, system, wrapping, template, thinking, begin, arguments, examples, date)
    form = PromptForm({f"prompt_{name}": part for name, part in zip(NAMES, parts, strict=True)}, button, preview)
    preset.input(fill_preset, preset, [system, wrapping, template, thinking], **PRIVATE)
    texts = [system, wrapping, template, thinking, begin, arguments]
    gr.on([part.input for part in texts], name_preset, [*parts], preset, **PRIVATE)
    return form


@action("components.choose_prompt", visitors=True)
def fill_preset(name) -> tuple:
    """Updates of system prompt, wrapping, chat template and thinking."""
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return tuple([gr.skip()] * 4)
    return preset.system, preset.wrapping, preset.template, _thinking(preset)


@action("components.name_prompt", visitors=True)
def name_preset(*values) -> Any:
    """The preset that the fields now are."""
    try:
        return preset_of(read_prompt(dict(zip((f"prompt_{n}" for n in NAMES), values, strict=True)))) or OWN
    except UserError:
        return OWN


def read_prompt(values: dict[str, object]) -> PromptSettings:
    """The settings of the form, from values by the names of its fields. Raises UserError."""
    text = {name: values.get(f"prompt_{name}") for name in NAMES}
    if text["preset"] is None and text["system"] is None and text["wrapping"] is None:  # a call over HTTP
        return PAPER
    if text["thinking"] not in THINKING:
        raise UserError("Thinking is on, off or as the template has it; choose one of the three.")
    given = {name: text[name] for name in ("system", "wrapping", "template", "prefix")}
    given |= {"thinking": THINKING[str(text["thinking"])], "date": str(text["date"] or "").strip() or None}
    if str(text["arguments"] or "").strip():
        try:
            given["arguments"] = json.loads(str(text["arguments"]))
        except (ValueError, RecursionError) as error:
            raise UserError(f"The template's arguments are no JSON object: {error}. Check quotes and commas.") from None
    given["examples"] = _examples(str(text["examples"] or ""))
    return prompt_of(given)


def prompt_updates(settings: PromptSettings) -> tuple:
    """Updates of the form's fields to these settings."""
    shown = json.dumps(settings.arguments, ensure_ascii=False) if settings.arguments else ""
    rows = "\n".join(json.dumps({"question": q, "solution": r}, ensure_ascii=False) for q, r in settings.examples)
    named = preset_of(settings) or OWN
    parts = (settings.system, settings.wrapping, settings.template, _thinking(settings), settings.prefix)
    return named, *parts, shown, rows, settings.date or ""


def stored_prompt(value: object) -> PromptSettings:
    """The settings of a record, whoever wrote it: the paper's where they cannot be read."""
    try:
        return prompt_of(value)
    except UserError:
        return PAPER


def wire_preview(
    form: PromptForm,
    name: str,
    asked: Callable[..., tuple[str, Problem]],
    inputs: Sequence[Component],
    visitors: bool = False,
) -> None:
    """Wire the button that shows the prompt. asked(*values of inputs) is (model reference, Problem)."""

    @action(name, visitors=visitors, costly=visitors)
    def show(*values) -> str:
        try:
            ref, problem = asked(*values[len(NAMES) :])
            settings = read_prompt(dict(zip(form.fields, values, strict=False)))
            return preview_html(ref, problem, settings)
        except UserError as error:
            return render_html("prompt_preview", error=str(error), tokens=[], notes=[], count=0, hidden=0)

    form.button.click(show, [*form.inputs, *inputs], form.preview, **PRIVATE)


def preview_html(ref: str, problem: Problem, settings: PromptSettings) -> str:
    """The exact prompt, token by token. Loads the tokenizer only. Raises UserError."""
    tokenizer = load_tokenizer(ref)
    prompt = render(tokenizer, ref, problem.question, settle_date(settings, [tokenizer]), problem.context)
    texts = TokenTexts(tokenizer)
    tokens = [(id, texts.text(id)) for id in prompt.ids[:SHOWN]]
    hidden = max(0, len(prompt.ids) - SHOWN)
    return render_html(
        "prompt_preview", error="", tokens=tokens, notes=prompt.notes, count=len(prompt.ids), hidden=hidden
    )


def prompt_facts(run: dict) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of a run's prompt, where it is not the paper's, and of versions that changed."""
    settings, stored = stored_prompt(run["config"].get("prompt")), run["about"].get("prompt") or {}
    title = TITLES.get(preset_of(settings) or "", "One of the user's own")
    rows = [("Prompt", title, str(stored.get("example") or ""))] if settings.as_json() else []
    rows += [("Prompt", "changed for the template", str(note)) for note in stored.get("notes") or []]
    changed = changed_versions(run)
    return [*rows, ("Versions", "changed", changed)] if changed else rows


def _thinking(settings: PromptSettings) -> str:
    return next(title for title, value in THINKING.items() if value is settings.thinking)


def _examples(text: str) -> tuple[tuple[str, str], ...]:
    """(question, response) of the rows of JSON in a text. Raises UserError with the number of a line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problem, _ = read_row(row if isinstance(row, dict) else {}, max_chars=MAX_CHARS)
        except (ValueError, RecursionError, UnusableRow) as error:
            raise UserError(f"Line {number} of the examples is no row with a question: {error}. Mend it.") from None
        if not (response := solved(replace(problem))):
            raise UserError(f"Line {number} of the examples has no solution and no answer; add one.")
        found.append((problem.question, response))
    return tuple(found)
