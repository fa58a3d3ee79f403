"""Each benchmark's own answers are graded right, and the next problem's answers wrong.

The rows are not ours to ship: LIGHTREASONER_TEST_ROWS names a folder that holds them as NAME/test.jsonl, in the layout
of the Qwen2.5-Math evaluation toolkit. Without it there is nothing to test here.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lightreasoner.grading.grading import answer_form, grade
from lightreasoner.problems.stream import load_file

ROWS = os.environ.get("LIGHTREASONER_TEST_ROWS", "")
BENCHMARKS = ("asdiv", "gsm8k", "math", "minerva_math", "mmlu_stem", "olympiadbench", "svamp")
SAID = {"choice": "So the answer is ({}).", "number": "The answer is {}.", "math": "Hence \\boxed{{{}}}."}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_answers_of_a_benchmark(benchmark):
    path = Path(ROWS or "/nonexistent") / benchmark / "test.jsonl"
    if not ROWS or not path.is_file():
        pytest.skip("LIGHTREASONER_TEST_ROWS names no folder that holds this benchmark")
    answers = [problem.answer for problem in load_file(path).problems if problem.answer]
    assert len(answers) > 20
    for answer in answers:
        assert grade(SAID[answer_form(answer)].format(answer), answer).right, answer
    others = [(a, b) for a, b in pairwise(answers) if a != b and answer_form(a) == answer_form(b)]
    taken = [(a, b) for a, b in others if grade(SAID[answer_form(b)].format(b), a).right]
    assert not taken
