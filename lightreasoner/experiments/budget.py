"""Fits a plan to a budget of minutes, from a trial on this machine: a few problems sampled, a few updates made."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.experiments.plan import Plan
from lightreasoner.experiments.stages import Stage, round_stages
from lightreasoner.jobs.context import job_context
from lightreasoner.problems.stream import open_problems
from lightreasoner.progress import Progress
from lightreasoner.sampling.run import run_sampling
from lightreasoner.settings import Settings
from lightreasoner.training.run import estimate_finetune
from lightreasoner.validation import number

TRIAL = 16  # problems
SHARES = {"preview": 0.1, "dataset": 0.2, "finetune": 0.4, "evaluation": 0.3}  # of the time that is not loading
LEAST = {"preview": 20, "dataset": 8, "finetune": 10, "evaluation": 20}  # problems, or updates


@dataclass(frozen=True)
class Rates:
    """Seconds on this machine."""

    response: float  # per problem, of both models
    update: float  # of training
    loading: float  # of a stage, before it computes


def within(plan: Plan, minutes: float, settings: Settings, progress: Progress) -> Plan:
    """The plan with as many problems and updates as fit, at most those that it has. Raises UserError for too few."""
    number("The budget in minutes", minutes, 0.1, 100_000)
    progress.status("Measuring this machine")
    rates = measure(plan, settings)
    learned = next(stage for stage in round_stages(plan, Path("x")) if stage.kind == "dataset")
    limits = {"limit": plan.test_limit, "max_chars": settings.max_problem_chars, "distinct": True}
    tested = max(
        sum(bool(problem.answer) for problem in open_problems(test, split=plan.test_split, **limits))
        for test in plan.tests
    )
    found = fitted(plan, minutes, rates, sum(1 for _ in learned.job.open_problems(settings)), tested)
    steps = max(arm.config.max_steps for arm in found.arms)
    text = (
        f"{minutes:g} minutes on this machine: {found.preview} problems for the preview, {found.limit:,} to learn "
        f"from, at most {steps:,} updates an arm, {found.test_limit:,} problems to be measured on"
        f"{' from each test set' if len(plan.tests) > 1 else ''}"
    )
    progress.event("note", text=text)
    progress.status(text)
    return found


def measure(plan: Plan, settings: Settings) -> Rates:
    """Sample a few problems and make a few updates, in a folder that is gone afterwards. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="lightreasoner-trial-") as place:
        trial = round_stages(replace(plan, limit=min(TRIAL, plan.limit or TRIAL), preview=0), Path(place) / "trial")
        sampling, training = (next(stage for stage in trial if stage.kind == kind) for kind in ("dataset", "finetune"))
        settings = replace(settings, job="", report_to="", lock_folder=settings.lock_folder or settings.workspace)
        began = time.monotonic()
        with job_context(sampling.folder, "sample", settings, title="A trial on a few problems") as context:
            sampled = run_sampling(sampling.job, settings, context)
        loading = max(0.0, time.monotonic() - began - sampled.seconds)
        updates = estimate_finetune(training.job, settings)
    return Rates(sampled.seconds / max(1, sampled.responses), updates.update_seconds, loading)


def fitted(plan: Plan, minutes: float, rates: Rates, learned: int, tested: int) -> Plan:
    """learned, tested: the problems that there are. Raises UserError for a budget that is too small."""
    rounds, arms, stages = plan.rounds, len(plan.arms), _count(plan)
    previewed = bool(plan.preview) and minutes >= 2
    shares = SHARES if previewed else {kind: share / (1 - SHARES["preview"]) for kind, share in SHARES.items()}
    spare = 60 * minutes - stages * rates.loading
    costs = {  # seconds per problem or update, in all stages of a kind
        "preview": rates.response * (1 + len(plan.preview_betas.split(","))),
        "dataset": rates.response * rounds,
        "finetune": rates.update * arms * rounds,
        "evaluation": rates.response * (arms + 1) * rounds * len(plan.tests),
    }
    counts = {kind: int(max(0.0, spare) * shares[kind] / max(costs[kind], 1e-9)) for kind in costs}
    if any(counts[kind] < LEAST[kind] for kind in ("dataset", "finetune", "evaluation")):
        least = max(LEAST[kind] * costs[kind] / shares[kind] for kind in ("dataset", "finetune", "evaluation"))
        raise UserError(
            f"{minutes:g} minutes are too few on this machine, where {stages} stages take {rates.loading:.1f} s each "
            f"to load, a response {rates.response:.2g} s and an update {rates.update:.2g} s; give at least "
            f"{(least + stages * rates.loading) / 60 + 0.05:.1f} minutes, or fewer arms."
        )
    preview = min(counts["preview"], plan.preview) if previewed else 0
    return replace(
        plan,
        preview=preview if preview >= LEAST["preview"] else 0,
        limit=min(counts["dataset"], learned),
        test_limit=min(counts["evaluation"], tested),
        arms=tuple(
            replace(arm, config=replace(arm.config, max_steps=min(arm.config.max_steps, counts["finetune"])))
            for arm in plan.arms
        ),
    )


def _count(plan: Plan) -> int:
    stages: list[Stage] = round_stages(plan, Path("x"))
    return len(stages) + (plan.rounds - 1) * (1 + (1 + len(plan.tests)) * len(plan.arms))
