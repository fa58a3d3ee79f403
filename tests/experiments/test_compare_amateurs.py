"""Several amateurs compared as one job: one dataset, a preview and own answers of each, and which is recommended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.datasets.amateurs import amateur_datasets
from lightreasoner.datasets.compare_amateurs import compare_amateurs
from lightreasoner.evaluation.amateurs import results_of
from lightreasoner.evaluation.results import ResultsReader, variants_of
from lightreasoner.scoring.significance import compare
from lightreasoner.storage.runs import list_runs, read_run
from tests.support.tiny_models import save_tiny

PROBLEMS = [{"question": f"Tom has {n} apples{' and pears' * (n % 3)}.", "answer": "7"} for n in range(5)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("compared")
    for seed, name in enumerate(("expert", "a", "b", "c"), 1):
        save_tiny(place / name, seed)
    (place / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    return place


def compared(place: Path, *more: str, amateurs: str = "ab", run: str = "run") -> int:
    words = ["compare-amateurs", "--expert", str(place / "expert"), "--problems", str(place / "problems.jsonl")]
    words += [word for name in amateurs for word in ("--amateur", str(place / name))]
    words += [] if "--beta" in more else ["--beta", "0.4,2"]
    return main([*words, "--max-new-tokens", "10", "--run-dir", str(place / run), *more])


def test_one_job_measures_and_previews_all_amateurs(place, monkeypatch, capsys):
    """The gap is measured on the problems of the preview; one more amateur later repeats nothing."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(place / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    assert compared(place) == 0
    printed = capsys.readouterr().out
    assert "gap" in printed and "Train with none of the previewed amateurs" in printed
    runs = {folder.name: run for folder, run in list_runs(place)}
    assert len(runs) == 5 and runs["run"]["kind"] == "dataset"
    found = compare_amateurs(place / "run")
    datasets = [each.dataset for each in found.amateurs]
    previews, gaps = results_of(datasets)
    assert set(previews) == set(gaps) == {str(place / "a"), str(place / "b")}
    for ref, gap in gaps.items():
        rows = []
        for folder in (previews[ref].folder, gap.folder):
            reader = ResultsReader(folder, variants_of(read_run(folder)))
            reader.refresh()
            rows.append({problem: row.right for problem, row in reader.rows[0].items()})
        expected = compare(rows[1], rows[0])
        assert (gap.value, gap.low, gap.high) == (expected.difference, expected.low, expected.high)
    answers = {path: path.stat().st_mtime_ns for path in place.glob("run-*/answers/*.parquet")}
    assert compared(place, amateurs="abc") == 0
    assert {path: path.stat().st_mtime_ns for path in answers} == answers
    assert [each.amateur for each in amateur_datasets(place / "run")] == [str(place / name) for name in "abc"]
    previews, _ = results_of(amateur_datasets(place / "run"))
    assert len(previews) == 3


@pytest.mark.parametrize(
    ("amateurs", "more", "says"),
    [
        ("a", (), "One amateur was named"),
        ("aa", (), "is named twice"),
        ("ab", ("--preview", "1"), "A preview of 1 problem has no interval"),
        ("ab", ("--beta", "x"), "--beta is 'x'; give numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(place, capsys, amateurs, more, says):
    assert compared(place, *more, amateurs=amateurs, run="refused") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (place / "refused").exists()
