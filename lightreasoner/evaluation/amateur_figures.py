"""A dataset's amateurs as figures: the gap in accuracy against what the preview gains, and their histograms of KL."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting
from lightreasoner.datasets.figures import bin_axis
from lightreasoner.formatting import percent


def gap_gain_figure(amateurs: pd.DataFrame) -> go.Figure:
    """The paper's figure: gap in accuracy between the two models, and what contrast with it gains, in points.

    amateurs: the columns name, gap, gap_low, gap_high, gain, gain_low and gain_high (−1 to 1, None where unknown), and
    selected, share, signal, idle and agreement for the table. Those without gap or gain are left out.
    """
    known = amateurs[amateurs["gap"].notna() & amateurs["gain"].notna()].reset_index(drop=True)
    columns = ["gap", "gap_low", "gap_high", "gain", "gain_low", "gain_high"]
    points = (100 * known[columns].astype(float)).round(6)
    texts = [
        f"{name}: gap {gap:+.1f} points ({gap_low:+.1f} to {gap_high:+.1f}), the preview gains {gain:+.1f} "
        f"({low:+.1f} to {high:+.1f})".replace("-", "−")
        for name, (gap, gap_low, gap_high, gain, low, high) in zip(
            known["name"], points.itertuples(index=False), strict=True
        )
    ]
    more = known[["selected", "share", "signal", "idle", "agreement"]]
    traces = []
    for n, text in enumerate(texts):
        row, colour = points.iloc[[n]], plotting.SERIES[n % len(plotting.SERIES)]
        traces.append(
            go.Scatter(
                name=plotting.escaped(known["name"][n]),
                x=plotting.column(row["gap"]),
                y=plotting.column(row["gain"]),
                mode="markers",
                marker={"size": 11, "color": colour, "symbol": plotting.MARKERS[n % len(plotting.MARKERS)]},
                error_x=plotting.error_bars(row["gap"], row["gap_low"], row["gap_high"], colour),
                error_y=plotting.error_bars(row["gain"], row["gain_low"], row["gain_high"], colour),
                text=[plotting.escaped(text)],
                customdata=[[*points.iloc[n].tolist(), *plotting.column(more.iloc[n])]],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return plotting.figure(
        traces,
        x="gap in accuracy, in points",
        y="gain of the preview, in points",
        says="; ".join(texts) + "." if texts else "No amateur has both a gap and a preview yet.",
        columns={
            "customdata": [
                *(f"{name.replace('_', ' ')} in points" for name in columns),
                *("steps above β", "share of all steps", "teaching signal in nats", "share that teaches nothing"),
                "agreement with the others",
            ]
        },
        height=300,
        showlegend=True,
        hovermode="closest",
        shapes=[plotting.threshold_line(0, vertical=False, name="zero") | {"layer": "below"}],
        yaxis={"rangemode": "normal"},
        xaxis={"showgrid": True},
    )


def amateurs_histogram_figure(bins: pd.DataFrame, beta: float) -> go.Figure:
    """How the steps of each amateur are spread over KL, a line each.

    bins: the columns name, low, high (edges in nats, the same ones for each name) and share (of its steps).
    """
    groups = list(bins.groupby("name", sort=False))
    edges = [*groups[0][1]["low"], groups[0][1]["high"].iloc[-1]]
    above = {name: float(rows["share"][rows["low"] >= beta].sum()) for name, rows in groups}
    traces = [
        go.Scatter(
            name=plotting.escaped(name),
            x=[n + 0.5 for n in range(len(rows))],
            y=plotting.column(rows["share"]),
            mode="lines",
            line={
                "color": plotting.SERIES[n % len(plotting.SERIES)],
                "width": 2,
                "dash": plotting.DASHES[n % len(plotting.DASHES)],
            },
            customdata=plotting.rows(rows[["low", "high"]]),
            hovertemplate="%{y:.2%}",
        )
        for n, (name, rows) in enumerate(groups)
    ]
    at = float(np.interp(beta, edges, range(len(edges))))
    return plotting.figure(
        traces,
        x="KL in nats",
        y="share of the steps",
        says="; ".join(f"{name}: {percent(share, 1)} of the steps above β" for name, share in above.items()) + ".",
        scales=("root", "linear", "log"),
        columns={"x": None, "y": "share of the steps", "customdata": ["low", "high"]},
        height=240,
        showlegend=True,
        shapes=[plotting.threshold_line(at, vertical=True, name="beta")],
        xaxis=bin_axis(edges),
    )
