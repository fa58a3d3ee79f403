"""A tiny random model of every causal architecture that transformers can build on a CPU, and how it is read.

Configurations are generated: the library's own defaults with every size made small. Windows are shorter than the text.
`python -m tests.support.families --write` writes the table of docs/models.md.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cached_decoder import CachedDecoder
from lightreasoner.decoding.forward_pass import ALIGNED, APART, CHUNKS, PADDED, STEPS, WHOLE, Reading, forward
from lightreasoner.decoding.reading_check import COLUMNS, check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.references import ModelRef
from tests.support.tiny_models import tiny_tokenizer

VOCABULARY, LAYERS, POSITIONS = 96, 2, 128
WINDOW = 20  # longer than what the check at every load reads, shorter than the text: as with real models
LEAST_ENTROPY = 1.0  # nats, of a next-token distribution: one that is certain shows no difference
LARGEST = 500_000  # parameters; a larger model contains parts that see or hear
#: The name of a setting → its tiny value. What a configuration lacks is left out.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim_model", "embedding_size", "emb_dim", "embedding_dim"), 32
    ),
    **dict.fromkeys(
        ("embedding_dim", "word_embed_proj_dim", "attention_hidden_size", "lru_width", "input_embedding_size"), 32
    ),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_inner", "dff", "dim_ff", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "ffn_hidden_size", "expert_ffn_hidden_size", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "dense_intermediate_size"), 16),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("encoder_layers", "num_decoder_layers", "num_encoder_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("swa_num_attention_heads", "index_n_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "num_query_groups"), 2),
    **dict.fromkeys(("head_dim", "dim_head", "d_head", "kv_channels", "swa_head_dim", "attention_head_size"), 8),
    **dict.fromkeys(("v_head_dim", "qk_head_dim", "index_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "attention_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank", "adapter_rank", "laurel_rank"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), POSITIONS),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("sliding_window_size", "local_attention"), WINDOW),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_expert_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 4),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    "mamba_n_groups": 1,
    "n_groups": 1,
    "index_topk": 64,  # more than the text, as real models have
    "hidden_size_per_layer_input": 8,
    "router_hidden_size": 16,
    "gated_norm_rank": 8,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
}


#: What a configuration needs besides, because its own rules tie settings together.
RULES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_embds": False, "is_decoder": True},
    "xlstm": {"head_dim": 8, "num_heads": 4},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba2": {"mamba_expand": 2, "mamba_headdim": 16, "n_mamba_heads": 4, "attention_head_dim": 16},
    "zaya": {"num_experts_per_tok": 1},
}


def causal_configs() -> dict[str, type]:
    """Model type → configuration class, of all causal language models of the installed transformers."""
    return {config.model_type: config for config in transformers.MODEL_FOR_CAUSAL_LM_MAPPING}


def tiny_config(config: type) -> Any:
    """The configuration class with small sizes and one layer of each kind. Raises whatever the class raises."""
    defaults = config().to_dict()
    sizes = {name: value for name, value in SIZES.items() if name in defaults}
    kinds = next((defaults[name] for name in ("layer_types", "layers_block_type") if defaults.get(name)), None)
    if kinds:  # one of each kind, in their order
        kinds = list(dict.fromkeys(kinds))
        kinds = kinds * LAYERS if len(kinds) == 1 else kinds
        sizes |= {name: kinds for name in ("layer_types", "layers_block_type") if defaults.get(name)}
        sizes["num_hidden_layers"] = len(kinds)
    if defaults.get("mlp_layer_types"):
        both = list(dict.fromkeys(defaults["mlp_layer_types"]))
        sizes["mlp_layer_types"] = (both * len(kinds or "12"))[: len(kinds or "12")]
    if "qk_rope_head_dim" in defaults and "head_dim" in sizes:  # latent attention rotates a part of each head
        sizes["head_dim"] = sizes["qk_rope_head_dim"]
    if "kv_lora_rank" in defaults:  # latent attention has no groups of heads
        sizes |= {name: 4 for name in ("num_key_value_heads", "num_attention_heads") if name in sizes}
    return config(**sizes | RULES.get(config.model_type, {}))


def tiny_family(config: Any, seed: int = 0) -> Any | None:
    """A random model in eval mode, or None for one with parts other than a language model. Raises what it raises.

    Its weights are larger than a new model's, so that next-token distributions are as peaked as real ones.
    """
    with torch.device("meta"):
        if sum(p.numel() for p in transformers.AutoModelForCausalLM.from_config(config).parameters()) > LARGEST:
            return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for factor in (10, *[0.5] * 6):
            scale_weights(model, factor)
            p = model(input_ids=torch.arange(4, 40)[None], use_cache=False).logits.float().softmax(-1)
            if -(p * p.clamp_min(1e-30).log()).sum(-1).mean() > LEAST_ENTROPY:
                break
    return model


@torch.no_grad()
def scale_weights(model: Any, factor: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | transformers.pytorch_utils.Conv1D):
            module.weight.mul_(factor)


# --- reading ----------------------------------------------------------------------------------------------------------

TEXT = [(7 * n * n + 3 * n) % 90 + 4 for n in range(48)]  # ids
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
#: How a reading is named in the table.
NAMES = {
    (CHUNKS, PADDED): "batches",
    (CHUNKS, ALIGNED): "batches, aligned",
    (CHUNKS, APART): "one at a time",
    (STEPS, APART): "one at a time, token by token",
    (WHOLE, APART): "one at a time, the whole text for every token",
}


@dataclass(frozen=True)
class Family:
    """What was seen of one architecture. `difference`: the largest from plain forwards on the long text, nats."""

    kind: str  # the model type
    verdict: str  # a value of NAMES, "refused", "not built here" or "sees or hears"
    difference: float | None = None
    reason: str = ""


def measure_families(kinds: list[str] | None = None) -> Iterator[Family]:
    """Build, check and read every architecture, or those named."""
    tokenizer, configs = tiny_tokenizer(), causal_configs()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for kind in kinds or sorted(configs):
                yield _measure(kind, configs[kind], tokenizer)
    finally:
        logging.set_verbosity(level)


def _measure(kind: str, config: type, tokenizer: Any) -> Family:
    try:
        model = tiny_family(tiny_config(config))
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return Family(kind, "not built here", reason=f"{type(error).__name__}: {first[:80]}")
    if model is None:
        return Family(kind, "sees or hears")
    ref, cpu = ModelRef(kind, "folder", kind), torch.device("cpu")
    loaded = LoadedModel(ref, model, tokenizer, cpu, torch.float32, 0, 0, frozenset(), POSITIONS, kind)
    try:
        found = check_reading(loaded, (TEXT[:COLUMNS], TEXT[3 : 3 + COLUMNS]))
    except UserError as error:
        return Family(kind, "refused", reason=re.search(r"by (\S+ nats)", str(error))[1])
    return Family(kind, NAMES[found.one, found.many], long_difference(loaded))


@torch.inference_mode()
def long_difference(loaded: LoadedModel, reading: Reading | None = None) -> float:
    """The largest mean |Δ log p| between reading and plain forwards, nats, on a text longer than the windows.

    As tracer and sampler read: chunks and single tokens; three rows of different length, of which one ends, and which
    then grow by different numbers of tokens.
    """
    rows = [TEXT[:40], TEXT[4:40], TEXT[9:48]]
    plain = [forward(loaded, [row], keep=len(row))[0].log_softmax(-1) for row in rows]
    one = CachedDecoder(loaded, rows[0][:22], reading)
    found = [(one.teacher_force(rows[0][22:30]), plain[0][21:29]), (one.next_logits()[None], plain[0][29:30])]
    one.append(rows[0][30])
    found.append((one.teacher_force(rows[0][31:36]), plain[0][30:35]))
    many = BatchDecoder(loaded, 3, reading)
    many.prefill([rows[0][:23], rows[1][:18], rows[2][:21]])
    stepped = many.step(torch.tensor([rows[0][23], rows[1][18], rows[2][21]]))
    found.append((stepped, torch.stack([plain[0][23], plain[1][18], plain[2][21]])))
    many.select(torch.tensor([2, 0]))
    ragged = many.read([rows[2][22:27], rows[0][24:26]], keep=2)
    found += [(ragged[0], plain[2][25:27]), (ragged[1], plain[0][24:26])]
    for n in range(6):
        stepped = many.step(torch.tensor([rows[2][27 + n], rows[0][26 + n]]))
        found.append((stepped, torch.stack([plain[2][27 + n], plain[0][26 + n]])))
    gaps = [(p.exp() * (p - logits.log_softmax(-1)).abs()).sum(-1).max() for logits, p in found]
    return float(torch.stack(gaps).max())


def table(families: list[Family]) -> str:
    """The families as the Markdown of docs/models.md."""
    lines = ["| architecture | read | largest difference, nats |", "|---|---|---|"]
    for family in families:
        shown = family.reason if family.difference is None else f"{family.difference:.0e}"
        lines.append(f"| {family.kind} | {family.verdict} | {shown.replace('|', ' ')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    text = table(list(measure_families()))
    if parser.parse_args().write:
        head = PAGE.read_text(encoding="utf-8").partition("| architecture |")[0]
        PAGE.write_text(head + text + "\n", encoding="utf-8")
    else:
        print(text)
