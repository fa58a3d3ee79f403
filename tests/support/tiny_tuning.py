"""Fine-tuning runs as their verb leaves them, without training anything."""

from __future__ import annotations

import json
from pathlib import Path

from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.storage.runs import add_to_run, begin_run
from lightreasoner.training.config import FinetuneConfig, as_json


def make_run(
    folder: Path, dataset: Path, updates: int = 40, state: str = "succeeded", card="", about=None, **config
) -> Path:
    """A run of so many updates that has ended, with an adapter folder of two small files and a card."""
    chosen = {"selector": "kl", "alpha": 0.2, "beta": 0.4, "budget": None} | as_json(
        FinetuneConfig(max_steps=updates, **{"target_modules": ("q_proj", "v_proj")} | config)  # as a run names them
    )
    facts = {"expert": "lightreasoner-expert-4m", "dataset": {"problems": "bundled-train"}, "device": "cpu"}
    begin_run(folder, "finetune", {"dataset": str(dataset)} | chosen, facts | (about or {}))
    log = EventLog(folder / EVENTS_FILE, by="1")
    log.append("start", pid=1, verb="finetune", keeps=True, resumes=True)
    log.append("lessons", samples=500, trajectories=50, held_out=3, tokens=4000)
    log.append("held_out", update=0, held_out_loss=1.0, drift=0.0)
    for update in range(1, updates + 1):
        numbers = {"learning_rate": 1e-3 * (1 - update / updates), "grad_norm": 0.5, "samples_per_second": 100.0}
        numbers |= {"tokens_per_second": 900.0, "epoch": update / 20, "samples_seen": 16 * update}
        log.append("metrics", update=update, loss=1 / update, **numbers)
        if update % 10 == 0:
            log.append("held_out", update=update, held_out_loss=1 - update / 200, drift=update / 1e4)
    result = {"updates": updates, "samples_seen": 16 * updates, "held_out_loss": 1 - updates / 200, "seconds": 12.5}
    log.append("end", state=state, message="" if state == "succeeded" else "It broke.", result=result, kept=False)
    log.close()
    if state == "succeeded":
        add_to_run(folder, result=result)
        place = folder / "adapter"
        place.mkdir()
        (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
        (place / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        (place / "README.md").write_text(
            card or "---\nbase_model: x\n---\n# A card\n\n| | |\n|---|---|\n| rank | 8 |\n"
        )
    return folder
