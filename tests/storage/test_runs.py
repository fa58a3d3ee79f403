"""Run folders: one configuration per folder, damaged files, ids, deletion."""

from __future__ import annotations

import json

import pytest
from filelock import FileLock

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import add_to_run, begin_run, delete_run, list_runs, read_run, run_folder, versions

CONFIG = {"limit": 1000, "seed": 0, "split": None}
ABOUT = {"fingerprints": {"expert": "aa", "amateur": "bb"}, "versions": {"torch": "1"}, "batch_size": 32}


def test_the_same_run_goes_on_with_what_it_first_found(tmp_path):
    first = begin_run(tmp_path / "run", "dataset", CONFIG, ABOUT)
    again = begin_run(tmp_path / "run", "dataset", CONFIG, ABOUT | {"batch_size": 8, "versions": {"torch": "2"}})
    assert again == first == read_run(tmp_path / "run")
    assert (first["format"], first["kind"], first["about"]["batch_size"]) == ("lightreasoner-run", "dataset", 32)


def test_values_are_compared_as_json_keeps_them(tmp_path):
    begin_run(tmp_path, "dataset", {"folder": tmp_path, "sizes": (1, 2)}, {})
    begin_run(tmp_path, "dataset", {"folder": tmp_path, "sizes": (1, 2)}, {})  # a path and a tuple are no difference
    assert read_run(tmp_path)["config"] == {"folder": str(tmp_path), "sizes": [1, 2]}


def test_every_difference_is_named_with_both_values(tmp_path):
    begin_run(tmp_path, "dataset", CONFIG, ABOUT)
    other = {"limit": 500, "seed": 0, "split": "train", "alpha": 0.2}
    with pytest.raises(UserError) as caught:
        begin_run(tmp_path, "dataset", other, ABOUT)
    message = str(caught.value)
    assert "limit was 1000, now 500" in message and "seed" not in message
    assert "split was not set, now train" in message and "alpha was not set, now 0.2" in message
    with pytest.raises(UserError, match="holds a dataset, not a finetune"):
        begin_run(tmp_path, "finetune", CONFIG, ABOUT)
    with pytest.raises(UserError, match="the amateur has changed"):
        begin_run(tmp_path, "dataset", CONFIG, {"fingerprints": {"expert": "aa", "amateur": "cc"}})
    assert read_run(tmp_path)["config"] == CONFIG


def test_a_result_is_added_and_the_identity_cannot_be(tmp_path):
    begin_run(tmp_path, "dataset", CONFIG, ABOUT)
    add_to_run(tmp_path, result={"steps": 5})
    assert read_run(tmp_path)["result"] == {"steps": 5} and read_run(tmp_path)["config"] == CONFIG
    with pytest.raises(ValueError, match="config"):
        add_to_run(tmp_path, config={})


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{}", '{"format": "other"}', "\x00" * 50, "[" * 100_000])
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    for attempt in (read_run, lambda folder: begin_run(folder, "dataset", CONFIG, ABOUT)):
        with pytest.raises(UserError, match="damaged") as caught:
            attempt(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"kind": 3}, {"config": None}, {"about": []}, {"created": "now"}, {"created": float("nan")}),
        # one such run took its whole list from the page
        *({"about": {"pair": "x"}}, {"about": {"dataset": True}}, {"about": {"marks": 1}}, {"config": {"adapters": 1}}),
        *({"config": {"contrasts": ["x"]}}, {"config": {"contrasts": [{"beta": "x"}]}}),
    ],
)
def test_a_record_with_a_field_of_the_wrong_kind_is_damaged(tmp_path, change):
    record = begin_run(tmp_path / "run", "dataset", CONFIG, ABOUT) | change
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged"):
        read_run(tmp_path / "run")
    assert list_runs(tmp_path) == []


def test_what_is_no_run_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(UserError, match="not a run folder"):
            read_run(place)
    begin_run(tmp_path / "run", "dataset", CONFIG, ABOUT)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"version": 9}))
    with pytest.raises(UserError, match="version 9"):
        read_run(tmp_path / "run")


def test_runs_are_listed_newest_first_without_what_cannot_be_read(tmp_path, monkeypatch):
    for n, (name, kind) in enumerate((("b", "dataset"), ("a", "finetune"), ("c", "dataset"))):
        monkeypatch.setattr("lightreasoner.storage.runs.time.time", lambda n=n: 1000.0 + n)
        begin_run(tmp_path / name, kind, CONFIG, ABOUT)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text("{")
    assert [folder.name for folder, _ in list_runs(tmp_path)] == ["c", "a", "b"]
    assert [folder.name for folder, _ in list_runs(tmp_path, "dataset")] == ["c", "b"]
    assert list_runs(tmp_path / "gone") == []


def test_only_an_id_leads_to_a_folder(tmp_path):
    settings = Settings(workspace=tmp_path)
    run_id = new_id()
    assert run_folder(settings, run_id) == tmp_path / "runs" / run_id
    for bad in ("", "..", "../../../etc/passwd-and-more", "a/b" * 8, "short", "x" * 41, None, 3, run_id + "\n"):
        with pytest.raises(UserError, match="no valid run id"):
            run_folder(settings, bad)


def test_a_run_in_a_folder_that_a_user_named_is_found(tmp_path):
    """Every tab listed a run that a command line had made in runs/data, and opening it was refused."""
    settings = Settings(workspace=tmp_path)
    begin_run(folder := settings.runs / "data", "dataset", CONFIG, ABOUT)
    assert run_folder(settings, "data") == folder
    for bad in (".", "data/", "../runs/data", "x" * 999, "\0", "\ud800"):
        with pytest.raises(UserError, match="no valid run id"):
            run_folder(settings, bad)
    with pytest.raises(UserError, match="no valid run id"):  # it could be guessed
        run_folder(Settings(workspace=tmp_path, public=True), "data")


def test_a_run_is_deleted_unless_somebody_works_in_it(tmp_path):
    begin_run(tmp_path / "run", "dataset", CONFIG, ABOUT)
    (tmp_path / "run" / "trajectories").mkdir()
    (tmp_path / ".deleted-other-1234").mkdir()  # a deletion that was cut off
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(UserError, match="is working on this run"):
        delete_run(tmp_path / "run")
    assert read_run(tmp_path / "run")
    delete_run(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not a run folder"):
        delete_run(tmp_path / "run")


def test_what_is_no_run_is_not_deleted(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="not a run folder"):
        delete_run(tmp_path / "photos")
    assert (tmp_path / "photos").exists()


def test_versions_name_what_the_numbers_depend_on():
    assert {"lightreasoner", "python", "torch", "transformers"} <= set(versions())


def test_a_run_of_another_kind_is_refused_with_both_kinds(tmp_path):
    """Six places had this check, each with a sentence of its own."""
    begin_run(tmp_path / "run", "dataset", {}, {})
    assert read_run(tmp_path / "run", "dataset") == read_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"holds a dataset run, not an experiment; name the folder of an experiment\."):
        read_run(tmp_path / "run", "experiment")
