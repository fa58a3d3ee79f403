"""The settings of fine-tuning with their defaults, bounds and help texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.validation import number

#: Method → what it trains on.
METHODS = {
    "lightreasoner": "contrastive targets at the steps with KL(expert ‖ amateur) above β: the paper's method",
    "no-contrast": "the expert's own distribution on the plausible set, at the steps with KL above β: an ablation",
    "all-steps": "contrastive targets at every step, selected or not: an ablation",
    "random-steps": "contrastive targets at randomly drawn steps, as many as have KL above β: the control",
    "sft": "every token of the expert's own correct responses: rejection-sampled fine-tuning, the baseline",
}
#: Fine-tuning method → its name in lists.
METHOD_TITLES = {
    "lightreasoner": "LightReasoner",
    "no-contrast": "No contrast",
    "all-steps": "All steps",
    "random-steps": "Random steps",
    "sft": "SFT",
}

AUTO = ("auto",)  # target modules: those of models.adapters.default_targets


def _setting(default: Any, help: str, low: float | None = None, high: float | None = None, choices: tuple = ()):
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning run. Command-line options and form fields are made from them.

    Defaults are the paper's (arXiv 2510.07962) where it names one. Raises UserError for values out of bounds.
    """

    method: str = _setting("lightreasoner", "targets to train on, and at which steps", choices=tuple(METHODS))
    rank: int = _setting(8, "LoRA rank", 1, 1024)
    lora_alpha: float = _setting(16.0, "LoRA alpha: the adapter is scaled by alpha / rank", 0.01, 4096)
    dropout: float = _setting(0.05, "LoRA dropout", 0, 0.9)
    target_modules: tuple[str, ...] = _setting(
        AUTO, "linear layers to adapt; auto: those that PEFT knows for the architecture"
    )
    learning_rate: float = _setting(5e-5, "peak learning rate", 0, 1)
    schedule: str = _setting("linear", "decay of the learning rate", choices=("linear", "cosine", "constant"))
    warmup: int = _setting(0, "training steps until the peak learning rate", 0, 100_000)
    weight_decay: float = _setting(0.0, "AdamW weight decay", 0, 1)
    samples_per_update: int = _setting(16, "samples per update, on average", 1, 4096)
    max_steps: int = _setting(1000, "number of updates", 1, 1_000_000)
    max_samples_per_trajectory: int = _setting(
        64, "samples per update from one trajectory: more train faster, fewer mix trajectories better", 1, 4096
    )
    held_out: float = _setting(0.05, "fraction of the trajectories to evaluate on", 0, 0.5)
    evaluate_every: int = _setting(50, "updates between evaluations on the held-out trajectories", 1, 1_000_000)
    save_every: int = _setting(100, "updates between checkpoints", 1, 1_000_000)
    seed: int = _setting(0, "seed of the data order, the adapter's initial weights and dropout", 0, 2**31 - 1)
    patience: int = _setting(
        0, "end after this many measurements without a lower held-out loss, and use the best adapter; 0: never", 0, 1000
    )

    def __post_init__(self):
        for name, spec in self.__dataclass_fields__.items():
            value, bounds = getattr(self, name), spec.metadata
            if bounds["choices"] and value not in bounds["choices"]:
                raise UserError(f"{name} is {str(value)[:40]!r}; choose one of {', '.join(bounds['choices'])}.")
            if bounds["low"] is not None:
                whole = spec.type == "int"
                object.__setattr__(self, name, number(name, value, bounds["low"], bounds["high"], whole=whole))
        if self.patience and not self.held_out:
            raise UserError("patience waits for the held-out loss, but held_out is 0; hold some trajectories out.")
        names = self.target_modules
        if not isinstance(names, tuple) or not all(isinstance(n, str) and 0 < len(n) <= 100 for n in names):
            raise UserError("target_modules must be names of linear layers, such as q_proj,v_proj.")


def named_targets(config: FinetuneConfig) -> tuple[str, ...] | None:
    """The target modules that the settings name; None for AUTO."""
    return None if config.target_modules == AUTO else config.target_modules


def as_json(config: FinetuneConfig) -> dict:
    """The settings for run.json; `patience`, which former versions did not know, only where it is set."""
    found = asdict(config) | {"target_modules": list(config.target_modules)}
    return {name: value for name, value in found.items() if value or name != "patience"}
