"""Results as figures: pass@1 of models with its intervals, and the paired differences of models to the first one."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting

#: A kind of rows, by its name in the legend: colour and marker
KINDS = {
    "base": (plotting.MUTED, "circle"),
    "fine-tuned": (plotting.SERIES[0], "circle"),
    "contrast": (plotting.SERIES[2], "square"),
    "paper": (plotting.SERIES[1], "diamond-open"),
    "better": (plotting.BETTER, "triangle-right"),
    "worse": (plotting.WORSE, "triangle-left"),
    "no significant difference": (plotting.MUTED, "circle"),
}
WIDTH, LINES = 24, 3  # of a model's name beside its row, in characters
NARROW = 46  # characters of a name above its row, where the page is narrow
CLOSE = 0.2  # between the rows of one name, in rows


def models_figure(models: pd.DataFrame, measure: str = "pass@1") -> go.Figure:
    """pass@1 of each model with its 95 % interval. The base's is a dashed line, the paper's have no interval.

    models: the columns name, kind ("base", "fine-tuned", "contrast" or "paper"), pass_at_1, low, high (0 to 1), right
    and problems. Those without pass_at_1 are left out. Several rows of one name, such as seeds, lie closely together.
    measure: the name of pass_at_1 where models gave several responses per problem; `right` is then by majority.
    """
    rows = models[models["pass_at_1"].notna()]
    shares = _percent(rows[["pass_at_1", "low", "high"]])
    table = pd.concat([rows["name"], shares, rows[["right", "problems"]]], axis=1)
    table.columns = ["model", f"{measure} in %", "low", "high", "right", "problems"]
    vote = "" if measure == "pass@1" else " by majority"
    words = []
    for kind, (name, value, low, high, right, n) in zip(rows["kind"], table.itertuples(index=False), strict=True):
        measured = f"95 % interval {low:.1f} to {high:.1f} %", f"{right:.0f} of {n:.0f} right{vote}"
        more = ("the paper gives no interval",) if kind == "paper" else measured
        words.append((name, f"{measure} {value:.1f} %", *more))
    base = table[f"{measure} in %"][rows["kind"] == "base"]
    lines = [plotting.threshold_line(base.iloc[0], vertical=True, name="base")] if len(base) else []
    return _intervals(table, rows["kind"], words, x=f"{measure} in percent", shapes=lines, clip=(-1.5, 101.5))


def differences_figure(comparisons: pd.DataFrame) -> go.Figure:
    """pass@1 of each model minus the first model's on the same problems, with its 95 % interval, around a line at 0.

    comparisons: the columns name, difference, low, high (−1 to 1), gained, lost, p and significant.
    """
    points = _percent(comparisons[["difference", "low", "high"]])
    table = pd.concat([comparisons["name"], points, comparisons[["gained", "lost", "p"]]], axis=1)
    table.columns = ["model", "difference in points", "low", "high", "gained", "lost", "McNemar p"]
    kinds = pd.Series("no significant difference", table.index)
    kinds[comparisons["significant"] & (points["difference"] > 0)] = "better"
    kinds[comparisons["significant"] & (points["difference"] < 0)] = "worse"
    words = [
        (
            name,
            f"{kind}: {value:+.1f} points".replace("-", "−"),
            f"95 % interval {low:+.1f} to {high:+.1f}".replace("-", "−"),
            f"{won} gained, {lost} lost",
        )
        for kind, (name, value, low, high, won, lost, _) in zip(kinds, table.itertuples(index=False), strict=True)
    ]
    zero = plotting.threshold_line(0, vertical=True, name="zero")
    return _intervals(table, kinds, words, x="difference in percentage points", shapes=[zero], clip=(-101.5, 101.5))


def preview_figure(cells: pd.DataFrame) -> go.Figure:
    """What contrasts gain on the expert, in points: over β with 95 % intervals, or α × β as a heatmap for several α.

    cells: the columns alpha, beta, takeover, difference, low, high (−1 to 1), gained, lost and changed (0 to 1); either
    takeovers or contrasts.
    """
    points = _percent(cells[["difference", "low", "high", "changed"]])
    table = pd.concat([cells[["alpha", "beta"]], points, cells[["gained", "lost"]]], axis=1)
    table = table.sort_values(["alpha", "beta"])
    table.columns = ["α", "β", "gain in points", "low", "high", "changed tokens in %", "gained", "lost"]
    grid = not cells["takeover"].any() and table["α"].nunique() > 1
    texts = [
        (f"α = {alpha:g}, " if grid else "")
        + f"β = {beta:g}: {gain:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}; {won} gained, {lost} lost; "
        f"{changed:.1f} % of the tokens changed".replace("-", "−")
        for alpha, beta, gain, low, high, changed, won, lost in table.itertuples(index=False)
    ]
    return (_gain_heatmap if grid else _gain_over_beta)(table, texts)


def _over_beta(traces: list, table: pd.DataFrame, texts: list[str], y: str, height: int = 260, **more) -> go.Figure:
    """A figure with a category of its x axis for each β. more: for `plotting.figure`."""
    says, columns = " ".join(f"{text}." for text in texts), {"customdata": list(table)}
    more |= {"hovermode": "closest", "xaxis": _categories(table["β"])}
    return plotting.figure(traces, x="β in nats", y=y, says=says, columns=columns, height=height, **more)


def _categories(values: pd.Series) -> dict:
    return {"type": "category", "categoryorder": "array", "categoryarray": [f"{n:g}" for n in sorted(values.unique())]}


def _labelled(table: pd.DataFrame, texts: list[str]) -> dict:
    """What the points of a table have in common: β as x, and a text for the pointer."""
    rows, hover = table.to_numpy().tolist(), "%{text}<extra></extra>"
    return {"x": [f"{beta:g}" for beta in table["β"]], "customdata": rows, "hovertemplate": hover, "text": texts}


def _line(table: pd.DataFrame, texts: list[str], y: str, colour: str, **more) -> go.Scatter:
    line = {"mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": {"size": 9}}
    return go.Scatter(y=plotting.column(table[y]), **line, **_labelled(table, texts), **more)


def _gain_over_beta(table: pd.DataFrame, texts: list[str]) -> go.Figure:
    gain, colour = "gain in points", plotting.TUNED
    bars = plotting.error_bars(table[gain], table["low"], table["high"], colour)
    zero = plotting.threshold_line(0, vertical=False, name="zero") | {"layer": "below"}
    traces, axis = [_line(table, texts, gain, colour, error_y=bars)], {"rangemode": "normal", "showgrid": True}
    return _over_beta(traces, table, texts, gain, shapes=[zero], yaxis=axis)


def _gain_heatmap(table: pd.DataFrame, texts: list[str]) -> go.Figure:
    largest = max(1.0, float(table["gain in points"].abs().max()))
    axis = _categories(table["α"]) | {"rangemode": "normal"}
    heat = go.Heatmap(
        y=[f"{alpha:g}" for alpha in table["α"]],
        z=plotting.column(table["gain in points"]),
        zmin=-largest,
        zmax=largest,
        colorscale=[[0, plotting.WORSE], [0.5, plotting.SURFACE], [1, plotting.BETTER]],
        texttemplate="%{z:+.1f}",
        xgap=2,
        ygap=2,
        showscale=False,
        **_labelled(table, texts),
    )
    return _over_beta([heat], table, texts, "α", 90 + 44 * len(axis["categoryarray"]), yaxis=axis)


def departure_figure(cells: pd.DataFrame) -> go.Figure:
    """How far contrasts depart from the expert where no answers are known: other answers over β, a line per α.

    cells: the columns alpha, beta, takeover, same_answer and changed (0 to 1), mean_length.
    """
    other = "other answers in %"
    shares = _percent(pd.DataFrame({"other": 1 - cells["same_answer"], "changed": cells["changed"]}))
    table = pd.concat([cells[["alpha", "beta"]], shares, cells["mean_length"].round(1)], axis=1)
    table = table.sort_values(["alpha", "beta"])
    table.columns = ["α", "β", other, "changed tokens in %", "tokens"]
    several = not cells["takeover"].any() and table["α"].nunique() > 1
    traces, says = [], []
    for (alpha, rows), colour in zip(table.groupby("α"), itertools.cycle(plotting.SERIES), strict=False):
        texts = [
            (f"α = {alpha:g}, " if several else "")
            + f"β = {row[1]:g}: {row[2]:.1f} % of the answers are others; {row[3]:.1f} % of the tokens changed; "
            f"{row[4]:.1f} tokens per response"
            for row in rows.itertuples(index=False)
        ]
        says += texts
        traces.append(_line(rows, texts, other, colour, name=f"α = {alpha:g}"))
    return _over_beta(traces, table, says, other, showlegend=several, yaxis={"showgrid": True})


def _percent(shares: pd.DataFrame) -> pd.DataFrame:
    return (100 * shares.astype(float)).round(6)


def _intervals(
    table: pd.DataFrame, kinds: pd.Series, words: list[tuple], *, x: str, shapes: list[dict], clip: tuple[float, float]
) -> go.Figure:
    """One row per row of the table, from the top. table: a name, a value, its interval, and what else its CSV has.

    kinds: of the rows, keys of KINDS; words: of each row its name and what else its tooltip says; x: the title of the
    axis; clip: between which values the axis ends.
    """
    code, names = pd.factorize(table.iloc[:, 0])
    rows_of_name = pd.Series(code).groupby(code)
    heights = code + CLOSE * (rows_of_name.cumcount() - (rows_of_name.transform("size") - 1) / 2)
    labels = _labels(names)
    row = max(36, 14 * max(map(len, labels)) + 8, 18 * int(rows_of_name.size().max())) if len(table) else 0
    xaxis = {
        "ticksuffix": " %" if clip[0] > -100 else "",
        "showgrid": True,
        "autorangeoptions": {"clipmin": clip[0], "clipmax": clip[1]},
    }
    yaxis = {
        "tickvals": list(range(len(names))),
        "ticktext": [_text(lines) for lines in labels],
        "range": [len(names) - 0.5, -0.5],
        "fixedrange": True,
        "showgrid": False,
        "showspikes": False,
        "unifiedhovertitle": {"text": x},
        "ticklabelstandoff": 6,
    }
    return plotting.figure(
        [_markers(table, words, heights, (kinds == kind).to_numpy(), kind) for kind in KINDS if (kinds == kind).any()],
        x=x,
        y="",
        says="; ".join(", ".join(row) for row in words) + "." if words else "No result yet.",
        columns={"customdata": list(table)},
        height=90 + row * len(names),
        shapes=[line | {"layer": "below"} for line in shapes],
        hovermode="y unified",
        showlegend=True,
        more={"narrow": {"yaxis": {"showticklabels": False}, "annotations": _names_above(names)}},
        xaxis=xaxis,
        yaxis=yaxis,
    )


def _markers(table: pd.DataFrame, words: list[tuple], heights: pd.Series, chosen: np.ndarray, kind: str) -> go.Scatter:
    colour, marker = KINDS[kind]
    value, low, high = (table.iloc[chosen, n] for n in (1, 2, 3))
    cells = table.assign(model=table["model"].map(plotting.escaped))
    trace = go.Scatter(
        name=kind,
        orientation="h",
        mode="markers",
        x=plotting.column(value),
        y=heights[chosen].tolist(),
        text=[_text([*_lines(name, 60, 4), *more]) for name, *more in itertools.compress(words, chosen)],
        customdata=plotting.rows(cells[chosen]),
        hovertemplate="%{text}<extra></extra>",
        marker={"color": colour, "symbol": marker, "size": 10, "line": {"color": colour, "width": 2}},
        cliponaxis=False,
    )
    if kind != "paper":
        trace.error_x = plotting.error_bars(value, low, high, colour)
    return trace


def _names_above(names: Sequence[str]) -> list[dict]:
    """The names above their rows, as annotations: where the page is too narrow for labels beside them."""
    above = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 6, "showarrow": False}
    above |= {"font": {"size": 11, "color": plotting.INK}, "bgcolor": plotting.SURFACE}
    return [above | {"y": n, "text": plotting.escaped(name)} for n, name in enumerate(_told_apart(names, NARROW))]


def _labels(names: Sequence[str]) -> list[list[str]]:
    """The lines of each name: its beginning, or where that is another's, too, both its ends."""
    begun = [_lines(name, WIDTH, LINES) for name in names]
    apart = [_lines(name, WIDTH, LINES) for name in _told_apart(names, WIDTH * LINES - 8)]
    return [own if begun.count(own) == 1 else ends for own, ends in zip(begun, apart, strict=True)]


def _lines(name: str, width: int, most: int) -> list[str]:
    return textwrap.wrap(name, width, max_lines=most, placeholder="…") or [""]


def _told_apart(names: Sequence[str], most: int) -> list[str]:
    """The names in at most so many characters, without their middles where they are long: names of runs differ at
    their ends. Those that are the same then get a number."""
    found = [name if len(name) <= most else f"{name[: most - 16]}…{name[-15:]}" for name in names]
    seen: Counter[str] = Counter()
    for n, name in enumerate(found):
        seen[name] += 1
        if seen[name] > 1:
            found[n] = f"{name} ({seen[name]})"
    return found


def _text(lines: Sequence[str]) -> str:
    return "<br>".join(map(plotting.escaped, lines))
