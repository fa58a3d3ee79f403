"""The forms for amateurs: several of one expert compared as one job, and one made out of the expert."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import gradio as gr

from lightreasoner.datasets.amateurs import check_amateurs, model_title
from lightreasoner.errors import UserError
from lightreasoner.jobs.store import ACTIVE
from lightreasoner.models.derived_amateurs import parse_layers
from lightreasoner.models.references import parse_ref
from lightreasoner.sampling.make_amateur import KIND, MakingJob
from lightreasoner.storage.runs import RECORD, read_run
from lightreasoner.validation import number
from ui.access.actions import action, checked_calls
from ui.compat.gradio import event_data
from ui.components.events import PRIVATE, UNQUEUED
from ui.components.form_values import MAX_PROBLEMS, checked_pair, store_problems
from ui.components.html_component import HtmlComponent
from ui.components.notices import open_started
from ui.components.pair_card import OTHER
from ui.components.script_calls import answering
from ui.datasets.form import DatasetForm
from ui.datasets.request import read_form
from ui.studio import Studio

LAYERS, CHECKPOINT, BEFORE = "Without some layers", "At an earlier checkpoint", "Before its last tuning"
WAYS = (LAYERS, CHECKPOINT, BEFORE)
INFO = "layers counted from 0, such as 1 or 2,3 or 8-11; or the checkpoint’s update"
SHOWN = 5  # amateurs that were made last


class MadeAmateurs(HtmlComponent):
    """The amateurs that were made last, each with what was found of it. The event `use` with {"run"} puts one into the
    form, and `compare` into the list of those to compare."""

    script = "datasets/made_amateurs"
    own_events = ("use", "compare")
    value_title = "unused"


class AmateursForm:
    """Lays both forms out below that of a dataset, whose expert, problems and settings count here, too."""

    def __init__(self, studio: Studio, form: DatasetForm):
        self.studio, self.form = studio, form
        with gr.Accordion("Compare amateurs", open=False, elem_id="lr-ds-compare"):
            self.amateurs = gr.Textbox(
                label="Amateurs",
                info="besides the one above, one per line; all of them read the same responses",
                placeholder="a Hub id, a folder or a GGUF file",
                lines=2,
                max_lines=16,
                max_length=8_000,
                elem_id="lr-ds-amateurs",
            )
            self.preview = gr.Number(
                100,
                label="Problems of each preview",
                info="0: none; only previews tell which amateur to take",
                precision=0,
            )
            self.compare = gr.Button("Compare amateurs", size="sm", elem_id="lr-ds-compare-go")
        with gr.Accordion("Make an amateur out of this expert", open=False, elem_id="lr-ds-make"):
            self.way = gr.Radio(list(WAYS), value=LAYERS, label="The expert", elem_id="lr-ds-make-way")
            self.what = gr.Textbox(
                label="Layers, or update", info=INFO, max_lines=1, max_length=200, elem_id="lr-ds-make-what"
            )
            self.make = gr.Button("Make an amateur", size="sm", elem_id="lr-ds-make-go")
            self.notice = gr.HTML("", elem_id="lr-ds-make-notice")
            self.made = MadeAmateurs(checked_calls(studio.settings, [made_call(studio)]), elem_id="lr-ds-made")
        self._wire()

    @property
    def inputs(self) -> list:
        """Of a comparison."""
        return [*self.form.inputs, self.amateurs, self.preview]

    def start(self, values: tuple) -> str:
        """Queue the comparison of the forms' values; returns the dataset's id. Raises UserError."""
        *rest, amateurs, preview = values
        return start_compare(self.studio, self.form.named(rest), amateurs, preview)

    def _wire(self) -> None:
        pair = self.form.pair

        @action("datasets.make_amateur")
        def make(preset, expert, amateur, way, what) -> str:
            return open_started(lambda: start_making(self.studio, (preset, expert, amateur), way, what))[1]

        @action("datasets.use_amateur")
        def use(event: gr.EventData) -> tuple:
            expert, amateur = made_pair(self.studio, event_data(event).get("run"))
            return OTHER, expert, amateur, gr.Column(visible=True)

        @action("datasets.list_amateur")
        def add(amateurs, event: gr.EventData) -> str:
            _, amateur = made_pair(self.studio, event_data(event).get("run"))
            listed = [line.strip() for line in str(amateurs or "").splitlines() if line.strip()]
            return "\n".join(dict.fromkeys([*listed, amateur]))

        self.make.click(make, [*pair.fields, self.way, self.what], self.notice, api_name="make_amateur", **UNQUEUED)
        self.made.use(use, None, [*pair.fields, pair.own], **PRIVATE)
        self.made.compare(add, self.amateurs, self.amateurs, **PRIVATE)


def start_compare(studio: Studio, values: Mapping[str, object], amateurs: object, preview: object) -> str:
    """Queue the job that compares the amateurs; returns the dataset's id. Raises UserError."""
    request = read_form(studio.settings, values)
    _, expert, first = request.pair
    lines = [line.strip() for line in str(amateurs or "").splitlines() if line.strip()]
    refs = check_amateurs([parse_ref(first).text, *(parse_ref(line).text for line in lines)])
    if len(refs) == 1:
        raise UserError("One amateur was named, so there is nothing to compare it with; name others, one per line.")
    preview = number("The number of problems of a preview", preview, 0, MAX_PROBLEMS, whole=True)
    if preview == 1:
        raise UserError("A preview of 1 problem has no interval; preview on 2 or more, or on 0 for none.")
    request = replace(request, pair=(None, parse_ref(expert).text, refs[0]))
    problems = store_problems(studio.settings, request.problems, request.skip_unreadable)
    argv = ["compare-amateurs", *request.argv(problems)[1:]]
    argv += [word for ref in refs[1:] for word in ("--amateur", ref)] + ["--preview", str(preview)]
    title = f"Compare {len(refs)} amateurs of {model_title(expert)}"
    return studio.jobs.submit("compare-amateurs", argv, title).run_dir.name


def start_making(studio: Studio, refs: tuple, way: object, what: object) -> str:
    """Queue the job that makes an amateur; returns its run's id. Raises UserError."""
    _, expert, _ = checked_pair(*refs)
    text = str(what or "").strip()
    if way not in WAYS:
        raise UserError(f"{str(way)[:40]!r} makes no amateur; choose {', '.join(WAYS)}.")
    options: dict[str, object] = {"before_tuning": True}
    if way == LAYERS:
        parse_layers(text, 10_000)
        options = {"drop_layers": text}
    elif way == CHECKPOINT:
        if not text.isdecimal():
            raise UserError(f"The checkpoint is {text[:40]!r}; give the number of its update, such as 100.")
        options = {"checkpoint": int(text)}
    job = MakingJob(Path(), parse_ref(expert).text, **options)
    job.check(studio.settings)
    argv = ["make-amateur", "--expert", job.expert]
    argv += ["--before-tuning"] if way == BEFORE else ["--drop-layers" if way == LAYERS else "--checkpoint", text]
    return studio.jobs.submit("make-amateur", argv, job.title).run_dir.name


def made_pair(studio: Studio, run: object) -> tuple[str, str]:
    """(expert, amateur) of a finished making. Raises UserError."""
    found = next((each for each in makings(studio) if each["run"] == run and each["ref"]), None)
    if found is None:
        raise UserError("This amateur was deleted, or is not made yet.")
    return found["expert"], found["ref"]


def makings(studio: Studio) -> list[dict]:
    """The amateurs that were made last, and those that are being made, newest first."""
    found = []
    jobs = [job for job in studio.jobs.store.jobs() if job.verb == "make-amateur"]
    for job in sorted(jobs, key=lambda job: -job.created)[:SHOWN]:
        known = {"run": job.run_dir.name, "job": job.id, "title": job.title, "state": job.state, "message": job.message}
        known |= {"active": job.state in ACTIVE or job.state == "queued", "ref": None, "expert": None, "sentence": ""}
        if job.state == "succeeded" and (job.run_dir / RECORD).is_file():
            run = read_run(job.run_dir)
            if run["kind"] == KIND and run.get("result") and run.get("made"):
                known |= {"ref": run["made"]["ref"], "expert": run["config"]["expert"]}
                known |= {"sentence": run["result"]["sentence"], "coherent": run["result"]["coherent"] is True}
        found.append(known)
    return found


def made_call(studio: Studio) -> Callable[..., dict]:
    """The call that lists them, for the script."""

    @action("datasets.made_amateurs")
    @answering
    def made() -> dict:
        """The amateurs that were made last."""
        return {"made": makings(studio)}

    return made
