"""The estimate of a fine-tuning run: time, memory and disk space, measured on some of its own updates."""

import shutil
import threading
import time
from collections.abc import Callable

from lightreasoner.errors import UserError
from lightreasoner.models.devices import release_memory
from lightreasoner.models.loading import load_model
from lightreasoner.progress import stoppable
from lightreasoner.training.examples import build_examples, refuse_other_expert
from ui.components.estimate import accelerator_turn
from ui.finetune.request import FinetuneRequest
from ui.studio import Studio


def measured(studio: Studio, request: FinetuneRequest, say: Callable[[str], None], stop: threading.Event) -> str:
    """The estimate, one sentence per line. Raises UserError, and WaitCancelled once `stop` is set."""
    from lightreasoner.formatting import format_bytes
    from lightreasoner.training.estimate import estimate_resources

    with accelerator_turn(studio, say, stop) as checkpoint:
        # training changes the model, so it is loaded separately; models in memory would count as occupied
        studio.models.clear()
        began = time.monotonic()
        try:
            loaded = load_model(request.expert, studio.settings, stoppable(say, checkpoint))
            refuse_other_expert(request.dataset.run, request.dataset.id[:8], request.expert, loaded)
            checkpoint()
            say("Reading the dataset")
            dataset, notes = (request.dataset.folder, request.config.method, request.selection), []
            examples, _ = build_examples(*dataset, loaded, on_note=notes.append)
            checkpoint()
            say("Training a few updates")
            found = estimate_resources(examples, request.config, loaded, time.monotonic() - began, checkpoint)
        finally:
            loaded = None  # releases the model's memory
            release_memory()
    lines = [*found.sentences(), *(f"{note}." for note in notes)]
    if found.disk_bytes > (free := shutil.disk_usage(studio.settings.workspace).free):
        raise UserError(f"{lines[0]} Only {format_bytes(free)} are free on the disk; make room first.")
    return "\n".join(lines)
