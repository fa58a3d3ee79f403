"""The fine-tuning runs of the workspace: their curves, adapters, merged models, and files to download."""

import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.formatting import format_bytes, format_value
from lightreasoner.jobs.store import FINISHED, Job
from lightreasoner.problems.sources import problems_title
from lightreasoner.storage.atomic import atomic_file, folder_bytes
from lightreasoner.training.best_checkpoint import use_adapter
from lightreasoner.training.config import METHOD_TITLES, FinetuneConfig
from lightreasoner.training.curves import Curves
from lightreasoner.training.result import FinetuneResult
from lightreasoner.training.runs import ADAPTER, adapter_folder, measured_in
from ui.components.downloads import offer
from ui.components.run_list import MAX_LISTED, Entry, RunList, without_folders

LARGEST = 4e9  # bytes of a download; for larger files the page shows the folder
CARD = "README.md"
#: Settings of FinetuneConfig without the method, in the form's order, and their names on the page.
LABELS = {
    "max_steps": "Training steps",
    "samples_per_update": "Samples per update (batch size)",
    "learning_rate": "Learning rate",
    "target_modules": "Target modules",
    "rank": "Rank",
    "lora_alpha": "LoRA alpha",
    "dropout": "Dropout",
    "schedule": "Schedule",
    "warmup": "Warm-up steps",
    "weight_decay": "Weight decay",
    "max_samples_per_trajectory": "Max samples per trajectory",
    "held_out": "Held-out fraction",
    "evaluate_every": "Evaluate every (updates)",
    "save_every": "Save every (updates)",
    "seed": "Seed",
    "patience": "Patience (measurements)",
}
#: Settings that the list shows where they are not the paper's.
LISTED = ("learning_rate", "rank", "samples_per_update", "max_samples_per_trajectory", "schedule", "seed")
USUAL = FinetuneConfig()


class Tuning(Entry):
    """One entry of the list."""

    def describe(self, config: dict, about: dict) -> str:
        """Method · expert · the problems that its dataset was sampled from."""
        method, problems = str(config.get("method")), (about.get("dataset") or {}).get("problems")
        source = problems_title(str(problems)) if problems else "imported"
        return " · ".join([METHOD_TITLES.get(method, method), without_folders(about.get("expert", "?")), source])

    @property
    def updates(self) -> int | None:
        """The number of updates of a complete run."""
        return self.run["config"].get("max_steps") if self.run else None

    @property
    def result(self) -> FinetuneResult:
        return FinetuneResult.from_record(self.run) or FinetuneResult()


@dataclass(frozen=True)
class Merge:
    """A merge of an adapter into its base model, complete or in progress."""

    folder: Path
    job: Job

    @property
    def done(self) -> bool:
        return (self.folder / "config.json").is_file()


class Tunings(RunList):
    """All fine-tuning runs, and the curves of those that were opened last."""

    verbs, kind, article, noun, entry = ("finetune",), "finetune", "a", "fine-tuning run", Tuning
    in_memory = 12

    def curves(self, run: Tuning) -> Curves:
        """The measurements so far; those of the last few runs stay in memory."""
        return self.parsed.get(run.id, lambda: Curves(run.folder)).refresh()

    def facts(self, run: Tuning) -> str:
        """Training steps, held-out loss, and the settings that are not the paper's."""
        facts, result = [], run.result
        if result.updates is not None:
            facts.append(f"{result.updates:,} training steps")
        elif run.updates:
            facts.append(f"{run.updates:,} training steps planned")
        if result.held_out_loss is not None:
            facts.append(f"held-out loss {result.held_out_loss:.3g} nats")
        if kept := measured_in(run.folder / ADAPTER):
            facts.append(f"in use: training step {kept['update']:,}, {kept['held_out_loss']:.3g} nats")
        config = run.run["config"] if run.run else {}
        odd = [name for name in LISTED if name in config and config[name] != getattr(USUAL, name)]
        return " · ".join(facts + [f"{LABELS[name].lower()} {format_value(config[name])}" for name in odd])

    def adapter(self, run: Tuning) -> Path | None:
        """The adapter's folder; None before it exists."""
        try:
            return adapter_folder(run.folder) if run.run else None
        except UserError:
            return None

    def card(self, run: Tuning) -> str:
        """The adapter's model card in Markdown; empty without one."""
        place = self.adapter(run)
        try:
            return (place / CARD).read_text(encoding="utf-8", errors="replace")[:100_000] if place else ""
        except OSError:
            return ""

    # ---- merging

    def merges(self, run: Tuning) -> list[Merge]:
        """The merges of a run, latest first. Each writes into the run's folder."""
        jobs = [job for job in self.jobs.store.jobs(limit=MAX_LISTED) if job.verb == "merge"]
        found = [Merge(job.run_dir, job) for job in jobs if job.run_dir.parent == run.folder.absolute()]
        return sorted(found, key=lambda merge: -merge.job.created)

    def merge(self, run_id: object) -> Job:
        """Queue the job that merges a run's adapter into its base model. Raises UserError."""
        run = self.find(run_id)
        adapter_folder(run.folder)
        if run.job and run.job.state not in FINISHED:
            raise UserError("This run is still training; merge it when it has ended.")
        for merge in self.merges(run):
            if merge.job.state not in FINISHED:
                raise UserError("This run is already being merged; wait for that job to end.")
            if not merge.done:  # remains of a killed merge
                for place in [merge.folder, *run.folder.glob(f".{merge.folder.name}.*")]:
                    shutil.rmtree(place, ignore_errors=True)
        updates = (measured_in(run.folder / ADAPTER) or {}).get("update") or run.result.updates or 0
        out, n = run.folder.absolute() / f"merged-{updates}", 2
        while out.exists():
            out, n = out.with_name(f"merged-{updates}-{n}"), n + 1
        argv = ["merge", "--run-dir", str(run.folder.absolute()), "--out", str(out)]
        return self.jobs.submit("merge", argv, f"Merge {run.name}", out)

    def remove(self, run_id: object) -> Entry:
        """Delete a run and its merged models for good."""
        run = self.find(run_id)
        if any(merge.job.state not in FINISHED for merge in self.merges(run)):
            raise UserError("This run is being merged; cancel that job first, then delete the run.")
        return super().remove(run_id)

    def use(self, run_id: object, which: object) -> None:
        """Put the "best" or the "last" adapter of a run into use. Raises UserError."""
        run = self.find(run_id)
        if run.job and run.job.state not in FINISHED:
            raise UserError("This run is still training; choose its adapter when it has ended.")
        if any(merge.job.state not in FINISHED for merge in self.merges(run)):
            raise UserError("This run is being merged; choose its adapter when that job has ended.")
        use_adapter(run.folder, which)

    def merged_folder(self, run_id: object) -> Path:
        """The folder of a run's latest merged model. Raises UserError."""
        done = [merge.folder for merge in self.merges(self.find(run_id)) if merge.done]
        if not done:
            raise UserError("This run has no merged model yet; merge it first.")
        return done[0]

    # ---- files to download

    def zip_file(self, run_id: object, kind: object) -> dict:
        """Write a zip file of the "adapter" or the latest "merged" model: {"url", "name"}. Raises UserError."""
        run = self.find(run_id)
        name = f"lightreasoner-{run.id[:8]}"
        if kind == "adapter":
            folder = adapter_folder(run.folder)
        elif kind == "merged":
            folder = self.merged_folder(run_id)
            name += f"-{folder.name}"
        else:
            raise UserError(f"There is no file called {str(kind)[:20]!r}; choose adapter or merged.")
        if (size := folder_bytes(folder)) > LARGEST:
            raise UserError(f"{folder.name} has {format_bytes(size)}, too much for a download; copy {folder} instead.")
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        return offer(self.settings, f"{name}.zip", lambda out: write_zip(out, name, files))


def write_zip(out: Path, folder: str, files: Iterable[Path]) -> None:
    """Write files into one folder of an uncompressed zip file; weights hardly compress."""
    with atomic_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as zipped:
        for path in files:
            zipped.write(path, f"{folder}/{path.name}")
