"""What makes two models the same: weights, configuration, tokenizer and chat template, whatever wrote their files.

Each has a mark in a run's record, so that a difference can be named. The fingerprint beside them is of the files: where
it is the same, weights and configuration are. Records of versions until 0.3 have only the fingerprint.
"""

import hashlib
import json
from typing import Any

from lightreasoner.models.loading import LoadedModel

#: Settings that say who wrote a configuration, and how, but not what the model computes.
WRITERS = {
    *("transformers_version", "dtype", "torch_dtype", "_name_or_path", "name_or_path", "architectures", "auto_map"),
    *("use_cache", "_attn_implementation", "attn_implementation", "id2label", "label2id", "quantization_config"),
    *("return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "problem_type"),
}
#: Text whose tokens tell two tokenizers apart: numbers, spaces, capitals, code, LaTeX, and several scripts.
PROBE = (
    "The answer is 1,234.5678 – isn't it?\n\n\tdef f(x):  return x*2 #100%\r\n   \\boxed{\\frac{3}{8}} \\times 10^{33} "
    "naïve Ångström ﬁ ½ 答案是18元。Ответ: 42; जवाब ١٢٣ 한국어 🙂👍🏽 <b>HTML</b> https://example.org/?a=1&b=2 LLMs"
    "\u00a0\u200b end"
)


def describe_models(models: dict[str, LoadedModel], stored: dict[str, Any] | None = None) -> dict[str, dict[str, str]]:
    """The fingerprints and the marks of these models, by role, for the part "about" of a run's record.

    stored: that part of an existing record. Where a model is the one that it describes, written into other files,
    its fingerprint is returned.
    """
    about: dict[str, dict[str, str]] = {"fingerprints": {}, "marks": {}}
    for role, loaded in models.items():
        fingerprint, found = _compared(stored or {}, role, loaded)
        about["fingerprints"][role] = fingerprint
        about["marks"] |= found
    return about


def differences(stored: dict[str, Any], role: str, loaded: LoadedModel) -> list[str]:
    """What of a model differs from the record whose part "about" is given, such as "weights"; empty for the same model.

    What the record has no mark of counts as the same.
    """
    fingerprint, now = _compared(stored, role, loaded)
    marks = stored.get("marks", {})
    different = [name.removeprefix(f"{role}'s ") for name, mark in now.items() if marks.get(name, mark) != mark]
    known = stored.get("fingerprints", {}).get(role)
    return different if different or known in (None, fingerprint) else ["weights"]


def _compared(stored: dict[str, Any], role: str, loaded: LoadedModel) -> tuple[str, dict[str, str]]:
    """(fingerprint, marks) of a model; those of the record where they stand for the same model."""
    known, fingerprint = stored.get("fingerprints", {}).get(role), loaded.fingerprint
    marks, before = _marks(role, loaded), stored.get("marks", {})
    content = (f"{role}'s weights", f"{role}'s configuration")
    if known == fingerprint:  # another version may describe the same files in other words
        return fingerprint, marks | {name: before[name] for name in content if name in before}
    same = all(before.get(name) == marks[name] for name in content)
    return known if known and same else fingerprint, marks


def _marks(role: str, loaded: LoadedModel) -> dict[str, str]:
    return {
        f"{role}'s weights": loaded.weights,
        f"{role}'s configuration": _digest(configuration(loaded.model.config)),
        f"{role}'s tokenizer": tokenizer_fingerprint(loaded.tokenizer),
        f"{role}'s chat template": _digest(loaded.tokenizer.chat_template),
    }


def same_model(one: LoadedModel, other: LoadedModel) -> bool:
    """Whether two loaded models compute the same for the same token ids."""
    if one.fingerprint == other.fingerprint:
        return True
    return one.weights == other.weights and configuration(one.model.config) == configuration(other.model.config)


def configuration(config: Any) -> dict[str, Any]:
    """What a model computes, as its configuration says it: the same however often the file is saved again."""
    return _without(json.loads(json.dumps(config.to_diff_dict(), default=str)) | {"model_type": config.model_type})


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of a tokenizer's vocabulary, of its control tokens, and of the tokens that it makes of a text."""
    special = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return _digest([sorted(tokenizer.get_vocab().items()), sorted(special.items()), list(ids), ends])


def _without(value: Any) -> Any:
    """A JSON value without the settings of WRITERS, and without what is not set."""
    if isinstance(value, dict):
        kept = {name: _without(item) for name, item in value.items() if name not in WRITERS}
        return {name: item for name, item in kept.items() if item not in (None, {})}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
