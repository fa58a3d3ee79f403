"""The charts of a dataset as figures: their numbers, without a browser."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from lightreasoner.datasets.figures import category_figure, histogram_figure, kept_figure, one_token_figure
from lightreasoner.datasets.trajectories import KL_EDGES


def shapes(figure) -> dict:
    json.dumps(figure.to_plotly_json(), allow_nan=False)  # what the page gets
    return {shape.name: shape for shape in figure.layout.shapes}


def bins(*counts: int) -> pd.DataFrame:
    edges = [0, 0.1, 0.5, 1.5, 20][: len(counts) + 1]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "steps": counts})


def test_a_histogram_has_a_bar_for_each_bin_and_beta_between_its_edges():
    figure = histogram_figure(bins(60, 30, 8, 2), 0.4)
    [bars] = figure.data
    assert bars.x == (0.5, 1.5, 2.5, 3.5) and bars.y == (60, 30, 8, 2)
    assert [place[:3] for place in bars.customdata] == [[0, 0.1, 60], [0.1, 0.5, 30], [0.5, 1.5, 8], [1.5, 20, 2]]
    assert [place[3] for place in bars.customdata][2:] == ["0.5 to 1.5 nats", "1.5 nats and more"]
    placed = shapes(figure)
    assert placed["beta"].x0 == placed["beta"].x1 == placed["below-beta"].x1 == pytest.approx(1.75)  # 3/4 of a bin
    assert placed["shown"].x0 == placed["shown"].x1 < -1  # out of sight
    assert figure.layout.xaxis.range == (0, 4) and figure.layout.xaxis.tickvals == (0, 1)
    meta = figure.layout.meta
    assert meta["says"] == "Histogram of 100 steps by KL: half of them below 0.1 nats, 95 % below 1.5 nats."
    assert meta["scales"][0] == "root" and meta["columns"]["x"] is None


@pytest.mark.parametrize(("beta", "at"), [(0, 0), (0.1, 1), (1.0, 2.5), (99, 4)])
def test_beta_lies_in_its_bin(beta, at):
    assert shapes(histogram_figure(bins(1, 1, 1, 1), beta))["beta"].x0 == pytest.approx(at)


def test_a_histogram_without_steps_and_one_of_a_single_bin():
    assert histogram_figure(bins(0, 0, 0, 0), 0.4).layout.meta["says"].endswith("no step yet.")
    assert shapes(histogram_figure(bins(7), 0.05))["beta"].x0 == pytest.approx(0.5)


def test_the_ticks_of_the_explorers_bins_are_round():
    frame = pd.DataFrame({"low": KL_EDGES[:-1], "high": KL_EDGES[1:], "steps": range(len(KL_EDGES) - 1)})
    axis = histogram_figure(frame, 0.4).layout.xaxis
    assert axis.ticktext == ("0", "0.01", "0.1", "1", "10")
    assert [KL_EDGES[at] for at in axis.tickvals] == [0, 0.01, 0.1, 1, 10]


def test_selected_steps_by_beta():
    kept = pd.DataFrame({"beta": [0.0, 0.4, 3.0], "steps": [80, 20, 0], "share": [0.8, 0.2, 0.0]})
    figure = kept_figure(kept, 0.42)
    [line] = figure.data
    assert (line.x, line.y, line.customdata) == ((0.0, 0.4, 3.0), (0.8, 0.2, 0.0), ([80], [20], [0]))
    assert shapes(figure)["beta"].x0 == 0.42
    assert figure.layout.meta["says"] == "Selected steps by β: at β = 0.40 nats 20.0 % of all steps."
    assert figure.layout.xaxis.range == (0, 3) and figure.layout.meta["scales"] == ["linear", "log"]


def test_one_token_targets_by_alpha():
    effect = pd.DataFrame({"alpha": [0.01, 0.2], "tokens": [4.5, 1.5], "one_token": [0.1, 0.75], "targets": [8, 8]})
    figure = one_token_figure(effect, 0.2)
    [line] = figure.data
    assert (line.x, line.y, line.customdata) == ((0.01, 0.2), (0.1, 0.75), ([4.5, 8], [1.5, 8]))
    assert shapes(figure)["alpha"].x0 == 0.2
    says = "One-token targets by α: at α = 0.20 75.0 % of 8 targets hold a single token; 1.5 tokens on average."
    assert figure.layout.meta["says"] == says
    assert one_token_figure(effect.head(1), 1).data[0].x == (0.01,)
    none = effect.assign(tokens=math.nan, one_token=math.inf)
    assert one_token_figure(none, 0.2).data[0].y == (None, None) and shapes(one_token_figure(none, 0.2))


def categories(**change) -> pd.DataFrame:
    named = {"kind": ["word", "end"], "title": ["Words", "End of turn"], "says": ["All words.", "The last."]}
    return pd.DataFrame(named | {"steps": [1000, 5], "mean_kl": [0.5, 0.25]} | change)


def test_categories_the_highest_on_top():
    figure = category_figure(categories())
    [bars] = figure.data
    assert (bars.y, bars.x) == (("End of turn", "Words"), (0.25, 0.5))
    assert bars.customdata == ([5, "end", "The last."], [1000, "word", "All words."])
    assert shapes(figure)["chosen"].y1 < -1
    assert (
        figure.layout.meta["says"]
        == "Mean KL of 2 token categories, in nats; the highest: Words 0.50, End of turn 0.25."
    )


def test_categories_without_divergence_without_steps_and_with_hostile_names():
    assert category_figure(categories(mean_kl=[0.0, 0.0])).layout.xaxis.range == (0, 1)
    assert "the highest: none" in category_figure(categories().head(0)).layout.meta["says"]
    [bars] = category_figure(categories(title=["<b>x</b>", "y"], says=["<script>", "&"])).data
    assert bars.y == ("y", "&lt;b&gt;x&lt;/b&gt;") and [place[2] for place in bars.customdata] == [
        "&amp;",
        "&lt;script&gt;",
    ]
