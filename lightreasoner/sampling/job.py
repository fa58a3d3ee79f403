"""SamplingJob: which pair samples which problems, how, and into which run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.errors import UserError
from lightreasoner.models.prompt_settings import PAPER, PromptSettings, check_prompt
from lightreasoner.problems.sources import SOURCES, problems_title
from lightreasoner.problems.stream import MAX_ROWS, ProblemStream, open_problems, source_fingerprint
from lightreasoner.settings import Settings
from lightreasoner.validation import number


@dataclass(frozen=True)
class SamplingJob:
    """All that a sampling run needs to know. It can be pickled, so workers on other machines get the same job."""

    run_dir: Path
    expert: str
    amateur: str
    problems: str  # a problem source or a file
    decoding: DecodingConfig
    pair_name: str | None = None  # the preset that named both models
    split: str | None = None  # of a benchmark
    limit: int | None = None  # number of problems; None: all
    samples_per_problem: int = 1
    batch_size: int | None = None  # responses per batch; None: as many as fit into memory
    prompt: PromptSettings = PAPER
    num_workers: int | None = None  # actors on a Ray cluster; None: sample in this process
    skip_unreadable: bool = True  # use the rest of a file that has rows which cannot be read

    @property
    def title(self) -> str:
        """The run's name in lists of runs and jobs."""
        return sampling_title(self.problems, self.limit)

    def config(self) -> dict[str, Any]:
        """The configuration in run.json: a run folder resumes only with the same values."""
        return {
            "expert": self.expert,
            "amateur": self.amateur,
            "problems": self.problems if self.problems in SOURCES else Path(self.problems).name,
            "split": self.split,
            "limit": self.limit,
            "max_new_tokens": self.decoding.max_new_tokens,
            "batch_size": self.batch_size or "auto",
            "seed": self.decoding.seed,
            "temperature": self.decoding.temperature,
            "samples_per_problem": self.samples_per_problem,
            "beta_floor": self.decoding.beta_floor,
            **({"prompt": prompt} if (prompt := self.prompt.as_json()) else {}),  # earlier versions' runs have none
        } | ({"stop": list(self.decoding.stop)} if self.decoding.stop else {})

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
            number("The number of problems", self.limit, 1, MAX_ROWS, whole=True)
        if self.batch_size is not None:
            number("The batch size", self.batch_size, 1, 4096, whole=True)
        check_prompt(self.prompt)
        source_fingerprint(self.problems)

    def open_problems(self, settings: Settings) -> ProblemStream:
        """The job's problems without repeated questions. Raises UserError."""
        limits = {"limit": self.limit, "max_chars": settings.max_problem_chars, "distinct": True}
        limits["skip_unreadable"] = self.skip_unreadable
        return open_problems(self.problems, split=self.split, **limits)


def sampling_title(problems: str, limit: int | None) -> str:
    """For example "Sample 500 problems of GSM8K"."""
    name = problems_title(problems)[:60]
    return f"Sample {name}" if limit is None else f"Sample {limit:,} problems of {name}"
