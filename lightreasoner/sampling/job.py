"""SamplingJob: which pair samples which problems, or scores which responses, how, and into which run folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightreasoner.datasets.amateurs import check_amateurs
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.errors import UserError
from lightreasoner.formatting import plural
from lightreasoner.models.identity import describe_models
from lightreasoner.models.pairs import Pair, describe_pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings, check_prompt
from lightreasoner.models.prompts import describe_prompt, prompt_marks, render
from lightreasoner.problems.response_files import KnownProblems, ResponseFile
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.sources import SOURCES, problems_title
from lightreasoner.problems.stream import MAX_ROWS, ProblemStream, file_fingerprint, open_problems, source_fingerprint
from lightreasoner.sampling.given_responses import GivenPrompts
from lightreasoner.sampling.plan import Prompts
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import versions
from lightreasoner.validation import number


@dataclass(frozen=True)
class SamplingJob:
    """All that a sampling run needs to know. It can be pickled, so workers on other machines get the same job."""

    run_dir: Path
    expert: str
    amateur: str
    problems: str | None  # a problem source or a file; None where the responses hold their problems
    decoding: DecodingConfig
    pair_name: str | None = None  # the preset that named both models
    split: str | None = None  # of a benchmark
    limit: int | None = None  # number of problems; None: all
    samples_per_problem: int = 1
    batch_size: int | None = None  # responses per batch; None: as many as fit into memory
    prompt: PromptSettings = PAPER
    num_workers: int | None = None  # actors on a Ray cluster; None: sample in this process
    skip_unreadable: bool = True  # use the rest of a file that has rows which cannot be read
    responses: str | None = None  # a file of responses to score; `limit` then counts these
    other_amateurs: tuple[str, ...] = ()  # that read the same responses, each into a dataset of its own within this one

    @property
    def amateurs(self) -> tuple[str, ...]:
        return (self.amateur, *self.other_amateurs)

    @property
    def title(self) -> str:
        """The run's name in lists of runs and jobs."""
        return scoring_title(self.responses) if self.responses else sampling_title(self.problems, self.limit)

    def config(self) -> dict[str, Any]:
        """The configuration in run.json: a run folder resumes only with the same values."""
        decoding = self.decoding
        writing = {name: getattr(decoding, name) for name in ("max_new_tokens", "seed", "temperature")}
        writing["samples_per_problem"] = self.samples_per_problem
        reading = {"responses": Path(self.responses or "").name, "skip_unreadable": self.skip_unreadable}
        return {
            "expert": self.expert,
            "amateur": self.amateur,
            "problems": self.problems if self.problems in (*SOURCES, None) else Path(self.problems).name,
            "split": self.split,
            "limit": self.limit,
            "batch_size": self.batch_size or "auto",
            "beta_floor": decoding.beta_floor,
            **(reading if self.responses else writing),
            **({"prompt": prompt} if (prompt := self.prompt.as_json()) else {}),  # earlier versions' runs have none
            **({"stop": list(decoding.stop)} if decoding.stop else {}),
        }

    def check(self, settings: Settings) -> None:
        """Check everything that can be checked without loading a model. Raises UserError."""
        decoding, samples = self.decoding, self.samples_per_problem
        number("The token limit", decoding.max_new_tokens, 1, settings.max_new_tokens, whole=True)
        number("The temperature", decoding.temperature, 0, 10)
        number("The seed", decoding.seed, 0, 2**53, whole=True)
        number("The number of samples per problem", samples, 1, 64, whole=True)
        number("The β floor", decoding.beta_floor, 0, 1000)
        if samples > 1 and decoding.temperature == 0:
            raise UserError(
                f"At temperature 0 all {samples} samples of a problem would be the same; set a temperature such as "
                "0.8, or sample once per problem."
            )
        if self.limit is not None:
            what = "responses" if self.responses else "problems"
            number(f"The number of {what}", self.limit, 1, MAX_ROWS, whole=True)
        if self.batch_size is not None:
            number("The batch size", self.batch_size, 1, 4096, whole=True)
        check_prompt(self.prompt)
        check_amateurs(list(self.amateurs))
        self.fingerprints()

    def fingerprints(self) -> dict[str, str]:
        """The content of the files that the job reads. Raises UserError for one that is missing."""
        files = {"file of responses": file_fingerprint(Path(self.responses))} if self.responses else {}
        own = source_fingerprint(self.problems) if self.problems is not None else None
        return files | ({"problem file": own} if own else {})

    def count(self, settings: Settings) -> int:
        """Problems, or responses, in the files, so that a mistake in the last row shows before any model is loaded.

        Raises UserError.
        """
        if not self.responses:
            return sum(1 for _ in self.open_problems(settings))
        found = self._open_responses(settings)
        return sum(1 for _ in found) and found.rows

    def open_prompts(self, pair: Pair, settings: Settings, others: Sequence[Pair] = ()) -> Prompts | GivenPrompts:
        """The rows to sample, or to score. others: of the other amateurs. Raises UserError."""
        if not self.responses:
            return Prompts(pair, self.open_problems(settings), self.decoding, settings, self.prompt, others)

        def prompt(problem: Problem) -> tuple[list[int], str]:
            asked = (problem.question, self.prompt, problem.context)
            found = render(pair.expert.tokenizer, str(pair.expert.ref), *asked)
            return found.ids, found.text

        return GivenPrompts(pair, self._open_responses(settings, prompt), self.prompt, self.decoding.stop)

    def _open_responses(
        self, settings: Settings, prompt: Callable[[Problem], tuple[list[int], str]] | None = None
    ) -> ResponseFile:
        limits = {"max_chars": settings.max_problem_chars, "skip_unreadable": self.skip_unreadable}
        problems = None
        if self.problems is not None:
            stream = open_problems(self.problems, split=self.split, **limits)
            problems = KnownProblems(stream.title, stream, prompt, later=prompt is None)
        return ResponseFile(self.responses, problems, limit=self.limit, **limits)

    def open_problems(self, settings: Settings) -> ProblemStream:
        """The job's problems without repeated questions. Raises UserError."""
        limits = {"max_chars": settings.max_problem_chars, "skip_unreadable": self.skip_unreadable}
        return open_problems(self.problems, split=self.split, limit=self.limit, distinct=True, **limits)


def pair_facts(pair: Pair, prompt: PromptSettings, stored: dict[str, Any]) -> dict[str, Any]:
    """The facts on a pair and its prompt for a run's record. stored: those of an earlier start."""
    models = {"expert": pair.expert, "amateur": pair.amateur}
    about = describe_models(models, stored)
    about["marks"] |= prompt_marks(models, prompt)
    return about | {"prompt": describe_prompt(pair.expert, prompt), "versions": versions(), "pair": describe_pair(pair)}


def sampling_title(problems: str, limit: int | None) -> str:
    """For example "Sample 500 problems of GSM8K"."""
    name = problems_title(problems)[:60]
    return f"Sample {name}" if limit is None else f"Sample {plural(limit, 'problem')} of {name}"


def scoring_title(responses: str) -> str:
    """For example "Score responses.jsonl"."""
    return f"Score {Path(responses).name[:60]}"
