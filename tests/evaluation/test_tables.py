"""Tables of results as files: numbers by hand, a spreadsheet that computes nothing, LaTeX that compiles."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from lightreasoner.evaluation.tables import models_table
from lightreasoner.tables import table_text

MODELS = [
    {"name": "base_model", "problems": 8, "right": 2, "pass_at_1": 0.25, "interval": [0.1, 0.5], "mean_length": 7.25},
    {"name": "=1+1 & 50 %", "problems": 8, "right": 3, "pass_at_1": 0.375, "interval": [0.15, 0.66]},
    {"name": "not started"},
]
COMPARED = [{"model": 1, "difference": 0.125, "low": -0.1, "high": 0.35, "gained": 2, "lost": 1, "p": 0.0312}]


def test_shares_are_percent_and_differences_are_points():
    table = models_table(MODELS, COMPARED)
    assert table["pass@1 in %"].tolist()[:2] == [25, 37.5] and table["right"].tolist()[:2] == [2, 3]
    second = table.iloc[1]
    assert (second["difference in points"], second["difference low in points"]) == (12.5, -10)
    assert (second["gained"], second["McNemar p"]) == (2, 0.0312) and pd.isna(table.iloc[0]["gained"])
    assert "truncations" not in table, "nobody counted them"


def test_a_csv_file_has_all_digits_and_no_formula():
    text = table_text(models_table(MODELS, COMPARED), "csv")
    read = pd.read_csv(io.StringIO(text))
    assert read["model"].tolist() == ["base_model", "'=1+1 & 50 %", "not started"]
    assert read["mean length"].iloc[0] == 7.25 and pd.isna(read["mean length"].iloc[1])


def test_a_latex_table_is_escaped_and_rounded():
    text = table_text(models_table(MODELS, COMPARED), "tex")
    assert text.startswith("\\begin{tabular}{l" + "r" * 12) and text.count("\\\\") == 4
    assert "base\\_model & 25.0 & 10.0 & 50.0" in text and "=1+1 \\& 50 \\% & 37.5" in text
    assert "0.031" in text and " – " in text and "nan" not in text.lower() and "<NA>" not in text


@pytest.mark.parametrize("kind", ["csv", "tex"])
def test_one_model_alone_is_a_table_too(kind):
    assert "difference" not in table_text(models_table(MODELS[:1]), kind)
