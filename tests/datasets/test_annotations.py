"""Annotations: saved, safe with concurrent writers, and nothing is lost when the file is damaged."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightreasoner.datasets.annotations import load_annotations, set_annotation
from lightreasoner.errors import UserError
from lightreasoner.settings import ROOT


def test_set_change_and_take_away(tmp_path):
    assert not load_annotations(tmp_path).by_step
    set_annotation(tmp_path, ("p 1/ü\n", 0, 3), "keep")
    set_annotation(tmp_path, ("p 1/ü\n", 0, 4), "pin")
    set_annotation(tmp_path, ("p 1/ü\n", 0, 3), "drop")
    marks = load_annotations(tmp_path)
    assert marks.get("p 1/ü\n", 0, 3) == "drop" and marks.of("pin") == {("p 1/ü\n", 0, 4)}
    assert set_annotation(tmp_path, ("p 1/ü\n", 0, 3), None).by_step == {("p 1/ü\n", 0, 4): "pin"}
    set_annotation(tmp_path, ("p 1/ü\n", 0, 4), None)
    assert load_annotations(tmp_path).by_step == {}


@pytest.mark.parametrize(
    "key", [("p", 0), ("", 0, 0), ("p", -1, 0), ("p", 0, True), ("p", 0, "1"), (1, 0, 0), None, ("p", 0, 2**40)]
)
def test_what_names_no_step_is_refused(tmp_path, key):
    with pytest.raises(UserError):
        set_annotation(tmp_path, key, "keep")


def test_unknown_marks_and_lost_datasets_are_refused(tmp_path):
    with pytest.raises(UserError, match="keep, drop or pin"):
        set_annotation(tmp_path, ("p", 0, 0), "like")
    with pytest.raises(UserError, match="no dataset"):
        set_annotation(tmp_path / "gone", ("p", 0, 0), "keep")


def test_two_writers_lose_nothing(tmp_path):
    script = (
        "import sys; from pathlib import Path; from lightreasoner.datasets.annotations import set_annotation\n"
        "for n in range(25): set_annotation(Path(sys.argv[1]), (sys.argv[2], 0, n), 'keep')"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name], cwd=ROOT) for name in ("one", "two")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(load_annotations(tmp_path).by_step) == 50


@pytest.mark.parametrize(
    "damage", ["", "{", '{"format": "lightreasoner-marks", "version": 1, "marks": [["p", 0, 1]', "[]"]
)
def test_a_damaged_file_is_named_and_kept(tmp_path, damage):
    path = tmp_path / "marks.json"
    path.write_text(damage)
    for attempt in (lambda: load_annotations(tmp_path), lambda: set_annotation(tmp_path, ("p", 0, 0), "keep")):
        with pytest.raises(UserError, match=r"marks\.json"):
            attempt()
    assert path.read_text() == damage
