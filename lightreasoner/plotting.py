"""What all figures share: colours, axes and the words around them. A figure is a pure function over a pandas DataFrame
(`figures.py` of an activity); the page draws it with plotly.js (assets/js/shared/chart.js).

Colours are names of the page's CSS variables, such as "var(--lr-hot)": the page puts in the values of its light or dark
theme. A figure's layout.meta holds what plotly.js does not know:

- says: the text alternative, a sentence with the main numbers
- columns: the column names of the table behind the figure, {"x", "y", …}, for its CSV
- narrow: what changes in the layout where the chart is narrow, if anything does
- scales: the scales that the y axis offers, of "linear", "log" and "root" (square root); the first is used
"""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

INK, MUTED, GRID, SURFACE = "var(--lr-ink)", "var(--lr-muted)", "var(--lr-line)", "var(--lr-surface)"
HOT, COOL, TUNED, SELECTED = "var(--lr-hot)", "var(--lr-cool)", "var(--lr-tuned)", "var(--lr-select)"
BETTER, WORSE = "var(--lr-target)", "var(--lr-bad)"
#: Of several series, with a dash and a marker of their own: told apart without their colours, too.
SERIES = [f"var(--lr-series-{i})" for i in range(6)]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]
MARKERS = ["circle", "square", "triangle-up", "diamond", "x", "circle-open"]


def escaped(text: str) -> str:
    """A text as plotly.js shows it: it reads some HTML in labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def column(values: pd.Series) -> list:
    """The values of a column as plain numbers or texts; None for what is not finite, which a chart leaves out."""
    return [None if isinstance(x, float) and not math.isfinite(x) else x for x in values.tolist()]


def rows(table: pd.DataFrame) -> list[tuple]:
    """The rows of a table, with values as `column` has them."""
    return list(zip(*(column(table[name]) for name in table), strict=True))


def error_bars(value: pd.Series, low: pd.Series, high: pd.Series, colour: str) -> dict:
    """Bars from low to high around values."""
    bars = {"array": column(high - value), "arrayminus": column(value - low), "symmetric": False}
    return bars | {"type": "data", "color": colour, "thickness": 2, "width": 0}


def figure(
    traces: Sequence[go.Scatter | go.Bar | go.Heatmap],
    *,
    x: str,
    y: str,
    says: str,
    scales: Sequence[str] = ("linear",),
    columns: dict | None = None,
    more: dict | None = None,
    height: int = 200,
    **layout: object,
) -> go.Figure:
    """A figure in the page's style. x, y: titles of the axes, with the unit; more: what else layout.meta holds; layout:
    the rest of it, of which xaxis and yaxis are added to the page's; the other arguments: see the module."""
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "fixedrange": False,
        "exponentformat": "e",
        "separatethousands": True,
    }
    axis |= {"tickfont": {"size": 11}}
    title = {"standoff": 6, "font": {"size": 11}}
    shared = {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": MUTED, "size": 12},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": GRID, "font": {"color": INK}},
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "meta": {"says": says, "scales": list(scales), "columns": columns or {"x": x, "y": y}} | (more or {}),
    }
    # all in one go: each update of a figure costs as much as a small one
    axes = {
        "xaxis": axis | {"showgrid": False, "title": title | {"text": x}} | layout.pop("xaxis", {}),
        "yaxis": axis | {"rangemode": "tozero", "title": title | {"text": y}} | layout.pop("yaxis", {}),
    }
    return go.Figure(traces, shared | axes | layout)


def threshold_line(at: float, *, vertical: bool, name: str) -> dict:
    """A shape: a dashed line across the plot at a value of one axis, which the page moves."""
    along, across = ("x", "y") if vertical else ("y", "x")
    return {
        "name": name,
        "type": "line",
        f"{along}0": at,
        f"{along}1": at,
        f"{across}ref": "paper",
        f"{across}0": 0,
        f"{across}1": 1,
        "line": {"color": INK, "width": 1.5, "dash": "dash"},
    }
