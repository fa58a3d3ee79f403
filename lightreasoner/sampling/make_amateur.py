"""Makes an amateur out of an expert, and checks on a few problems whether it still writes sense."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightreasoner.datasets.amateurs import MADE, model_title
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.derived_amateurs import at_checkpoint, before_tuning, without_layers
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.references import parse_ref
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.progress import Progress, while_loading
from lightreasoner.sampling.coherence import Coherence, coherence
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import add_to_run, begin_run, read_run, versions
from lightreasoner.validation import number

KIND = "amateur"  # of the run
MODEL = "model"  # in the run folder, where the amateur is a new model


@dataclass(frozen=True)
class MakingJob:
    """How to make an amateur: exactly one of the three ways."""

    run_dir: Path
    expert: str
    drop_layers: str | None = None  # numbers, counted from 0, such as "1" or "18-23"
    checkpoint: int | None = None  # an earlier update of the run that tuned the expert
    before_tuning: bool = False  # the model that the expert was tuned from
    problems: str = "bundled-train"  # on which it is checked
    limit: int = 24
    max_new_tokens: int = 128

    @property
    def title(self) -> str:
        return f"{MADE}{model_title(parse_ref(self.expert).text)[:60]} {self.way}"

    @property
    def way(self) -> str:
        if self.drop_layers is not None:
            return f"without layers {self.drop_layers}"
        return "before its last tuning" if self.before_tuning else f"at update {self.checkpoint:,}"

    def check(self, settings: Settings) -> None:
        """Check everything that can be checked without loading a model. Raises UserError."""
        ways = sum((self.drop_layers is not None, self.checkpoint is not None, self.before_tuning))
        if ways != 1:
            raise UserError(
                f"{ways or 'No'} ways to make the amateur are named; choose one: without some layers, at an earlier "
                "checkpoint, or before the last tuning."
            )
        parse_ref(self.expert)
        if self.checkpoint is not None:
            number("The checkpoint", self.checkpoint, 0, 10**9, whole=True)
        number("The number of problems", self.limit, 2, 200, whole=True)
        number("The token limit", self.max_new_tokens, 1, settings.max_new_tokens, whole=True)


@dataclass(frozen=True)
class Made:
    """An amateur that was made. `ref` names it, such as to --amateur."""

    ref: str
    what: str  # a sentence
    checked: Coherence

    @property
    def sentences(self) -> list[str]:
        return [self.what, self.checked.sentence, f"As an amateur: {self.ref}"]


def make_amateur(job: MakingJob, settings: Settings, progress: Progress) -> Made:
    """Write the amateur into the job's run folder, unless it exists already, and check it. Raises UserError."""
    job.check(settings)
    say = while_loading(progress)
    config = {name: value for name, value in asdict(job).items() if name != "run_dir" and value not in (None, False)}
    begin_run(job.run_dir, KIND, config, {"versions": versions(), "title": job.title})
    place = job.run_dir.absolute() / MODEL
    made = read_run(job.run_dir).get("made")
    if not made or (made["ref"] == str(place) and not place.is_dir()):
        progress.status("Making the amateur")
        ref = str(place)
        if job.before_tuning:
            ref = before_tuning(job.expert)
            what = f"{job.expert} was tuned from {ref}, so nothing had to be written."
        elif job.checkpoint is not None:
            at_checkpoint(job.expert, job.checkpoint, place, settings, say)
            what = f"{job.expert} as it was after update {job.checkpoint:,} of its training."
        else:
            dropped = without_layers(job.expert, job.drop_layers, place, settings, say)
            layers = f"layer{'' if len(dropped) == 1 else 's'} {', '.join(map(str, dropped))}"
            what = f"{job.expert} without {layers}, counted from 0."
        made = {"ref": ref, "what": what}
        add_to_run(job.run_dir, made=made)
    pair = load_pair(job.expert, made["ref"], LoadedModels(settings), say)
    limits = {"limit": job.limit, "max_chars": settings.max_problem_chars, "distinct": True}
    problems = list(open_problems(job.problems, split=training_split(job.problems), **limits))
    progress.status("Both models write; the expert reads")
    checked = coherence(pair, problems, job.max_new_tokens, progress.checkpoint)
    result: dict[str, Any] = asdict(checked) | {"sentence": checked.sentence, "coherent": not checked.troubles}
    add_to_run(job.run_dir, result=result)
    progress.result(amateur=made["ref"], coherent=result["coherent"], sentence=checked.sentence)
    return Made(made["ref"], made["what"], checked)
