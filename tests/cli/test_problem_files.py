"""Files of problems on the command line: rows that cannot be read stop a run, conversations reach every prompt."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.cli.trace import read_problem
from lightreasoner.datasets.trajectories import rows
from lightreasoner.evaluation.results import read_rows
from lightreasoner.models.loading import load_model
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny

TURNS = [
    ("system", "Be brief."),
    ("user", "Tom has 1 apple. How many?"),
    ("assistant", "1"),
    ("user", "And with 2 more?"),
]
ROWS = [
    {"id": "talk", "messages": [{"role": role, "content": text} for role, text in TURNS], "answer": "3"},
    {"id": "same", "question": TURNS[-1][1], "answer": "three apples or so"},
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    for name, value in (("WORKSPACE", str(tmp_path / "workspace")), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    save_tiny(tmp_path / "expert", seed=1)
    save_tiny(tmp_path / "amateur", seed=2)
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "not JSON\n")
    return tmp_path


def argv(place: Path, verb: str, file: str, run: str = "run") -> list[str]:
    pair = ["--expert", str(place / "expert"), "--amateur", str(place / "amateur")]
    models = ["--model", str(place / "expert")] if verb == "evaluate" else pair
    if verb == "trace":
        return [verb, *models, "--problem-file", str(place / file), "--max-new-tokens", "4"]
    return [verb, *models, "--problems", str(place / file), "--run-dir", str(place / run), "--max-new-tokens", "4"]


@pytest.mark.parametrize("verb", ["sample", "evaluate", "check-pair"])
def test_a_row_that_cannot_be_read_stops_a_run_until_the_user_says_to_use_the_rest(place, capsys, verb):
    """Regression: the rows were left out, and the result did not say so."""
    assert main(argv(place, verb, "bad.jsonl")) != 0
    said = capsys.readouterr().err
    assert "1 row of bad.jsonl cannot be read" in said and "line 3: it is not valid JSON" in said
    assert "--skip-unreadable" in said
    assert main([*argv(place, verb, "bad.jsonl", "other"), "--skip-unreadable"]) == 0


def test_a_trace_of_a_file_does_not_pass_over_its_first_row(place, capsys):
    (place / "first.jsonl").write_text("not JSON\n" + json.dumps(ROWS[1]) + "\n")
    assert main(argv(place, "trace", "first.jsonl")) != 0
    assert "line 1: it is not valid JSON" in capsys.readouterr().err


def test_known_answers_in_words_are_said_before_an_evaluation_starts(place, capsys):
    assert main(argv(place, "evaluate", "good.jsonl")) == 0
    said = capsys.readouterr().err
    assert "1 of 2 known answers is neither number, option nor formula (“three apples or so”)" in said
    assert "1 of 2" in json.loads((place / "run" / "run.json").read_text())["about"]["answers"]


def test_the_turns_before_a_question_are_in_every_prompt_and_in_what_is_stored(place, capsys):
    """A conversation and its last question alone are two problems, not one twice."""
    loaded = load_model(str(place / "expert"), Settings(device="cpu", dtype="float32"))
    context = tuple(TURNS[:-1])
    asked = prompt_ids(loaded, TURNS[-1][1], context=context)
    text = loaded.tokenizer.decode(asked)
    assert [text.index(part) for _, part in TURNS] == sorted(text.index(part) for _, part in TURNS)
    assert "Please reason step by step" not in text
    assert main(argv(place, "sample", "good.jsonl")) == 0
    found = {row["problem_id"]: row for row in rows(place / "run")}
    assert found["talk"]["prompt_ids"] == asked and found["same"]["prompt_ids"] == prompt_ids(loaded, TURNS[-1][1])
    assert json.loads(found["talk"]["context"]) == [list(turn) for turn in context] and found["same"]["context"] is None
    capsys.readouterr()
    assert main(["export", "--run-dir", str(place / "run"), "--out", str(place / "s.jsonl"), "--format", "paper"]) != 0
    assert "holds conversations" in capsys.readouterr().err  # another program would ask without the turns
    assert main([*argv(place, "evaluate", "good.jsonl", "scores")]) == 0
    stored = {row["problem_id"]: row["context"] for row in read_rows(place / "scores", 0)}
    assert json.loads(stored["talk"])[0] == ["system", "Be brief."] and stored["same"] is None
    assert main([*argv(place, "trace", "good.jsonl"), "--json", str(place / "t.json")]) == 0
    assert json.loads((place / "t.json").read_text())["prompt_ids"] == asked


def test_a_template_that_refuses_the_turns_is_named(place, capsys):
    config = json.loads((place / "expert" / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% if messages|length > 1 %}{{ raise_exception('One turn only!') }}{% endif %}{{ messages[0].content }}"
    )
    (place / "expert" / "tokenizer_config.json").write_text(json.dumps(config))
    (place / "expert" / "chat_template.jinja").unlink(missing_ok=True)
    assert main(argv(place, "evaluate", "good.jsonl")) != 0
    said = capsys.readouterr().err
    assert "cannot render this conversation (One turn only!)" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_text_file_begins_after_its_mark(tmp_path, encoding):
    """The mark of UTF-8 was a part of the question, and UTF-16 was no text."""
    (tmp_path / "problem.txt").write_text("Combien coûte le café ?", encoding=encoding)
    options = argparse.Namespace(problem_file=str(tmp_path / "problem.txt"), skip_unreadable=False)
    assert read_problem(options) == ("Combien coûte le café ?", ())
