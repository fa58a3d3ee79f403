"""KL and the teaching signal over the steps of a response, as a figure."""

import pandas as pd
import plotly.graph_objects as go

from lightreasoner import plotting
from lightreasoner.formatting import plural

#: No step yet: the figure that the page fills as the steps come.
NO_STEPS = pd.DataFrame({"step": [], "token": [], "kl": [], "tuned_kl": [], "teaching": []})


def kl_figure(steps: pd.DataFrame, beta: float, tuned: bool) -> go.Figure:
    """KL(expert ‖ amateur) of each step in nats, above the line of β in the strong colour.

    steps: the columns step, token (its text) and kl, and where a tuned expert reads along tuned_kl, KL(tuned ‖ expert);
    perhaps teaching, KL(target ‖ expert). Infinite values are None. The page moves the shapes "beta", "below-beta"
    (which pales what is below) and "selected".
    """
    text = [plotting.escaped(token) for token in steps["token"]]
    shared = {"x": plotting.column(steps["step"]), "mode": "lines"}
    expert = go.Scatter(
        y=plotting.column(steps["kl"]),
        name="expert ‖ amateur",
        meta="kl",  # the key of a step that the page fills in
        fill="tozeroy",
        fillcolor=plotting.HOT,
        line={"color": plotting.HOT, "width": 1, "shape": "hvh"},
        customdata=list(zip(text, plotting.column(steps["kl"]), strict=True)),
        hovertemplate="%{customdata[0]}<br>KL %{customdata[1]:.3f} nats<extra></extra>",
        **shared,
    )
    traces = [expert]
    lines = [("tuned_kl", "tuned ‖ expert", plotting.TUNED, "moved")] if tuned else []
    lines += [("teaching", "target ‖ expert", plotting.BETTER, "teaches")] if "teaching" in steps else []
    for key, name, colour, does in lines:
        values = plotting.column(steps[key])
        line = go.Scatter(
            y=values,
            name=name,
            meta=key,
            line={"color": colour, "width": 2, "shape": "hvh"},
            customdata=list(zip(text, values, strict=True)),
            hovertemplate=f"{does} %{{customdata[1]:.3f}} nats<extra></extra>",
            **shared,
        )
        traces.append(line)
    band = {"type": "rect", "line": {"width": 0}, "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    veil = {"type": "rect", "line": {"width": 0}, "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "layer": "above"}
    return plotting.figure(
        traces,
        x="step",
        y="KL in nats",
        says=says(steps, beta),
        scales=("root", "linear", "log"),
        columns={"x": "step", "y": "kl", "customdata": ["token"]},
        height=170,
        shapes=[
            band | {"name": "selected", "x0": -2, "x1": -2, "fillcolor": plotting.SELECTED},
            veil | {"name": "below-beta", "y0": 0, "y1": beta, "fillcolor": plotting.SURFACE, "opacity": 0.55},
            plotting.threshold_line(beta, vertical=False, name="beta"),
        ],
        xaxis={"range": [-0.5, max(len(steps), 24) - 0.5]},
    )


def says(steps: pd.DataFrame, beta: float) -> str:
    """The main numbers of the figure in a sentence."""
    if not len(steps):
        return "KL over the steps of the response; no step yet."
    kl = steps["kl"].fillna(float("inf"))
    above, highest = int((kl > beta).sum()), kl.idxmax()
    most = "infinite" if kl[highest] == float("inf") else f"{kl[highest]:.2f} nats"
    return (
        f"KL over {plural(len(steps), 'step')}: {above:,} above β = {beta:.2f}; the highest, {most}, at step "
        f"{steps['step'][highest]}."
    )
