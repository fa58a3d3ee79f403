"""The figures of results: their numbers, their words, and what the browser is sent."""

from __future__ import annotations

import html
import json
import re

import pandas as pd
import pytest

from lightreasoner.evaluation.figures import differences_figure, models_figure
from lightreasoner.scoring.significance import wilson
from scripts.report_results import METHODS, PICTURE, REPORT, TITLE, accuracies

MODELS = ["name", "kind", "pass_at_1", "low", "high", "right", "problems"]
COMPARISONS = ["name", "difference", "low", "high", "gained", "lost", "p", "significant"]


def sent(figure) -> dict:
    """What the browser gets: strict JSON."""
    return json.loads(json.dumps(figure.to_plotly_json(), allow_nan=False))


def models(*rows: tuple) -> dict:
    return sent(models_figure(pd.DataFrame(rows, columns=MODELS)))


def differences(*rows: tuple) -> dict:
    return sent(differences_figure(pd.DataFrame(rows, columns=COMPARISONS)))


BASE = ("base", "base", 0.5, 0.25, 0.75, 10, 20)
TUNED = ("tuned", "fine-tuned", 0.6, 0.4, 0.8, 12, 20)
PAPER = ("paper: SFT", "paper", 0.692, None, None, None, None)


def test_a_model_is_a_point_with_its_interval_in_percent():
    found = models(BASE, TUNED)
    base, tuned = found["data"]
    assert (base["name"], base["x"], base["y"]) == ("base", [50], [0])
    assert (base["error_x"]["arrayminus"], base["error_x"]["array"]) == ([25], [25])
    assert (tuned["name"], tuned["x"], tuned["y"]) == ("fine-tuned", [60], [1])
    assert tuned["error_x"]["arrayminus"] == pytest.approx([20]) and tuned["error_x"]["array"] == pytest.approx([20])
    assert tuned["text"] == ["tuned<br>pass@1 60.0 %<br>95 % interval 40.0 to 80.0 %<br>12 of 20 right"]
    layout = found["layout"]
    assert layout["yaxis"]["ticktext"] == ["base", "tuned"] and layout["yaxis"]["range"] == [1.5, -0.5]  # from the top
    (line,) = layout["shapes"]
    assert (line["x0"], line["x1"], line["line"]["dash"]) == (50, 50, "dash")
    assert "tuned, pass@1 60.0 %, 95 % interval 40.0 to 80.0 %, 12 of 20 right" in layout["meta"]["says"]


def test_the_papers_values_are_hollow_and_without_an_interval():
    found = models(BASE, PAPER)
    paper = found["data"][1]
    assert (paper["name"], paper["x"], paper["marker"]["symbol"]) == ("paper", [69.2], "diamond-open")
    assert "error_x" not in paper
    assert "paper: SFT, pass@1 69.2 %, the paper gives no interval" in found["layout"]["meta"]["says"]
    assert found["layout"]["meta"]["columns"]["customdata"][:4] == ["model", "pass@1 in %", "low", "high"]
    assert paper["customdata"] == [["paper: SFT", 69.2, None, None, None, None]]


def test_models_without_an_answer_are_left_out():
    found = models(BASE, ("waits", "fine-tuned", None, None, None, None, None))
    assert found["layout"]["yaxis"]["ticktext"] == ["base"]
    empty = models()
    assert empty["data"] == [] and empty["layout"]["meta"]["says"] == "No result yet."
    assert not empty["layout"].get("shapes")


def test_rows_of_one_name_lie_closely_together_under_one_label():
    first, *seeds = [("a", *BASE[1:])] + [("b", "fine-tuned", x, x - 0.1, x + 0.1, 1, 2) for x in (0.3, 0.4, 0.5)]
    found = models(first, *seeds)
    assert found["data"][1]["y"] == pytest.approx([0.8, 1, 1.2])
    assert found["layout"]["yaxis"]["ticktext"] == ["a", "b"]


def test_long_and_hostile_names_stay_readable_and_harmless():
    name = "<b>bold</b> & " + "a-name-that-goes-on " * 20
    found = models((name, *BASE[1:]))
    (label,) = found["layout"]["yaxis"]["ticktext"]
    assert label.startswith("&lt;b&gt;bold&lt;/b&gt; &amp;") and label.endswith("…") and label.count("<br>") == 2
    (narrow,) = found["layout"]["meta"]["narrow"]["annotations"]
    assert narrow["text"].startswith("&lt;b&gt;bold") and narrow["text"].endswith(
        "that-goes-on "
    )  # ends tell runs apart
    assert "<" not in narrow["text"] and len(narrow["text"]) < 70
    assert "<b>" not in found["data"][0]["text"][0]
    assert found["layout"]["meta"]["says"].startswith(name)  # not read as HTML there


def test_a_difference_is_called_better_or_worse_in_words():
    found = differences(
        ("up", 0.2, 0.1, 0.3, 30, 10, 0.001, True),
        ("down", -0.2, -0.3, -0.1, 10, 30, 0.001, True),
        ("same", 0.01, -0.02, 0.04, 5, 4, 1.0, False),
    )
    better, worse, neither = found["data"]
    names = [trace["name"] for trace in found["data"]]
    assert names == ["better", "worse", "no significant difference"] and found["layout"]["showlegend"]
    assert len({trace["marker"]["color"] for trace in found["data"]}) == 3
    assert len({trace["marker"]["symbol"] for trace in found["data"]}) == 3  # told apart without colours, too
    assert (better["x"], worse["x"], neither["x"]) == ([20], [-20], [1])
    assert worse["text"] == ["down<br>worse: −20.0 points<br>95 % interval −30.0 to −10.0<br>10 gained, 30 lost"]
    assert neither["error_x"]["arrayminus"] == pytest.approx([3])
    assert found["layout"]["shapes"][0]["x0"] == 0
    assert (
        "up, better: +20.0 points, 95 % interval +10.0 to +30.0, 30 gained, 10 lost" in found["layout"]["meta"]["says"]
    )


# ---- docs/img/results.svg


def test_the_picture_of_the_experiment_has_the_numbers_of_its_table():
    report = REPORT.read_text(encoding="utf-8")
    rows = accuracies(report)
    assert rows["name"].unique().tolist() == ["expert, untouched", *METHODS.values()]
    assert rows.groupby("name").size()[list(METHODS.values())].tolist() == [3, 3, 3, 3, 3]  # seeds
    for name, of in rows.groupby("name"):  # the percentages that the table says, its means included
        line = next(line for line in report.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {100 * of['pass_at_1'].mean():.1f} |" in line
    base = rows.iloc[0]
    assert (base["right"], base["problems"]) == (201, 500)
    assert (base["low"], base["high"]) == wilson(201, 500)
    assert "36.0 – 44.6 (Wilson)" in report and (round(base["low"], 3), round(base["high"], 3)) == (0.360, 0.446)
    says = models_figure(rows).layout.meta["says"]
    drawn = PICTURE.read_text(encoding="utf-8")
    assert html.unescape(re.search('aria-label="([^"]*)"', drawn)[1]) == f"{TITLE}: {says}"
    assert "LightReasoner, pass@1 63.8 %" in says
    assert drawn.count('class="point ') == len(rows)


def test_no_two_rows_have_the_same_label():
    """Names of runs that differ only where a long name was cut off stood twice on the axis."""
    start = "LightReasoner · lightreasoner-expert-4m · Bundled, train · a name as long as those of arms are"
    names = [f"{start}, seed 0", f"{start}, seed 1", f"{start} {'x' * 40}, seed 0", start, f"{start[:40]}, seed 0"]
    rows = pd.DataFrame({"name": names, "difference": 0.1, "low": 0.0, "high": 0.2, "gained": 1, "lost": 0, "p": 0.5})
    figure = differences_figure(rows.assign(significant=False))
    wide = figure.layout.yaxis.ticktext
    narrow = [note["text"] for note in figure.layout.meta["narrow"]["annotations"]]
    for labels in (wide, narrow):
        assert len(set(labels)) == len(names) and all("seed 1" in label for label in labels[1:2])
