"""Make an amateur out of an expert: the same model without some of its middle layers, saved as a folder.

    python -m scripts.drop_layers REF OUT --drop 18-23

Prints the loss per token on a few sentences before and after, which tells whether it is still coherent.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from lightreasoner.models.loading import load_model
from lightreasoner.settings import from_environment

TEXT = (
    "A baker sold 48 loaves in the morning, and in the afternoon half as many. In the afternoon she sold 24 loaves. "
    "Altogether she sold 48 + 24 = 72 loaves. The weather in the mountains changes quickly, so people who walk "
    "there take warm clothes, something to eat, and a map."
)


@torch.inference_mode()
def loss(model, tokenizer) -> float:
    """Mean negative log-likelihood a token, in nats."""
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    return model(input_ids=ids, labels=ids).loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ref", help="the expert: a folder, a GGUF file or a Hub id")
    parser.add_argument("out", type=Path)
    parser.add_argument("--drop", required=True, help="layers to remove, counted from 0, such as 18-23")
    options = parser.parse_args()
    low, high = map(int, options.drop.split("-"))
    loaded = load_model(options.ref, from_environment())
    model, before = loaded.model, loss(loaded.model, loaded.tokenizer)
    layers = model.model.layers
    kept = [i for i in range(len(layers)) if not low <= i <= high]
    model.model.layers = nn.ModuleList(layers[i] for i in kept)
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i  # where its keys and values lie in the cache
    model.config.num_hidden_layers = len(kept)
    if types := getattr(model.config, "layer_types", None):  # Gemma's layers differ: some see a window only
        model.config.layer_types = [types[i] for i in kept]
    after = loss(model, loaded.tokenizer)
    print(f"{len(layers)} layers → {len(model.model.layers)}; loss a token {before:.3f} → {after:.3f} nats")
    model.save_pretrained(options.out)
    loaded.tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
