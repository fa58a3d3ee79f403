"""Columns with names of their own: which are which is said once, and the file reads like any other."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.problems.column_mapping import column_names, named_rows, wordiest_column
from lightreasoner.problems.stream import load_file
from lightreasoner.settings import Settings
from ui.components.columns_form import unnamed_columns

ROWS = [{"Aufgabe": "Was ist 2 + 2?", "Lösung": "4", "Note": 1.5}, {"Aufgabe": "Was ist 3 + 3?", "Lösung": "6"}]
MOST = 10**7


@pytest.fixture(params=["csv", "jsonl", "json", "parquet"])
def file(request, tmp_path):
    """The rows as a file of each kind."""
    path, table = tmp_path / f"mine.{request.param}", pd.DataFrame(ROWS)
    if request.param == "csv":
        table.to_csv(path, index=False)
    elif request.param == "parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=request.param == "jsonl", force_ascii=False)
    return path


def test_a_file_with_names_of_its_own_can_be_used(file, tmp_path, capsys):
    """Such a file was refused, and there was no way to say which column is which."""
    with pytest.raises(UserError, match=r"no column for the question; .* Say which column it is"):
        load_file(file)
    assert unnamed_columns(Settings(), str(file)) == column_names(file, MOST) == ["Aufgabe", "Lösung", "Note"]
    assert wordiest_column(file, MOST) == "Aufgabe"
    out = tmp_path / "named.jsonl"
    assert main(["name-columns", str(file), "--question", "Aufgabe", "--answer", "Lösung", "--out", str(out)]) == 0
    found = load_file(out)
    assert [(p.question, p.answer) for p in found.problems] == [("Was ist 2 + 2?", "4"), ("Was ist 3 + 3?", "6")]
    assert unnamed_columns(Settings(), str(out)) == []
    assert main(["name-columns", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["Aufgabe", "Lösung", "Note"]


def test_the_chosen_column_counts_and_the_rest_stays(tmp_path):
    rows = [{"question": "wrong", "text": "2 + 2?", "answer": "9", "right": 4, "choices": ["3", "4"], "none": None}]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(rows[0]))
    (line,) = named_rows(path, {"question": "text", "answer": "right"}, MOST)
    assert json.loads(line) == {"question": "2 + 2?", "answer": 4, "choices": ["3", "4"], "none": None}
    path.write_text('{"question": "2 + 2?", "Ergebnis": "4"}')
    assert unnamed_columns(Settings(), str(path)) == ["question", "Ergebnis"], "the answers may have another name"


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"question": "Frage"}, "x.jsonl has no column 'Frage' for the question; it has: a, b"),
        ({"question": None, "answer": "a"}, "Choose the column that holds the questions"),
        ({"question": "a", "answer": "a"}, "The same column is chosen"),
        ({"question": ["a"]}, "has no column"),
        ({"question": "a", "answer": "b"}, "x.jsonl, line 2: .*Correct the file first"),
    ],
)
def test_what_cannot_be_named_is_refused_in_a_sentence(tmp_path, chosen, says):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "1", "b": "2"}\n{"a": "1", \n')
    with pytest.raises(UserError, match=says):
        list(named_rows(path, chosen, MOST))
