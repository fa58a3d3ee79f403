"""Everything that app.py and its jobs import sooner or later; see warm_app.py."""

import gc
import os
from importlib import import_module

gc.disable()
os.fsync = lambda handle: None  # as in tests/conftest.py

for name in (
    "accelerate",
    "peft",
    "transformers.trainer",
    "transformers.models.llama.modeling_llama",
    "ui.page",
    "lightreasoner.cli.main",
    "lightreasoner.evaluation.run",
    "lightreasoner.publishing.push",
    "lightreasoner.sampling.run",
    "lightreasoner.training.run",
):
    import_module(name)

gc.enable()
gc.collect()
gc.freeze()  # no fork walks through it again, or gets copies of its pages
