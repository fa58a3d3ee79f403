"""The third model, optional: which tuned expert reads along behind the pair, and which of the two experts writes."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.models.references import parse_ref
from lightreasoner.tracing.tuned_decoder import EXPERT, TUNED, tuned_ref
from lightreasoner.training.runs import amateur_of, tuned_run, tuned_runs
from ui.access.actions import action
from ui.access.visitors import OWNERS_ONLY
from ui.components.events import PRIVATE
from ui.components.pair_card import OTHER
from ui.components.pair_form import PairForm, pair_refs
from ui.studio import Studio

NOBODY = ""  # picked to have no tuned expert again
WRITERS = {"Expert": EXPERT, "Tuned expert": TUNED}


@dataclass(frozen=True)
class TunedForm:
    tuned: gr.Dropdown
    writer: gr.Radio

    @property
    def fields(self) -> list:
        return [self.tuned, self.writer]


def tuned_form(studio: Studio, pair: PairForm) -> TunedForm:
    """Lay it out and wire it. The list is read anew whenever somebody opens it, so a run that ends is in it."""
    with gr.Group(elem_id="lr-lens", elem_classes=[OWNERS_ONLY]):
        tuned = gr.Dropdown(
            [("None, the pair alone", NOBODY)],
            value=None,
            label="Tuned expert (optional)",
            info="shows what training moved: a finished run, BASE::ADAPTER, or a folder",
            allow_custom_value=True,
            elem_id="lr-tuned",
        )
        writer = gr.Radio(list(WRITERS), value="Expert", label="Who writes", visible=False, elem_id="lr-writer")

    known = gr.State([])  # what the list holds; a list that changes while it is open loses its place

    @action("inspect.list_tuned_experts", visitors=True)
    def listed(preset, expert, amateur, before) -> tuple:
        offered = choices(studio, preset, expert, amateur)
        return (gr.skip(), gr.skip()) if offered == before else (gr.Dropdown(choices=offered), offered)

    @action("inspect.update_tuned_experts", visitors=True)
    def renewed(preset, expert, amateur, now) -> tuple:
        """Another pair has other runs; a tuned expert goes when its base is the expert no more."""
        offered = choices(studio, preset, expert, amateur)
        try:
            ref, base = parse_ref(now), parse_ref(pair_refs(preset, expert, amateur)[1])
        except UserError:
            return gr.Dropdown(choices=offered), offered
        foreign = ref.adapter and ref.base != base.base
        return gr.Dropdown(choices=offered, value=None) if foreign else gr.Dropdown(choices=offered), offered

    @action("inspect.choose_tuned_expert", visitors=True)
    def chosen(now) -> tuple:
        return gr.Dropdown(value=None) if now == NOBODY else gr.skip(), gr.Radio(visible=bool(now))

    tuned.focus(listed, [*pair.fields, known], [tuned, known], **PRIVATE)
    tuned.change(chosen, tuned, [tuned, writer], **PRIVATE)
    pair.preset.change(renewed, [*pair.fields, tuned], [tuned, known], **PRIVATE)
    pair.expert.blur(renewed, [*pair.fields, tuned], [tuned, known], **PRIVATE)
    return TunedForm(tuned, writer)


def choices(studio: Studio, preset: str, expert: str, amateur: str) -> list[tuple[str, str]]:
    """(title, reference) of nobody, and of the finished runs on this pair's expert, newest first."""
    try:
        mine = studio.visitor.owner
        found = tuned_runs(studio.settings, pair_refs(preset, expert, amateur)[1]) if mine else []
    except UserError:
        found = []
    return [("None, the pair alone", NOBODY), *((run.title, run.ref) for run in found)]


def asked_tuned(studio: Studio, tuned: object, writer: object, expert: str) -> dict | None:
    """What the form asks for, ready for Studio.start; None without a tuned expert. Raises UserError."""
    if tuned is None or (isinstance(tuned, str) and not tuned.strip()):
        return None
    if not studio.visitor.owner:  # before anything is looked up
        raise UserError("Tuned experts belong to the owner of this server; leave that field empty.")
    if not isinstance(writer, str) or writer not in WRITERS:
        raise UserError(f"Nobody called {str(writer)[:40]!r} can write; choose {' or '.join(WRITERS)}.")
    ref = str(tuned_ref(tuned, expert))
    named = {run.ref: run for run in tuned_runs(studio.settings, expert)}.get(ref)
    about = {"run": named.id, "name": named.title} if named else {}
    return {"tuned": ref, "writer": WRITERS[writer]} | about


def shown_tuned(tuned: dict | None) -> tuple:
    """Updates for the two fields, as a saved trace has them."""
    if not tuned:
        return gr.Dropdown(value=None), "Expert"
    writer = next((name for name, who in WRITERS.items() if who == tuned.get("writer")), "Expert")
    return gr.Dropdown(choices=[(tuned.get("name") or tuned["tuned"], tuned["tuned"])], value=tuned["tuned"]), writer


def run_form(studio: Studio, run_id: object) -> tuple[tuple[str, str, str], dict, str | None]:
    """(pair fields, lens, what to say) for a run's tuned expert beside the pair that its dataset came from.

    Raises UserError for what is no finished fine-tuning run.
    """
    run = tuned_run(studio.settings, run_id)
    amateur = amateur_of(run)
    preset = next((p for p in presets() if p.expert == run.expert and p.amateur == (amateur or p.amateur)), None)
    tuned = {"tuned": run.ref, "writer": EXPERT, "run": run.id, "name": run.title}
    if preset:
        return (preset.name, "", ""), tuned, None
    say = None if amateur else "The run's dataset names no amateur; write one in beside its expert, then press Run."
    return (OTHER, run.expert, amateur or ""), tuned, say
