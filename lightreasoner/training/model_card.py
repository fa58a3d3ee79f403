"""Model cards: what an adapter or a merged model is, where it comes from, and what was measured."""

from __future__ import annotations

import json

from lightreasoner.formatting import markdown_table
from lightreasoner.training.config import METHODS
from lightreasoner.training.result import FinetuneResult


def adapter_card(run: dict, merged: bool = False) -> str:
    """The card of a fine-tuning run's adapter, or of the model it was merged into.

    run: the record in its run.json. The card holds no local path beyond the names that the user gave.
    """
    config, about = run["config"], run["about"]
    base, dataset = about["expert"], about["dataset"]
    front = {
        "base_model": base,
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lightreasoner", "base_model:adapter:" + base if not merged else "merged", "lora"],
    }
    what = "the base model with this adapter merged in" if merged else "a LoRA adapter"
    lines = [
        "---",
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()),
        "---",
        f"# {base}, fine-tuned with LightReasoner Studio",
        "",
        f"This is {what}. It learned from the expert's own responses: {METHODS[config['method']]}. "
        + ("The known answers chose the responses." if config["method"] == "sft" else "No labels were used."),
        "",
        "## Data",
        "",
        *markdown_table(dataset),
        "",
        "## Settings",
        "",
        *markdown_table({name: value for name, value in config.items() if name != "dataset"}),
        "",
        "## Measured while training",
        "",
        *markdown_table(measured(FinetuneResult.from_record(run))),
        "",
        "Losses and drift are in nats; held-out loss and drift are of trajectories that were kept aside. Whether the "
        "model got better at a task is for an evaluation to say.",
        "",
        "## Versions",
        "",
        *markdown_table({f"fingerprint of the {name}": text for name, text in about.get("fingerprints", {}).items()}),
        "",
        *markdown_table(about.get("versions", {}) | {"device": about.get("device"), "dtype": about.get("dtype")}),
        "",
    ]
    return "\n".join(lines)


def measured(result: FinetuneResult | None) -> dict[str, float | None]:
    """The rows of the card's table of measurements: label → number."""
    named = {"train_loss": "training loss", "held_out_loss": "held-out loss"}
    return {named.get(name, name): value for name, value in (result.as_json() if result else {}).items()}
