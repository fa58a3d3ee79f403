"""SampleRequest: the checked values of the Datasets form, and the arguments of its job."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from lightreasoner.errors import UserError
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.sources import problems_title
from lightreasoner.settings import Settings
from lightreasoner.validation import number
from ui.components.form_values import (
    MAX_BATCH_SIZE,
    MAX_PROBLEMS,
    MAX_SAMPLES_PER_PROBLEM,
    checked_problems,
    checked_stops,
    pair_of,
    pair_options,
    pair_title,
    stop_options,
    whole_or_none,
)
from ui.components.prompt_form import read_prompt
from ui.components.run_form import options


@dataclass(frozen=True)
class SampleRequest:
    """Checked values of the form. `problems` is a key of SOURCES or an uploaded file's path."""

    pair: tuple[str | None, str, str]  # preset name or None, expert, amateur
    problems: str
    limit: int
    max_new_tokens: int = 128
    batch_size: int | None = None  # None: as many responses as fit into memory
    seed: int = 0
    temperature: float = 0
    samples_per_problem: int = 1
    beta_floor: float = 0.0  # nats
    stop: tuple[str, ...] = ()
    skip_unreadable: bool = False  # use the rest of a file that has rows which cannot be read
    prompt: PromptSettings = PAPER

    def argv(self, problems: str) -> list[str]:
        """The verb's arguments without --run-dir; defaults are left out."""
        argv = ["sample", *pair_options(self.pair), "--problems", problems, "--limit", str(self.limit)]
        names = (f.name for f in fields(self) if f.default is not MISSING and f.name != "stop")
        return [*argv, *options(self, *names), *stop_options(self.stop)]

    @property
    def title(self) -> str:
        return f"{pair_title(self.pair)} · {problems_title(self.problems)} · {self.limit:,}"


def read_form(settings: Settings, values: Mapping[str, object]) -> SampleRequest:
    """The form's values, by the names of DatasetForm.fields, as a request. Raises UserError for invalid ones."""
    pair = pair_of(values)
    problems = checked_problems(values["source"], values["upload"])
    temperature = number("The temperature", values["temperature"], 0, 10)
    samples = number(
        "The number of samples per problem", values["samples_per_problem"], 1, MAX_SAMPLES_PER_PROBLEM, whole=True
    )
    if samples > 1 and not temperature:
        raise UserError(
            f"At temperature 0 all {samples} samples of a problem would be the same; raise the temperature, or take "
            "1 sample."
        )
    return SampleRequest(
        pair,
        problems,
        limit=number("The number of problems", values["limit"], 1, MAX_PROBLEMS, whole=True),
        max_new_tokens=number("The token limit", values["max_new_tokens"], 1, settings.max_new_tokens, whole=True),
        batch_size=whole_or_none("The batch size", values["batch_size"], MAX_BATCH_SIZE),
        seed=number("The seed", values["seed"], 0, 2**53, whole=True),
        temperature=temperature,
        samples_per_problem=samples,
        beta_floor=0.0 if values["every_step"] is True else BETA_FLOOR,
        stop=checked_stops(values.get("stop")),
        skip_unreadable=values.get("skip_unreadable") is True,
        prompt=read_prompt(values),
    )
