"""Merges a run's adapter into its base model; transformers loads the result without PEFT."""

from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.models.adapters import save_merged
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import read_run
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.runs import adapter_folder


def merge_run(run_dir: Path, out: Path, settings: Settings) -> None:
    """Write the base model with the merged adapter to the new folder `out`. Raises UserError."""
    import peft  # slow to import

    adapter, record = adapter_folder(run_dir), read_run(run_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already exists; name a new folder for the merged model.")
    loaded = load_model(record["about"]["expert"], settings)
    if loaded.fingerprint != record["about"]["fingerprints"]["expert"]:
        raise UserError(
            f"{loaded.ref} is not the model that was fine-tuned: its weights have changed. Restore them to merge."
        )
    model = peft.PeftModel.from_pretrained(loaded.model.float(), adapter)
    save_merged(model, loaded.tokenizer, out, adapter_card(record, merged=True))
