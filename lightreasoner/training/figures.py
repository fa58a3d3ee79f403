"""Training curves as figures, one for each quantity: of one run, or of several over one another."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting

BEST_SIZE, BEST_MARK = 12, "star"  # of the point with the lowest held-out loss
FEW = 24  # points that a line shows one by one
NOWHERE = -1e9  # x of a cursor that is not shown


@dataclass(frozen=True)
class Quantity:
    """What a chart shows. zero: its axis begins there; smooth: it jumps, so the page draws means of it.
    lowest: a star marks its lowest point. of_target: measured against
    the training target, so that runs with other targets cannot be compared by it."""

    key: str
    title: str
    unit: str
    says: str
    zero: bool = False
    smooth: bool = False
    lowest: bool = False
    of_target: bool = False


TRAINING_LOSS = "KL(target ‖ model) at the training samples, mean since the previous point"
DRIFT = "KL(expert ‖ model) at the held-out steps that were not selected: the unintended change"
QUANTITIES = (
    Quantity("loss", "Loss", "nats", TRAINING_LOSS, smooth=True, of_target=True),
    Quantity(
        "held_out_loss",
        "Held-out loss",
        "nats",
        "The same on held-out trajectories; a star: the lowest",
        lowest=True,
        of_target=True,
    ),
    Quantity("drift", "Drift", "nats", DRIFT),
    Quantity("learning_rate", "Learning rate", "", "Of AdamW", zero=True),
    Quantity("grad_norm", "Gradient norm", "", "Before it is clipped at 1", zero=True, smooth=True),
    Quantity("samples_per_second", "Samples", "per second", "Trained on per second", zero=True, smooth=True),
    Quantity("tokens_per_second", "Tokens", "per second", "Read per second, padding included", zero=True, smooth=True),
)


def curve_figures(
    runs: Mapping[str, pd.DataFrame], updates: int | None = None, targets: Mapping[str, str] | None = None
) -> dict[str, go.Figure]:
    """Key → figure of each quantity that was measured. runs: name → `Curves.table`. updates: the end of the x axis.
    targets: name → what the run was trained towards; runs with other targets have a chart of their own for the losses,
    since nats of one and of another say nothing about each other."""
    figures = {}
    for quantity in QUANTITIES:
        measured = {name: _points(table, quantity.key) for name, table in runs.items()}
        groups: dict[str, list[str]] = {}
        for name, points in measured.items():
            if len(points):
                groups.setdefault((targets or {}).get(name, "") if quantity.of_target else "", []).append(name)
        for target, names in groups.items():
            one, key = quantity, quantity.key
            if len(groups) > 1:
                own = f"{quantity.title} of {', '.join(names)}: {target}"
                one, key = replace(quantity, title=own), f"{key}-{'-'.join(names)}"
            # the others stay as empty ones, so that each run has the same look everywhere
            shown = {name: points if name in names else points.iloc[:0] for name, points in measured.items()}
            figures[key] = curve_figure(one, shown, updates)
    return figures


def _points(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """The finite values of a quantity: update, value, samples and seconds."""
    found = table[["update", key, "samples_seen", "seconds"]].set_axis(
        ["update", "value", "samples", "seconds"], axis=1
    )
    return found[found["value"].abs() < math.inf]


def curve_figure(quantity: Quantity, runs: Mapping[str, pd.DataFrame], updates: int | None = None) -> go.Figure:
    """A quantity by update. runs: name → the columns update, value, samples and seconds; each run has its own look.

    The page draws it by samples or by seconds, too, and smoothed, and moves the shape "cursor". Beyond what every
    figure's meta has: title, unit, help, smooth, and along, the columns by which every point can be drawn.
    """
    traces = [
        _line(name, points, look, len(runs) > 1, quantity.lowest)
        for look, (name, points) in enumerate(runs.items())
        if len(points)
    ]
    last = max(1, updates or 0, *(points["update"].max() for points in runs.values() if len(points)))
    known = {name: all(points[name].notna().all() for points in runs.values()) for name in ("samples", "seconds")}
    more = {"title": quantity.title, "unit": quantity.unit, "help": quantity.says, "smooth": quantity.smooth}
    return plotting.figure(
        traces,
        x="training step",
        y=quantity.unit or quantity.title.lower(),
        says=_says(quantity, runs),
        scales=("linear", "log"),
        columns={"x": "training step", "y": quantity.key, "customdata": ["samples", "seconds"]},
        more=more | {"along": ["update", *(name for name in known if known[name])]},
        height=212 if len(runs) > 1 else 184,  # with a legend
        showlegend=len(runs) > 1,
        shapes=[plotting.threshold_line(NOWHERE, vertical=True, name="cursor")],
        margin={"l": 8, "r": 18, "t": 8, "b": 8},
        xaxis={"range": [0, int(last)]},
        yaxis={
            "rangemode": "tozero" if quantity.zero else "normal",
            "exponentformat": "SI" if quantity.unit == "per second" else "e",
        },
    )


def _line(name: str, points: pd.DataFrame, look: int, several: bool, lowest: bool) -> go.Scatter:
    look %= len(plotting.SERIES)
    colour = plotting.SERIES[look]
    size, symbol = 6, plotting.MARKERS[look]
    best = _lowest(points) if lowest else None
    if best is not None:
        at = (points["update"] == best["update"]).tolist()
        size = [BEST_SIZE if here else 6 for here in at]
        symbol = [BEST_MARK if here else symbol for here in at]
    return go.Scatter(
        x=plotting.column(points["update"]),
        y=plotting.column(points["value"]),
        name=plotting.escaped(name),
        mode="lines+markers" if several or best is not None or len(points) <= FEW else "lines",
        line={"color": colour, "width": 2, "dash": plotting.DASHES[look]},
        marker={"color": colour, "size": size, "symbol": symbol}
        | {"maxdisplayed": FEW if several and best is None else 0},
        customdata=plotting.rows(points[["samples", "seconds"]]),
    )


def _lowest(points: pd.DataFrame) -> pd.Series | None:
    """The row of the lowest value after training began; None without one."""
    trained = points[points["update"] > 0]
    return trained.loc[trained["value"].idxmin()] if len(trained) else None


def _says(quantity: Quantity, runs: Mapping[str, pd.DataFrame]) -> str:
    said = []
    for name, points in runs.items():
        if len(points):
            first, last = points.iloc[0], points.iloc[-1]
            words = [name] if len(runs) > 1 else []
            words += [number(last["value"]), *([quantity.unit] if quantity.unit else [])]
            text = f"{' '.join(words)} at training step {last['update']:,.0f}, from {number(first['value'])}"
            if quantity.lowest and (best := _lowest(points)) is not None and best["update"] != last["update"]:
                text += f", lowest {number(best['value'])} at {best['update']:,.0f} (marked with a star)"
            said.append(text)
    return f"{quantity.title}: {'; '.join(said) or 'not measured yet'}"


def number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
