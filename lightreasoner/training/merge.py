"""Merges a run's adapter into its base model; transformers loads the result without PEFT."""

import json
from dataclasses import replace
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.hub.download import MEASURED
from lightreasoner.models.adapters import attach_adapter
from lightreasoner.models.devices import DTYPES
from lightreasoner.models.identity import differences
from lightreasoner.models.loading import load_model
from lightreasoner.models.merging import base_dtype, save_merged, untie
from lightreasoner.models.weights import check_adapter
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.storage.runs import read_run
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.runs import adapter_folder, used_adapter


def merge_run(run_dir: Path, out: Path, settings: Settings, dtype: str = "auto") -> None:
    """Write the base model with the merged adapter to the new folder `out`. Raises UserError.

    dtype: of the weights written; "auto" is the base's on disk. The sum itself is computed in float32.
    """
    adapter, record = adapter_folder(run_dir), read_run(run_dir)
    record |= used_adapter(adapter)
    check_adapter(adapter)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already exists; name a new folder for the merged model.")
    if dtype not in ("auto", *DTYPES):
        raise UserError(f"The dtype {dtype!r:.40} is unknown; use auto, {', '.join(DTYPES)}.")
    # in float32 an adapter that belongs to the base is merged, too; the host has more memory than a GPU
    loaded = load_model(record["about"]["expert"], replace(settings, dtype="float32"), on_host=True)
    if different := differences(record["about"], "expert", loaded):
        raise UserError(
            f"{loaded.ref} is not the model that was fine-tuned: its {' and its '.join(different)} "
            f"{'have' if different == ['weights'] or different[1:] else 'has'} changed. Restore them to merge."
        )
    untie(loaded.model, adapter)
    model = attach_adapter(loaded.model, adapter, str(loaded.ref), loaded.files)
    written = base_dtype(loaded.files) if dtype == "auto" else DTYPES[dtype]
    save_merged(model, loaded.tokenizer, out, adapter_card(record, merged=True), loaded.files, written)
    if "adapter" in record:  # the run may use another one when this model is published
        write_text(out / MEASURED, json.dumps(record["adapter"]))
