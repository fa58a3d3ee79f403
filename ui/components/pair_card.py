"""The card that describes a pair: sizes, device, dtype, shared vocabulary, and whether it can run on this machine."""

from collections.abc import Iterable
from urllib.parse import urlencode

from lightreasoner.decoding.forward_pass import describe_pass, describe_reading
from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes
from lightreasoner.models.cache import missing_reason
from lightreasoner.models.devices import dtype_effect
from lightreasoner.models.loading import LoadedModel, known_ends
from lightreasoner.models.pairs import alignment_of, presets
from lightreasoner.models.prompt_settings import PAPER
from lightreasoner.models.prompts import describe_prompt
from lightreasoner.models.tokenizer_pair import AcrossVocabulary
from lightreasoner.models.turn_ends import describe_ends
from lightreasoner.models.weights import known_parameters, on_disk
from ui.html_templates import render
from ui.studio import Studio

IMPROVE = "Improve this expert"  # the button of the tab that the card leads to
ACROSS_COSTS = (
    "differ: the amateur's text is read in the expert's tokens. What cannot be compared exactly is one rest, so KL "
    "is a lower bound, and steps whose plausible tokens are not all compared are not trained on; a contrast and the "
    "preview leave the expert's own token there."
)
OTHER = "other"  # the pair picker's choice for two models that are not a preset


def count(parameters: float | None) -> str:
    """3,970,304 → "3.97 M"; empty when not known."""
    if not parameters:
        return ""
    size, unit = (1e9, "B") if parameters >= 1e9 else (1e6, "M") if parameters >= 1e5 else (1e3, "k")
    return f"{parameters / size:.3g} {unit}"


def prompt_notes(loaded: LoadedModel) -> list[str]:
    """What of the paper's prompt is not as asked with this model, in sentences."""
    try:
        return describe_prompt(loaded, PAPER)["notes"]
    except UserError as error:
        return [str(error)]


def vocabulary_rows(expert: LoadedModel, amateur: LoadedModel) -> list[tuple[str, str]]:
    """What two loaded models' tokenizers share, and what it costs where they differ."""
    try:
        found = alignment_of(expert, amateur)
    except UserError as error:
        return [("Shared", str(error))]
    if not isinstance(found, AcrossVocabulary):
        return [("Shared", f"{len(expert.tokenizer):,} tokens of vocabulary")]
    shared = f"{found.shared:,} of the expert's {found.expert.size:,} tokens"
    return [("Shared", shared), ("Tokenizers", ACROSS_COSTS)]


def pair_card(studio: Studio, preset: str, expert: str, amateur: str, button: str = "Run") -> str:
    """The card as HTML, everything in it escaped. It neither loads a model nor uses the network.

    button: the name of the button that would load the pair.
    """

    def html(rows: list[tuple[str, str]], text: str, tone: str, why: str = "") -> str:
        pair = {"pair": chosen.name} if chosen else {"expert": expert, "amateur": amateur}
        improve = f"?{urlencode({'tab': 'improve'} | pair)}" if leads and rows else ""
        return render("pair_card", rows=rows, text=text, tone=tone, why=why, improve=improve)

    leads = studio.user.owner and button != IMPROVE
    chosen = next((p for p in presets() if p.name == preset), None)
    if chosen:
        expert, amateur = chosen.expert, chosen.amateur
    elif not studio.user.owner:  # no look-up for visitors, who could find out which files exist on this machine
        return html([], "Choose a preset pair; only the owner of this server can use other models.", "warn")
    if not (isinstance(expert, str) and isinstance(amateur, str) and expert.strip() and amateur.strip()):
        return html([], "Name an expert and an amateur, best of one family.", "warn")
    try:
        loaded = [studio.models.cached(ref) for ref in (expert, amateur)]
    except UserError as error:
        return html([], str(error), "warn")
    sizes = [chosen.expert_params, chosen.amateur_params] if chosen else [None, None]
    rows = []
    for role, ref, model, size in zip(("Expert", "Amateur"), (expert, amateur), loaded, sizes, strict=True):
        parameters = model.parameters if model else size or known_parameters(ref)
        rows.append((role, f"{ref}, {count(parameters)}" if parameters else ref))
    if all(loaded):
        rows += rows_when_loaded(*loaded)
    elif chosen:
        rows.append(("Needs", f"about {chosen.memory_gb:g} GB"))
    if ends := loaded[0].ends if loaded[0] else known_ends(expert):
        rows.append(("Ends at", describe_ends(ends)))
    why = chosen.why if chosen else ""
    missing = next((m for m in (missing_reason(ref, studio.settings) for ref in (expert, amateur)) if m), None)
    if missing and not all(loaded):
        return html(rows, missing, "warn", why)
    if expert.strip() == amateur.strip():
        return html(rows, "Both are the same model, so KL will be 0 everywhere.", "warn")
    if all(loaded):
        times = loaded[0].parameters / loaded[1].parameters
        return html(rows, f"Both are loaded. The expert is {times:.1f} times the amateur's size.", "good", why)
    if not all(on_disk(ref) for ref in (expert, amateur)):
        mine = studio.user.owner
        how = f"{button} downloads it from the Hugging Face Hub first." if mine else "only the owner can download it."
        return html(rows, f"Not on this machine yet: {how}", "warn", why)
    return html(rows, f"Loads when you press {button}.", "good", why)


def rows_when_loaded(expert: LoadedModel, amateur: LoadedModel) -> list[tuple[str, str]]:
    """What of the card is known of loaded models only."""
    loaded = (expert, amateur)
    dtypes = " and ".join(dict.fromkeys(str(model.dtype).removeprefix("torch.") for model in loaded))
    devices = " and ".join(dict.fromkeys(str(model.device) for model in loaded))
    memory = sum(model.memory_bytes for model in {id(model): model for model in loaded}.values())
    rows = [("Runs on", f"{devices}, {dtypes}, {format_bytes(memory)}")]

    def add(title: str, sentences: Iterable[str]) -> None:
        rows.extend((title, sentence) for sentence in dict.fromkeys(sentences) if sentence)

    add("16 bits", (dtype_effect(model.dtype) for model in loaded))
    add("Reads", map(describe_reading, loaded))  # models that are read in a slower way
    add("Forward pass", map(describe_pass, loaded))
    return rows + vocabulary_rows(*loaded) + [("Prompt", note) for note in prompt_notes(expert)]
