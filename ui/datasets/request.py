"""What a form asks a job to do with a pair and problems: checked, kept, and as words of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.validation import number
from ui.components.form_values import (
    MOST_AT_ONCE,
    MOST_PROBLEMS,
    MOST_SAMPLES,
    checked_pair,
    checked_problems,
    pair_title,
    pair_words,
)


@dataclass(frozen=True)
class SampleRequest:
    """What the form asks for, checked. `problems` is a key of SOURCES or an uploaded file's path."""

    pair: tuple[str | None, str, str]  # preset name or None, expert, amateur
    problems: str
    named: str  # the problems, for people
    limit: int
    max_new_tokens: int = 128
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    batch_size: int | None = None  # None: as much as memory allows
    every_step: bool = False

    def argv(self, problems: str) -> list[str]:
        """The command line without its --run-dir; what is as usual is left out."""
        words = ["sample", *pair_words(self.pair), "--problems", problems, "--limit", str(self.limit)]
        words += ["--max-new-tokens", str(self.max_new_tokens)] if self.max_new_tokens != 128 else []
        words += ["--batch-size", str(self.batch_size)] if self.batch_size else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--temperature", f"{self.temperature:g}"] if self.temperature else []
        words += ["--samples-per-problem", str(self.samples)] if self.samples != 1 else []
        return words + (["--beta-floor", "0"] if self.every_step else [])

    @property
    def title(self) -> str:
        return f"{pair_title(self.pair)} · {self.named} · {self.limit:,}"


def read_form(
    settings: Settings, preset, expert, amateur, source, upload, limit, tokens, temperature, samples, seed, batch, every
) -> SampleRequest:
    """The form's fields as a request. Anybody may send anything; raises UserError."""
    pair, (problems, named) = checked_pair(preset, expert, amateur), checked_problems(source, upload)
    temperature = number("The temperature", temperature, 0, 10)
    samples = number("The samples a problem", samples, 1, MOST_SAMPLES, whole=True)
    if samples > 1 and not temperature:
        raise UserError(f"At temperature 0 all {samples} samples of a problem would be the same; raise it, or take 1.")
    return SampleRequest(
        pair,
        problems,
        named,
        limit=number("The number of problems", limit, 1, MOST_PROBLEMS, whole=True),
        max_new_tokens=number("The token limit", tokens, 1, settings.max_new_tokens, whole=True),
        temperature=temperature,
        samples=samples,
        seed=number("The seed", seed, 0, 2**53, whole=True),
        batch_size=number("The batch size", batch or 0, 0, MOST_AT_ONCE, whole=True) or None,
        every_step=every is True,
    )
