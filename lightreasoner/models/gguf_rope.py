"""The scaling of positions that a GGUF file asks for: transformers reads the file as if it asked for none."""

import math
from pathlib import Path
from typing import Any

from lightreasoner.compat.transformers import gguf_metadata, gguf_tensor_names, gguf_vector
from lightreasoner.errors import UserError

#: Llama 3.1 to 3.3 and what is made of them: rope_freqs.weight holds no more than this and a factor.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
_READ = {"type", "factor", "original_context_length", "finetuned", *_YARN}


def scale_positions(config: Any, gguf: Path, ref: Any) -> None:
    """Put the file's scaling into its configuration. Raises UserError for one that is not known here."""
    metadata = gguf_metadata(gguf)
    architecture = metadata["general.architecture"]
    if architecture == "gpt-oss":  # the only one that transformers reads
        return
    said = {key.removeprefix(f"{architecture}.rope."): value for key, value in metadata.items()}
    scaling = {key.removeprefix("scaling."): value for key, value in said.items() if key.startswith("scaling.")}
    factor = scaling.get("factor", said.get("scale_linear")) or 1.0
    kind = scaling.get("type", "linear")  # as llama.cpp takes it
    tensors = [name for name in gguf_tensor_names(gguf) if name.startswith(("rope_freqs.", "rope_factors_"))]
    wanted = None
    if tensors == ["rope_freqs.weight"] and (kind == "none" or factor == 1):
        wanted = _llama3(gguf_vector(gguf, tensors[0]), said.get("freq_base", 10_000.0))
    elif not tensors and (kind == "none" or factor == 1):
        return
    elif not tensors and kind == "linear":
        wanted = {"rope_type": "linear", "factor": factor}
    elif not tensors and kind == "yarn" and scaling.get("original_context_length") and scaling.keys() <= _READ:
        wanted = {"rope_type": "yarn", "factor": factor}
        wanted["original_max_position_embeddings"] = scaling["original_context_length"]
        wanted |= {name: scaling[key] for key, name in _YARN.items() if key in scaling}
    rope = getattr(config, "rope_parameters", None)
    if wanted is None or not isinstance(rope, dict):
        raise UserError(
            f"{ref} scales its positions in a way that is not read from GGUF files "
            f"({', '.join(tensors) or kind}); use the same model as a folder or Hub id with safetensors."
        )
    rope.get("full_attention", rope).update(wanted)  # layers with a window are not scaled (Gemma 3)


def _llama3(stored: list[float], base: float) -> dict[str, Any] | None:
    """Llama 3's parameters that divide the frequencies by these numbers; None where none do."""
    if set(stored) == {1.0}:
        return {}
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    turns = [
        LLAMA3["original_max_position_embeddings"] / (2 * math.pi * base ** (n / len(stored)))
        for n in range(len(stored))
    ]
    kept = [min(max((turn - low) / (high - low), 0), 1) for turn in turns]  # the share that is not scaled
    if kept[-1] == 1 or stored[-1] <= 1 or (rest := 1 / stored[-1] - kept[-1]) <= 0:
        return None
    factor = (1 - kept[-1]) / rest  # the slowest frequency tells it
    fits = all(
        math.isclose(number, 1 / ((1 - share) / factor + share), rel_tol=1e-3)
        for number, share in zip(stored, kept, strict=True)
    )
    return {"rope_type": "llama3", "factor": factor} | LLAMA3 if fits else None
