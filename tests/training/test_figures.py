"""Training curves as figures: numbers by hand, several runs, and what a run may hold."""

import json
import math

import pandas as pd
import pytest

from lightreasoner import plotting
from lightreasoner.training.figures import QUANTITIES, curve_figures

NOTHING = dict.fromkeys(["samples_seen", "seconds", *(quantity.key for quantity in QUANTITIES)], math.nan)


def table(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame([NOTHING | row for row in rows], columns=["update", *NOTHING])


RUN = table(
    {"update": 0, "held_out_loss": 1.5, "drift": 0.0, "samples_seen": 0, "seconds": 2.0},
    {"update": 5, "loss": 1.25, "learning_rate": 1e-4, "samples_seen": 80, "seconds": 7.0},
    {"update": 10, "loss": 0.75, "learning_rate": 5e-5, "samples_seen": 160, "seconds": 12.0},
    {"update": 10, "held_out_loss": 1.25, "drift": 0.002, "samples_seen": 160, "seconds": 13.0},
)


def as_json(figure) -> dict:
    """What the page gets: nothing in it is lost on the way through JSON."""
    found = figure.to_plotly_json()
    assert json.loads(json.dumps(found, allow_nan=False))
    return found


def test_one_run():
    figures = curve_figures({"": RUN}, updates=40)
    assert list(figures) == ["loss", "held_out_loss", "drift", "learning_rate"], "only what was measured"
    loss = as_json(figures["loss"])
    (line,) = loss["data"]
    assert (list(line["x"]), list(line["y"])) == ([5, 10], [1.25, 0.75])
    assert [list(row) for row in line["customdata"]] == [[80, 7], [160, 12]]
    layout = loss["layout"]
    assert list(layout["xaxis"]["range"]) == [0, 40], "as far as the run will go"
    assert layout["showlegend"] is False
    meta = layout["meta"]
    assert meta["says"] == "Loss: 0.75 nats at training step 10, from 1.25"
    assert meta["scales"] == ["linear", "log"] and meta["along"] == ["update", "samples", "seconds"]
    assert meta["columns"] == {"x": "training step", "y": "loss", "customdata": ["samples", "seconds"]}
    assert meta["smooth"] and not as_json(figures["held_out_loss"])["layout"]["meta"]["smooth"]
    rate = as_json(figures["learning_rate"])["layout"]
    assert rate["meta"]["says"] == "Learning rate: 5e-05 at training step 10, from 0.0001"


def test_several_runs_differ_in_colour_dash_and_marker():
    names = "ABCDEF"
    figures = curve_figures(dict.fromkeys(names, RUN))
    found = as_json(figures["loss"])
    assert [line["name"] for line in found["data"]] == list(names)
    assert [line["line"]["color"] for line in found["data"]] == plotting.SERIES
    assert [line["line"]["dash"] for line in found["data"]] == plotting.DASHES
    assert [line["marker"]["symbol"] for line in found["data"]] == plotting.MARKERS
    assert found["layout"]["showlegend"] is True
    assert found["layout"]["meta"]["says"].startswith("Loss: A 0.75 nats at training step 10, from 1.25; B 0.75")
    assert list(found["layout"]["xaxis"]["range"]) == [0, 10]


def test_a_run_keeps_its_look_where_another_has_no_points():
    figures = curve_figures({"A": RUN.iloc[:1], "B": RUN})
    (line,) = as_json(figures["loss"])["data"]
    assert (line["name"], line["line"]["color"]) == ("B", plotting.SERIES[1])
    assert figures["loss"].layout.showlegend, "the only line is still one of several"


def test_no_points_are_no_figures():
    assert curve_figures({"": table()}) == {} == curve_figures({})


def test_one_point_is_seen():
    found = as_json(curve_figures({"": RUN.iloc[:1]})["drift"])
    assert found["data"][0]["mode"] == "lines+markers" and list(found["layout"]["xaxis"]["range"]) == [0, 1]
    assert found["layout"]["meta"]["says"] == "Drift: 0 nats at training step 0, from 0"


def test_what_is_not_finite_has_no_point():
    rows = [{"update": n, "grad_norm": value} for n, value in enumerate([1.0, math.inf, math.nan, -math.inf, 3.0])]
    found = as_json(curve_figures({"": table(*rows)})["grad_norm"])
    assert (list(found["data"][0]["x"]), list(found["data"][0]["y"])) == ([0, 4], [1, 3])


@pytest.mark.parametrize(("missing", "along"), [("seconds", "samples"), ("samples_seen", "seconds")])
def test_a_column_that_was_not_recorded_is_not_offered(missing, along):
    partly = RUN.copy()
    partly.loc[1, missing] = math.nan
    assert as_json(curve_figures({"": partly})["loss"])["layout"]["meta"]["along"] == ["update", along]
    assert curve_figures({"A": RUN, "B": partly})["loss"].layout.meta["along"] == ["update", along]


def test_a_hostile_name_is_text():
    found = as_json(curve_figures({"<b>&": RUN, "B": RUN})["loss"])
    assert found["data"][0]["name"] == "&lt;b&gt;&amp;"


def test_the_lowest_held_out_loss_has_a_star():
    rows = [{"update": n, "held_out_loss": loss} for n, loss in enumerate([0.5, 1.2, 0.9, 1.4])]
    held_out = as_json(curve_figures({"": table(*rows)})["held_out_loss"])
    assert list(held_out["data"][0]["marker"]["symbol"]) == ["circle", "circle", "star", "circle"]
    assert held_out["layout"]["meta"]["says"].endswith("from 0.5, lowest 0.9 at 2 (marked with a star)")


def test_losses_of_other_targets_have_charts_of_their_own():
    """They stood on one axis, as if nats towards one target could be compared with nats towards another."""
    targets = {"A": "contrastive target, α = 0.2", "B": "SFT", "C": "contrastive target, α = 0.2"}
    figures = curve_figures(dict.fromkeys("ABC", RUN), targets=targets)
    assert list(figures) == ["loss-A-C", "loss-B", "held_out_loss-A-C", "held_out_loss-B", "drift", "learning_rate"]
    both, alone = as_json(figures["held_out_loss-A-C"]), as_json(figures["held_out_loss-B"])
    assert [line["name"] for line in both["data"]] == ["A", "C"] and [line["name"] for line in alone["data"]] == ["B"]
    assert both["data"][1]["line"]["color"] == plotting.SERIES[2], "as in the other charts"
    assert both["layout"]["meta"]["title"] == "Held-out loss of A, C: contrastive target, α = 0.2"
    assert list(curve_figures(dict.fromkeys("ABC", RUN), targets=dict.fromkeys("ABC", "SFT"))) == list(
        curve_figures({"A": RUN})
    )
