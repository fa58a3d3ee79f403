"""What the form asks for: checked against the dataset and the model, and as words of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.models.adapters import check_layers
from lightreasoner.models.architecture import linear_layers
from lightreasoner.models.cache import unavailable
from lightreasoner.models.pairs import Preset, presets
from lightreasoner.settings import Settings
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.examples import refuse_missing, selection_for
from ui.components.dataset_catalogue import Dataset, Datasets
from ui.components.run_list import METHOD_TITLES
from ui.finetune.catalogue import USUAL

SELECTION = Selection()
#: Settings of FinetuneConfig in the form's order, the method apart, and what people call them.
LABELS = {
    "max_steps": "Updates",
    "samples_per_update": "Samples an update",
    "learning_rate": "Learning rate",
    "target_modules": "Layers",
    "rank": "Rank",
    "lora_alpha": "LoRA alpha",
    "dropout": "Dropout",
    "schedule": "Schedule",
    "warmup": "Warm-up updates",
    "weight_decay": "Weight decay",
    "group": "Group",
    "held_out": "Kept aside",
    "evaluate_every": "Measure every",
    "save_every": "Checkpoint every",
    "seed": "Seed",
}
CONFIG = tuple(LABELS)
SELECTING = ("lightreasoner", "no-contrast")  # methods that leave the selector open


def said(name: str) -> str:
    """What a setting means, for people."""
    return USUAL.__dataclass_fields__[name].metadata["says"]


@dataclass(frozen=True)
class FinetuneRequest:
    """What the form asks for, checked as far as it can be without reading the dataset."""

    dataset: Dataset
    expert: str  # a model reference
    named: bool  # whether the expert has to be said, since the dataset names none
    config: FinetuneConfig
    selection: Selection

    def argv(self, dataset: str) -> list[str]:
        """The command line without its --run-dir; what is as usual is left out."""
        words = ["finetune", "--dataset", dataset, *(["--expert", self.expert] if self.named else [])]
        for name in ("method", *CONFIG):
            value = getattr(self.config, name)
            if value != getattr(USUAL, name):
                words += ["--" + name.replace("_", "-"), ",".join(value) if isinstance(value, tuple) else f"{value}"]
        for name in ("alpha", "beta", "selector"):
            value = getattr(self.selection, name)
            if value != getattr(SELECTION, name):
                words += [f"--{name}", f"{value}"]
        return words

    @property
    def title(self) -> str:
        return f"{METHOD_TITLES[self.config.method]} · {self.dataset.name}"


def expert_of(dataset: Dataset) -> str | None:
    """The model that a dataset was sampled with; None where it was imported."""
    named = dataset.run["config"].get("expert") if dataset.run else None
    return named if isinstance(named, str) and named else None


def preset_of(dataset: Dataset | None) -> Preset | None:
    """The preset of the pair that sampled a dataset."""
    pair = ((dataset.run if dataset else None) or {}).get("about", {}).get("pair") or {}
    return next((preset for preset in presets() if preset.name == pair.get("name")), None)


def source_of_defaults(dataset: Dataset | None) -> str:
    """Where the settings to begin with come from, for people."""
    preset = preset_of(dataset)
    own = [LABELS[name].lower() for name in CONFIG if preset and name in preset.finetune]
    if not own:
        return "To begin with, all settings are the paper's."
    listed = ", ".join(own[:-1]) + f" and {own[-1]}" if len(own) > 1 else own[0]
    verb = "are those that suit" if len(own) > 1 else "is the one that suits"
    return f"To begin with, {listed} {verb} this pair; all else is the paper's."


def defaults(dataset: Dataset | None) -> dict:
    """The settings to begin with: those of the dataset's pair where its preset has some, else the paper's."""
    preset = preset_of(dataset)
    own = preset.finetune if preset else {}
    usual = {name: getattr(USUAL, name) for name in CONFIG}
    found = usual | {name: own[name] for name in CONFIG if name in own}
    return found | {"target_modules": list(found["target_modules"])}


def read_form(datasets: Datasets, dataset_id, method, alpha, beta, selector, expert, *settings) -> FinetuneRequest:
    """The form's fields as a request. Anybody may send anything; raises UserError."""
    if not dataset_id:
        raise UserError("No dataset is chosen; pick one, or build one in the Datasets tab.")
    dataset = datasets.find(dataset_id)
    if dataset.run is None:
        raise UserError("This dataset holds nothing yet; wait for its first batch.")
    values = dict(zip(CONFIG, settings, strict=True))
    modules = values["target_modules"]
    names = tuple(modules) if isinstance(modules, list | tuple) else (modules,)
    config = FinetuneConfig(**values | {"method": method, "target_modules": names})
    chosen = {"selector": str(selector)} if method in SELECTING else {}  # the others say themselves which steps
    selection = Selection(**chosen, alpha=alpha, beta=beta, seed=config.seed)
    known = expert_of(dataset)
    if not known and (not isinstance(expert, str) or not expert.strip()):
        raise UserError("This dataset was imported and names no expert; say which model to train.")
    asked = FinetuneRequest(dataset, known or expert.strip(), not known, config, selection)
    there = linear_layers(asked.expert)
    if there is not None:
        check_layers(there, config.rank, config.target_modules)
    return asked


@dataclass(frozen=True)
class Amount:
    """How much there is to learn. samples: None where only the run itself will tell."""

    samples: int | None
    updates: int
    per_update: int
    held_out: float
    growing: bool
    missing: int = 0

    def sentence(self) -> str:
        seen = f"{self.updates:,} updates of about {self.per_update:,} samples: {self.updates * self.per_update:,}"
        if self.samples is None:
            return f"{seen} of every token of the right answers. Estimate tells how many those are."
        learned = self.samples * (1 - self.held_out)
        text = f"{self.samples:,} samples. {seen} seen, {said_passes(self.updates * self.per_update / learned)}."
        if self.missing:
            text += f" {self.missing:,} more are selected, but have no stored details and are left out."
        return text + (" The dataset still grows; what is there at the start is learned." if self.growing else "")


def said_passes(passes: float) -> str:
    return f"about {passes:.1f} passes" if passes >= 1 else f"about {max(passes, 0.01):.0%} of one pass"


def amount(datasets: Datasets, asked: FinetuneRequest) -> Amount:
    """What the request comes to on its dataset as it is now. Raises UserError where there is nothing to train on."""
    explorer = datasets.explorer(asked.dataset)
    config, state = asked.config, asked.dataset.state
    size = (config.max_steps, config.samples_per_update, config.held_out, state in ("growing", "waiting"))
    if not explorer.view.data.steps:
        raise UserError("This dataset holds nothing yet; wait for its first batch.")
    if config.method == "sft":
        if explorer.imported or not any(response.answer for response in explorer.view.data.responses):
            raise UserError("This dataset has no known answers, so right ones cannot be told; sft needs them.")
        return Amount(None, *size)
    report = explorer.report(selection_for(config.method, asked.selection, explorer.imported))
    refuse_missing(config.method, report)
    if not report.usable:
        raise UserError(
            f"Nothing is selected at β = {asked.selection.beta:g}, so there is nothing to train on; lower β or choose "
            "another selector or dataset."
        )
    return Amount(report.usable, *size, missing=report.missing)


def checked_start(datasets: Datasets, settings: Settings, asked: FinetuneRequest) -> tuple[list[str], str]:
    """(argv, title) of the job. Raises UserError for what the run would refuse, as far as it can be told now."""
    amount(datasets, asked)
    if why := unavailable(asked.expert, settings):
        raise UserError(why)
    return asked.argv(str(Path(asked.dataset.folder).absolute())), asked.title
