"""Pairs of an expert and an amateur: the presets, and two loaded models whose vocabularies agree."""

import tomllib
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import same_model
from lightreasoner.models.loading import LoadedModel, Status, tokenizer_in
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.tokenizer_pair import AcrossVocabulary, across_vocabulary, check_across
from lightreasoner.models.vocabulary import VocabularyAlignment, added_tokens, align_vocabularies
from lightreasoner.models.weights import find_small_files
from lightreasoner.settings import ASSETS

CATALOGUE = ASSETS / "pairs.toml"
ACROSS = (
    "This needs the amateur's probability of every token, and the tokenizers of this pair differ, so only a part of "
    "them is known. Choose an amateur of the expert's own family."
)


@dataclass(frozen=True)
class Preset:
    """A pair of assets/pairs.toml."""

    name: str
    title: str
    expert: str
    amateur: str
    why: str
    expert_params: int
    amateur_params: int
    memory_gb: float  # GB for both models' weights in bf16, plus a fifth for activations
    license: str | None = None
    finetune: dict[str, Any] = field(default_factory=dict)  # fields of FinetuneConfig that differ from the paper's
    quick: dict[str, Any] = field(default_factory=dict)  # see quick_settings; empty: those of all other pairs


@dataclass
class Pair:
    """Two loaded models whose next-token probabilities can be compared.

    across: what their tokenizers have in common, where these differ; the amateur's text is then read in the expert's
    tokens (decoding/cross_tokenizer.py), and `alignment` holds the expert's ids alone.
    """

    name: str | None  # of the preset
    expert: LoadedModel
    amateur: LoadedModel
    alignment: VocabularyAlignment
    same_model: bool  # KL is 0 everywhere
    same_special_tokens: bool  # False: the amateur lacks control tokens of the expert and needs its own prompt
    across: AcrossVocabulary | None = None


def presets() -> list[Preset]:
    """The presets, the default first. Raises UserError when assets/pairs.toml cannot be read."""
    return _catalogue()[0]


def quick_settings(name: object) -> dict[str, Any]:
    """The quick preset of a pair: settings of FinetuneConfig, and limit, test_limit and preview of an experiment.

    name: of a preset; any other pair has the one of all others. Raises UserError.
    """
    pairs, usual = _catalogue()
    return dict(next((pair.quick for pair in pairs if pair.name == name and pair.quick), usual))


def _catalogue() -> tuple[list[Preset], dict[str, Any]]:
    """(the presets, the quick preset of all other pairs)."""
    try:
        tables = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
        return [Preset(**row) for row in tables["pair"]], tables["quick"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The presets in {CATALOGUE} cannot be read: {error}. Restore it from the repository."
        ) from None


def find_preset(name: str) -> Preset:
    """The preset of this name. Raises UserError with the known names."""
    by_name = {preset.name: preset for preset in presets()}
    if not isinstance(name, str) or name not in by_name:
        raise UserError(f"There is no pair {name!r:.60}; choose one of {', '.join(by_name)}, or name two models.")
    return by_name[name]


def load_pair(
    expert_ref: str | ModelRef,
    amateur_ref: str | ModelRef,
    models: LoadedModels,
    on_status: Status = None,
    name: str | None = None,
    beside: Sequence[LoadedModel] = (),
) -> Pair:
    """Load both models and align their vocabularies. Raises UserError when that fails; name: of the preset.

    beside: further models that are used at the same time. On a machine with several GPUs the amateur goes to the next
    one where it has no room beside the expert.

    Two tokenizers that differ make a pair across tokenizers; where no text can be read in both, they are refused before
    any weights are downloaded or read.
    """
    refs = parse_ref(expert_ref), parse_ref(amateur_ref)
    tokenizers = _read_tokenizers(refs, models, on_status)
    if all(tokenizers):
        _align(refs, tokenizers, before=True)
    expert = models.get(refs[0], on_status, tokenizers[0], beside)
    amateur = models.get(refs[1], on_status, tokenizers[1], (expert, *beside))
    return Pair(name, expert, amateur, **_compared(expert, amateur))


#: What was found out about pairs of models that are still loaded: (ids of both) → (both, weakly, and the facts).
_COMPARED: OrderedDict[tuple[int, int], tuple[weakref.ref, weakref.ref, dict[str, Any]]] = OrderedDict()
MOST_COMPARED = 8


def _compared(expert: LoadedModel, amateur: LoadedModel) -> dict[str, Any]:
    """The fields of Pair that comparing two vocabularies gives, once for as long as both models stay loaded."""
    key = (id(expert), id(amateur))
    of_expert, of_amateur, found = _COMPARED.get(key) or (lambda: None, lambda: None, None)
    if of_expert() is expert and of_amateur() is amateur:
        return found
    alignment = alignment_of(expert, amateur)
    if isinstance(alignment, AcrossVocabulary):
        whole = ExpertOnly(alignment.expert.size)
        found = {"alignment": whole, "same_model": False, "same_special_tokens": False, "across": alignment}
    else:
        found = {
            "alignment": alignment.to_devices(expert.device, amateur.device),
            "same_model": same_model(expert, amateur) and alignment.expert_ids is None,
            "same_special_tokens": added_tokens(expert.tokenizer) <= added_tokens(amateur.tokenizer),
        }
    _COMPARED[key] = weakref.ref(expert), weakref.ref(amateur), found
    while len(_COMPARED) > MOST_COMPARED:
        _COMPARED.popitem(last=False)
    return found


def load_further(pair: Pair, amateurs: Sequence[str], models: LoadedModels, on_status: Status = None) -> list[Pair]:
    """A pair's expert beside further amateurs. Raises UserError."""
    pairs = [pair]
    for amateur in amateurs:
        beside = [each.amateur for each in pairs]
        pairs.append(load_pair(pair.expert.ref, amateur, models, on_status, beside=beside))
    return pairs[1:]


def alignment_of(expert: LoadedModel, amateur: LoadedModel) -> VocabularyAlignment | AcrossVocabulary:
    """The shared vocabulary of two loaded models, or what their tokenizers have in common. Raises UserError."""
    rows = [m.model.get_output_embeddings().weight.shape[0] for m in (expert, amateur)]
    refs, tokenizers = (expert.ref, amateur.ref), (expert.tokenizer, amateur.tokenizer)
    return _align(refs, tokenizers, *rows, ends=(expert.end_ids, amateur.end_ids))


class ExpertOnly(VocabularyAlignment):
    """The expert's ids, where the amateur has other tokens: whatever takes these for the expert's is refused."""

    def amateur(self, logits: Any) -> Any:
        raise UserError(ACROSS)

    def retokenize(self, expert_ids: list[int]) -> Any:
        raise UserError(ACROSS)


def _read_tokenizers(refs: Sequence[ModelRef], models: LoadedModels, on_status: Status) -> list[Any]:
    """The tokenizers of two models of which at least one is still to be loaded; else None for each."""
    loaded = [models.cached(ref) for ref in refs]
    if all(loaded) or refs[0] == refs[1]:
        return [None, None]
    files = [None if model else find_small_files(ref, on_status) for ref, model in zip(refs, loaded, strict=True)]
    if on_status:
        on_status("Reading both tokenizers")
    return [model.tokenizer if model else tokenizer_in(own) for model, own in zip(loaded, files, strict=True)]


def _align(
    refs: Sequence[ModelRef],
    tokenizers: Sequence[Any],
    *rows: int,
    before: bool = False,
    ends: Sequence[frozenset[int]] = (),
) -> VocabularyAlignment | AcrossVocabulary | None:
    try:
        return align_vocabularies(*tokenizers, *rows)
    except UserError:  # their tokens differ
        pass
    try:
        return check_across(*tokenizers) if before else across_vocabulary(*tokenizers, *rows, *ends)
    except UserError as error:
        raise UserError(f"{refs[0]} and {refs[1]} cannot be a pair. {error}") from None


def describe_pair(pair: Pair, others: Sequence[Pair] = ()) -> dict:
    """The facts about a pair that a trace stores: which models, and how they ran. others: of further amateurs."""
    shared = pair.across.shared if pair.across else pair.alignment.size
    about = {"name": pair.name, "same_model": pair.same_model, "shared_vocabulary": shared}
    about |= {"across": True} if pair.across else {}  # records of one tokenizer have no such key
    for role, loaded in (("expert", pair.expert), ("amateur", pair.amateur)):
        about[role] = str(loaded.ref)
        about[f"{role}_parameters"] = loaded.parameters
        about[f"{role}_fingerprint"] = loaded.fingerprint
    about |= {"others": [str(other.amateur.ref) for other in others]} if others else {}
    across = [bool(other.across) for other in others]
    about |= {"others_across": across} if any(across) else {}
    return about | {"device": device_names(pair), "dtype": str(pair.expert.dtype).removeprefix("torch.")}


def device_names(pair: Pair) -> str:
    """Where a pair lies: "cuda", or "cuda and cuda:1"."""
    return " and ".join(dict.fromkeys(str(loaded.device) for loaded in (pair.expert, pair.amateur)))
