"""Writes docs/results.md and its picture from the runs of reproduce.sh: python scripts/report_results.py [FOLDER].

The tables are computed here from the run folders; the text around them is in results_template.md. The picture is drawn
from the main table of docs/results.md, in a browser (pip install -r requirements-dev.txt); without FOLDER only it is.
"""

import ast
import html
import operator
import re
import sys
from pathlib import Path
from statistics import mean
from urllib.parse import unquote

import pandas as pd
import plotly.graph_objects as go

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lightreasoner.evaluation.figures import models_figure  # noqa: E402
from lightreasoner.evaluation.results import read_rows  # noqa: E402
from lightreasoner.jobs.events import read_events  # noqa: E402
from lightreasoner.paper import BETA  # noqa: E402
from lightreasoner.scoring.significance import compare, wilson  # noqa: E402
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


class Evaluated:
    """The graded responses to one split, by model name."""

    def __init__(self, folder: Path):
        names = read_run(folder)["about"]["models"]
        self.rows = {name: pd.DataFrame(read_rows(folder, n)) for n, name in enumerate(names)}
        self.right = {name: rows.set_index("problem_id")["right"].to_dict() for name, rows in self.rows.items()}

    def accuracy(self, name: str) -> float:
        return mean(self.right[name].values())


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


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


def seeds(evaluated: Evaluated, method: str) -> list[str]:
    return sorted(name for name in evaluated.rows if re.fullmatch(rf"{method}-\d+", name))


def main_table(test: Evaluated, shifted: Evaluated) -> list[str]:
    lines = [
        "| method | test | by seed | change, 95 % | gained / lost | shifted | change, 95 % |",
        "|---|--:|---|---|---|--:|---|",
    ]
    n = len(test.right["base"])
    low, high = wilson(sum(test.right["base"].values()), n)
    base = f"| expert, untouched | {percent(test.accuracy('base'))} | {percent(low)} – {percent(high)} (Wilson) | | | "
    lines.append(base + f"{percent(shifted.accuracy('base'))} | |")
    for method, title in METHODS.items():
        names = seeds(test, method)
        cells = []
        for split in (test, shifted):
            found = [compare(split.right["base"], split.right[name]) for name in names]
            # The seeds share their problems, so averaging does not narrow their interval.
            cells.append((found, mean(f.after for f in found), mean(f.low for f in found), mean(f.high for f in found)))
        (found, after, low, high), (_, shifted_after, shifted_low, shifted_high) = cells
        each = ", ".join(percent(f.after) for f in found)
        flips = f"{mean(len(f.gained) for f in found):.0f} / {mean(len(f.lost) for f in found):.0f}"
        lines.append(
            f"| {title} | {percent(after)} | {each} | {interval(low, high)} | {flips} | {percent(shifted_after)} | "
            f"{interval(shifted_low, shifted_high)} |"
        )
    return lines


def sweep_table(test: Evaluated, tuned: Path) -> list[str]:
    lines = ["| setting | test | change, 95 % | held-out loss | drift |", "|---|--:|---|--:|--:|"]
    for name in test.rows:
        if name == "base":
            continue
        found, result = (
            compare(test.right["base"], test.right[name]),
            FinetuneResult.from_record(read_run(tuned / name)),
        )
        lines.append(
            f"| {name.replace('-', ' ', 1)} | {percent(found.after)} | {interval(found.low, found.high)} | "
            f"{result.held_out_loss:.3f} | {result.drift:.4f} |"
        )
    return lines


def habit_table(test: Evaluated) -> list[str]:
    names = {"expert, untouched": ["base"]} | {title: seeds(test, method) for method, title in METHODS.items()}
    lines = [
        "| | worked out | right if worked out | right if answered at once | sums that are true | cut off | tokens |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for title, of in names.items():
        *shares, tokens = pd.DataFrame([habits(test.rows[name]) for name in of]).mean()
        lines.append(f"| {title} | {' | '.join(map(percent, shares))} | {tokens:.0f} |")
    return lines


def seconds_of(run: Path) -> float:
    """Seconds of the longest attempt: running a finished run again logs a further end."""
    ends = [event for event in read_events(run / "events.jsonl") if event["kind"] == "end" and event.get("result")]
    return max(end["result"]["seconds"] for end in ends)


def cost_table(out: Path) -> list[str]:
    dataset, lines = read_run(out / "dataset")["result"], ["| stage | | seconds |", "|---|---|--:|"]
    sampled = f"{dataset['problems']:,} problems, {dataset['steps']:,} steps, {dataset['above_beta']:,} above {BETA}"
    lines.append(f"| sampling | {sampled} | {seconds_of(out / 'dataset'):.0f} |")
    for method, title in METHODS.items():
        folders = sorted((out / "tuned").glob(f"{method}-[0-9]"))
        runs = [FinetuneResult.from_record(read_run(path)) for path in folders]
        seen = mean(run.samples_seen for run in runs)
        what = f"{title}: {seen:,.0f} samples seen, of {runs[0].samples:,}"
        lines.append(f"| fine-tuning | {what} | {mean(map(seconds_of, folders)):.0f} |")
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
    test, shifted = Evaluated(out / "evaluated/test"), Evaluated(out / "evaluated/shifted")
    tables = {
        "MAIN": main_table(test, shifted),
        "HABITS": habit_table(test),
        "SWEEP": sweep_table(Evaluated(out / "evaluated/settings"), out / "tuned"),
        "COST": cost_table(out),
    }
    text = (ROOT / "scripts/results_template.md").read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(lines))
    REPORT.write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    if sys.argv[1:]:
        write_report(Path(sys.argv[1]))
    picture = draw(models_figure(accuracies(REPORT.read_text(encoding="utf-8"))), TITLE)
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
