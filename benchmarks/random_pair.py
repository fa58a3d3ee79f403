"""Pairs of random weights in the shapes of the paper's models, as folders that every verb reads; nothing is downloaded.

Their tokenizer is the bundled one, filled up to the paper's vocabulary with tokens that no text has. The output head is
scaled so that a distribution is about as peaked as a trained model's. Nothing relates the two models, so they diverge
at every step: all steps store their candidates and are trained on, the most work that sampling can be.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from lightreasoner.models.devices import choose_device, release_memory
from lightreasoner.settings import ASSETS, from_environment

VOCABULARY = 151_665  # Qwen2.5's tokens; the output table has more rows
LOGIT_SPREAD = 8.0  # standard deviation of the logits


@dataclass(frozen=True)
class Shape:
    hidden: int
    inner: int
    layers: int
    heads: int
    cached_heads: int
    rows: int  # of the output table
    tied: bool = True
    kind: str = "qwen2"

    def model(self, device: torch.device, dtype: torch.dtype):
        config = AutoConfig.for_model(
            self.kind,
            vocab_size=self.rows,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.cached_heads,
            tie_word_embeddings=self.tied,
            max_position_embeddings=4096,
            bos_token_id=None,
            eos_token_id=2,
            initializer_range=0.8 / self.hidden**0.5,
            pad_token_id=0,
        )
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config, dtype=dtype)


SHAPES = {
    "qwen2.5-0.5b": Shape(896, 4864, 24, 14, 2, 151_936),
    "qwen2.5-math-1.5b": Shape(1536, 8960, 28, 12, 2, 151_936),
    "qwen2.5-math-7b": Shape(3584, 18_944, 28, 28, 4, 152_064, tied=False),
    "smollm2-135m": Shape(576, 1536, 30, 9, 3, 49_152, kind="llama"),
    "tiny-amateur": Shape(32, 64, 2, 4, 2, 2048),
    "tiny-expert": Shape(64, 128, 3, 4, 2, 2048),
}


@torch.no_grad()
def random_model(name: str, device: torch.device, dtype: torch.dtype):
    """A model of this shape with random weights, whose distributions are about as peaked as a trained model's."""
    shape = SHAPES[name]
    torch.manual_seed(len(name) + shape.hidden)
    model = shape.model(device, dtype)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=LOGIT_SPREAD / shape.hidden**0.5)
    for layer in model.model.layers:  # a tied head would otherwise see its own embedding, and repeat the last token
        layer.mlp.down_proj.weight *= 4
    return model.eval().requires_grad_(False)


def save_random(folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Path:
    """Write such a model and its tokenizer, unless the folder has it already. Returns the folder."""
    place = folder / name
    if not place.exists():
        part = folder / f".{name}"
        shutil.rmtree(part, ignore_errors=True)
        logging.disable_progress_bar()
        random_model(name, device, dtype).save_pretrained(part)
        save_tokenizer(part, min(VOCABULARY, SHAPES[name].rows))
        part.rename(place)
    return place


def save_tokenizer(folder: Path, tokens: int) -> None:
    """The bundled tokenizer with so many tokens, into this folder."""
    source = ASSETS / "models" / "lightreasoner-expert-4m"
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(source / name, folder / name)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    known = max(max(vocabulary.values()), *(token["id"] for token in tokenizer["added_tokens"])) + 1
    vocabulary |= {f"unused{id}": id for id in range(known, tokens)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def pair_folders(folder: Path, size: str) -> tuple[Path, Path]:
    """The pair's folders, made where they are missing."""
    names = {"tiny": ("tiny-expert", "tiny-amateur")}.get(size, (f"qwen2.5-math-{size}", "qwen2.5-0.5b"))
    place = choose_device(from_environment())
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    made = tuple(save_random(folder, name, place, dtype) for name in names)
    release_memory()
    return made
