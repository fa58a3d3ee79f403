"""Compares several amateurs of one expert as one job: all of them read the same responses, and each is previewed.

The dataset is the run itself. The preview of each amateur, and its own answers to the same problems, are runs beside
it. `datasets.compare_amateurs` and `evaluation.amateurs` read them all, also while they come in.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightreasoner.datasets.amateurs import model_title
from lightreasoner.decoding.contrast import parse_contrasts
from lightreasoner.errors import UserError
from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
from lightreasoner.evaluation.shared_answers import share_answers
from lightreasoner.experiments.stage_progress import StageProgress
from lightreasoner.experiments.stages import BATCH, Stage, beside
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.context import job_context, stop_requested
from lightreasoner.models.devices import release_memory
from lightreasoner.paper import ALPHA, PREVIEW_BETAS
from lightreasoner.progress import Progress, StopRequested
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.run import run_sampling
from lightreasoner.settings import Settings
from lightreasoner.validation import number

VERB = "compare-amateurs"


@dataclass(frozen=True)
class CompareAmateursJob:
    """Which amateurs are compared on which problems."""

    sampling: SamplingJob  # of the dataset, with all amateurs
    preview: int = 100  # problems of each preview; 0: none
    betas: str = PREVIEW_BETAS

    @property
    def title(self) -> str:
        expert = model_title(self.sampling.expert)
        return f"Compare {len(self.sampling.amateurs)} amateurs of {expert}"

    def check(self, settings: Settings) -> None:
        """Raises UserError."""
        self.sampling.check(settings)
        number("The number of problems of a preview", self.preview, 0, 100_000, whole=True)
        if self.preview == 1:
            raise UserError("A preview of 1 problem has no interval; preview on 2 or more, or on 0 for none.")
        parse_contrasts(f"{ALPHA:g}", self.betas, False, ("α", "--beta"))

    def stages(self) -> list[Stage]:
        """The previews, and what each amateur solves alone, in the order of the amateurs."""
        job, found = self.sampling, []
        if not self.preview:
            return found
        shared: dict[str, Any] = {
            "adapters": (),
            "problems": job.problems,
            "split": job.split,
            "limit": min(self.preview, job.limit or self.preview),
            "max_new_tokens": job.decoding.max_new_tokens,
            "batch_size": BATCH,
            "stop": job.decoding.stop,
            "prompt": job.prompt,
            "workers": job.num_workers,
            "skip_unreadable": job.skip_unreadable,
        }
        contrasts = parse_contrasts(f"{ALPHA:g}", self.betas, False)
        for ref in job.amateurs:
            mark, name = hashlib.sha256(ref.encode()).hexdigest()[:8], model_title(ref)
            both = EvaluationJob(
                beside(job.run_dir, f"p-{mark}"), job.expert, amateur=ref, contrasts=contrasts, **shared
            )
            alone = EvaluationJob(beside(job.run_dir, f"a-{mark}"), ref, **shared)
            found.append(Stage("preview", f"Preview of {name}", both.run_dir, both, 1))
            found.append(Stage("preview", f"{name} alone", alone.run_dir, alone, 1))
        return found


def run_compare_amateurs(
    job: CompareAmateursJob, settings: Settings, console: Callable[[Progress], Progress] = lambda progress: progress
) -> list[str]:
    """Run what is missing. Returns why previews failed, a sentence each. Raises UserError, StopRequested."""
    job.check(settings)
    stages, troubles = job.stages(), []
    with job_context(job.sampling.run_dir, VERB, settings, title=job.title, accelerator=False) as context:
        progress = console(context)
        with ExitStack() as computing:
            lock = AcceleratorLock(Path(settings.lock_folder or settings.workspace))
            context.wait(lock, computing, job.title, settings.job.partition("/")[0] or None)
            run_sampling(job.sampling, settings, StageProgress(progress, 0, 1 + len(stages)))
        release_memory()
        answered: Path | None = None  # an evaluation that holds the expert's own answers
        for done, stage in enumerate(stages, 1):
            if not stage.is_done:
                if answered and stage.job.amateur:
                    share_answers(answered, stage.folder)
                if why := _run(stage, settings, StageProgress(progress, done, 1 + len(stages), stage), context.run_dir):
                    troubles.append(f"{stage.title}: {why}")
                    progress.event("note", text=troubles[-1])
                release_memory()
            if stage.job.amateur and stage.is_done:
                answered = stage.folder
            progress.update(done + 1, 1 + len(stages))
            progress.checkpoint()
        if troubles and not any(stage.is_done for stage in stages):
            raise UserError(f"No amateur could be previewed. {troubles[0]}")
    return troubles


def _run(stage: Stage, settings: Settings, part: StageProgress, folder: Path) -> str | None:
    """Why a stage failed, if it did: the others can go on."""
    try:
        run_evaluation(stage.job, replace(settings, job=""), console=part.over)
        if request := stop_requested(folder):
            raise StopRequested(keep=request == "keep")
    except StopRequested:
        if stop_requested(folder):
            raise
        return "It was stopped."
    except UserError as error:
        return str(error)
    return None
