"""FinetuneJob: which dataset trains which expert, how, and into which run folder. It needs no library of training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightreasoner.datasets.selectors import Selection
from lightreasoner.models.pairs import quick_settings
from lightreasoner.storage.remote import RunLocation
from lightreasoner.training.config import FinetuneConfig


@dataclass(frozen=True)
class FinetuneJob:
    """Everything that defines a run. It can be pickled and sent to another machine that sees the same folders."""

    run_dir: Path
    dataset: RunLocation  # the dataset's run folder; run.json stores its address
    expert: str  # a model reference
    config: FinetuneConfig
    selection: Selection
    skip_corrupt: bool = False  # skip damaged shards instead of stopping
    sharded: bool = False  # spread the expert over the processes (FSDP)

    @property
    def title(self) -> str:
        return f"Fine-tune on {self.dataset.local.name} ({self.config.method})"


def quick_config(pair: object) -> dict[str, Any]:
    """The settings in the quick preset of a pair. pair: the name of a preset; any other has those of all others."""
    return {name: value for name, value in quick_settings(pair).items() if name in FinetuneConfig.__dataclass_fields__}
