"""The stages of an experiment: each is a run of its own, in a folder beside the experiment's.

So each opens on its own tab, and its event log says how far it is. Nothing else is recorded about it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.decoding.contrast import parse_contrasts
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.evaluation.results import read_results
from lightreasoner.evaluation.run import EvaluationJob
from lightreasoner.experiments.plan import Arm, Plan
from lightreasoner.jobs.events import EVENTS_FILE, last_event, reversed_events
from lightreasoner.jobs.outcome import is_in_progress
from lightreasoner.paper import ALPHA
from lightreasoner.problems.sources import problems_title
from lightreasoner.problems.stream import training_split
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.storage.remote import RunLocation
from lightreasoner.storage.runs import RECORD, read_run
from lightreasoner.training.job import FinetuneJob
from lightreasoner.training.runs import ADAPTER, WEIGHTS

#: Problems per file of answers: the same in all evaluations of an experiment, so that they share the base's answers.
BATCH = 64
WITH_ALL = "experiment-stopped"  # an event: the stage was stopped since the whole experiment was, and is to go on
NAME = 12  # characters of an arm's name in a folder's, at most
LONGEST = 40  # of a folder's name: that of a run which can be opened on the page


@dataclass(frozen=True)
class Stage:
    kind: str  # "preview", "dataset", "finetune" or "evaluation"
    title: str
    folder: Path
    job: SamplingJob | FinetuneJob | EvaluationJob
    round: int  # from 1
    arm: Arm | None = None  # of the last two kinds
    tests: tuple[str, ...] = ()  # of the last kind: the test sets of the plan, of which its job has one

    @property
    def state(self) -> str:
        """`waiting`, `running`, `interrupted`, `succeeded`, `stopped` (its results are kept), `failed`, `cancelled`."""
        if not (self.folder / EVENTS_FILE).exists():
            return "waiting"
        end = last_event(self.folder / EVENTS_FILE) or {}
        if end.get("kind") != "end":
            return "running" if is_in_progress(self.folder) else "interrupted"
        if not end.get("kept"):
            return str(end.get("state"))
        for event in reversed_events(self.folder / EVENTS_FILE):
            if event["kind"] in ("start", WITH_ALL):
                break
        return "interrupted" if event["kind"] == WITH_ALL else "stopped"

    @property
    def message(self) -> str:
        """What its last attempt ended with."""
        return str((last_event(self.folder / EVENTS_FILE, "end") or {}).get("message") or "")

    @property
    def is_done(self) -> bool:
        """Whether it has ended with results that the next stages can use."""
        if self.state not in ("succeeded", "stopped"):
            return False
        if self.kind == "finetune":
            return (self.folder / ADAPTER / WEIGHTS).is_file()
        if self.kind == "dataset":
            return (self.folder / RECORD).is_file() and bool(read_run(self.folder).get("result"))
        return self.state == "stopped" or read_results(self.folder) is not None


def round_stages(plan: Plan, folder: Path, turn: int = 1, expert: str | None = None) -> list[Stage]:
    """The stages of round `turn`, in order: preview, dataset, then the arms one after another, the cheapest first.

    expert: of a later round, the expert that the round before has tuned.
    """
    expert, amateur = expert or plan.expert, plan.amateur
    if turn > 1 and plan.next_amateur == "expert":
        amateur = plan.expert if turn == 2 else str(later_expert(folder, turn - 1))
    place = folder.with_name(f"{folder.name}-r{turn}" if turn > 1 else folder.name)  # begins the stages' folders
    round_title = f"Round {turn}: " if plan.rounds > 1 else ""
    shared = {"split": plan.split or training_split(plan.problems), "skip_unreadable": plan.skip_unreadable}
    found = []
    if plan.preview and turn == 1:
        job = EvaluationJob(
            run_dir=beside(place, "preview"),
            model=expert,
            adapters=(),
            problems=plan.problems,
            limit=min(plan.preview, plan.limit or plan.preview),
            max_new_tokens=plan.max_new_tokens,
            amateur=plan.amateur,
            contrasts=parse_contrasts(f"{ALPHA:g}", plan.preview_betas, False),
            **shared,
        )
        found.append(Stage("preview", f"{round_title}Preview", job.run_dir, job, turn))
    sampling = SamplingJob(
        *(beside(place, "data"), expert, amateur, plan.problems),
        decoding=DecodingConfig(plan.max_new_tokens, beta_floor=0.0),
        pair_name=plan.pair if turn == 1 else None,
        limit=plan.limit,
        **shared,
    )
    found.append(Stage("dataset", f"{round_title}Sample", sampling.run_dir, sampling, turn))
    for number, arm in enumerate(plan.in_order(), 1):
        for kind, title, job, tests in _arm_jobs(plan, arm, number, place, sampling.run_dir, expert):
            found.append(Stage(kind, round_title + title, job.run_dir, job, turn, arm, tests))
    return found


def _arm_jobs(
    plan: Plan, arm: Arm, number: int, place: Path, dataset: Path, expert: str
) -> Iterator[tuple[str, str, FinetuneJob | EvaluationJob, tuple[str, ...]]]:
    """(kind, title, job, tests) of an arm's stages: it is trained, then measured on each test set of the plan.

    number: of the arm, from 1; place: begins the stages' folders.
    """
    tags = ["test", *(f"test{n}" for n in range(2, len(plan.tests) + 1))]
    room = LONGEST - len(f"{place.name}-{number}--{tags[-1]}")
    name = re.sub("[^a-z0-9]+", "-", arm.name.lower())[: max(0, min(NAME, room))].strip("-")
    tuned = beside(place, f"{number}-{name}".strip("-"))
    job = FinetuneJob(tuned, RunLocation(dataset, str(dataset)), expert, arm.config, arm.selection)
    yield "finetune", f"Fine-tune · {arm.name}", job, ()
    for tag, test in zip(tags, plan.tests, strict=True):
        job = EvaluationJob(
            run_dir=beside(tuned, tag),
            model=expert,
            adapters=(tuned,),
            problems=test,
            split=plan.test_split,
            limit=plan.test_limit,
            max_new_tokens=plan.test_max_new_tokens,
            batch_size=BATCH,
            skip_unreadable=plan.skip_unreadable,
        )
        of_several = f" · {problems_title(test)}" if len(tags) > 1 else ""
        yield "evaluation", f"Evaluate · {arm.name}{of_several}", job, plan.tests


def beside(place: Path, name: str) -> Path:
    """A run beside another one, whose own folder may lie anywhere."""
    place = Path(place).absolute()
    return place.with_name(f"{place.name}-{name}")


ROUND_EXPERT = re.compile(r"-r(\d+)-expert$")  # the end of what `later_expert` returns


def later_expert(folder: Path, turn: int) -> Path:
    """The folder of the merged model that a later round of an experiment begins with."""
    return folder.with_name(f"{folder.name}-r{turn}-expert")
