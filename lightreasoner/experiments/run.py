"""Runs an experiment: its stages one after another, in this process, each as the run that its own command would make.

What has ended is not done again, so the same command resumes an experiment and repeats only the arms that failed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.evaluation.results import open_results
from lightreasoner.evaluation.run import run_evaluation
from lightreasoner.evaluation.shared_answers import share_answers
from lightreasoner.experiments.budget import within
from lightreasoner.experiments.plan import FILE, Plan, plan_of, write_plan
from lightreasoner.experiments.report import write_report
from lightreasoner.experiments.results import arm_results, best_arm
from lightreasoner.experiments.stage_progress import StageProgress
from lightreasoner.experiments.stages import Stage, later_expert, round_stages
from lightreasoner.jobs.context import job_context, stop_requested
from lightreasoner.models.devices import release_memory
from lightreasoner.problems.stream import source_fingerprint
from lightreasoner.progress import Progress, StopRequested
from lightreasoner.sampling.run import run_sampling
from lightreasoner.scoring.significance import compare
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.storage.runs import add_to_run, begin_run, versions
from lightreasoner.training.merge import merge_run
from lightreasoner.training.run import run_as_job

ENOUGH = 100  # problems that an arm answers before it can be called clearly worse


def run_experiment(
    plan: Plan,
    folder: Path,
    settings: Settings,
    console: Callable[[Progress], Progress] = lambda progress: progress,
    minutes: float | None = None,
) -> list[Stage]:
    """Run what is missing of an experiment, and write its report. Returns all stages.

    minutes: lower the numbers of problems and updates so that it takes about so long on this machine; of an experiment
    that was begun they stay what they were. console: wraps the progress, for example to print it. Raises UserError when
    a stage failed that others need, or at the end when an arm failed; StopRequested when the experiment was stopped.
    """
    folder = Path(folder).absolute()
    settings = replace(settings, workspace=settings.workspace.absolute())
    check(plan, folder, settings)
    with job_context(folder, "experiment", settings, title=plan.title, accelerator=False) as context:
        progress = console(context)
        config = plan.as_json() | ({"minutes": minutes} if minutes else {})
        record = begin_run(folder, "experiment", config, {"versions": versions()})
        if minutes:
            plan = plan_of(record["settled"]) if "settled" in record else within(plan, minutes, settings, progress)
            add_to_run(folder, settled=plan.as_json())
        write_text(folder / FILE, write_plan(plan))
        stages: list[Stage] = []
        troubles: dict[str, str] = {}  # stage → why it has no results
        for turn in range(1, plan.rounds + 1):
            expert = None if turn == 1 else _expert_of(plan, folder, turn, settings, stages, progress)
            stages += round_stages(plan, folder, turn, expert)
            own = [stage for stage in stages if stage.round == turn]
            troubles |= _run_round(plan, folder, own, settings, progress)
        results = arm_results(stages)
        best = best_arm(results)
        if best:
            progress.result(best=best.name, gain_in_points=round(100 * best.difference, 1))
        if failed := [stage for stage in stages if stage.kind == "evaluation" and not stage.is_done]:
            title, why = next(iter(troubles.items()), (failed[0].title, "It was not run."))
            arms = sum(stage.kind == "evaluation" for stage in stages)
            what = "evaluations" if len(plan.tests) > 1 else "arms"
            raise UserError(
                f"{len(failed)} of {arms} {what} have no result; {title}: {why} Resume repeats only what is missing."
            )
    return stages


def check(plan: Plan, folder: Path, settings: Settings) -> None:
    """What can be known before anything is loaded or written. Raises UserError."""
    for stage in round_stages(plan, folder):
        if stage.kind == "dataset":
            stage.job.check(settings)
    for test in plan.tests:
        source_fingerprint(test)


def _run_round(plan: Plan, folder: Path, stages: list[Stage], settings: Settings, progress: Progress) -> dict[str, str]:
    """Why stages failed. Raises UserError when the dataset could not be made; an arm that fails is left behind."""
    total, troubles = len(stages), {}
    for done, stage in enumerate(stages):
        relay = StageProgress(progress, done, total, stage, stage=stage.title)
        if not stage.is_done:
            if stage.kind == "evaluation":
                trained = next(s for s in stages if s.kind == "finetune" and s.arm == stage.arm)
                if not trained.is_done:
                    continue
                _share_answers(stages, stage)
                if plan.stop_worse:
                    relay.gives_up = partial(_is_worse, stages, stage)
            progress.status(stage.title)
            if why := _run_stage(folder, stage, settings, relay):
                troubles[stage.title] = why
                progress.event("note", text=f"{stage.title}: {why}")
            release_memory()
        progress.update(done + 1, total, stage=stage.title)
        progress.checkpoint()
        if stage.kind in ("evaluation", "preview"):
            write_report(plan, folder)
    return troubles


def _run_stage(folder: Path, stage: Stage, settings: Settings, relay: StageProgress) -> str | None:
    """Why the stage failed, if it did and others can go on."""
    try:
        if stage.kind == "dataset":
            with job_context(stage.folder, "sample", replace(settings, job=""), title=stage.job.title) as context:
                run_sampling(stage.job, settings, relay.over(context))
        elif stage.kind == "finetune":
            run_as_job(stage.job, replace(settings, job=""), relay.over)
        else:
            run_evaluation(stage.job, replace(settings, job=""), console=relay.over)
        if request := stop_requested(folder):  # of the whole experiment; this stage's results are kept
            raise StopRequested(keep=request == "keep")
    except StopRequested as stop:
        if stop_requested(folder):
            raise
        if not stop.keep and stage.kind == "dataset":
            raise UserError("The dataset was cancelled, and nothing can be trained without it.") from None
    except UserError as error:
        if stage.arm is None and stage.kind != "preview":
            raise
        return str(error)
    except Exception:
        if stage.arm is None:
            raise
        return log_unexpected("experiment")
    return None


def _is_worse(stages: list[Stage], stage: Stage) -> bool:
    """Whether an arm's answers so far are significantly fewer than the best arm's on the same problems."""
    best = best_arm(arm_results([s for s in stages if s is not stage]))
    if best is None or stage.arm.is_control:
        return False
    own = _right(stage)
    of_best = _right(next(s for s in stages if _same_test(s, stage) and s.arm.name == best.name))
    if len(own.keys() & of_best.keys()) < ENOUGH:
        return False
    return compare(of_best, own).high < 0


def _right(stage: Stage) -> dict[str, bool]:
    reader = open_results(stage.folder, stage.job.variants())
    return {problem: row.right for problem, row in reader.rows[-1].items()}


def _same_test(one: Stage, other: Stage) -> bool:
    return one.kind == other.kind == "evaluation" and one.job.problems == other.job.problems


def _share_answers(stages: list[Stage], stage: Stage) -> None:
    """Copy the base's answers from an evaluation of the same expert: they are the same ones."""
    for other in stages:
        if _same_test(other, stage) and other is not stage and other.state == "succeeded":
            share_answers(other.folder, stage.folder)
            return


def _expert_of(plan: Plan, folder: Path, turn: int, settings: Settings, stages: list[Stage], progress: Progress) -> str:
    """The merged model of the last round's best arm. Raises UserError when no arm has gained."""
    out = later_expert(folder, turn)
    if not (out / "config.json").is_file():
        best = best_arm(arm_results([stage for stage in stages if stage.round == turn - 1]))
        if best is None or best.difference <= 0:
            raise UserError(f"No arm of round {turn - 1} improves its expert, so there is no expert for the next one.")
        progress.status(f"Merging {best.name} for round {turn}")
        tuned = next(s for s in stages if s.round == turn - 1 and s.kind == "finetune" and s.arm.name == best.name)
        merge_run(tuned.folder, out, settings)
    return str(out)
