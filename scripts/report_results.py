"""Writes docs/results.md and its picture from the runs of reproduce.sh: python scripts/report_results.py [FOLDER].

The tables are computed here from the experiments' folders, of what has run; the text around them is in
results_template.md. The picture is drawn from the main table of docs/results.md, in a browser
(pip install -r requirements-dev.txt); without FOLDER only it is.
"""

import ast
import html
import operator
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from urllib.parse import unquote

import pandas as pd
import plotly.graph_objects as go

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lightreasoner.evaluation.figures import models_figure  # noqa: E402
from lightreasoner.evaluation.results import read_rows  # noqa: E402
from lightreasoner.experiments.results import all_stages, recorded_plan  # noqa: E402
from lightreasoner.formatting import in_points  # noqa: E402
from lightreasoner.jobs.events import working_seconds  # noqa: E402
from lightreasoner.paper import BETA  # noqa: E402
from lightreasoner.scoring.significance import Comparison, compare, wilson  # noqa: E402
from lightreasoner.settings import ASSETS  # noqa: E402
from lightreasoner.storage.runs import read_run  # noqa: E402
from lightreasoner.training.result import FinetuneResult  # noqa: E402
from ui.scripts import content  # noqa: E402

REPORT, PICTURE = ROOT / "docs/results.md", ROOT / "docs/img/results.svg"
TITLE = "pass@1 on 500 held-out problems, 95 % intervals, one marker per seed"

METHODS = {
    "lightreasoner": "LightReasoner",
    "no-contrast": "no contrast (expert's own target)",
    "all-steps": "no selection (every step)",
    "random-steps": "random steps (control)",
    "sft": "rejection-sampled SFT",
}
EQUATION = re.compile(r"(?<![\d.])(\d+(?: ?[-+*/] ?\d+)+) = (\d+)(?![\d.])")
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
WORKED = "Let's work it out"  # begins a response that shows its steps


@dataclass(frozen=True)
class Trained:
    """An arm that was trained and evaluated: its answers to the problems beside the untouched expert's."""

    name: str  # of the arm, without its seed
    seed: int
    tuned: Path
    test: Path
    expert: dict[str, bool]  # problem → whether it was solved
    right: dict[str, bool]

    @property
    def found(self) -> Comparison:
        return compare(self.expert, self.right)


def trained(experiment: Path) -> list[Trained]:
    """The arms of an experiment whose evaluation has ended, in the order of its plan."""
    arms = []
    if not (experiment / "run.json").is_file():
        return arms
    plan, stages = recorded_plan(read_run(experiment)), all_stages(experiment)
    order = [arm.name for arm in plan.arms]
    for stage in stages:
        if stage.kind != "evaluation" or stage.state != "succeeded":
            continue
        tuned = next(s.folder for s in stages if s.kind == "finetune" and s.arm == stage.arm)
        right = [solved(stage.folder, n) for n in (0, 1)]
        name = re.sub(r", seed \d+", "", stage.arm.name)
        arms.append((order.index(stage.arm.name), Trained(name, stage.arm.config.seed, tuned, stage.folder, *right)))
    return [arm for _, arm in sorted(arms, key=lambda pair: pair[0])]


def solved(folder: Path, variant: int) -> dict[str, bool]:
    return {row["problem_id"]: row["right"] for row in read_rows(folder, variant)}


def by_name(arms: list[Trained]) -> dict[str, list[Trained]]:
    found: dict[str, list[Trained]] = {}
    for arm in arms:
        found.setdefault(arm.name, []).append(arm)
    return found


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def arithmetic(node: ast.expr) -> float:
    """The value of an expression of integers and + - * /."""
    if isinstance(node, ast.Constant):
        return node.value
    return OPERATORS[type(node.op)](arithmetic(node.left), arithmetic(node.right))


def is_true(equation: tuple[str, str]) -> bool:
    left, right = equation
    return abs(arithmetic(ast.parse(left, mode="eval").body) - int(right)) < 1e-9


def habits(rows: pd.DataFrame) -> dict[str, float]:
    """Shares of worked-out responses, of correct ones, of true equations and of truncated responses; mean tokens."""
    worked = rows["response"].str.startswith(WORKED)
    return {
        "worked": worked.mean(),
        "right if worked": rows["right"][worked].mean(),
        "right if answered at once": rows["right"][~worked].mean(),
        "sums true": rows["response"][worked].str.findall(EQUATION).explode().dropna().map(is_true).mean(),
        "cut off": (rows["finish_reason"] == "length").mean(),
        "tokens": rows["response_ids"].map(len).mean(),
    }


def cells(*found: Comparison, between: str = "") -> str:
    """pass@1 and the change. Seeds share their problems, so averaging them does not narrow their interval."""
    change = in_points(mean(f.low for f in found), mean(f.high for f in found))
    return f"{percent(mean(f.after for f in found))} |{between} {change}"


def row(title: str, arms: list[Trained]) -> str:
    """A line of a table of accuracies."""
    found = [arm.found for arm in arms]
    each = ", ".join(percent(f.after) for f in found)
    flips = f"{mean(len(f.gained) for f in found):.0f} / {mean(len(f.lost) for f in found):.0f}"
    return f"| {title} | {cells(*found, between=f' {each} |')} | {flips} |"


HEAD = ["| {} | test | by seed | change, 95 % | gained / lost |", "|---|--:|---|---|---|"]


def head(title: str) -> list[str]:
    return [HEAD[0].format(title), HEAD[1]]


def main_table(arms: dict[str, list[Trained]]) -> list[str]:
    expert = next(iter(arms.values()))[0].expert
    low, high = wilson(sum(expert.values()), len(expert))
    base = f"| expert, untouched | {percent(mean(expert.values()))} | {percent(low)} – {percent(high)} (Wilson) | | |"
    return [*head("method"), base, *(row(title, arms[name]) for name, title in METHODS.items() if name in arms)]


def others_table(arms: dict[str, list[Trained]], title: str, begins: str) -> list[str]:
    """The arms whose names begin so, by what is behind it."""
    rows = [row(name.removeprefix(begins).lstrip(", "), of) for name, of in arms.items() if name.startswith(begins)]
    return [*head(title), *rows] if rows else []


def habit_table(arms: dict[str, list[Trained]]) -> list[str]:
    lines = [
        "| | worked out | right if worked out | right if answered at once | sums that are true | cut off | tokens |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    first = next(iter(arms.values()))[0]
    known = {title: [(arm.test, 1) for arm in arms[name]] for name, title in METHODS.items() if name in arms}
    for title, of in ({"expert, untouched": [(first.test, 0)]} | known).items():
        *shares, tokens = pd.DataFrame([habits(pd.DataFrame(read_rows(*place))) for place in of]).mean()
        lines.append(f"| {title} | {' | '.join(map(percent, shares))} | {tokens:.0f} |")
    return lines


def shifted_table(out: Path, arms: dict[str, list[Trained]]) -> list[str]:
    if not (out / "shifted/results.json").is_file():
        return []
    names = read_run(out / "shifted")["about"]["models"]
    right = {name: solved(out / "shifted", n) for n, name in enumerate(names)}
    lines = ["| method | shifted | change, 95 % |", "|---|--:|---|"]
    lines.append(f"| expert, untouched | {percent(mean(right['base'].values()))} | |")
    for name, title in METHODS.items():
        found = [compare(right["base"], right[arm.tuned.name]) for arm in arms.get(name, []) if arm.tuned.name in right]
        if found:
            lines.append(f"| {title} | {cells(*found)} |")
    return lines


def preview_table(folder: Path, arms: list[Trained]) -> list[str]:
    """A preview beside trained runs, problem by problem. arms: whose verdicts it is to foretell."""
    if not arms or not (folder / "results.json").is_file():
        return []
    lines = ["| preview | test | change, 95 % | run | same verdict | gains foretold | losses foretold |"]
    lines.append("|---|--:|---|---|--:|--:|--:|")
    names = read_run(folder)["about"]["models"]
    expert = solved(folder, 0)
    for n, name in enumerate(names[1:], 1):
        told = solved(folder, n)
        found = compare(expert, told)
        for arm in arms:
            run = arm.found
            same = mean(told[problem] == right for problem, right in arm.right.items())
            pairs = (run.gained, found.gained), (run.lost, found.lost)
            foretold = [f"{len({*after} & {*before})} of {len(after)}" for after, before in pairs]
            which = f"{arm.name}, seed {arm.seed}"
            line = name.removeprefix("contrast "), cells(found), which, percent(same), *foretold
            lines.append(f"| {' | '.join(line)} |")
    return lines


def amateur_table(out: Path) -> list[str]:
    """Amateurs that are the expert without some layers: what the preview says, and what training came to."""
    lines = []
    for folder in sorted(out.glob("preview-[0-9]*")):
        drop = folder.name.removeprefix("preview-")
        if not (folder / "results.json").is_file():
            continue
        names, expert = read_run(folder)["about"]["models"], solved(folder, 0)
        told = [compare(expert, solved(folder, n)) for n in range(1, len(names))]
        best = max(told, key=lambda found: found.after)
        arms = trained(out / f"amateur-{drop}")
        lines.append(f"| {drop} | {cells(best)} | {cells(arms[0].found) if arms else ' | '} |")
    title = "| expert without layers | preview, best cell | change, 95 % | trained | change, 95 % |"
    return [title, "|---|--:|---|--:|---|", *lines] if lines else []


def quick_table(out: Path, full: list[Trained]) -> list[str]:
    """The quick preset beside the full one: what they gain, and the seconds from problems to an adapter."""
    quick = trained(out / "quick")
    if not quick or not full:
        return []
    lines = [
        "| preset | seed | test | change, 95 % | seconds, sampling | seconds, training |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for title, arms, data in (("quick", quick, out / "quick-data"), ("full", full, out / "methods-data")):
        for arm in arms:
            times = [f"{working_seconds(place) or 0:.0f}" for place in (data, arm.tuned)]
            lines.append(f"| {title} | {arm.seed} | {cells(arm.found)} | {' | '.join(times)} |")
    return lines


def cost_table(out: Path, arms: dict[str, list[Trained]]) -> list[str]:
    data = read_run(out / "methods-data")["result"]
    sampled = f"{data['problems']:,} problems, {data['steps']:,} steps, {data['above_beta']:,} above {BETA}"
    lines = ["| stage | | seconds |", "|---|---|--:|"]
    lines.append(f"| sampling | {sampled} | {working_seconds(out / 'methods-data'):.0f} |")
    for name, title in METHODS.items():
        runs = [FinetuneResult.from_record(read_run(arm.tuned)) for arm in arms.get(name, [])]
        if runs:
            what = f"{title}: {mean(run.samples_seen for run in runs):,.0f} samples seen, of {runs[0].samples:,}"
            seconds = mean(working_seconds(arm.tuned) for arm in arms[name])
            lines.append(f"| fine-tuning | {what} | {seconds:.0f} |")
    return lines


def accuracies(report: str) -> pd.DataFrame:
    """pass@1 of every method and seed from the main table of docs/results.md, as models_figure takes it.

    The table's tenths of a percent give the exact counts: there are fewer than 1,000 problems.
    """
    problems, rows = int(re.search(r"(\d+) held-out problems", report)[1]), []
    for title in ("expert, untouched", *METHODS.values()):
        overall, by_seed = re.search(rf"^\| {re.escape(title)} \| ([\d.]+) \| ([^|]+) \|", report, re.M).groups()
        kind = "fine-tuned" if title in METHODS.values() else "base"
        for share in by_seed.split(", ") if kind == "fine-tuned" else [overall]:
            right = round(float(share) / 100 * problems)
            rows.append((title, kind, right / problems, *wilson(right, problems), right, problems))
    return pd.DataFrame(rows, columns=["name", "kind", "pass_at_1", "low", "high", "right", "problems"])


def draw(figure: go.Figure, title: str, width: int = 760) -> str:
    """The figure as the page would save it in its light theme, as SVG, by plotly.js in the system's Chromium."""
    from playwright.sync_api import sync_playwright

    from tests.support.browser import launch_chromium

    css = "".join((ASSETS / "css" / f"{name}.css").read_text(encoding="utf-8") for name in ("inspect", "charts"))
    page_url = "http://127.0.0.1/"

    def answer(route) -> None:
        name = route.request.url.removeprefix(page_url)
        start = f"<style>{css}</style><body class=lr></body>"
        route.fulfill(body=content(name)[0] if name else start, content_type="text/javascript" if name else "text/html")

    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        page = chromium.new_page()
        page.route(page_url + "**", answer)
        page.goto(page_url)
        address = page.evaluate(
            """async ([figure, title, width]) => {
                const { Chart } = await import('/shared/chart.js'), chart = new Chart({ title, name: '' });
                document.body.append(chart.node);
                await chart.draw(figure);
                return chart.picture('svg', width);
            }""",
            [figure.to_plotly_json(), title, width],
        )
        chromium.close()
    says = html.escape(f"{title}: {figure.layout.meta['says']}")
    return unquote(address.partition(",")[2]).replace("<svg ", f'<svg role="img" aria-label="{says}" ', 1) + "\n"


def write_report(out: Path) -> None:
    arms = by_name(trained(out / "methods"))
    full = arms["lightreasoner"]
    near = [arm for name in ("lightreasoner", "setting, beta 0.2") for arm in arms.get(name, [])[:1]]
    tables = {
        "MAIN": main_table(arms),
        "SHIFTED": shifted_table(out, arms),
        "HABITS": habit_table(arms),
        "SELECTORS": others_table(arms, "selector", "other steps, selector"),
        "TAU": others_table(arms, "teaching signal above", "above tau"),
        "SWEEP": others_table(arms, "setting", "setting"),
        "PREVIEW": preview_table(out / "preview", near),
        "AMATEURS": amateur_table(out),
        "QUICK": quick_table(out, full),
        "COST": cost_table(out, arms),
    }
    text = (ROOT / "scripts/results_template.md").read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(lines) or "Not run yet.")
    REPORT.write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    if sys.argv[1:]:
        write_report(Path(sys.argv[1]))
    picture = draw(models_figure(accuracies(REPORT.read_text(encoding="utf-8"))), TITLE)
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
