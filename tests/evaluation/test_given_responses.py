"""Grading a file of responses without any model."""

from __future__ import annotations

import json

import pytest

from lightreasoner.cli.main import main
from lightreasoner.evaluation.results import ResultsReader, read_results, read_rows, variants_of
from lightreasoner.evaluation.verdicts import regrade
from lightreasoner.storage.runs import read_run
from tests.support.tiny_models import save_tiny, tiny_tokenizer

PROBLEMS = [
    {"id": "a", "question": "What is 2 + 2?", "answer": "4"},
    {"id": "b", "question": "What is 3 + 3?", "answer": "6"},
    {"id": "c", "question": "What is 4 + 4?", "answer": "8"},
]


@pytest.fixture
def grade(tmp_path, monkeypatch, capsys):
    """grade(lines, *options): (exit status, standard output, standard error)."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("LIGHTREASONER_JOB", raising=False)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))

    def run(lines, *options, problems=problems):
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        argv = ["evaluate", "--responses", path, *(["--problems", problems] if problems else [])]
        status = main([str(word) for word in [*argv, "--run-dir", tmp_path / "run", *options]])
        return status, *capsys.readouterr()

    run.folder = tmp_path / "run"
    return run


def test_several_responses_to_some_problems_are_graded_without_a_model(grade):
    """Problems without a response are left out and counted, not judged wrong; lengths that nobody knows stay blank."""
    lines = [
        {"problem_id": "a", "response": "It is 4.", "model": "Far/Away-7B"},
        {"problem_id": "a", "response": "It is 5."},
        {"question": "What is 3 + 3?", "choices": [{"message": {"content": "So 6."}}, {"message": {"content": "6"}}]},
    ]
    status, out, err = grade(lines)
    assert status == 0, err
    assert "Far/Away-7B" in out and "75.0 %" in out and "Left out: 1 problem without a response in answers.jsonl" in out
    result = read_results(grade.folder)["models"][0]
    assert (result["problems"], result["samples"], result["responses"], result["mean_length"]) == (2, 2, 4, None)
    reader = ResultsReader(grade.folder, variants_of(read_run(grade.folder)))
    reader.refresh()
    assert reader.summaries()[0].pass_at_1 == 0.75 and reader.row(0, "b", 1)["response"] == "6"
    assert regrade(grade.folder) == []


def test_own_problems_and_token_ids(grade, tmp_path):
    """The answer is the problem's, never the one that the response itself ends with; ids need a tokenizer only."""
    lines = [{"question": "What is 2 + 2?", "answer": "4", "response": "So #### 5"}]
    assert grade(lines, problems=None)[0] == 0
    assert read_results(grade.folder)["models"][0]["right"] == 0

    tokenizer = tiny_tokenizer()
    ids = [*tokenizer("It is 6.", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    lines = [{"problem_id": "b", "token_ids": ids}]
    status, _, err = grade(lines, "--run-dir", tmp_path / "ids")
    assert status == 2 and "line 1: it has token ids and no text" in err and "--model" in err
    model = save_tiny(tmp_path / "model", seed=1, tokenizer=tokenizer)
    assert grade(lines, "--run-dir", tmp_path / "more", "--model", model)[0] == 0
    row = read_rows(tmp_path / "more", 0)[0]
    assert (row["response"], row["right"], row["finish_reason"]) == ("It is 6.", True, "stop")


@pytest.mark.parametrize(
    "lines, options, says",
    [
        ([{"problem_id": "z", "response": "4"}], [], "it answers a problem that problems.jsonl does not have"),
        ([{"problem_id": "a", "response": "4"}, {"problem_id": "a"}], [], "line 2: it has neither the text"),
        ([{"problem_id": "a", "response": "4"}], ["--limit", 0], "--limit"),
        ([{"problem_id": "c", "response": "8"}], ["--limit", 2], "None of the problems that answers.jsonl answers"),
    ],
)
def test_a_mistake_is_one_sentence(grade, lines, options, says):
    status, _, err = grade(lines, *options)
    assert status == 2 and says in err.splitlines()[-1] and "Traceback" not in err
