"""The stages of an experiment: each is a run of its own, in a folder beside the experiment's.

So each opens on its own tab, and its event log says how far it is. Nothing else is recorded about it.
"""

import re
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
    """One run of an experiment."""

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
    expert = expert or plan.expert
    amateur = plan.amateur
    if turn > 1 and plan.next_amateur == "expert":
        amateur = plan.expert if turn == 2 else str(later_expert(folder, turn - 1))
    again = f"r{turn}-" if turn > 1 else ""

    def place(name: str) -> Path:
        return folder.with_name(f"{folder.name}-{again}{name}")

    def title(text: str) -> str:
        return f"Round {turn}: {text}" if plan.rounds > 1 else text

    found = []
    if plan.preview and turn == 1:
        job = EvaluationJob(
            run_dir=place("preview"),
            model=expert,
            adapters=(),
            problems=plan.problems,
            split=plan.split or training_split(plan.problems),
            limit=min(plan.preview, plan.limit or plan.preview),
            max_new_tokens=plan.max_new_tokens,
            skip_unreadable=plan.skip_unreadable,
            amateur=plan.amateur,
            contrasts=parse_contrasts(f"{ALPHA:g}", plan.preview_betas, False),
        )
        found.append(Stage("preview", title("Preview"), job.run_dir, job, turn))
    sampling = SamplingJob(
        *(place("data"), expert, amateur, plan.problems),
        decoding=DecodingConfig(plan.max_new_tokens, beta_floor=0.0),
        pair_name=plan.pair if turn == 1 else None,
        split=plan.split or training_split(plan.problems),
        limit=plan.limit,
        skip_unreadable=plan.skip_unreadable,
    )
    found.append(Stage("dataset", title("Sample"), sampling.run_dir, sampling, turn))
    dataset = RunLocation(sampling.run_dir, str(sampling.run_dir))
    for number, arm in enumerate(plan.in_order(), 1):
        tags = ["test", *(f"test{n}" for n in range(2, len(plan.tests) + 1))]
        room = LONGEST - len(f"{folder.name}-{again}{number}--{tags[-1]}")
        name = re.sub("[^a-z0-9]+", "-", arm.name.lower())[: max(0, min(NAME, room))].strip("-")
        slug = f"{number}-{name}".strip("-")
        tuned = FinetuneJob(place(slug), dataset, expert, arm.config, arm.selection)
        found.append(Stage("finetune", title(f"Fine-tune · {arm.name}"), tuned.run_dir, tuned, turn, arm))
        for tag, test in zip(tags, plan.tests, strict=True):
            job = EvaluationJob(
                run_dir=place(f"{slug}-{tag}"),
                model=expert,
                adapters=(tuned.run_dir,),
                problems=test,
                split=plan.test_split,
                limit=plan.test_limit,
                max_new_tokens=plan.test_max_new_tokens,
                batch_size=BATCH,
                skip_unreadable=plan.skip_unreadable,
            )
            told = f"Evaluate · {arm.name}" + (f" · {problems_title(test)}" if len(tags) > 1 else "")
            found.append(Stage("evaluation", title(told), job.run_dir, job, turn, arm, plan.tests))
    return found


ROUND_EXPERT = re.compile(r"-r(\d+)-expert$")  # the end of what `later_expert` returns


def later_expert(folder: Path, turn: int) -> Path:
    """The folder of the merged model that a later round of an experiment begins with."""
    return folder.with_name(f"{folder.name}-r{turn}-expert")
