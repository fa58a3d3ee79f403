"""The rounds of an experiment as a figure: pass@1 of the expert that each round ends with."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting
from lightreasoner.experiments.results import ArmResult, best_arm
from lightreasoner.scoring.significance import Estimate, mean_estimate, wilson

START = "before"  # the place on the axis of the expert that the first round begins with
BEST, CONTROL = "best arm", "control"


def rounds_table(results: Sequence[ArmResult]) -> pd.DataFrame:
    """pass@1 after each round, of its best arm and of its control, and before the first: the columns series, round
    (0: before), arm, pass_at_1, low, high (0 to 1; Wilson's 95 % interval) and problems."""
    rows = []
    for turn in sorted({arm.round for arm in results}):
        arms = [arm for arm in results if arm.round == turn]
        best = best_arm(arms)
        if best is None:
            continue
        if not rows:
            rows.append(_row(BEST, 0, "the expert to begin with", best, arms, "before"))
        rows.append(_row(BEST, turn, best.name, best, arms))
        controls = [arm for arm in arms if arm.is_control and arm.whole and arm.is_overall]
        rows += [_row(CONTROL, turn, arm.name, arm, arms) for arm in controls]
    return pd.DataFrame(rows, columns=["series", "round", "arm", "pass_at_1", "low", "high", "problems"])


def _row(series: str, turn: int, name: str, arm: ArmResult, arms: list[ArmResult], share: str = "pass_at_1") -> tuple:
    """arms: of the same round, with the parts of a mean; share: the field that is drawn."""
    parts = [part for part in arms if part.name == arm.name and part.test] or [arm]
    shares = [(getattr(part, share), part.problems) for part in parts]
    drawn = mean_estimate([Estimate(value, *wilson(round(value * n), n)) for value, n in shares])
    return (series, turn, name, getattr(arm, share), drawn.low, drawn.high, arm.problems)


def rounds_figure(results: Sequence[ArmResult]) -> go.Figure:
    """pass@1 in percent by round. Every round begins with the expert that the round before ended with."""
    table, lines = rounds_table(results), []
    table["arm"] = table["arm"].map(plotting.escaped)
    for look, (name, points) in enumerate(table.groupby("series", sort=True)):
        shares = 100 * points[["pass_at_1", "low", "high"]]
        reach = plotting.error_bars(shares["pass_at_1"], shares["low"], shares["high"], plotting.SERIES[look])
        lines.append(
            go.Scatter(
                x=plotting.column(points["round"]),
                y=plotting.column(shares["pass_at_1"]),
                name=name,
                mode="lines+markers" if name == BEST else "markers",
                line={"color": plotting.SERIES[look], "width": 2, "dash": plotting.DASHES[look]},
                marker={"size": 9, "symbol": plotting.MARKERS[look], "color": plotting.SERIES[look]},
                error_y=reach | {"thickness": 1.5, "width": 4},
                customdata=points[["arm", "problems"]].values.tolist(),
                hovertemplate="%{y:.1f} % · %{customdata[0]}<extra></extra>",
            )
        )
    best = table[table["series"] == BEST]
    said = "; ".join(
        f"{'before the first round' if turn == 0 else f'after round {turn}'} {100 * share:.1f} %"
        for turn, share in zip(best["round"], best["pass_at_1"], strict=True)
    )
    turns = sorted(table["round"].unique())
    names = [START if turn == 0 else str(turn) for turn in turns]
    return plotting.figure(
        lines,
        x="round",
        y="pass@1 in percent",
        says=f"pass@1 of the best arm: {said}." if said else "No round has ended yet.",
        columns={"x": "round", "y": "pass@1 in %", "customdata": ["arm", "problems"]},
        height=240,
        xaxis={"tickmode": "array", "tickvals": [int(turn) for turn in turns], "ticktext": names},
        yaxis={"rangemode": "normal", "showgrid": True},
    )
