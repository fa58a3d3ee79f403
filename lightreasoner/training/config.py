"""What fine-tuning can be told. The command line's options and the page's form are made from these fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lightreasoner.errors import UserError

METHODS = {
    "lightreasoner": "contrastive targets at the steps with KL(expert ‖ amateur) above β: the paper's method",
    "no-contrast": "the expert's own distribution on the plausible set, at the steps with KL above β: an ablation",
    "all-steps": "contrastive targets at every step, selected or not: an ablation",
    "random-steps": "contrastive targets at as many steps as have KL above β, drawn at random: the control",
    "sft": "every token of the expert's own right answers: rejection-sampled fine-tuning, the baseline",
}


def _setting(default: Any, says: str, low: float | None = None, high: float | None = None, choices: tuple = ()):
    return field(default=default, metadata={"says": says, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train. The command line's options and the page's form are made from these fields.

    Defaults are the paper's (arXiv 2510.07962), where it says one. Raises UserError for values out of bounds.
    """

    method: str = _setting("lightreasoner", "what to learn, and where", choices=tuple(METHODS))
    rank: int = _setting(8, "LoRA rank", 1, 1024)
    lora_alpha: float = _setting(16.0, "LoRA alpha: the adapter counts alpha / rank times", 0.01, 4096)
    dropout: float = _setting(0.05, "LoRA dropout", 0, 0.9)
    target_modules: tuple[str, ...] = _setting(("q_proj", "v_proj"), "linear layers to adapt")
    learning_rate: float = _setting(5e-5, "peak learning rate", 0, 1)
    schedule: str = _setting("linear", "how the learning rate falls", choices=("linear", "cosine", "constant"))
    warmup: int = _setting(0, "updates until the learning rate is reached", 0, 100_000)
    weight_decay: float = _setting(0.0, "AdamW weight decay", 0, 1)
    samples_per_update: int = _setting(16, "samples an update, as nearly as whole groups allow", 1, 4096)
    max_steps: int = _setting(1000, "updates", 1, 1_000_000)
    group: int = _setting(
        64, "most samples taken together from a trajectory: more is faster, fewer mix better", 1, 4096
    )
    held_out: float = _setting(0.05, "share of the trajectories kept aside to measure on", 0, 0.5)
    evaluate_every: int = _setting(50, "updates between two measurements on what was kept aside", 1, 1_000_000)
    save_every: int = _setting(100, "updates between two checkpoints", 1, 1_000_000)
    seed: int = _setting(0, "seed of order, adapter and dropout", 0, 2**31 - 1)

    def __post_init__(self):
        from lightreasoner.validation import number  # brings torch along

        for name, spec in self.__dataclass_fields__.items():
            value, bounds = getattr(self, name), spec.metadata
            if bounds["choices"] and value not in bounds["choices"]:
                raise UserError(f"{name} is {str(value)[:40]!r}; choose one of {', '.join(bounds['choices'])}.")
            if bounds["low"] is not None:
                whole = spec.type == "int"
                object.__setattr__(self, name, number(name, value, bounds["low"], bounds["high"], whole=whole))
        names = self.target_modules
        if not isinstance(names, tuple) or not all(isinstance(n, str) and 0 < len(n) <= 100 for n in names):
            raise UserError("target_modules must be names of linear layers, such as q_proj,v_proj.")


def as_json(config: FinetuneConfig) -> dict:
    """For run.json."""
    return asdict(config) | {"target_modules": list(config.target_modules)}
