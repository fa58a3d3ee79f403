"""Reading problems: every layout gives the right answer, and every kind of bad file one clear sentence."""

from __future__ import annotations

import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.errors import UserError
from lightreasoner.problems import files as problem_files
from lightreasoner.problems.rows import QUESTION, last_boxed
from lightreasoner.problems.sources import SOURCES, hub_rows
from lightreasoner.problems.stream import ProblemStream, load_file, load_problems


def write(path, content):
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, **limits):
    """The sentence a person gets for this file."""
    with pytest.raises(UserError) as error:
        load_file(path, **limits)
    assert "Traceback" not in str(error.value)
    return str(error.value)


def only(rows):
    """The one problem in rows of columns."""
    result = ProblemStream(enumerate(rows, 1), title="rows").read_all()
    assert result.skipped == []
    (problem,) = result.problems
    return problem, result.columns


# --- layouts: invented rows in the form that the Hub and the Qwen2.5-Math evaluation files use


def test_gsm8k_splits_the_answer_off_the_solution():
    text = "Each row has 9 * 12 = <<9*12=108>>108 tiles.\nAltogether 108 * 10 = 1,080.\n#### 1,080"
    problem, columns = only([{"question": "How many tiles?", "answer": text}])
    assert problem.answer == "1080"
    assert problem.solution.endswith("108 * 10 = 1,080.")
    assert columns == {"question": "question", "answer": "answer (after ####)", "solution": "answer"}


def test_svamp_joins_body_and_question_and_writes_whole_numbers_as_such():
    row = {"ID": "chal-9", "Body": "Kim has 12 kites and flies 5", "Question": "How many are left?", "idx": 0}
    problem, columns = only([row | {"Answer": 7.0, "Equation": "( 12.0 - 5.0 )", "Type": "Subtraction"}])
    assert (problem.id, problem.question) == ("chal-9", "Kim has 12 kites and flies 5. How many are left?")
    assert problem.answer == "7"
    assert columns["question"] == "Body + Question"
    hub, _ = only([row | {"Answer": "7.0", "question_concat": "(another wording)"}])  # the Hub has text there
    assert (hub.question, hub.answer) == (problem.question, "7")
    assert only([row | {"Answer": 0.5}])[0].answer == "0.5"


def test_asdiv_takes_the_unit_off_and_skips_several_answers():
    row = {
        "body": "A box holds 3 pens and 6 caps.",
        "question": "How many things is that?",
        "formula": "3+6=9",
        "idx": 4,
    }
    problem, _ = only([row | {"answer": "9 (things)", "solution_type": "Addition"}])
    assert (problem.answer, problem.solution, problem.id) == ("9", None, "4")
    assert only([row | {"answer": "9 (things (in all))"}])[0].answer == "9"
    assert only([row | {"answer": "Mr. Oak"}])[0].answer == "Mr. Oak"
    both = [row | {"answer": "9 (things)"}, row | {"answer": "3 (pens); 6 (caps)", "idx": 5}]
    result = ProblemStream(enumerate(both, 1), title="rows").read_all()
    assert result.skipped == [(2, "it asks for several answers at once")]


def test_math_and_minerva_find_the_boxed_answer_with_its_inner_braces():
    solution = r"So $x = \boxed{\frac{1}{2}}$ or rather \[\boxed{\left\{\frac{\sqrt{3}}{4}\right\}}.\]"
    problem, columns = only([{"problem": "Find $x$.", "solution": solution, "level": "Level 3", "type": "Algebra"}])
    assert problem.answer == r"\left\{\frac{\sqrt{3}}{4}\right\}"
    assert problem.solution == solution
    assert columns["answer"] == "solution (\\boxed)"
    row = {
        "problem": "Find $x$.",
        "solution": r"It is \boxed{0.50}.",
        "answer": "0.5",
        "unique_id": "test/algebra/7.json",
    }
    problem, columns = only([row])  # MATH-500 has the answer in a column as well, and ids with slashes
    assert (problem.answer, problem.id, columns["answer"]) == ("0.5", "test-algebra-7.json", "answer")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{a} then \boxed{b}", "b"),
        (r"$\boxed 5$.", "5"),
        (r"\fbox{1{2}3}", "1{2}3"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\boxed{\begin{matrix}1\\{2}\end{matrix}}", r"\begin{matrix}1\\{2}\end{matrix}"),
        (r"\boxed{never closed", None),
        (r"\boxed", None),
        ("no box", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_olympiadbench_joins_values_and_puts_the_context_first():
    row = {"id": 2001, "context": None, "question": "Find all $k$.", "solution": ["First.", "Second."], "unit": None}
    problem, _ = only([row | {"final_answer": ["$k=1$, $k=2^{3}$"], "is_multiple_answer": True}])
    assert (problem.id, problem.answer, problem.solution) == ("2001", "k=1, k=2^{3}", "First.\n\nSecond.")
    problem, columns = only([row | {"context": "Let $n$ be odd.", "final_answer": ["69", "84"]}])
    assert (problem.question, problem.answer) == ("Let $n$ be odd.\nFind all $k$.", "69, 84")
    assert columns["question"] == "context + question"


def test_mmlu_letters_the_choices_and_turns_the_position_into_a_letter():
    row = {"question": "Which is prime?", "choices": ["4", "6", "2", "9"], "subject": "number_theory"}
    problem, columns = only([row | {"answer": 2}])
    assert problem.question == "Which is prime?\n(A) 4\n(B) 6\n(C) 2\n(D) 9"
    assert problem.answer == "C"
    assert columns["question"] == "question + choices"
    assert [only([row | {"answer": given}])[0].answer for given in (0, "b", "(D)", "2", 3.0)] == [
        "A",
        "B",
        "D",
        "C",
        "D",
    ]


def test_bundled_problems_load_whole_and_do_not_overlap():
    train, test = load_problems("bundled-train"), load_problems("bundled-test")
    assert (len(train.problems), len(test.problems)) == (1000, 500)
    assert train.skipped == test.skipped == []
    assert not {p.question for p in train.problems} & {p.question for p in test.problems}
    assert all(p.answer and p.solution for p in train.problems + test.problems)
    assert [p.id for p in load_problems("bundled-train", limit=3).problems] == [
        "train-0000",
        "train-0001",
        "train-0002",
    ]


# --- files of one's own

ROWS = [
    {"id": "a", "Prompt": "1 + 1?", "target": 2, "rationale": "Count."},
    {"id": "b", "Prompt": "2 + 2?", "target": 4},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", ROWS),
        ("lines-named.json", ROWS),
        ("p.json", json.dumps(ROWS, indent=1)),
        ("array-named.jsonl", json.dumps(ROWS)),
        ("wrapped.json", json.dumps({"version": 1, "data": ROWS})),
        ("bom.jsonl", b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\r\n\r\n" for row in ROWS).encode()),
        ("p.csv", 'id,Prompt,target,rationale\na,1 + 1?,2,"Count."\nb,2 + 2?,4,\n'),
        ("excel.csv", b"\xef\xbb\xbfid;Prompt;target;rationale\r\na;1 + 1?;2;Count.\r\nb;2 + 2?;4;\r\n"),
        ("p.tsv", "id\tPrompt\ttarget\trationale\na\t1 + 1?\t2\tCount.\nb\t2 + 2?\t4\t\n"),
        ("no-ending", ROWS),
    ],
)
def test_every_kind_of_text_file_gives_the_same_problems(tmp_path, name, content):
    result = load_file(write(tmp_path / name, content))
    assert [(p.id, p.question, p.answer, p.solution) for p in result.problems] == [
        ("a", "1 + 1?", "2", "Count."),
        ("b", "2 + 2?", "4", None),
    ]
    assert result.columns == {"id": "id", "question": "Prompt", "answer": "target", "solution": "rationale"}
    assert (result.skipped, result.title) == ([], name)


@pytest.mark.parametrize("name", ["p.parquet", "parquet-named.csv"])
def test_parquet(tmp_path, name):
    rows = [
        {"question": "Half of 1?", "choices": ["0.5", "2"], "answer": 0},
        {"question": None, "choices": [], "answer": 1},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    result = load_file(tmp_path / name)
    assert [(p.question, p.answer) for p in result.problems] == [("Half of 1?\n(A) 0.5\n(B) 2", "A")]
    assert (result.skipped, result.unit) == ([(2, "its question is blank")], "row")


def test_ids_are_unique_stable_and_never_the_question(tmp_path):
    rows = [
        {"id": "7", "question": "What is 1?"},
        {"id": "7", "question": "What is 2?"},
        {"question": "What is 2?"},
        {"id": "What is 3?", "question": "What is 3?"},
        {"id": "x" * 500, "question": "What is 4?"},
        {"id": "../../etc/passwd", "question": "What is 5?"},
        {"id": float("nan"), "question": "What is 1?"},
    ]
    path = write(tmp_path / "p.jsonl", rows)
    ids = [p.id for p in load_file(path).problems]
    assert len(set(ids)) == len(rows)
    assert ids[0] == "7" and ids[2] == ids[1] + "-2"
    assert ids[3] != "What-is-3" and ids[5] == "etc-passwd"
    assert all("/" not in own and "?" not in own and 0 < len(own) <= 64 for own in ids)
    assert ids == [p.id for p in load_file(path).problems]
    for limit in range(1, len(rows)):  # raising the limit must not rename what was sampled before
        assert [p.id for p in load_file(path, limit=limit).problems] == ids[:limit]
    alone = load_file(write(tmp_path / "q.jsonl", rows[2:3])).problems[0].id
    assert alone == ids[1]  # the hash is of the question, not of the place in the file


def test_answers_that_are_no_answers_become_none():
    for given in (None, float("nan"), float("inf"), "", "  ", "NaN", {"a": 1}, []):
        assert only([{"question": "q", "answer": given}])[0].answer is None
    assert [only([{"question": "q", "answer": given}])[0].answer for given in (0, -3.5, True, 1e22)] == [
        *("0", "-3.5", "True", "1e+22")
    ]


def test_an_answer_at_the_end_of_a_solution_is_found_but_never_replaces_a_given_one():
    assert only([{"query": "q", "response": "So 4.\n#### 4"}])[0].answer == "4"
    assert only([{"query": "q", "response": "So 4.\n#### 4", "answer": "four"}])[0].answer == "four"
    both, columns = only([{"query": "q", "answer": "So 4.\n#### 4", "response": "Count."}])
    assert (both.answer, both.solution) == ("4", "Count.")
    assert (columns["answer"], columns["solution"]) == ("answer (after ####)", "response")
    heading, _ = only([{"query": "q", "response": "#### Step 1\nIt is \\boxed{4}.\nDone."}])
    assert heading.answer == "4"
    bare, columns = only([{"query": "q", "answer": "$\\boxed{4}$"}])
    assert (bare.answer, bare.solution, "solution" in columns) == ("4", None, False)


def test_an_instruction_is_asked_together_with_its_input():
    assert only([{"instruction": "Add.", "input": "1, 2", "output": "3"}])[0].question == "Add.\n1, 2"
    assert only([{"instruction": "Add 1 and 2.", "input": "", "output": "3"}])[0].question == "Add 1 and 2."
    assert only([{"instruction": "Be brief.", "question": "1 + 2?"}])[0].question == "1 + 2?"


# --- rows that are no problems are counted, the rest loads


def test_bad_rows_are_counted_with_their_line(tmp_path):
    lines = [
        b'{"question": "good 1"}',
        b'{"question": "cut off',
        b"",
        b'["a list"]',
        b'{"question": "   "}',
        b'{"question": 12}',
        b'{"question": ["hi"]}',
        b'{"question": {"text": "hi"}}',
        b'{"title": "hi", "body": "there"}',
        b'{"question": "half a pair \\ud800"}',
        b'{"question": "zero \\u0000 byte"}',
        b'{"question": "raw zero \x00 byte"}',
        b'{"question": "fine", "solution": "\\udfff"}',
        b'{"question": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"question": "long number", "answer": ' + b"9" * 5000 + b"}",
        b'{"question": "' + b"x" * 20_001 + b'"}',
        b'{"question": "good 2", "extra": {"deep": [1, {"a": null}]}}',
    ]
    if sys.version_info >= (3, 12):  # the C parser there nests further
        lines[13] = b'{"question": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    result = load_file(write(tmp_path / "p.jsonl", b"\n".join(lines)))
    assert [p.question for p in result.problems] == ["good 1", "good 2"]
    assert [number for number, _ in result.skipped] == [2, *range(4, 17)]
    reasons = dict(result.skipped)
    assert "not valid JSON" in reasons[2] and "column" in reasons[2]
    assert reasons[4] == "it is not an object with named columns"
    assert reasons[5] == "its question is blank"
    assert reasons[6] == "its question is a number, not text"
    assert reasons[7] == "its question is a list, not text"
    assert reasons[8] == "its question is an object, not text"
    assert "columns: title, body" in reasons[9] and "accepted: question, problem" in reasons[9]
    assert reasons[10] == reasons[11] == "its question holds characters that are not text"
    assert reasons[13] == "its solution holds characters that are not text"
    assert "nested too deeply" in reasons[14] and "a number that is too long" in reasons[15]
    assert reasons[16] == "its question has 20,001 characters, over the limit of 20,000"
    assert all("cut off" not in reason and "hi" not in reason.split() for _, reason in result.skipped)  # no content


def test_csv_rows_whose_commas_have_no_quotes_are_skipped_not_cut(tmp_path):
    text = '\n\nquestion\n"If 1, then what?"\nIf 2, then what?\nplain\n'
    result = load_file(write(tmp_path / "p.csv", text))
    assert [p.question for p in result.problems] == ["If 1, then what?", "plain"]
    assert [(line, "quotes" in reason) for line, reason in result.skipped] == [(5, True)]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ('"notes; sources, etc.",answer,question\n-,2,1 + 1?\n', "1 + 1?"),
        ('question;answer\n"1,5 + 1,5, all in all?";3\n', "1,5 + 1,5, all in all?"),
        ('"id"\t"question"\n"7"\t"1, 2; 3?"\n', "1, 2; 3?"),
    ],
)
def test_the_delimiter_is_that_of_the_header(tmp_path, text, question):
    result = load_file(write(tmp_path / "p.csv", text))
    assert [p.question for p in result.problems] == [question] and not result.skipped


def test_csv_cells_beyond_what_the_reader_takes_are_skipped(tmp_path):
    result = load_file(write(tmp_path / "p.csv", "question,answer\n" + "x" * 140_000 + ",1\nq,2\n"))
    assert [p.answer for p in result.problems] == ["2"]
    assert "not valid CSV" in result.skipped[0][1]


# --- files that cannot be used at all: one sentence each


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", b"", "empty.jsonl is empty"),
        ("blank.csv", b" \n\r\n\t", "blank.csv is empty"),
        ("none.json", b"[]", "none.json holds no rows"),
        ("header.csv", b"question,answer\n", "header.csv holds no rows"),
        ("notes.docx", b"PK\x03\x04 some zip", "not a supported kind of file"),
        ("notes.txt", b"What is 1 + 1?", "use JSON lines (.jsonl)"),
        ("value.json", b'"just text"', "single JSON value"),
        ("config.json", b'{"lr": 0.1, "steps": 5}', "columns: lr, steps"),
        ("strings.json", b'["a", "b"]', "row 1: it is not an object with named columns"),
        ("broken.json", b'{\n "data": [\n {"question": 1,}\n]}', "line 3, column"),
        ("deep.json", b"[" * 100_000, "nested too deeply"),
        (
            "text.jsonl",
            b"What is 1 + 1?\nAnd 2?",
            "None of the 2 rows of text.jsonl is a problem; line 1: it is not valid",
        ),
        ("cols.csv", b"frage;antwort\n1 + 1?;2\n", "columns: frage, antwort; accepted: question, problem, prompt"),
        ("latin.jsonl", '{"question": "a"}\n{"question": "é"}\n'.encode("latin-1"), "byte 15 of line 2 is 0xE9"),
        ("latin.csv", "question\na\né\n".encode("latin-1"), "byte 1 of line 3 is 0xE9"),
        ("latin.json", b'\xef\xbb\xbf[\n"\xe9"]', "byte 2 of line 2 is 0xE9"),
        ("wide.csv", "question,answer\nq,1\n".encode("utf-16")[:-1], "UTF-16"),
        ("wide.jsonl", '{"question": "q"}'.encode("utf-16-le"), "zero bytes"),
        ("bad.parquet", b"PAR1 and then nothing of the sort", "damaged or not a Parquet file"),
        ("bad2.parquet", b"question,answer\n", "damaged or not a Parquet file"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(tmp_path, name, content, words):
    message = refused(write(tmp_path / name, content))
    assert words in message
    assert name in message and "\n" not in message and len(message) < 400


def test_a_parquet_file_that_was_cut_short(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"question": [f"{n}?" for n in range(5000)]}), path)
    whole = path.read_bytes()
    assert "damaged" in refused(write(path, whole[: len(whole) // 2]))
    middle = len(whole) // 3
    assert "damaged" in refused(write(path, whole[:middle] + b"\xff" * 2000 + whole[middle + 2000 :]))


def test_a_parquet_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    pq.write_table(pa.table({"question": ["q" * 10_000] * 100}), tmp_path / "p.parquet", use_dictionary=False)
    assert load_file(tmp_path / "p.parquet", limit=1).problems
    monkeypatch.setattr(problem_files, "MAX_UNPACKED", 500_000)
    assert "unpacks to" in refused(tmp_path / "p.parquet")


def test_what_is_no_file(tmp_path):
    assert "There is no file gone.jsonl" in refused(tmp_path / "gone.jsonl")
    assert f"{tmp_path.name} is a folder" in refused(tmp_path)
    assert "There is no file" in refused(tmp_path / ("n" * 5000))
    assert "There is no file" in refused(tmp_path / "a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in refused(tmp_path / "pipe")


def test_limits(tmp_path):
    path = write(tmp_path / "p.jsonl", [{"question": f"{n}?"} for n in range(50)])
    assert len(load_file(path, limit=7).problems) == 7
    assert len(load_file(path, limit=500).problems) == 50
    assert len(load_file(path, max_rows=50).problems) == 50
    assert "more than 49 rows" in refused(path, max_rows=49)
    assert len(load_file(path, limit=7, max_rows=49).problems) == 7
    assert "more than the limit of 0.0 MB" in refused(path, max_bytes=100)
    assert "at least 1" in refused(path, limit=0)
    assert "over the limit of 1" in refused(path, max_chars=1)


def test_json_lines_are_read_no_further_than_the_limit(tmp_path):
    path = write(tmp_path / "p.jsonl", b'{"question": "1?"}\n{"question": "2?"}\n\xff not text at all\n')
    assert len(load_file(path, limit=2).problems) == 2
    assert "line 3" in refused(path, limit=3)


def test_load_problems_names_what_it_knows(tmp_path):
    assert load_problems(str(write(tmp_path / "p.jsonl", ROWS))).title == "p.jsonl"
    for source in ("gsm9k", "", "no/such/file.jsonl", "x" * 10_000, "~nobody-here/p.jsonl", "a\0b"):
        with pytest.raises(UserError, match=r"neither a problem source .*gsm8k.* nor an existing file") as error:
            load_problems(source)
        assert len(str(error.value)) < 500
    with pytest.raises(UserError, match="a file and has no split"):
        load_problems(str(tmp_path / "p.jsonl"), split="test")
    with pytest.raises(UserError, match="GSM8K has no split 'validation'; it has test and train"):
        load_problems("gsm8k", split="validation")


# --- the Hub


def test_the_catalogue_is_complete():
    keys = "bundled-train bundled-test bundled-shifted gsm8k math math500 svamp asdiv minerva_math "
    keys += "olympiadbench mmlu_stem"
    assert list(SOURCES) == keys.split()
    for key, source in SOURCES.items():
        assert key == source.key and source.splits and source.license and source.description.endswith(".")
        assert (source.repo is None) == key.startswith("bundled") and (source.repo or "a/b").count("/") == 1
        assert any(name in source.columns.lower() for name in QUESTION)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The real `datasets`, with an empty cache of its own and a Hub that refuses every connection."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    return datasets


def cache_copy(datasets, directory, config, splits):
    """What `datasets` leaves behind after a download: one Arrow file a split and their description."""
    from datasets.arrow_writer import ArrowWriter

    directory = directory / config / "0.0.0" / "hash"
    directory.mkdir(parents=True)
    name = directory.parents[2].name.split("___")[1]
    for split, rows in splits.items():
        with ArrowWriter(path=str(directory / f"{name}-{split}.arrow")) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
    sizes = {s: {"name": s, "num_bytes": 1, "num_examples": len(r), "dataset_name": name} for s, r in splits.items()}
    features = datasets.Dataset.from_list(next(iter(splits.values()))).features
    datasets.DatasetInfo(
        features=features, dataset_name=name, config_name=config, version="0.0.0", splits=sizes
    ).write_to_directory(str(directory))


@pytest.mark.parametrize("key", ["gsm8k", "math"])
def test_no_connection_is_said_at_once(hub, key):
    with pytest.raises(UserError) as error:
        load_problems(key, limit=1)
    assert str(error.value) == (
        f"{SOURCES[key].title} could not be downloaded: no connection to 127.0.0.1. "
        "Connect, or load a file of your own."
    )
    assert hub.config.HF_HUB_OFFLINE is False  # the next try, with a connection, must be able to succeed


def test_offline_mode_is_named(hub, monkeypatch):
    monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="SVAMP could not be downloaded: HF_HUB_OFFLINE is set and there is no copy"):
        load_problems("svamp")
    assert hub.config.HF_HUB_OFFLINE is True


def test_a_copy_on_this_computer_needs_no_connection(hub, tmp_path):
    rows = {
        "train": [{"question": f"{n} + 1?", "answer": f"Add.\n#### {n + 1}"} for n in range(3)],
        "test": [{"question": "9 + 1?", "answer": "Add.\n#### 10"}],
    }
    cache_copy(hub, tmp_path / "cache" / "openai___gsm8k", "main", rows)
    result = load_problems("gsm8k", split="train", limit=2)
    assert (result.title, [p.answer for p in result.problems]) == ("GSM8K, train", ["1", "2"])
    assert [p.answer for p in load_problems("gsm8k").problems] == ["10"]
    assert len(load_problems("gsm8k", split="train+test").problems) == 4


def test_several_configs_are_read_in_turn(hub, tmp_path):
    for subject in SOURCES["math"].configs:
        rows = [
            {"problem": f"{subject} {n}", "solution": "\\boxed{1}"} for n in range(2 if subject == "geometry" else 1)
        ]
        cache_copy(hub, tmp_path / "cache" / "EleutherAI___hendrycks_math", subject, {"test": rows})
    questions = [p.question for p in load_problems("math").problems]
    assert questions == [*(f"{subject} 0" for subject in SOURCES["math"].configs), "geometry 1"]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("DatasetNotFoundError", "openai/gsm8k is no longer on the Hub, or needs a login; run hf auth login"),
        ("RuntimeError", r"could not be downloaded from openai/gsm8k \(RuntimeError: first line\)"),
    ],
)
def test_other_trouble_with_the_hub_is_one_sentence(hub, monkeypatch, raised, words):
    kind = getattr(hub.exceptions, raised, RuntimeError)

    def load_dataset(*_, **__):
        raise kind("first line\nsecond line")

    monkeypatch.setattr(hub, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=words):
        hub_rows(SOURCES["gsm8k"], "test")
