"""The model card of an adapter or a merged model: origin, settings and measurements."""

from huggingface_hub import ModelCard, ModelCardData

from lightreasoner.formatting import markdown_cell, markdown_table
from lightreasoner.settings import ASSETS
from lightreasoner.storage.runs import versions_shown
from lightreasoner.training.config import METHODS
from lightreasoner.training.result import FinetuneResult

LABELS = {"train_loss": "training loss", "held_out_loss": "held-out loss"}


def adapter_card(run: dict, merged: bool = False, license: str | None = None) -> str:
    """The card of a fine-tuning run's adapter, or of the model into which the adapter was merged.

    run: the record in its run.json, with "adapter" (see `used_adapter`) where another than the last is meant. The card
    holds no local path beyond the names that the user gave.
    """
    config, about, result = run["config"], run["about"], FinetuneResult.from_record(run)
    base = about["expert"]
    measured = result.as_json() if result else {}
    if kept := run.get("adapter"):
        measured |= kept
        measured["update of this adapter, the one with the lowest held-out loss"] = measured.pop("update")
    data = ModelCardData(
        base_model=base,
        library_name="transformers" if merged else "peft",
        license=license,
        pipeline_tag="text-generation",
        tags=["lightreasoner", "merged" if merged else f"base_model:adapter:{base}", "lora"],
    )
    tables = {
        "dataset": about["dataset"],
        "settings": {name: value for name, value in config.items() if name != "dataset"},
        "result": {LABELS.get(name, name): value for name, value in measured.items()},
        "fingerprints": {f"fingerprint of the {name}": text for name, text in about.get("fingerprints", {}).items()},
        "versions": versions_shown(run) | {"device": about.get("device"), "dtype": about.get("dtype")},
    }
    card = ModelCard.from_template(
        data,
        template_path=str(ASSETS / "templates" / "model_card.md.j2"),
        base=markdown_cell(" ".join(base.split())),
        merged=merged,
        method=config["method"],
        description=METHODS[config["method"]],
        **{name: "\n".join(markdown_table(rows)) for name, rows in tables.items()},
    )
    return f"{card}\n"
