"""Several experiments of one plan file, such as the paper's table: run in turn, and compared in one table."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from lightreasoner.errors import UserError
from lightreasoner.evaluation.paper_results import METHODS, Paper, read_paper
from lightreasoner.experiments.plan import Plan
from lightreasoner.experiments.requirements import refuse_troubles, requirements
from lightreasoner.experiments.results import all_stages, arm_results
from lightreasoner.experiments.run import run_experiment
from lightreasoner.formatting import markdown_cell
from lightreasoner.problems.sources import problems_title
from lightreasoner.progress import Progress
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

    Raises UserError before anything runs where a model or dataset cannot be had; at the end, where an experiment
    failed, which the others do not wait for. StopRequested passes.
    """
    folder = Path(folder).absolute()
    refuse_troubles(requirements(plans.values()))
    troubles = []
    for name, plan in plans.items():
        say(f"{name}: {plan.title}")
        try:
            run_experiment(plan, folder_of(folder, name), settings, console)
        except UserError as error:
            troubles.append(f"{name}: {error}")
            say(troubles[-1])
        table = write_table(plans, folder)
    if troubles:
        raise UserError(f"{len(troubles)} of {len(plans)} experiments are not complete. " + "\n".join(troubles))
    return table


def write_table(plans: Mapping[str, Plan], folder: Path) -> pd.DataFrame:
    """Write the table of what there is so far, as Markdown, CSV and LaTeX."""
    table = series_table(plans, folder, read_paper())
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE, markdown(table))
    for kind in KINDS:
        write_text(folder / f"table.{kind}", table_text(table, kind))
    return table


def series_table(plans: Mapping[str, Plan], folder: Path, paper: Paper) -> pd.DataFrame:
    """pass@1 in percent: a row for each expert and arm as measured here, and beside them the paper's.

    The columns: expert, numbers (HERE or PAPER), method, one for each test set, average. Of an arm that has not
    answered every problem, the cell is empty.
    """
    tests = list(dict.fromkeys(test for plan in plans.values() for test in plan.tests))
    rows = []
    for name, plan in plans.items():
        own = folder_of(folder, name)
        results = arm_results(all_stages(own)) if (own / RECORD).is_file() else []
        results = [arm for arm in results if arm.round == 1 and arm.whole]
        if not results:
            continue
        measured: dict[str, dict[str, float]] = {"base": {}}
        for arm in results:
            test = arm.test or (plan.tests[0] if arm.tests == 1 else "average")
            measured["base"].setdefault(test, arm.before)
            measured.setdefault(arm.name, {})[test] = arm.pass_at_1
        rows += [_row(plan.expert, HERE, method, found, tests) for method, found in measured.items()]
        expert = "/".join(Path(plan.expert).parts[-2:])  # also of a copy in a folder of the same name
        for method in METHODS if expert in paper.scores else ():
            scores = {test: paper.scores[expert][method].get(Path(test).stem) for test in tests}
            if {Path(test).stem for test in tests} == set(paper.benchmarks):
                scores["average"] = paper.averages[expert][method]
            rows.append(_row(plan.expert, PAPER, method, scores, tests))
    return pd.DataFrame(rows, columns=["expert", "numbers", "method", *map(problems_title, tests), "average"])


def _row(expert: str, numbers: str, method: str, shares: dict[str, float | None], tests: list[str]) -> dict:
    found = [shares.get(test) for test in tests]
    mean = shares.get("average")
    if mean is None and None not in found:
        mean = sum(found) / len(found)
    percent = {problems_title(test): share and 100 * share for test, share in zip(tests, found, strict=True)}
    row = {"expert": "/".join(Path(expert).parts[-2:]), "numbers": numbers, "method": method}
    return row | percent | {"average": mean and 100 * mean}


def markdown(table: pd.DataFrame) -> str:
    """pass@1 in percent with one decimal; a missing number is a dash."""

    def cell(value: object) -> str:
        return markdown_cell(value) if isinstance(value, str) else "–" if pd.isna(value) else f"{value:.1f}"

    lines = [list(map(markdown_cell, table.columns)), ["---"] * 3 + ["--:"] * (len(table.columns) - 3)]
    lines += [list(map(cell, row)) for row in table.itertuples(index=False)]
    return "pass@1 in percent\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
