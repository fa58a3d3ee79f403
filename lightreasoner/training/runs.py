"""Fine-tuned experts of this workspace: the finished runs of an expert, and their adapters."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.formatting import format_time, plural
from lightreasoner.hub.download import MEASURED
from lightreasoner.models.references import parse_ref
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import read_json
from lightreasoner.storage.names import given_name
from lightreasoner.storage.runs import list_runs, read_run, run_folder
from lightreasoner.training.config import METHOD_TITLES
from lightreasoner.training.result import FinetuneResult

ADAPTER = "adapter"  # in a fine-tuning run's folder
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class TunedRun:
    """A finished fine-tuning run whose adapter can be loaded on its expert."""

    id: str
    expert: str  # a canonical reference
    ref: str  # of the tuned expert, BASE::ADAPTER_FOLDER
    title: str
    dataset: Path


def tuned_run(settings: Settings, run_id: str) -> TunedRun:
    """The tuned expert of this run. Raises UserError when it is no finished fine-tuning run or cannot be inspected."""
    folder = run_folder(settings, run_id)
    return _tuned(folder, read_run(folder))


def tuned_runs(settings: Settings, expert: str) -> list[TunedRun]:
    """The tuned experts whose base is this expert, newest first; none for a reference that names no model."""
    try:
        expert = str(parse_ref(expert))
    except UserError:
        return []
    found = []
    for folder, record in list_runs(settings.runs, "finetune"):
        try:
            run = _tuned(folder, record)
        except UserError:
            continue
        if run.expert == expert:
            found.append(run)
    return found


def amateur_of(run: TunedRun) -> str | None:
    """The amateur that the run's dataset was sampled with; None where the dataset is gone or names none."""
    try:
        record = read_run(run.dataset)
    except UserError:
        return None
    named = record["config"].get("amateur")
    return named if isinstance(named, str) and named.strip() else None


def pair_of(dataset: dict) -> str | None:
    """The preset of the pair that sampled a dataset, by its record; None where two models were named."""
    return (dataset["about"].get("pair") or {}).get("name")


def _tuned(folder: Path, record: dict) -> TunedRun:
    config, about, result = record["config"], record["about"], FinetuneResult.from_record(record)
    short = folder.name[:8]
    if record["kind"] != "finetune":
        raise UserError(
            f"{short} is a {record['kind']} run, not a fine-tuning run, so it has no tuned expert; choose another."
        )
    if not result or not (folder / ADAPTER / WEIGHTS).is_file():
        raise UserError(
            f"The fine-tuning run {short} has no adapter yet; wait until it ends, or stop it and keep its results."
        )
    base = parse_ref(about.get("expert"))
    if base.adapter:
        raise UserError(
            f"The expert of run {short} already includes an adapter, and adapters cannot be stacked; merge the run and "
            "use the merged folder as the tuned expert."
        )
    kept = measured_in(folder / ADAPTER)
    method = config["method"] if isinstance(config.get("method"), str) else "fine-tuned"
    name = given_name(folder) or METHOD_TITLES.get(method, method)
    size = f", {plural(result.samples, 'sample')}" if result.samples is not None else ""
    size += f", of update {kept['update']:,}" if kept else ""
    ref = parse_ref(f"{base}::{(folder / ADAPTER).absolute()}")
    return TunedRun(
        folder.name,
        str(base),
        str(ref),
        f"{name}{size} · {format_time(record['created'])} · {short}",
        Path(str(config.get("dataset"))),
    )


def adapter_folder(run_dir: Path) -> Path:
    """The adapter folder of a fine-tuning run. Raises UserError when it has none."""
    if (kind := read_run(run_dir)["kind"]) != "finetune":
        raise UserError(f"{run_dir} is a {kind} run and has no adapter; name a fine-tuning run.")
    folder = Path(run_dir) / ADAPTER
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{run_dir} has no adapter yet; wait until its job ends, or stop it and keep its results.")
    return folder


def measured_in(folder: Path) -> dict | None:
    """The update of an adapter, or of the adapter in a merged model, that is not its run's last one, and what was
    measured there; else None."""
    found = read_json(folder / MEASURED)
    with suppress(TypeError, KeyError):
        if isinstance(found["update"], int) and isinstance(found["held_out_loss"], float | int):
            return found
    return None


def used_adapter(folder: Path) -> dict:
    """Under "adapter", what was measured with the adapter in a folder: an entry for the record of its run.

    Empty for the run's last one, whose numbers are the run's result."""
    kept = measured_in(folder)
    return {"adapter": kept} if kept else {}
