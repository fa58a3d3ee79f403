"""Files as Excel, pandas, Spark and PowerShell write them: read as meant, or refused with the line."""

from __future__ import annotations

import csv
import datetime
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.errors import UserError
from lightreasoner.problems.stream import load_file, open_problems

ROWS = [("a, b", 'He said "one", then?', "2"), ("b", "Two\nlines; \\frac{1}{2}?", "1.5"), ("c", "ü", "7")]
FRAME = pd.DataFrame(ROWS, columns=["id", "question", "answer"])
PAIRS = [(question, answer) for _, question, answer in ROWS]


def pairs(path):
    found = load_file(path)
    assert found.skipped == []
    return [(problem.question, problem.answer) for problem in found.problems]


@pytest.mark.parametrize("orient", ["columns", "records", "index", "split", "table"])
@pytest.mark.parametrize("indent", [None, 2])
def test_every_orient_of_to_json(tmp_path, orient, indent):
    """orient="columns" is the default of pandas; its file was one problem whose question was an object."""
    FRAME.to_json(tmp_path / "p.json", orient=orient, indent=indent)
    assert pairs(tmp_path / "p.json") == PAIRS
    FRAME.iloc[:1].to_json(tmp_path / "one.json", orient=orient, indent=indent)
    assert pairs(tmp_path / "one.json") == PAIRS[:1]


def test_other_tables_in_json(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(FRAME.to_dict("list")))
    assert pairs(path) == PAIRS
    FRAME.to_json(path, orient="records", lines=True)
    assert pairs(path) == PAIRS
    FRAME.to_json(path, orient="values")
    with pytest.raises(UserError, match="row 1: it is not an object with named columns"):
        load_file(path)
    path.write_text('{"question": ["a", "b"], "answer": ["1"]}')
    with pytest.raises(UserError, match="columns of different length"):
        load_file(path)
    path.write_text('{"train": [{"question": "a"}], "test": [{"question": "b"}]}')
    with pytest.raises(UserError, match=r"several lists of problems \(train and test\); save one"):
        load_file(path)  # the second was left out without a word
    path.write_text('{"question": "a", "answer": "1", "answer": "2"}\n{"question": "b"}\n')
    assert load_file(path).skipped == [(1, "it names 'answer' twice in one object")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index.csv", {}),
        ("plain.csv", {"index": False}),
        ("quoted.csv", {"index": False, "quoting": csv.QUOTE_ALL}),
        ("german.csv", {"index": False, "sep": ";", "decimal": ","}),
        ("tabs.tsv", {"index": False, "sep": "\t"}),
        ("pipes.csv", {"index": False, "sep": "|"}),
        ("bom.csv", {"index": False, "encoding": "utf-8-sig"}),
        ("wide.csv", {"index": False, "encoding": "utf-16"}),
        ("Unicode text.txt", {"index": False, "encoding": "utf-16", "sep": "\t", "lineterminator": "\r\n"}),
        ("windows.csv", {"index": False, "lineterminator": "\r\n"}),
        ("escaped.csv", {"index": False, "escapechar": "\\", "doublequote": False}),
    ],
)
def test_to_csv_with_its_options(tmp_path, name, options):
    FRAME.to_csv(tmp_path / name, **options)
    assert pairs(tmp_path / name) == [(q.replace("\r\n", "\n"), a) for q, a in PAIRS]


@pytest.mark.parametrize("mark", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_excels_sep_line_is_no_header(tmp_path, mark, encoding):
    """The line was the header, and no row was a problem."""
    text = f'{mark}\r\nid;question;answer\r\n1;"a; b, c, d?";3\r\n;;\r\n2;two?;4\r\n;;\r\n'
    (tmp_path / "p.csv").write_bytes(text.encode(encoding))
    assert pairs(tmp_path / "p.csv") == [("a; b, c, d?", "3"), ("two?", "4")]


def test_powershell_writes_json_lines_as_utf16(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes("".join(json.dumps({"question": q, "answer": a}) + "\r\n" for q, a in PAIRS).encode("utf-16"))
    assert pairs(path) == PAIRS


def test_spark_escapes_quotes_with_a_backslash(tmp_path):
    r"""The cell "He said \"one\", then" was cut at its first quote, and its answer was lost."""
    path = tmp_path / "part-00000.csv"
    lines = [
        "question,answer",
        r'"He said \"one\", then?",2',
        r'"Is \\frac{1}{2}, \"half\"?",0.5',  # Spark doubles backslashes in quoted cells
        r"Is \frac{1}{2} half?,1",
        r'"say \"\"",3',
    ]
    path.write_text("\n".join(lines) + "\n")
    assert pairs(path) == [
        ('He said "one", then?', "2"),
        (r'Is \frac{1}{2}, "half"?', "0.5"),
        (r"Is \frac{1}{2} half?", "1"),
        ('say ""', "3"),
    ]
    lines[2] = r'"Is \frac{1}{2}, \"half\"?",0.5'  # other programs do not
    path.write_text("\n".join(lines) + "\n")
    assert pairs(path)[1] == (r'Is \frac{1}{2}, "half"?', "0.5")


def test_latex_in_ordinary_csv_keeps_its_backslashes(tmp_path):
    rows = [("a \\\\ b, \\quad", "1"), ("ends, with \\", "2"), ('"quoted", \\"x\\"', "3"), ("\\frac12", "4")]
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(tmp_path / "p.csv", index=False)
    assert pairs(tmp_path / "p.csv") == rows


def test_decimal_commas_of_a_file_with_semicolons(tmp_path):
    path = tmp_path / "p.csv"

    def answers(*values, delimiter=";"):
        path.write_text(f"question{delimiter}answer\n" + "".join(f"{n}?{delimiter}{v}\n" for n, v in enumerate(values)))
        found = load_file(path)
        return [problem.answer for problem in found.problems], found.skipped

    assert answers("3,5", "1.234,5", "7", "-0,25", "1.234") == (["3.5", "1234.5", "7", "-0.25", "1234"], [])
    assert answers("3.5", "1,234.5", "2,3") == (["3.5", "1,234.5", "2,3"], [])  # decimal points; 2,3 is a list
    kept, skipped = answers("1,234", "7")
    assert kept == ["7"] and skipped == [(2, "its answer 1,234 can be 1234 or 1.234; write it without a comma")]
    assert answers('"3,5"', "7", delimiter=",") == (["3,5", "7"], [])


def test_rows_of_csv_that_break_off_are_refused_with_their_line_and_so_is_their_other_half(tmp_path):
    """Half a question was taken for a question, and its second half for another one."""
    path = tmp_path / "p.csv"
    path.write_text('question,answer\nfine?,1\nWhat is\n2 + 2?,4\nfine, too?,3,\n"open,5\nlast?,6\n')
    found = load_file(path)
    assert [problem.question for problem in found.problems] == ["fine?"]
    assert [line for line, _ in found.skipped] == [3, 4, 5, 6, 7]
    assert "1 cell for 2 columns" in found.skipped[0][1] and "other half" in found.skipped[1][1]


def test_the_line_of_a_row_is_its_first(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('question,answer\n"two\nlines",1\n"",2\n')
    assert load_file(path).skipped == [(4, "its question is blank")]


@pytest.mark.parametrize("error", ["#NAME?", "#REF!", "#DIV/0!", "#N/A"])
def test_a_formulas_error_in_place_of_a_value_is_refused(tmp_path, error):
    """Excel saves #NAME? for an answer such as -x, which it takes for a formula."""
    path = tmp_path / "p.csv"
    path.write_text(f"question,answer\nfine?,1\n1 - x?,{error}\n{error},3\n")
    found = load_file(path)
    assert [p.question for p in found.problems] == ["fine?"] and [line for line, _ in found.skipped] == [3, 4]
    assert all(error in reason for _, reason in found.skipped)


def test_two_columns_with_one_name(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("question,Answer,answer\nq,1,2\n")
    with pytest.raises(UserError, match="two of its columns are named answer; rename one"):
        load_file(path)
    (tmp_path / "p.jsonl").write_text('{"question": "q", "Answer": 1, "answer": 2}\n{"question": "r"}\n')
    assert "two columns named Answer and answer" in load_file(tmp_path / "p.jsonl").skipped[0][1]
    table = pa.Table.from_arrays([pa.array(["q"]), pa.array(["1"]), pa.array(["2"])], ["question", "answer", "answer"])
    pq.write_table(table, tmp_path / "p.parquet")  # the last was taken
    with pytest.raises(UserError, match="two of its columns are named answer; rename one"):
        load_file(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [
        ("p.xlsx", b"PK\x03\x04", "Excel workbook"),
        ("p.jsonl.gz", b"\x1f\x8b\x08", "gzip"),
        ("p.xls", b"\xd0\xcf\x11\xe0", "old Excel workbook"),
    ],
)
def test_packed_files_are_named(tmp_path, name, start, words):
    (tmp_path / name).write_bytes(start + b"\0" * 50)
    with pytest.raises(UserError, match=words):
        load_file(tmp_path / name)


def test_the_rest_of_a_file_is_used_only_after_the_user_says_so(tmp_path):
    """Rows that could not be read were left out of evaluations without asking."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "1?", "answer": 1}\nnot JSON\n{"question": ""}\n{"question": "2?", "answer": 2}\n')
    with pytest.raises(UserError) as error:
        list(open_problems(str(path), skip_unreadable=False))
    message = str(error.value)
    assert message.startswith("2 rows of p.jsonl cannot be read without guessing: line 2: it is not valid JSON")
    assert "line 3: its question is blank" in message and "--skip-unreadable" in message and "other 2 rows" in message
    assert len(list(open_problems(str(path), skip_unreadable=True))) == 2
    assert len(list(open_problems(str(path), skip_unreadable=False, limit=1))) == 1


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answers": {"text": ["Bob", "Bob B"], "answer_start": [1, 1]}}, "Bob"),  # SQuAD
        ({"answer": {"value": "Bob", "aliases": ["Bob B"]}}, "Bob"),  # TriviaQA
        ({"Best Answer": "Nothing", "Incorrect Answers": "You die; You fly"}, "Nothing"),  # TruthfulQA
        ({"answer": datetime.datetime(2020, 7, 4)}, "2020-07-04"),
        ({"answer": datetime.timedelta(seconds=90)}, "0:01:30"),
        ({"answer": [{"value": "7", "unit": "cm"}]}, "7"),
        ({"answer": b"7"}, "7"),
        ({"answer": 7, "image": b"\xff\xd8"}, "7"),
    ],
)
def test_an_answer_in_a_layout_of_its_own_is_not_left_out(tmp_path, row, answer):
    """Such rows were problems without a known answer, and text in bytes was "a number"."""
    pd.DataFrame([{"question": b"Who?"} | row]).to_parquet(tmp_path / "p.parquet")
    assert pairs(tmp_path / "p.parquet") == [("Who?", answer)]


def test_a_file_that_another_was_appended_to(tmp_path):
    """The header of the second was a problem, and its mark a part of the question."""
    path = tmp_path / "both.csv"
    path.write_bytes(2 * "\ufeffquestion,answer\nWhat is 2 + 2?,4\n".encode() + "\ufeffWhy?,5\n\u200b,6\n".encode())
    found = load_file(path)
    assert [problem.question for problem in found.problems] == ["What is 2 + 2?", "What is 2 + 2?", "Why?"]
    assert [reason for _, reason in found.skipped] == ["it repeats the names of the columns", "its question is blank"]
