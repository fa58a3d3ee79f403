"""Several experiments of one plan file, such as the paper's table: run in turn, and compared in one table."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.evaluation.paper_results import METHODS, Paper, read_paper
from lightreasoner.experiments.plan import Plan
from lightreasoner.experiments.report import signed
from lightreasoner.experiments.requirements import refuse_troubles, requirements
from lightreasoner.experiments.results import ArmResult, all_stages, arm_results
from lightreasoner.experiments.run import run_experiment
from lightreasoner.formatting import markdown_cell
from lightreasoner.models.devices import release_memory
from lightreasoner.problems.sources import problems_title
from lightreasoner.progress import Progress, StopRequested
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.storage.runs import RECORD
from lightreasoner.tables import KINDS, table_text

TABLE = "table.md"
HERE, PAPER = "measured here", "the paper"


def folder_of(folder: Path, name: str) -> Path:
    """The folder of one experiment, beside that of the series, so that the page and the other commands open it."""
    return folder.with_name(f"{folder.name}-{name}")


def run_series(
    plans: Mapping[str, Plan],
    folder: Path,
    settings: Settings,
    console: Callable[[Progress], Progress] = lambda progress: progress,
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Run what is missing of every experiment, and write the table after each. plans: name → plan.

    Raises UserError before anything runs where a model or dataset cannot be had or the disk is too small for them; at
    the end, where an experiment failed, which the others do not wait for. StopRequested passes.
    """
    folder = Path(folder).absolute()
    refuse_troubles(requirements(plans.values()))
    troubles = []
    for name, plan in plans.items():
        say(f"{name}: {plan.title}")
        try:
            run_experiment(plan, folder_of(folder, name), settings, console)
        except StopRequested:
            raise
        except Exception as error:  # whatever it is, the other experts can go on
            troubles.append(f"{name}: {error if isinstance(error, UserError) else log_unexpected(name)}")
            say(troubles[-1])
        release_memory()
        table = write_table(plans, folder)
    if troubles:
        raise UserError(
            f"{len(troubles)} of {len(plans)} experiments are not complete. {' '.join(troubles)} "
            f"The table of the others is {folder / TABLE}"
        )
    return table


def write_table(plans: Mapping[str, Plan], folder: Path) -> pd.DataFrame:
    """Write the table of what there is so far, as Markdown, CSV and LaTeX."""
    results = {name: _results(folder_of(folder, name)) for name in plans}
    table = series_table(plans, results, read_paper())
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE, markdown(table) + changes(plans, results))
    for kind in KINDS:
        write_text(folder / f"table.{kind}", table_text(table, kind))
    return table


def _results(folder: Path) -> list[ArmResult]:
    """Of the arms of an experiment's first round that have answered every problem. None where its files are damaged,
    which ended the experiment, too, so that its trouble is known."""
    try:
        found = arm_results(all_stages(folder)) if (folder / RECORD).is_file() else []
    except UserError:
        return []
    return [arm for arm in found if arm.round == 1 and arm.whole]


def series_table(plans: Mapping[str, Plan], results: Mapping[str, list[ArmResult]], paper: Paper) -> pd.DataFrame:
    """pass@1 in percent: a row for each expert and arm as measured here, and beside them the paper's.

    results: of each plan, the arms that have answered every problem. The columns: expert, numbers (HERE or PAPER),
    method, one for each test set, average. Where an arm has no result, the cell is empty.
    """
    tests = list(dict.fromkeys(test for plan in plans.values() for test in plan.tests))
    rows = []
    for name, plan in plans.items():
        if not results[name]:
            continue
        measured: dict[str, dict[str, float]] = {"base": {}}
        for arm in results[name]:
            test = arm.test or (plan.tests[0] if arm.tests == 1 else "average")
            measured["base"].setdefault(test, arm.before)
            measured.setdefault(arm.name, {})[test] = arm.pass_at_1
        rows += [_row(plan.expert, HERE, method, found, tests) for method, found in measured.items()]
        expert = _title(plan.expert)
        for method in METHODS if expert in paper.scores else ():
            scores = {test: paper.scores[expert][method].get(Path(test).stem) for test in tests}
            if {Path(test).stem for test in tests} == set(paper.benchmarks):
                scores["average"] = paper.averages[expert][method]
            rows.append(_row(plan.expert, PAPER, method, scores, tests))
    return pd.DataFrame(rows, columns=["expert", "numbers", "method", *map(problems_title, tests), "average"])


def changes(plans: Mapping[str, Plan], results: Mapping[str, list[ArmResult]]) -> str:
    """What each arm changed against its base, on average over the test sets, as a Markdown table."""
    lines = [["expert", "method", "change in points", "95 % interval", "gained", "lost"], ["---"] * 2 + ["--:"] * 4]
    for name, arm in ((name, arm) for name, found in results.items() for arm in found if arm.is_overall):
        interval = f"{signed(arm.low)} to {signed(arm.high)}"
        counted = (f"{arm.gained:,}", f"{arm.lost:,}")
        lines.append([_title(plans[name].expert), markdown_cell(arm.name), signed(arm.difference), interval, *counted])
    return "\nAgainst the base, on the same problems\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _title(ref: str) -> str:
    """A model's name on the Hub; also of a copy in a folder of the same name."""
    return "/".join(Path(ref).parts[-2:])


def _row(expert: str, numbers: str, method: str, shares: dict[str, float | None], tests: list[str]) -> dict:
    found = [shares.get(test) for test in tests]
    mean = shares.get("average")
    if mean is None and None not in found:
        mean = sum(found) / len(found)
    percent = {problems_title(test): share and 100 * share for test, share in zip(tests, found, strict=True)}
    row = {"expert": _title(expert), "numbers": numbers, "method": method}
    return row | percent | {"average": mean and 100 * mean}


def markdown(table: pd.DataFrame) -> str:
    """pass@1 in percent with one decimal; a missing number is a dash."""

    def cell(value: object) -> str:
        return markdown_cell(value) if isinstance(value, str) else "–" if pd.isna(value) else f"{value:.1f}"

    lines = [list(map(markdown_cell, table.columns)), ["---"] * 3 + ["--:"] * (len(table.columns) - 3)]
    lines += [list(map(cell, row)) for row in table.itertuples(index=False)]
    return "pass@1 in percent\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
