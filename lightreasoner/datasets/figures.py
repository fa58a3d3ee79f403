"""A dataset's charts as figures: its steps by KL, by teaching signal, and by the expert's entropy and KL, the share
that β selects, one-token targets by α, and the categories of its tokens. The pair check has two of them as well.
"""

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting
from lightreasoner.formatting import percent
from lightreasoner.paper import TEACHES

TICKS = (0, 0.01, 0.1, 1, 10)  # nats
PLANE_TICKS = (0, 0.1, 0.5, 1, 2, 4, 8, 16)
CERTAIN = 0.5  # nats of entropy


def histogram_figure(bins: pd.DataFrame, beta: float) -> go.Figure:
    """How many steps have which KL. bins: the columns low and high (edges in nats) and steps, at least one row.

    Every bin is one wide, so an x is a number of bins. The page moves the shapes "beta", "below-beta" (which pales what
    is below) and "shown" (the range whose steps it lists).
    """
    return _histogram(bins, beta, "KL")


def teaching_figure(bins: pd.DataFrame, unknown: int) -> go.Figure:
    """How many steps have which teaching signal: `histogram_figure` with TEACHES in the place of β, below which a step
    teaches nothing. unknown: the steps that were not stored in detail, which have no bar."""
    found = _histogram(bins, TEACHES, "teaching signal")
    if unknown:
        found.layout.meta["says"] += f" {unknown:,} more were not stored in detail, so their signal is unknown."
    return found


def _histogram(bins: pd.DataFrame, threshold: float, measure: str) -> go.Figure:
    edges = [*bins["low"], bins["high"].iloc[-1]]
    labels = [f"{low:.3g} to {high:.3g} nats" for low, high in zip(bins["low"], bins["high"], strict=True)]
    labels[-1] = f"{edges[-2]:.3g} nats and more"
    bars = go.Bar(
        x=[n + 0.5 for n in range(len(bins))],
        y=plotting.column(bins["steps"]),
        width=0.9,
        marker={"color": plotting.HOT, "line": {"width": 0}},
        customdata=plotting.rows(bins[["low", "high", "steps"]].assign(label=labels)),
        hovertemplate="%{customdata[3]}: %{customdata[2]:,}<extra></extra>",
    )
    at = float(np.interp(threshold, edges, range(len(edges))))
    rect = {"type": "rect", "line": {"width": 0}, "yref": "paper", "y0": 0, "y1": 1}
    return plotting.figure(
        [bars],
        x=f"{measure} in nats",
        y="steps",
        says=_spread(bins, measure),
        scales=("root", "linear", "log"),
        columns={"x": None, "y": "steps", "customdata": ["low", "high"]},
        shapes=[
            rect | {"name": "shown", "x0": -2, "x1": -2, "fillcolor": plotting.SELECTED, "layer": "below"},
            rect | {"name": "below-beta", "x0": 0, "x1": at, "fillcolor": plotting.SURFACE, "opacity": 0.55},
            plotting.threshold_line(at, vertical=True, name="beta"),
        ],
        xaxis=bin_axis(edges) | {"unifiedhovertitle": {"text": f"Steps with a {measure} of"}},
        yaxis={"separatethousands": True},
    )


def bin_axis(edges: list[float]) -> dict:
    """An axis of bins, each one wide. edges: in nats."""
    ticks = [tick for tick in TICKS if tick in edges]
    places = {"tickvals": [edges.index(tick) for tick in ticks], "ticktext": [f"{tick:g}" for tick in ticks]}
    return places | {"range": [0, len(edges) - 1], "tickangle": 0}


def _spread(bins: pd.DataFrame, measure: str) -> str:
    """Where most of the steps lie, to the bin."""
    total = int(bins["steps"].sum())
    if not total:
        return f"Histogram of the steps by {measure}; no step yet."
    reached = bins["steps"].cumsum() / total
    half, most = (bins["high"][reached >= share].iloc[0] for share in (0.5, 0.95))
    return f"Histogram of {total:,} steps by {measure}: half of them below {half:.3g} nats, 95 % below {most:.3g} nats."


def plane_figure(points: pd.DataFrame, density: pd.DataFrame, steps: int) -> go.Figure:
    """The expert's entropy against KL, coloured by the teaching signal, above the density of all steps.

    points: the columns expert_entropy, kl and teaching of the steps that are drawn, in nats, NaN where it is unknown;
    density: the columns expert_entropy, kl (the middles of cells, of equal size in square roots) and steps; steps: of
    the dataset. Both axes are square roots, so that an x and a y are square roots of nats. The page moves the shape
    "shown", the box whose steps it lists.
    """
    measures, known = ["expert_entropy", "kl", "teaching"], points["teaching"].notna()
    words = "entropy %{customdata[0]:.3f}, KL %{customdata[1]:.3f} nats<br>"

    def scatter(rows: pd.DataFrame, name: str, says: str, marker: dict) -> go.Scatter:
        return go.Scatter(
            x=_roots(rows["expert_entropy"]),
            y=_roots(rows["kl"]),
            name=name,
            mode="markers",
            marker={"size": 5, "line": {"width": 0}} | marker,
            customdata=plotting.rows(rows[measures].round(4)),
            hovertemplate=f"{words}{says}<extra></extra>",
        )

    shown = points[known].sort_values("teaching", kind="stable")  # what teaches most lies on top
    colour = {
        "color": plotting.column(np.sqrt(shown["teaching"]).round(3)),
        "cmin": 0,
        "cmax": 1,
        "colorscale": [[0, plotting.GRID], [0.1, plotting.COOL], [1, plotting.HOT]],
    }
    cells = go.Heatmap(
        x=_roots(density["expert_entropy"]),
        y=_roots(density["kl"]),
        z=plotting.column(np.log10(1 + density["steps"])),
        name="all steps",
        colorscale=[[0, plotting.SURFACE], [1, plotting.SELECTED]],
        showscale=False,
        customdata=[[x, y, None] for x, y in density[["expert_entropy", "kl"]].round(4).to_numpy().tolist()],
        hoverinfo="skip",
    )
    traces = [cells, scatter(shown, "steps", "teaches %{customdata[2]:.3f} nats", colour)]
    if not known.all():
        unknown = {"color": plotting.MUTED, "symbol": "circle-open"}
        traces.append(scatter(points[~known], "not stored in detail", "what it teaches is unknown", unknown))
    ticks = {"tickvals": [float(np.sqrt(tick)) for tick in PLANE_TICKS], "ticktext": [f"{t:g}" for t in PLANE_TICKS]}
    rect = {"type": "rect", "line": {"color": plotting.INK, "width": 1.5, "dash": "dash"}, "name": "shown"}
    return plotting.figure(
        traces,
        x="expert’s entropy in nats",
        y="KL in nats",
        says=_plane_says(points, steps),
        columns={"x": None, "y": None, "customdata": measures},
        height=320,
        hovermode="closest",
        shapes=[rect | {"x0": -2, "x1": -2, "y0": -2, "y1": -2}],
        xaxis=ticks | {"range": _around(density["expert_entropy"])},
        yaxis=ticks | {"range": _around(density["kl"])},
        showlegend=False,
    )


def _roots(values: pd.Series) -> list:
    return plotting.column(np.sqrt(values).round(4))


def _around(values: pd.Series) -> list[float]:
    """From just below 0 to just above the square root of the largest value."""
    most = float(np.sqrt(values.max())) if len(values) else 1.0
    return [-0.03 * most, 1.05 * most or 1.0]


def _plane_says(points: pd.DataFrame, steps: int) -> str:
    """What is drawn, and how much of what is drawn teaches where the expert is uncertain and where it is certain."""
    drawn = f"All {steps:,} steps" if len(points) == steps else f"{len(points):,} of {steps:,} steps, evenly spaced,"
    teaches, certain = points["teaching"] >= TEACHES, points["expert_entropy"] < CERTAIN
    return (
        f"{drawn} by the expert's entropy and KL: {int(teaches.sum()):,} of them teach something, "
        f"{int((teaches & certain).sum()):,} of these where the expert is certain (entropy below {CERTAIN:g} nats)."
    )


def kept_figure(kept: pd.DataFrame, beta: float) -> go.Figure:
    """The share of all steps that each β selects. kept: the columns beta, steps and share, by ascending beta, at least
    one row. The page moves the shape "beta"."""
    near = kept.loc[(kept["beta"] - beta).abs().idxmin()]
    trace = _share_line(kept, "beta", "share", ["steps"], "%{customdata[0]:,} steps, %{y:.1%} of all")
    return plotting.figure(
        [trace],
        x="β in nats",
        y="share of steps",
        says=f"Selected steps by β: at β = {near['beta']:.2f} nats {percent(near['share'], 1)} of all steps.",
        scales=("linear", "log"),
        columns={"x": "beta", "y": "share", "customdata": ["steps"]},
        shapes=[plotting.threshold_line(beta, vertical=True, name="beta")],
        **_axes(kept["beta"], "β = %{x:.2f} nats"),
    )


def one_token_figure(effect: pd.DataFrame, alpha: float) -> go.Figure:
    """The share of targets that hold a single token, for each α. effect: the columns alpha, tokens (mean per target),
    one_token and targets, by ascending alpha, at least one row. The page moves the shape "alpha"."""
    near = effect.loc[(effect["alpha"] - alpha).abs().idxmin()]
    words = "%{y:.1%} hold a single token<br>%{customdata[0]:.1f} tokens on average"
    return plotting.figure(
        [_share_line(effect, "alpha", "one_token", ["tokens", "targets"], words)],
        x="α",
        y="share of targets",
        says=f"One-token targets by α: at α = {near['alpha']:.2f} {percent(near['one_token'], 1)} of "
        f"{near['targets']:,.0f} targets hold a single token; {near['tokens']:.1f} tokens on average.",
        columns={"x": "alpha", "y": "one_token", "customdata": ["tokens", "targets"]},
        shapes=[plotting.threshold_line(alpha, vertical=True, name="alpha")],
        **_axes(effect["alpha"], "α = %{x:.2f}"),
    )


def _share_line(points: pd.DataFrame, x: str, y: str, more: list[str], words: str) -> go.Scatter:
    return go.Scatter(
        x=plotting.column(points[x]),
        y=plotting.column(points[y]),
        mode="lines",
        fill="tozeroy",
        fillcolor=plotting.SELECTED,
        line={"color": "var(--lr-focus)", "width": 2},
        customdata=plotting.rows(points[more]),
        hovertemplate=words + "<extra></extra>",
    )


def _axes(x: pd.Series, title: str) -> dict:
    xaxis = {"range": [float(x.min()), float(x.max())], "unifiedhovertitle": {"text": title}}
    return {"xaxis": xaxis, "yaxis": {"tickformat": ".6~%"}}  # as many digits as tell the ticks apart


def category_figure(categories: pd.DataFrame) -> go.Figure:
    """Mean KL of each token category. categories: the columns kind, title, says, steps and mean_kl (in nats, over
    finite values). The page moves the shape "chosen", the band of the category whose steps it lists."""
    shown = categories.sort_values("mean_kl", kind="stable")  # the first is at the bottom
    highest = shown.iloc[::-1].head(3)
    named = [f"{plain} {mean:.2f}" for plain, mean in zip(highest["title"], highest["mean_kl"], strict=True)]
    says = ["<br>".join(textwrap.wrap(plotting.escaped(text), 44)) for text in shown["says"]]
    titles = [plotting.escaped(title) for title in shown["title"]]
    bars = go.Bar(
        x=plotting.column(shown["mean_kl"]),
        y=titles,
        orientation="h",
        width=0.6,
        marker={"color": plotting.HOT, "line": {"width": 0}},
        text=[f"{mean:.3f}" for mean in shown["mean_kl"]],
        textposition="outside",
        cliponaxis=False,
        customdata=plotting.rows(shown[["steps", "kind"]].assign(says=says)),
        hovertemplate="mean KL %{x:.3f} nats, %{customdata[0]:,} steps<br>%{customdata[2]}<extra></extra>",
    )
    band = {"type": "rect", "line": {"width": 0}, "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    most = float(shown["mean_kl"].max()) if len(shown) else 0
    return plotting.figure(
        [bars],
        x="mean KL in nats",
        y="",
        says=f"Mean KL of {len(shown)} token categories, in nats; the highest: {', '.join(named) or 'none'}.",
        columns={"x": "category", "y": "mean_kl", "customdata": ["steps", "kind"]},
        height=64 + 24 * len(shown),
        hovermode="y",
        shapes=[band | {"name": "chosen", "y0": -2, "y1": -2, "fillcolor": plotting.SELECTED}],
        xaxis={"range": [0, 1.2 * most or 1]},
        yaxis={"range": [-0.5, len(shown) - 0.5], "type": "category", "rangemode": "normal", "showgrid": False},
    )
