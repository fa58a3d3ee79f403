"""The form for an optional tuned expert, which is compared with the pair."""

import gradio as gr

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import presets
from lightreasoner.models.references import parse_ref
from lightreasoner.tracing.tuned_decoder import EXPERT, TUNED, tuned_ref
from lightreasoner.training.runs import amateur_of, tuned_run, tuned_runs
from ui.access.actions import OWNERS_ONLY, action
from ui.components.events import PRIVATE
from ui.components.pair_card import OTHER
from ui.components.pair_form import PairForm, pair_refs
from ui.inspect.writer_form import BY_EXPERT, BY_TUNED, WITH_TUNED, WRITERS, WriterForm, writer_of
from ui.studio import Studio

NO_MODEL = ""  # the choice that removes the tuned expert


def tuned_form() -> gr.Dropdown:
    with gr.Group(elem_id="lr-lens", elem_classes=[OWNERS_ONLY]):
        return gr.Dropdown(
            [("None, the pair alone", NO_MODEL)],
            value=None,
            label="Tuned expert (optional)",
            info="shows what training changed: a finished run, BASE::ADAPTER or a folder",
            allow_custom_value=True,
            elem_id="lr-tuned",
        )


def wire_tuned(studio: Studio, tuned: gr.Dropdown, pair: PairForm, form: WriterForm) -> None:
    """Wire the form. The list is read again whenever a user opens it, so new runs are in it."""
    known = gr.State([])  # the choices; a list that is updated while it is open loses its position

    @action("inspect.list_tuned_experts", visitors=True)
    def list_runs(preset, expert, amateur, before) -> tuple:
        listed = choices(studio, preset, expert, amateur)
        return (gr.skip(), gr.skip()) if listed == before else (gr.Dropdown(choices=listed), listed)

    @action("inspect.update_tuned_experts", visitors=True)
    def update(preset, expert, amateur, now) -> tuple:
        """List the new pair's runs, and remove a tuned expert whose base is not the expert."""
        listed = choices(studio, preset, expert, amateur)
        try:
            ref, base = parse_ref(now), parse_ref(pair_refs(preset, expert, amateur)[1])
        except UserError:
            return gr.Dropdown(choices=listed), listed
        foreign = ref.adapter and ref.base != base.base
        return gr.Dropdown(choices=listed, value=None) if foreign else gr.Dropdown(choices=listed), listed

    @action("inspect.choose_tuned_expert", visitors=True)
    def choose(now, writer) -> tuple:
        if now:
            return gr.skip(), gr.Radio(elem_classes=[WITH_TUNED])
        nobody = gr.Radio(value=BY_EXPERT if writer == BY_TUNED else writer, elem_classes=[])
        return gr.Dropdown(value=None) if now == NO_MODEL else gr.skip(), nobody

    tuned.focus(list_runs, [*pair.fields, known], [tuned, known], **PRIVATE)
    tuned.change(choose, [tuned, form.writer], [tuned, form.writer], **PRIVATE)
    pair.preset.change(update, [*pair.fields, tuned], [tuned, known], **PRIVATE)
    pair.expert.blur(update, [*pair.fields, tuned], [tuned, known], **PRIVATE)


def choices(studio: Studio, preset: str, expert: str, amateur: str) -> list[tuple[str, str]]:
    """(title, reference) of no model and of the finished runs with this pair's expert, newest first."""
    try:
        mine = studio.user.owner
        runs = tuned_runs(studio.settings, pair_refs(preset, expert, amateur)[1]) if mine else []
    except UserError:
        runs = []
    return [("None, the pair alone", NO_MODEL), *((run.title, run.ref) for run in runs)]


def requested_tuned(studio: Studio, tuned: object, writer: object, expert: str) -> dict | None:
    """The form's tuned expert as Studio.start takes it; None if there is none. Raises UserError."""
    if tuned is None or (isinstance(tuned, str) and not tuned.strip()):
        if writer == BY_TUNED:
            raise UserError("No tuned expert is named, so it cannot write; name one, or let the expert write.")
        return None
    if not studio.user.owner:  # before any look-up
        raise UserError("Tuned experts belong to the owner of this server; leave that field empty.")
    if writer not in WRITERS:
        raise UserError(f"{str(writer)[:40]!r} cannot generate the response; choose {', '.join(WRITERS)}.")
    ref = str(tuned_ref(tuned, expert))
    named = {run.ref: run for run in tuned_runs(studio.settings, expert)}.get(ref)
    about = {"run": named.id, "name": named.title} if named else {}
    return {"tuned": ref, "writer": TUNED if writer == BY_TUNED else EXPERT} | about


def tuned_updates(tuned: dict | None, contrast: Contrast | None = None) -> tuple:
    """Updates of tuned expert and writer from a saved trace."""
    writer = writer_of(contrast, tuned)
    if not tuned:
        return gr.Dropdown(value=None), writer
    return gr.Dropdown(choices=[(tuned.get("name") or tuned["tuned"], tuned["tuned"])], value=tuned["tuned"]), writer


def run_fields(studio: Studio, run_id: object) -> tuple[tuple[str, str, str], dict, str | None]:
    """(pair fields, tuned expert, notice) for a run's tuned expert with the pair that its dataset was sampled from.

    Raises UserError unless the id is that of a finished fine-tuning run.
    """
    run = tuned_run(studio.settings, run_id)
    amateur = amateur_of(run)
    preset = next((p for p in presets() if p.expert == run.expert and p.amateur == (amateur or p.amateur)), None)
    tuned = {"tuned": run.ref, "writer": EXPERT, "run": run.id, "name": run.title}
    if preset:
        return (preset.name, "", ""), tuned, None
    notice = None if amateur else "The run's dataset names no amateur; enter one beside its expert, then press Run."
    return (OTHER, run.expert, amateur or ""), tuned, notice
