"""Writes docs/results.md and its picture from the runs of reproduce.sh: python scripts/report_results.py FOLDER.

The tables are computed here from the run folders; the text around them is in results_template.md.
"""

import ast
import operator
import re
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lightreasoner.evaluation.results import read_rows  # noqa: E402
from lightreasoner.jobs.events import read_events  # noqa: E402
from lightreasoner.paper import BETA  # noqa: E402
from lightreasoner.scoring.significance import compare, wilson  # noqa: E402
from lightreasoner.storage.runs import read_run  # noqa: E402
from lightreasoner.training.result import FinetuneResult  # noqa: E402

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
        self.rows = {name: read_rows(folder, n) for n, name in enumerate(names)}
        self.right = {name: {row["problem_id"]: row["right"] for row in rows} for name, rows in self.rows.items()}

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


def habits(rows: list[dict]) -> dict[str, float]:
    """Shares of worked-out responses, of correct ones, of true equations and of truncated responses; mean tokens."""
    worked = [row for row in rows if row["response"].startswith(WORKED)]
    sums = [pair for row in worked for pair in EQUATION.findall(row["response"])]
    true = [abs(arithmetic(ast.parse(left, mode="eval").body) - int(right)) < 1e-9 for left, right in sums]
    return {
        "worked": len(worked) / len(rows),
        "right if worked": mean(row["right"] for row in worked) if worked else float("nan"),
        "right if answered at once": mean([row["right"] for row in rows if row not in worked] or [float("nan")]),
        "sums true": mean(true) if true else float("nan"),
        "cut off": mean(row["finish_reason"] == "length" for row in rows),
        "tokens": mean(len(row["response_ids"]) for row in rows),
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
        found = [habits(test.rows[name]) for name in of]
        shares = [percent(mean(h[key] for h in found)) for key in list(found[0])[:5]]
        lines.append(f"| {title} | {' | '.join(shares)} | {mean(h['tokens'] for h in found):.0f} |")
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


def picture(test: Evaluated) -> str:
    """Accuracy with its interval, one dot per seed, as an SVG for light and dark pages."""
    rows = [("expert, untouched", ["base"])] + [(title, seeds(test, method)) for method, title in METHODS.items()]
    width, left, top, step, lowest, highest = 760, 250, 30, 44, 0.2, 0.8

    def x(share: float) -> float:
        return left + (width - left - 30) * (share - lowest) / (highest - lowest)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + step * len(rows) + 30}" '
        'font-family="system-ui,sans-serif" font-size="14" role="img" aria-label="pass@1 by method">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{left}" y="18" fill="#333">pass@1 on 500 held-out '
        "problems, 95 % interval, one dot per seed</text>",
    ]
    for tick in range(20, 81, 10):
        at = x(tick / 100)
        parts.append(f'<path d="M{at:.1f} {top}V{top + step * len(rows)}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{top + step * len(rows) + 20}" text-anchor="middle" fill="#555">{tick} %</text>'
        )
    for n, (title, names) in enumerate(rows):
        y = top + step * n + step / 2
        parts.append(f'<text x="{left - 14}" y="{y + 5}" text-anchor="end" fill="#222">{title}</text>')
        for k, name in enumerate(names):
            total = len(test.right[name])
            low, high = wilson(sum(test.right[name].values()), total)
            at = y + 9 * (k - (len(names) - 1) / 2)
            colour = "#59616b" if name == "base" else "#0b62a8"
            parts.append(f'<path d="M{x(low):.1f} {at}H{x(high):.1f}" stroke="{colour}" stroke-width="2"/>')
            parts.append(f'<circle cx="{x(test.accuracy(name)):.1f}" cy="{at}" r="4" fill="{colour}"/>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    out = Path(sys.argv[1])
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
    (ROOT / "docs/results.md").write_text(text, encoding="utf-8")
    (ROOT / "docs/img/results.svg").write_text(picture(test), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
