"""The plan of an experiment: a pair, the problems to learn from and to be measured on, and the arms to compare.

A plan is written as a TOML file, or given by options or a form:

    expert = "lightreasoner-expert-4m"
    amateur = "lightreasoner-amateur-1m"
    problems = "bundled-train"
    test = "bundled-test"     # or a list of several test sets

    [[arm]]
    name = "LightReasoner"
    learning_rate = 1e-3
    seed = [0, 1, 2]          # a list makes an arm of each value
"""

import itertools
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lightreasoner.datasets.selectors import Selection
from lightreasoner.decoding.contrast import parse_contrasts
from lightreasoner.errors import UserError, first_line
from lightreasoner.models.pairs import find_preset, presets, quick_settings
from lightreasoner.paper import ALPHA, PREVIEW_BETAS
from lightreasoner.problems.sources import problems_title
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.job import quick_config
from lightreasoner.training.presets import refuse_unknown, settings_of, settings_table, toml_value
from lightreasoner.validation import number

FILE = "plan.toml"  # in an experiment's folder: a plan that repeats it
SERIES_NAME = r"[a-z0-9][a-z0-9-]{0,23}"  # of an experiment in a file with several: a part of folders' names
MOST_ARMS, MOST_ROUNDS, MOST_TESTS = 64, 10, 99
#: The amateur of a later round → what it is.
NEXT_AMATEURS = {"same": "the plan's amateur", "expert": "the expert of the round before"}
CONTROL = "control: random steps"


@dataclass(frozen=True)
class Arm:
    """One fine-tuning of the expert: on which steps, and how."""

    name: str
    config: FinetuneConfig
    selection: Selection

    @property
    def cost(self) -> int:
        """Samples that are read: what training time grows with."""
        return self.config.max_steps * self.config.samples_per_update

    @property
    def is_control(self) -> bool:
        return self.config.method == "random-steps"


@dataclass(frozen=True)
class Plan:
    """An experiment as the user wants it. Raises UserError for values out of bounds."""

    expert: str
    amateur: str
    problems: str  # to learn from
    test: str | tuple[str, ...]  # to be measured on, one test set or several; their answers must be known
    arms: tuple[Arm, ...]
    pair: str | None = None  # the preset that names both models
    split: str | None = None
    limit: int | None = None  # of `problems`; None: all
    test_split: str | None = None
    test_limit: int | None = None  # of each test set
    max_new_tokens: int = 128  # of a response that is learned from
    test_max_new_tokens: int | None = None  # of one that is judged; None: as `evaluate` chooses
    preview: int = 100  # problems of `problems` that the preview solves first; 0: no preview
    preview_betas: str = PREVIEW_BETAS
    rounds: int = 1  # in each later round the best tuned expert is the expert
    next_amateur: str = "same"  # of the later rounds: see NEXT_AMATEURS
    skip_unreadable: bool = False  # use the rest of files that have rows which cannot be read
    stop_worse: bool = False  # end the evaluation of an arm that is clearly worse than the best one

    def __post_init__(self):
        if isinstance(self.test, list | tuple):
            object.__setattr__(self, "test", self.test[0] if len(self.test) == 1 else tuple(self.test))
        for name in ("expert", "amateur", "problems"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise UserError(f"The plan names no {name}; add {name} = … to it.")
        if not self.tests or not all(isinstance(test, str) and test.strip() for test in self.tests):
            raise UserError("The plan names no test; add test = … to it, a test set or a list of several.")
        if len(set(self.tests)) < len(self.tests) or len(self.tests) > MOST_TESTS:
            raise UserError(f"The plan's test must be 1 to {MOST_TESTS} test sets, each named once; leave some out.")
        if self.test_split is not None and len(self.tests) > 1:
            raise UserError("The plan's test_split belongs to one test set, and it has several; leave test_split out.")
        for name in ("pair", "split", "test_split", "preview_betas"):
            if not isinstance(getattr(self, name), str | None):
                raise UserError(f"The plan's {name} is {getattr(self, name)!r:.40}; it must be a text.")
        for name in ("skip_unreadable", "stop_worse"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"The plan's {name} is {getattr(self, name)!r:.40}; it must be true or false.")
        for name, low, high in (("limit", 1, 10**7), ("test_limit", 2, 10**7), ("test_max_new_tokens", 1, 10**6)):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), low, high, whole=True)
        number("max_new_tokens", self.max_new_tokens, 1, 10**6, whole=True)
        number("preview", self.preview, 0, 10**6, whole=True)
        number("rounds", self.rounds, 1, MOST_ROUNDS, whole=True)
        if self.next_amateur not in tuple(NEXT_AMATEURS):
            choices = ", or ".join(f"{name} for {what}" for name, what in NEXT_AMATEURS.items())
            raise UserError(f"The plan's next_amateur is {self.next_amateur!r:.40}; it must be {choices}.")
        if self.preview == 1:
            raise UserError("The preview has 1 problem, and an interval needs two; give 0 for none, or some 100.")
        parse_contrasts(f"{ALPHA:g}", self.preview_betas, False, ("alpha", "preview_betas"))
        if not 1 <= len(self.arms) <= MOST_ARMS:
            raise UserError(f"The plan has {len(self.arms):,} arms; it must have 1 to {MOST_ARMS}.")
        names = [arm.name for arm in self.arms]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"Two arms are called {twice!r:.80}; give each a name of its own.")

    @property
    def tests(self) -> tuple[str, ...]:
        return self.test if isinstance(self.test, tuple) else (self.test,)

    @property
    def test_titles(self) -> str:
        return ", ".join(problems_title(test) for test in self.tests)

    @property
    def title(self) -> str:
        return f"Improve {self.expert.rpartition('/')[2]} on {Path(self.problems).name}"

    def in_order(self) -> list[Arm]:
        """The cheapest arms first, equal ones in the order of the plan."""
        return sorted(self.arms, key=lambda arm: arm.cost)

    def as_json(self) -> dict[str, Any]:
        """For run.json, and for `plan_of`."""
        return {name: value for name, value in asdict(self).items() if name != "arms"} | {
            "test": self.test if isinstance(self.test, str) else list(self.test),
            "control": False,  # it is among the arms, if it is wanted
            "arm": [{"name": arm.name} | settings_table(arm.config, arm.selection) for arm in self.arms],
        }


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path} is no plan: {why}. It must be a TOML file; docs/experiments.md shows one.") from None


def read_plans(path: Path) -> dict[str, Plan]:
    """The plans of a file with [[experiment]] tables by their names, in order; what stands above the tables holds for
    all of them, unless a table says otherwise. The one plan of any other file is called "". Raises UserError."""
    tables = _tables(path)
    named = tables.pop("experiment", None)
    if named is None:
        return {"": plan_of(tables)}
    if not isinstance(named, list) or not named or not all(isinstance(own, dict) for own in named):
        raise UserError(f"{path} has experiments that are no tables; begin each with [[experiment]].")
    plans: dict[str, Plan] = {}
    for own in named:
        name = own.pop("name", None)
        if not isinstance(name, str) or not re.fullmatch(SERIES_NAME, name) or name in plans:
            raise UserError(
                f"{path} calls an experiment {name!r:.40}; give each a name of its own, of at most 24 small letters, "
                "digits and hyphens."
            )
        plans[name] = plan_of(tables | own)
    return plans


def write_plan(plan: Plan) -> str:
    """The plan as TOML, which read_plans reads as the same plan."""
    tables = plan.as_json()
    arms = tables.pop("arm")
    lines = [f"{name} = {toml_value(value)}" for name, value in tables.items() if value is not None]
    for arm in arms:
        lines += ["", "[[arm]]", *(f"{name} = {toml_value(value)}" for name, value in arm.items() if value is not None)]
    return "\n".join(lines) + "\n"


def plan_of(tables: dict[str, Any]) -> Plan:
    """The plan in a TOML file's or a form's tables. An arm's settings that are lists make an arm of each combination.

    control: whether a control of random steps is added beside the first arm; by default yes. Raises UserError that
    names what is unknown.
    """
    given = dict(tables)
    arms, control = given.pop("arm", None) or [{}], given.pop("control", True)
    usual = given.pop("arms", {})  # settings of all arms
    known = {field.name for field in fields(Plan)} - {"arms"}
    refuse_unknown("The plan", given, known | {"arm", "arms", "control"})
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in [usual, *arms]):
        raise UserError("The plan's arms are no tables; begin each with [[arm]], and settings of all with [arms].")
    if given.get("pair") and not given.get("expert"):
        preset = find_preset(given["pair"])
        given |= {"expert": preset.expert, "amateur": preset.amateur}
    if not given.get("expert") and not given.get("amateur"):
        given |= {"pair": presets()[0].name, "expert": presets()[0].expert, "amateur": presets()[0].amateur}
    made = [arm for table in arms for arm in _arms(usual | table)]
    if control and not any(arm.is_control for arm in made) and made:
        made.append(control_of(made[0]))
    named = dict.fromkeys(("expert", "amateur", "problems", "test"), "")
    return Plan(**named | given, arms=tuple(made))


def quick_tables(pair: str | None) -> dict[str, Any]:
    """The quick preset of a pair as a plan's tables. pair: the name of a preset."""
    usual, training = quick_settings(pair), quick_config(pair)
    return {name: value for name, value in usual.items() if name not in training} | {"arms": training}


def control_of(arm: Arm) -> Arm:
    """The same with as many steps, drawn at random: what training on anything at all comes to."""
    settings = settings_table(arm.config, arm.selection) | {"method": "random-steps", "selector": "random"}
    settings.pop("tau", None)
    return _arm(CONTROL, settings)


def _arms(table: dict[str, Any]) -> list[Arm]:
    """The arms of a table, one per combination of its lists."""
    table = dict(table)
    name = table.pop("name", None)
    lists = {
        key: value
        for key, value in table.items()
        if isinstance(value, list) and (key != "target_modules" or any(isinstance(part, list) for part in value))
    }
    if any(not value for value in lists.values()):
        raise UserError(f"An arm's {next(key for key in lists if not lists[key])} is an empty list; give it a value.")
    if len(list(itertools.islice(itertools.product(*lists.values()), MOST_ARMS + 1))) > MOST_ARMS:
        raise UserError(f"The lists of one arm make more than {MOST_ARMS} arms; leave some values out.")
    found = []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        title = str(name or chosen.get("method") or table.get("method") or "lightreasoner")
        differences = [f"{key} {value}" for key, value in chosen.items() if key != "method" or name]
        found.append(_arm(", ".join([title, *differences]), table | chosen))
    return found


def _arm(name: str, settings: dict[str, Any]) -> Arm:
    return Arm(name, *settings_of(settings, f"The arm {name!r:.60}"))
