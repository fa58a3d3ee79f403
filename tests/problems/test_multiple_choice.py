"""Multiple choice in every published layout: the choices are shown, the gold is the option, or the row is refused."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from lightreasoner.problems.cells import written_value
from lightreasoner.problems.multiple_choice import digit_meanings
from lightreasoner.problems.stream import ProblemStream, load_file

TEXTS = ["Mars", "Jupiter, the largest", "It's Earth", 'the "red" one']
SHOWN = '\n(A) Mars\n(B) Jupiter, the largest\n(C) It\'s Earth\n(D) the "red" one'
LETTERS = ["A", "B", "C", "D"]
PAIRS = [{"label": label, "text": text} for label, text in zip(LETTERS, TEXTS, strict=True)]
Q = "Which planet?"


def read(rows):
    """(problems, skipped) of rows of columns."""
    result = ProblemStream(enumerate(rows, 1), meanings=lambda: digit_meanings(rows), title="rows").read_all()
    return result.problems, result.skipped


LAYOUTS = {
    "ARC, Hub": {"id": "x", "question": Q, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "C"},
    "ARC with digits": {"question": Q, "choices": {"text": TEXTS, "label": ["1", "2", "3", "4"]}, "answerKey": "3"},
    "ARC with numbers": {"question": Q, "choices": {"text": TEXTS, "label": [1, 2, 3, 4]}, "answerKey": 3},
    "ARC, published": {"id": "x", "question": {"stem": Q, "choices": PAIRS}, "answerKey": "C"},
    "ARC, published, digits": {
        "question": {"stem": Q, "choices": [{"text": t, "label": str(n + 1)} for n, t in enumerate(TEXTS)]},
        "answerKey": "3",
    },
    "OpenBookQA": {"question_stem": Q, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "C"},
    "CommonsenseQA": {"question": {"question_concept": "planet", "choices": PAIRS, "stem": Q}, "answerKey": "C"},
    "MMLU": {"question": Q, "choices": TEXTS, "subject": "astronomy", "answer": 2},
    "MMLU, columns": {"Question": Q} | dict(zip(LETTERS, TEXTS, strict=True)) | {"Answer": "C"},
    "MMLU-Pro": {"question": Q, "options": TEXTS, "answer": "C", "answer_index": 2},
    "MedQA": {"question": Q, "options": dict(zip(LETTERS, TEXTS, strict=True)), "answer": TEXTS[2], "answer_idx": "C"},
    "AQuA": {
        "question": Q,
        "options": [f"{x}){t}" for x, t in zip(LETTERS, TEXTS, strict=True)],
        "correct": "C",
        "rationale": "Look.",
    },
    "AGIEval": {
        "passage": None,
        "question": Q,
        "options": [f"({x}){t}" for x, t in zip(LETTERS, TEXTS, strict=True)],
        "label": "C",
    },
    "lines with labels": {
        "question": Q,
        "options": "\n".join(f"{x}. {t}" for x, t in zip(LETTERS, TEXTS, strict=True)),
        "answer": "C. It's Earth",
    },
    "HellaSwag": {"ctx": Q, "endings": TEXTS, "label": "2"},
    "option_a": {"question": Q}
    | {f"option_{x.lower()}": t for x, t in zip(LETTERS, TEXTS, strict=True)}
    | {"answer": "c"},
    "optionA": {"question": Q}
    | {f"option{x}": t for x, t in zip(LETTERS, TEXTS, strict=True)}
    | {"correct": "optionC"},
    "option1": {"sentence": Q} | {f"option{n + 1}": t for n, t in enumerate(TEXTS)} | {"answer": "option3"},
    "Cosmos": {"context": "", "question": Q} | {f"answer{n}": t for n, t in enumerate(TEXTS)} | {"label": TEXTS[2]},
    "flags": {"question": Q, "options": [{"option": t, "is_correct": n == 2} for n, t in enumerate(TEXTS)]},
    "TruthfulQA": {"question": Q, "mc1_targets": {"choices": TEXTS, "labels": [0, 0, 1, 0]}},
    "one key each": {"question": Q, "options": [{x: t} for x, t in zip(LETTERS, TEXTS, strict=True)], "answer": "(C)"},
    "json_normalize": {"question.stem": Q, "choices.text": TEXTS, "choices.label": LETTERS, "answerKey": "C"},
    "Parquet's map": {"question": Q, "options": list(zip(LETTERS, TEXTS, strict=True)), "answer": "C"},
    "ReClor": {"context": "", "question": Q, "answers": TEXTS, "label": 2},
    "an answer in a list": {"question": Q, "choices": TEXTS, "answer": ["It's Earth"]},
    "boxed letter": {"problem": Q, "options": TEXTS, "solution": "Hence \\boxed{C}."},
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv", "csv of Parquet"])
def test_published_layouts_show_the_choices_and_their_gold_is_the_option(tmp_path, row, kind):
    """ARC showed two nonsense choices and no gold; MMLU's CSV hid the choices and took the index for the answer."""
    path = tmp_path / f"rows.{kind.split()[0]}"
    frame = pd.DataFrame([row, row | {"id": "again"}])
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for _ in range(2)))
    elif kind == "json":
        path.write_text(json.dumps([row, row]))
    else:
        if kind != "csv":
            frame.to_parquet(tmp_path / "rows.parquet")
            frame = pd.read_parquet(tmp_path / "rows.parquet")  # now the cells are numpy arrays
        if kind != "parquet":
            frame.to_csv(path, index=False)
    found = load_file(path)
    assert found.skipped == []
    assert [problem.question for problem in found.problems] == [Q + SHOWN] * 2
    assert [problem.answer for problem in found.problems] == ["C", "C"]


def test_mathqa_and_columns_of_wrong_answers():
    math = {"Problem": "How much?", "options": "a ) 1,200 , b ) 27.675 , c ) 30 , d ) none of these", "correct": "b"}
    problems, _ = read([math])
    assert problems[0].question == "How much?\n(A) 1,200\n(B) 27.675\n(C) 30\n(D) none of these"
    assert problems[0].answer == "B"
    sciq = {
        "question": Q,
        "distractor1": "Venus",
        "distractor2": "Io",
        "distractor3": "Pluto",
        "correct_answer": "Mars",
    }
    gpqa = {"Question": Q, "Correct Answer": "Mars", "Incorrect Answer 1": "Io", "Incorrect Answer 2": "Venus"}
    trivia = {"question": Q, "correct_answer": "Mars", "incorrect_answers": ["Io", "Venus"]}
    problems, _ = read([sciq, gpqa, trivia])
    assert [p.answer for p in problems] == ["B", "B", "B"]
    assert problems[0].question == Q + "\n(A) Io\n(B) Mars\n(C) Pluto\n(D) Venus"


def test_mmlu_files_without_a_header(tmp_path):
    path = tmp_path / "astronomy_test.csv"
    path.write_text('"Which is prime, then?",4,6,2,9,C\nWhich is odd?,4,5,2,8,B\n')
    assert [(p.question, p.answer) for p in load_file(path).problems] == [
        ("Which is prime, then?\n(A) 4\n(B) 6\n(C) 2\n(D) 9", "C"),
        ("Which is odd?\n(A) 4\n(B) 5\n(C) 2\n(D) 8", "B"),
    ]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 1, 2], "ABC"),  # from 0: one of them is 0
        (["1", "2", "3"], "ABC"),  # from 1: one of them is 3, and none 0
        ([2, 3, 3, 1], "BCCA"),
        ([2.0, 0.0], "CA"),
        (["-1", "0"], [None, "A"]),  # a test set without answers
    ],
)
def test_the_whole_file_tells_whether_positions_count_from_0_or_from_1(answers, expected):
    """SocialIQA and WinoGrande count from 1, PIQA and HellaSwag from 0."""
    rows = [{"question": f"{Q} {n}", "options": ["x", "y", "z"], "label": answer} for n, answer in enumerate(answers)]
    problems, skipped = read(rows)
    assert [problem.answer for problem in problems] == [*expected] and skipped == []
    columns = [
        {"context": "", "question": row["question"], "answerA": "x", "answerB": "y", "answerC": "z"} for row in rows
    ]
    problems, skipped = read([a | {"label": b["label"]} for a, b in zip(columns, rows, strict=True)])
    assert [problem.answer for problem in problems] == [*expected] and skipped == []


def test_numbers_as_choices_are_told_from_positions_by_the_whole_file():
    rows = [
        {"question": f"{n}?", "options": ["1", "2", "3", "10"], "answer": answer} for n, answer in enumerate([1, 10])
    ]
    assert [problem.answer for problem in read(rows)[0]] == ["A", "D"]  # 10 is no position
    rows = [
        {"question": f"{n}?", "options": ["1", "2", "3", "10"], "answer": answer} for n, answer in enumerate([1, 0])
    ]
    assert [problem.answer for problem in read(rows)[0]] == ["B", "A"]  # 0 is no choice


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": TEXTS, "answer": "Pluto"}, "its answer is none of its 4 choices"),
        ({"choices": TEXTS, "answer": 7}, "its answer is none of its 4 choices"),
        ({"choices": TEXTS, "answer": ["A", "C"]}, "its answer names several choices"),
        ({"choices": TEXTS, "answer": "A, C"}, "its answer names several choices"),
        ({"choices": TEXTS, "answer": "AC"}, "its answer names several choices"),
        ({"choices": TEXTS, "answer": "A", "label": "B"}, "its answer and its label name different choices"),
        ({"choices": ["B", "A"], "answer": "A"}, "its answer fits more than one of its choices"),
        ({"choices": ["x", "x", "y"], "answer": "x"}, "its answer fits more than one of its choices"),
        ({"choices": ["x"], "answer": "x"}, "it has a single choice"),
        ({"choices": ["x", "", "y"], "answer": "x"}, "one of its choices is empty"),
        ({"choices": {"text": ["x", "y"], "label": ["A"]}, "answer": "A"}, "its choices have 2 texts and 1 labels"),
        ({"choices": "Paris or London", "answer": "Paris"}, "text that cannot be split"),
        ({"choices": "[Paris, London]", "answer": "Paris"}, "text that cannot be split"),  # DuckDB writes lists so
        ({"choices": "['Paris' 'London' ... 'Rome']", "answer": "Paris"}, "abbreviated"),
        ({"option1": "x", "option2": "y", "answer": "1"}, "can mean"),
        ({"choices": ["1", "2", "3"], "answer": 1}, "can mean its text or positions"),
        ({"choices": [str(n) for n in range(27)], "answer": "x"}, "at most 26"),
        # the letter was left out of account where a choice itself says that it is the right one
        (
            {"choices": [{"text": "x", "correct": True}, {"text": "y", "correct": False}], "answer": "B"},
            "its answer and its choices name different choices",
        ),
    ],
)
def test_a_row_whose_option_would_be_a_guess_is_refused(row, reason):
    problems, skipped = read([{"question": Q} | row, {"question": "fine"}])
    assert [problem.question for problem in problems] == ["fine"]
    assert reason in skipped[0][1], skipped


@pytest.mark.parametrize(
    ("row", "shown", "answer"),
    [
        # “B” was the second of these, whatever letter it has
        ({"choices": ["B. 4", "A. 3"], "answer": "B"}, "\n(B) 4\n(A) 3", "B"),
        # it was split within its first line
        ({"options": "A. see B. Franklin\nB. 4", "answer": "B"}, "\n(A) see B. Franklin\n(B) 4", "B"),
        ({"choices": ["A、3", "B．4"], "answer": "B"}, "\n(A) 3\n(B) 4", "B"),
        # it had no choices, and no answer
        ({"answers": [{"text": "3", "isCorrect": False}, {"text": "4", "isCorrect": True}]}, "\n(A) 3\n(B) 4", "B"),
    ],
)
def test_letters_before_choices_are_theirs_and_flags_tell_the_right_one(row, shown, answer):
    problems, skipped = read([{"question": Q} | row])
    assert skipped == [] and (problems[0].question, problems[0].answer) == (Q + shown, answer)


def test_columns_that_are_no_choices():
    """The coefficients of an equation, the answers of two people, an open question in a mixed set."""
    rows = [
        {"question": "Solve.", "a": 1, "b": 2, "c": 3, "answer": "5"},
        {"question": "Who?", "answer_a": "me", "answer_b": "you"},
        {"question": "How many?", "options": None, "answer": "5"},
        {"question": "How many now?", "options": [], "answer": "5"},
        {"question": "How many then?", "A": "", "B": None, "answer": "5"},
        {"question": "Which?\n(A) one\n(B) two", "target": "(B)"},
    ]
    problems, skipped = read(rows)
    assert skipped == [] and [p.question for p in problems] == [row["question"] for row in rows]
    assert [p.answer for p in problems] == ["5", None, "5", "5", "5", "(B)"]


def test_choices_that_the_question_lists_already_are_not_listed_twice():
    problems, _ = read([{"question": "Which?\n(A) one\n(B) two", "choices": ["one", "two"], "answer": 1}])
    assert (problems[0].question, problems[0].answer) == ("Which?\n(A) one\n(B) two", "B")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['4' '6'\n '2']", ["4", "6", "2"]),  # numpy; Python alone would read "462"
        ("""['It\\'s' "x's" 'a']""", ["It's", "x's", "a"]),
        ("[1 -2 3.5]", [1, -2, 3.5]),
        ("[1, -2]", [1, -2]),
        (
            "{'text': array(['a', 'b'], dtype=object), 'label': array(['A', 'B'], dtype=object)}",
            {"text": ["a", "b"], "label": ["A", "B"]},
        ),
        ("[np.str_('a'), np.int64(2), None, nan]", ["a", 2, None, None]),
        ("[{'a': 'x'}\n {'a': 'y'}]", [{"a": "x"}, {"a": "y"}]),
        ("OrderedDict([('a', 1)])", {"a": 1}),
        ('["a", null, true]', ["a", None, True]),
    ],
)
def test_values_that_cells_write_down(text, value):
    assert written_value(text) == value


@pytest.mark.parametrize(
    "text", ["[a, b]", "['a'", "__import__('os').system('true')", "[x for x in 'a']", "(" * 9000, "[1 - 2]"]
)
def test_other_cells_are_no_values(text):
    with pytest.raises(ValueError, match="neither JSON nor a Python literal"):
        written_value(text)
