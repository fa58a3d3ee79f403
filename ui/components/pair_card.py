"""The pair in a few lines: sizes, device, dtype, shared vocabulary, and whether it can run here and now."""

from __future__ import annotations

from html import escape

from lightreasoner.errors import UserError
from lightreasoner.models.cache import missing_reason
from lightreasoner.models.pairs import presets
from lightreasoner.models.weights import known_size
from ui.studio import Studio

OTHER = "other"  # the pair picker's choice for two models of one's own


def count(parameters: float | None) -> str:
    """3,970,304 → "3.97 M"; empty when not known."""
    if not parameters:
        return ""
    size, unit = (1e9, "B") if parameters >= 1e9 else (1e6, "M") if parameters >= 1e5 else (1e3, "k")
    return f"{parameters / size:.3g} {unit}"


def pair_card(studio: Studio, preset: str, expert: str, amateur: str, button: str = "Run") -> str:
    """The card as HTML, everything in it escaped. Loads nothing and asks no network. `button` is what would load it."""
    chosen = next((p for p in presets() if p.name == preset), None)
    if chosen:
        expert, amateur = chosen.expert, chosen.amateur
    elif not studio.visitor.owner:  # nothing is looked up for visitors, who could ask what there is on this machine
        return html([], "Choose a pair of the list; models of one's own belong to the owner of this server.", "warn")
    if not (isinstance(expert, str) and isinstance(amateur, str) and expert.strip() and amateur.strip()):
        return html([], "Name an expert and an amateur that share one tokenizer.", "warn")
    try:
        loaded = [studio.models.cached(ref) for ref in (expert, amateur)]
    except UserError as error:
        return html([], str(error), "warn")
    sizes = [chosen.expert_params, chosen.amateur_params] if chosen else [None, None]
    rows = []
    for role, ref, model, size in zip(("Expert", "Amateur"), (expert, amateur), loaded, sizes, strict=True):
        found = model or (None if size else known_size(ref))
        parameters = found.parameters if found else size
        rows.append((role, f"{ref}, {count(parameters)}" if parameters else ref))
    if all(loaded):
        model = loaded[0]
        memory = sum(m.memory_bytes for m in set_of(loaded)) / 1e6
        rows.append(("Runs on", f"{model.device}, {str(model.dtype).removeprefix('torch.')}, {memory:,.0f} MB"))
        rows.append(("Shared", f"{len(model.tokenizer):,} tokens of vocabulary"))
    elif chosen:
        rows.append(("Needs", f"about {chosen.memory_gb:g} GB"))
    why = chosen.why if chosen else ""
    missing = next((m for m in (missing_reason(ref, studio.settings) for ref in (expert, amateur)) if m), None)
    if missing and not all(loaded):
        return html(rows, missing, "warn", why)
    if expert.strip() == amateur.strip():
        return html(rows, "Both are the same model, so KL will be 0 everywhere.", "warn")
    if all(loaded):
        times = loaded[0].parameters / loaded[1].parameters
        return html(rows, f"Loaded and in agreement; the expert is {times:.1f} times the amateur's size.", "good", why)
    if not all(known_size(ref) for ref in (expert, amateur)):
        how = (
            f"{button} downloads it from the Hugging Face Hub first."
            if studio.visitor.owner
            else "its owner can load it."
        )
        return html(rows, f"Not on this machine yet: {how}", "warn", why)
    return html(rows, f"Loads when you press {button}.", "good", why)


def set_of(models: list) -> list:
    """Each loaded model once."""
    return list({id(m): m for m in models}.values())


def html(rows: list[tuple[str, str]], verdict: str, tone: str, why: str = "") -> str:
    table = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    reason = f"<p>{escape(why)}</p>" if why else ""
    return f'<div class="lr-pair-card"><dl>{table}</dl>{reason}<p class="lr-{tone}">{escape(verdict)}</p></div>'
