"""ExperimentRequest: the checked values of the Improve form, and the arguments of its job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightreasoner.cli.experiment import parse_arm
from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.experiments.plan import MOST_ARMS, Plan, plan_of
from lightreasoner.models.pairs import presets, quick_settings
from lightreasoner.problems.sources import SOURCES, problems_title
from lightreasoner.problems.stream import MAX_ROWS, source_fingerprint, training_split
from lightreasoner.settings import Settings
from lightreasoner.training.config import METHOD_TITLES, FinetuneConfig
from lightreasoner.training.job import quick_config
from lightreasoner.validation import number
from ui.components.form_values import checked_problems, pair_of, pair_options, whole_or_none
from ui.components.run_form import options
from ui.components.run_list import without_folders

FIRST = METHOD_TITLES["lightreasoner"]  # the name of the first arm
USUAL = FinetuneConfig()
LENGTH = 128  # tokens of a response to learn from
MOST_TEXT = 20_000  # characters of the further arms
QUICK, FULL = "quick", "full"  # sizes of an experiment
MINUTES, PROBLEMS = 5, 500  # of a full one: a budget that shows an effect on the bundled pair, and the most it may use


@dataclass(frozen=True)
class ExperimentRequest:
    """Checked values of the form. `problems` and `test` are keys of SOURCES or uploaded files' paths."""

    pair: tuple[str | None, str, str]  # preset name or None, expert, amateur
    problems: str
    test: str
    arms: tuple[str, ...]  # as --arm takes them
    limit: int | None = None  # None: all
    test_limit: int | None = None
    max_new_tokens: int = LENGTH
    test_max_new_tokens: int | None = None  # None: as `evaluate` chooses
    preview: int = Plan.preview
    rounds: int = 1
    next_amateur: str = "same"
    no_control: bool = False
    stop_worse: bool = False
    skip_unreadable: bool = False
    minutes: float | None = None  # the budget; the numbers of problems and updates are then upper bounds

    def argv(self, problems: str, test: str) -> list[str]:
        """The verb's arguments without --run-dir; defaults are left out."""
        argv = ["experiment", *pair_options(self.pair), "--problems", problems, *options(self, "limit")]
        argv += ["--test", test, *options(self, "test_limit")]
        for arm in self.arms:
            argv += ["--arm", arm]
        names = ("max_new_tokens", "test_max_new_tokens", "preview", "rounds", "next_amateur", "no_control")
        names += ("stop_worse",)
        return argv + options(self, *names, "skip_unreadable", "minutes")

    @property
    def title(self) -> str:
        return f"Improve {without_folders(self.pair[1])} on {problems_title(self.problems)}"

    def plan(self) -> Plan:
        """Raises UserError for values out of bounds."""
        tables: dict[str, Any] = dict(zip(("pair", "expert", "amateur"), self.pair, strict=True))
        names = ("problems", "test", "limit", "test_limit", "max_new_tokens", "test_max_new_tokens", "preview")
        names += ("rounds", "next_amateur", "stop_worse", "skip_unreadable")
        tables |= {name: getattr(self, name) for name in names}
        return plan_of(tables | {"control": not self.no_control, "arm": [parse_arm(arm) for arm in self.arms]})


def usual_settings(preset: object, size: object = FULL) -> dict[str, Any]:
    """The settings of a pair's first arm: those of its quick preset, or its others, else the paper's."""
    if size == QUICK:
        own = quick_config(preset)
    else:
        own = next((pair.finetune for pair in presets() if pair.name == preset), {})
    return {"learning_rate": USUAL.learning_rate, "max_steps": USUAL.max_steps} | own


def usual_amounts(preset: object, size: object) -> dict[str, Any]:
    """What a size puts into the form: the first arm's settings that it shows, the numbers of problems, and the rest."""
    found = {name: usual_settings(preset, size)[name] for name in ("learning_rate", "max_steps")}
    if size == QUICK:
        quick = quick_settings(preset)
        return (
            found
            | {name: quick[name] for name in ("limit", "test_limit")}
            | {"minutes": None, "preview": bool(quick["preview"])}
        )
    return found | {"limit": PROBLEMS, "test_limit": PROBLEMS, "minutes": MINUTES, "preview": True}


def read_form(settings: Settings, values: Mapping[str, object]) -> ExperimentRequest:
    """The form's values, by the names of ExperimentForm.fields, as a request. Raises UserError for invalid ones."""
    pair = pair_of(values)
    problems = checked_problems(values["source"], values["upload"])
    test = checked_problems(values["test_source"], values["test_upload"])
    refuse_same(problems, test)
    rate = number("The learning rate", values["learning_rate"], 1e-9, 1)
    steps = number("The number of updates", values["max_steps"], 1, 10**7, whole=True)
    first = (
        usual_settings(pair[0], values.get("size")) | {"learning_rate": rate, "max_steps": steps} | chosen_steps(values)
    )
    request = ExperimentRequest(
        pair,
        problems,
        test,
        arms_of(first, values["arms"]),
        limit=whole_or_none("The number of problems to learn from", values["limit"], MAX_ROWS),
        test_limit=whole_or_none("The number of problems to measure on", values["test_limit"], MAX_ROWS),
        max_new_tokens=number("The token limit", values["max_new_tokens"], 1, settings.max_new_tokens, whole=True),
        test_max_new_tokens=whole_or_none(
            "The token limit of an evaluation", values["test_max_new_tokens"], settings.max_new_tokens
        ),
        preview=Plan.preview if values["preview"] is True else 0,
        rounds=number("The number of rounds", values["rounds"], 1, 10, whole=True),
        next_amateur=str(values["next_amateur"]),
        no_control=values["control"] is not True,
        stop_worse=values["stop_worse"] is True,
        skip_unreadable=True in (values["skip_unreadable"], values["test_skip_unreadable"]),
        minutes=number("The budget in minutes", values["minutes"], 0.1, 100_000) if values["minutes"] else None,
    )
    request.plan()
    return request


def chosen_steps(values: Mapping[str, object]) -> dict[str, Any]:
    """The selector of the form and its τ, where they are not the usual ones. Raises UserError."""
    selector, tau = values.get("selector") or Selection.selector, values.get("tau")
    chosen = Selection(str(selector), tau=tau if selector == "teaching" else None).as_json()
    return {name: chosen[name] for name in ("selector", "tau") if chosen.get(name, "kl") != "kl"}


def refuse_same(problems: str, test: str) -> None:
    """Raises UserError where the expert would be measured on the problems that it learned from."""
    split = training_split(problems)
    if test in SOURCES:
        same = problems == test and split == SOURCES[test].splits[0]
    else:
        same = problems not in SOURCES and source_fingerprint(problems) == source_fingerprint(test)
    if same:
        raise UserError(
            "The expert would be measured on the very problems that it learned from; choose other ones to measure on, "
            "or divide your file in two."
        )


def arms_of(first: dict[str, Any], further: object) -> tuple[str, ...]:
    """The arms as --arm takes them: the first one, and one per line of the text, which changes settings of the first.

    Raises UserError.
    """
    if not isinstance(further, str | None) or len(further or "") > MOST_TEXT:
        raise UserError("The further arms did not arrive as text; type them again, one per line.")
    rows = [parse_arm(line) for line in (further or "").splitlines() if line.strip()]
    if len(rows) >= MOST_ARMS:
        raise UserError(f"These are {len(rows):,} further arms; an experiment has at most {MOST_ARMS}.")
    return tuple(written({"name": named(row)} | first | row) for row in [{}, *rows])


def named(row: dict[str, Any]) -> str:
    """The name of an arm whose row gives none: its method, and what it changes."""
    method = row.get("method")
    title = METHOD_TITLES.get(method, FIRST) if isinstance(method, str) else FIRST
    changed = [f"{name} {value}" for name, value in row.items() if name != "method" and not isinstance(value, list)]
    return " · ".join([title, *changed])


def written(arm: dict[str, Any]) -> str:
    """An arm as --arm takes it."""
    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in arm.items()}
    return ",".join(f"{name}={'|'.join(map(str, several))}" for name, several in values.items())
