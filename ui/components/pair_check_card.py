"""The pair check: a button that tries a pair on a few problems, and a card that shows the job and then its result."""

import json
from collections.abc import Callable

import gradio as gr
import pandas as pd

from lightreasoner.cli.prompt import prompt_argument
from lightreasoner.datasets.figures import histogram_figure, kept_figure
from lightreasoner.errors import UserError
from lightreasoner.jobs.store import Job
from lightreasoner.jobs.view import job_view
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.references import parse_ref
from lightreasoner.paper import BETA, PREVIEW_BETAS
from lightreasoner.problems.sources import problems_title
from lightreasoner.sampling.pair_check import KIND, RESULT
from lightreasoner.storage.runs import read_run, run_folder
from lightreasoner.validation import number
from ui.access.actions import OWNERS_ONLY, action, checked_calls
from ui.components.events import CLEAR, UNQUEUED
from ui.components.form_values import (
    MAX_PROBLEMS,
    checked_pair,
    checked_problems,
    checked_stops,
    pair_options,
    pair_title,
    stop_options,
    store_problems,
)
from ui.components.html_component import HtmlComponent
from ui.components.pair_form import PairForm
from ui.components.prompt_form import PromptForm, read_prompt, stored_prompt
from ui.components.run_list import without_folders
from ui.components.script_calls import answering
from ui.studio import Studio

CHECKED, PREVIEWED = 24, 100  # problems


class PairCheckView(HtmlComponent):
    """Value: "", or the JSON document {"run": id of the pair check to show} or {"error": sentence}."""

    script = "shared/pair_check"
    root = "lr lr-pair-check"
    value_title = "the pair check to show, as JSON"


def pair_check_card(studio: Studio, prefix: str) -> tuple[gr.Button, PairCheckView]:
    """Lay out the button and the card. prefix: begins the ids of the elements."""
    button = gr.Button(
        f"Check this pair on {CHECKED} problems", size="sm", elem_id=f"{prefix}-try", elem_classes=[OWNERS_ONLY]
    )
    calls = checked_calls(studio.settings, pair_check_calls(studio))
    return button, PairCheckView(calls, elem_id=f"{prefix}-verdict", elem_classes=[OWNERS_ONLY])


def wire_pair_check(
    studio: Studio, card: tuple[gr.Button, PairCheckView], pair: PairForm, fields: list, prompt: PromptForm
) -> None:
    """Wire the button of a pair_check_card.

    fields: source, upload, the box for the rest of a file, token limit, stop strings and, if there is one, the number
    of problems to estimate. prompt: that the models are asked with.
    """

    @action("components.check_pair")
    def start(preset, expert, amateur, source, upload, rest, tokens, stop, *more) -> str:
        try:
            pair, count = (preset, expert, amateur), len(prompt.fields)
            asked = read_prompt(dict(zip(prompt.fields, more[-count:], strict=True)))
            target = more[0] if len(more) > count else 1000
            run = start_pair_check(studio, pair, source, upload, tokens, target, stop, rest is True, asked)
            return json.dumps({"run": run})
        except UserError as error:
            return json.dumps({"error": str(error)})

    button, view = card
    button.click(start, [*pair.fields, *fields, *prompt.inputs], view, api_name=False, **UNQUEUED)
    gr.on([part.change for part in pair.fields], outputs=view, **CLEAR)


def start_pair_check(
    studio: Studio,
    refs: tuple,
    source: object,
    upload: object,
    tokens: object,
    target: object,
    stop: object = "",
    skip_unreadable: bool = False,
    prompt: PromptSettings = PAPER,
) -> str:
    """Queue the job and return the id of its run. Raises UserError."""
    pair, problems = checked_pair(*refs), checked_problems(source, upload)
    tokens = number("The token limit", tokens, 1, studio.settings.max_new_tokens, whole=True)
    target = number("The number of problems", target, 1, MAX_PROBLEMS, whole=True)
    argv = [*pair_options(pair), "--problems", store_problems(studio.settings, problems, skip_unreadable)]
    argv += ["--skip-unreadable"] if skip_unreadable else []
    argv += ["--limit", str(CHECKED), "--target", str(target), "--max-new-tokens", str(tokens)]
    argv += stop_options(checked_stops(stop)) + prompt_argument(prompt)
    title = f"Check {pair_title(pair)} · {problems_title(problems)}"
    return studio.jobs.submit(KIND, argv, title).run_dir.name


def start_preview(studio: Studio, check: Job) -> str:
    """Queue an evaluation of the expert and the usual grid of contrasts; returns its run's id. Raises UserError.

    Models, problems, prompt, token limit and stop strings are those of the pair check.
    """
    config = read_run(check.run_dir)["config"]
    try:
        expert, amateur, problems = (parse_ref(str(config["expert"])).text, str(config["amateur"]), config["problems"])
        stop, tokens = tuple(config.get("stop") or ()), int(config["max_new_tokens"])
    except (KeyError, TypeError, ValueError):
        raise UserError("The settings of this pair check cannot be read; start another.") from None
    argv = ["evaluate", "--model", expert, "--amateur", amateur, "--problems", str(problems)]
    argv += ["--split", str(config["split"])] if config.get("split") else []
    argv += ["--skip-unreadable"] if "--skip-unreadable" in check.argv else []
    argv += ["--limit", str(PREVIEWED), "--max-new-tokens", str(tokens), "--beta", PREVIEW_BETAS]
    argv += stop_options(stop) + prompt_argument(stored_prompt(config.get("prompt")))
    title = f"Preview {without_folders(expert)} against {without_folders(amateur)} · {problems_title(str(problems))}"
    return studio.jobs.submit("evaluate", argv, f"{title} · {PREVIEWED}").run_dir.name


def figures(result: dict) -> dict[str, dict]:
    """The charts of a pair check's result file, at the paper's β."""
    edges, counts, shares = result["edges"], result["histogram"], result["probe"]["kept"]
    bins = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "steps": counts})
    kept = pd.DataFrame({"beta": result["betas"], "share": shares})
    kept["steps"] = (kept["share"] * sum(counts)).round().astype(int)
    found = {"kept": kept_figure(kept, BETA), "histogram": histogram_figure(bins, BETA)}
    return {name: one.to_plotly_json() for name, one in found.items()}


def pair_check_calls(studio: Studio) -> list[Callable[..., dict]]:
    """The functions look, halt and preview, bound to this server's jobs."""

    def job_of(run: object) -> Job:
        folder = run_folder(studio.settings, run).absolute()
        found = [job for job in studio.jobs.store.jobs() if job.run_dir.absolute() == folder]
        if not found or found[0].verb != KIND:
            raise UserError("This pair check was deleted; start another.")
        return found[0]

    @action("components.watch_pair_check")
    @answering
    def look(run) -> dict:
        """The state of the job, and its result once it has one."""
        job = job_of(run)
        answer = {"job": job_view(studio.jobs.store, job), "result": None}
        if job.state == "succeeded":
            read_run(job.run_dir)
            try:
                result = json.loads((job.run_dir / RESULT).read_text(encoding="utf-8"))
                answer |= {"result": result, "figures": figures(result)}
            except (OSError, ValueError, RecursionError, KeyError):
                raise UserError("The result of this pair check cannot be read; start another.") from None
        return answer

    @action("components.preview_pair")
    @answering
    def preview(run) -> dict:
        """Queue the preview of training with the pair that was checked, on the same problems: {"run": its id}."""
        return {"run": start_preview(studio, job_of(run))}

    @action("components.cancel_pair_check")
    @answering
    def halt(run) -> dict:
        """Cancel the pair check."""
        studio.jobs.cancel(job_of(run).id)
        return {}

    return [look, halt, preview]
