"""FinetuneRequest: the values of the Fine-tune form, checked against dataset and model, and its job's arguments."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.formatting import percent, plural
from lightreasoner.models.adapters import TARGETS, check_layers, linear_layers, usual_targets
from lightreasoner.models.pairs import presets
from lightreasoner.training.config import AUTO, METHOD_TITLES, FinetuneConfig
from lightreasoner.training.examples import refuse_missing, selection_for
from lightreasoner.training.job import quick_config
from lightreasoner.training.runs import pair_of
from ui.components.dataset_catalogue import Dataset, Datasets
from ui.components.run_form import options
from ui.finetune.catalogue import LABELS, USUAL

EMPTY = "This dataset is still empty; wait for its first batch."
CONFIG = tuple(LABELS)  # settings of FinetuneConfig without the method, in the form's order
SELECTING = ("lightreasoner", "no-contrast")  # methods for which a selector can be chosen
UNCAPPED = ("sft", "no-contrast")  # methods without a contrastive target, which a cap would change


@dataclass(frozen=True)
class FinetuneRequest:
    """Values of the form, checked without reading the dataset."""

    dataset: Dataset
    expert: str  # a model reference
    expert_given: bool  # whether the form names the expert, because the dataset does not
    config: FinetuneConfig
    selection: Selection

    def argv(self, dataset: str) -> list[str]:
        """The verb's arguments without --run-dir; defaults are left out."""
        argv = ["finetune", "--dataset", dataset, *(["--expert", self.expert] if self.expert_given else [])]
        return (
            argv
            + options(self.config, "method", *CONFIG)
            + options(self.selection, "alpha", "beta", "selector", "tau", "box", "cap")
        )

    @property
    def title(self) -> str:
        return f"{METHOD_TITLES[self.config.method]} · {self.dataset.name}"


def expert_of(dataset: Dataset) -> str | None:
    """The expert that sampled a dataset; None for an imported one."""
    named = dataset.run["config"].get("expert") if dataset.run else None
    return named if isinstance(named, str) and named else None


def preset_settings(dataset: Dataset | None, quick: bool = False) -> dict:
    """The settings in the preset of the pair that sampled a dataset; empty without one. quick: in its quick preset."""
    name = pair_of(dataset.run) if dataset and dataset.run else None
    if quick:
        return quick_config(name)
    return next((preset.finetune for preset in presets() if preset.name == name), {})


def source_of_defaults(dataset: Dataset | None, quick: bool = False) -> str:
    """A sentence on the origin of the defaults."""
    chosen = preset_settings(dataset, quick)
    own = [LABELS[name].lower() for name in CONFIG if name in chosen]
    if not own:
        return "The defaults are those of the paper."
    listed = ", ".join(own[:-1]) + f" and {own[-1]}" if len(own) > 1 else own[0]
    return f"Defaults: {listed} from {'the quick' if quick else 'this pair’s'} preset, everything else from the paper."


def defaults(dataset: Dataset | None, quick: bool = False) -> dict:
    """The default settings: those of the preset of the dataset's pair, or of its quick one, else the paper's."""
    own = preset_settings(dataset, quick)
    found = {name: own.get(name, getattr(USUAL, name)) for name in CONFIG}
    return found | {"target_modules": list(own.get("target_modules") or targets_of(dataset and expert_of(dataset)))}


def targets_of(expert: str | None) -> tuple[str, ...]:
    """The default target modules of an expert; the usual names where it is not on this disk."""
    try:
        return (usual_targets(expert) if expert and expert.strip() else None) or TARGETS[0]
    except UserError:  # the run says so
        return TARGETS[0]


def read_form(datasets: Datasets, values: Mapping[str, object]) -> FinetuneRequest:
    """The form's values, by the names of FinetuneForm.fields, as a request. Raises UserError for invalid ones."""
    if not values["dataset"]:
        raise UserError("No dataset is selected; select one, or build one in the Datasets tab.")
    dataset = datasets.find(values["dataset"])
    if dataset.run is None:
        raise UserError(EMPTY)
    modules, method, expert = values["target_modules"], values["method"], values["expert"]
    names = tuple(modules) if isinstance(modules, list | tuple) else (modules,)
    known = expert_of(dataset)
    auto = sorted(map(str, names)) == sorted(targets_of(known or (expert if isinstance(expert, str) else None)))
    settings = {name: values[name] for name in CONFIG} | {"method": method, "target_modules": AUTO if auto else names}
    config = FinetuneConfig(**settings)
    selector = {"selector": str(values["selector"])} if method in SELECTING else {}  # the others determine the steps
    if selector.get("selector") == "teaching" and values.get("tau") is not None:
        selector["tau"] = values["tau"]
    if method not in UNCAPPED and values.get("cap"):  # 0: none
        selector["cap"] = values["cap"]
    if method != "sft" and values.get("box"):
        selector["box"] = str(values["box"])
    selection = Selection(**selector, alpha=values["alpha"], beta=values["beta"], seed=config.seed)
    if not known and (not isinstance(expert, str) or not expert.strip()):
        raise UserError("This dataset was imported and names no expert; enter the model to train.")
    request = FinetuneRequest(dataset, known or expert.strip(), not known, config, selection)
    layers = linear_layers(request.expert)
    if layers is not None:
        check_layers(layers, config.rank, names)
    return request


@dataclass(frozen=True)
class Amount:
    """The amount of training data. samples: None where only the run itself can count them."""

    samples: int | None
    steps: int  # training steps
    per_step: int  # samples
    held_out: float  # fraction of the trajectories
    growing: bool  # whether the dataset is still being sampled
    missing: int = 0  # selected steps without stored details
    past_end: tuple[int, int] = (0, 0)  # responses that run on past the end of their turn, and their steps after it

    def sentence(self) -> str:
        seen = self.steps * self.per_step
        steps, sees = plural(self.steps, "training step"), "sees" if self.steps == 1 else "see"
        text = f"{steps} of about {plural(self.per_step, 'sample')} {sees} {seen:,}"
        if self.samples is None:
            text += "; each token of a correct response is a sample. Press Estimate to count them."
            return text + self._past_end()
        text = f"{plural(self.samples, 'sample')}. {text}, {epochs(seen / (self.samples * (1 - self.held_out)))}."
        if self.missing:
            text += f" {self.missing:,} more are selected, but have no stored details and are left out."
        text += " Sampling is still in progress; the run uses what exists when it starts." * self.growing
        return text + self._past_end()

    def _past_end(self) -> str:
        responses, steps = self.past_end
        if not steps:
            return ""
        return (
            f" {responses:,} responses run on past the end of their turn, as former versions sampled some models; the "
            f"run leaves out their {steps:,} steps after it."
        )


def epochs(count: float) -> str:
    return f"about {count:.1f} epochs" if count >= 1 else f"about {percent(max(count, 0.01))} of one epoch"


def amount(datasets: Datasets, request: FinetuneRequest) -> Amount:
    """The training data of a request, as its dataset is now. Raises UserError where there is none."""
    explorer = datasets.explorer(request.dataset)
    config, state = request.config, request.dataset.state
    size = (config.max_steps, config.samples_per_update, config.held_out, state in ("running", "waiting"))
    if not explorer.view.data.steps:
        raise UserError(EMPTY)
    if config.method == "sft":
        if explorer.imported or not any(response.answer for response in explorer.view.data.responses):
            raise UserError("The method sft trains on correct responses, but this dataset has no known answers.")
        return Amount(None, *size, past_end=explorer.past_end())
    report = explorer.report(selection_for(config.method, request.selection, explorer.imported))
    refuse_missing(config.method, report)
    if not report.usable:
        raise UserError(
            f"No steps are selected at β = {request.selection.beta:g}, so there is nothing to train on; lower β, or "
            "choose another selector or dataset."
        )
    return Amount(report.usable, *size, missing=report.missing, past_end=explorer.past_end())
