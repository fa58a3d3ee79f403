"""Files of many rows are indexed, not loaded: the first rows are read, and any other one alone.

Regression: 200,000 rows were read at most, each of them before anything was shown, which took 61 seconds for a million.
"""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.errors import UserError
from lightreasoner.problems import json_list, stream
from lightreasoner.problems import response_files as responses
from lightreasoner.problems.cells import UnusableRow
from lightreasoner.problems.files import STRIDE, file_rows
from lightreasoner.problems.response_files import KnownProblems
from lightreasoner.problems.row_index import row_index
from lightreasoner.problems.stream import MAX_BYTES, load_file, load_first, open_problems
from lightreasoner.settings import Settings
from ui.components import problem_form
from ui.components.form_values import describe_source, store_upload
from ui.components.problem_form import OWN_FILE, LargeFile, another_problem, choices_of, open_file, rest_box

ROWS = [{"id": f"r{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(1000)]
SETTINGS = Settings()


def write_lines(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_untidy_lines(path):
    """A byte order mark, Windows' line ends, blank lines also of wide spaces, no end of the last line."""
    lines = [json.dumps(row) + ("\r\n \r\n\u3000\n" if n % 7 == 0 else "\r\n") for n, row in enumerate(ROWS)]
    path.write_bytes(b"\xef\xbb\xbf\n" + "".join(lines).encode().rstrip() + b"\n  ")


def write_parquet(path, group=150):
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=group)


def write_csv(path, delimiter=",", decimal=".", bom=b"", end="\n"):
    """Every cell in quotes has line breaks, delimiters and quotes; some rows are empty."""
    text = delimiter.join(["id", "question", "answer"]) + end
    for n, row in enumerate(ROWS):
        question = f'"{row["question"]}{end}Say ""{n}""{delimiter} é"'
        text += (
            delimiter.join([row["id"], question, f"{n}{decimal}5"]) + end + (f"{end}{delimiter}{end}" * (n % 5 == 0))
        )
    path.write_bytes(bom + text.encode())


def write_wide(path, encoding, write=write_csv):
    """As PowerShell, Excel and Windows write text."""
    write(path)
    path.write_bytes(("\ufeff" + path.read_text("utf-8")).encode(encoding))


def write_spark(path, end="\n"):
    r"""Quotes within a cell as \", backslashes doubled, a line break in every third cell."""
    text = f"id,question,answer{end}"
    for n, row in enumerate(ROWS):
        text += rf'{row["id"]},"Say \"{n}\", é \\sqrt{{x}} {end * (n % 3 == 0)}, ""?",{n + 1}' + end
    path.write_bytes(text.encode())


KINDS = {
    "spark.csv": write_spark,
    "spark-windows.csv": lambda path: write_spark(path, "\r\n"),
    "utf-16.csv": lambda path: write_wide(path, "utf-16-le"),
    "utf-16.jsonl": lambda path: write_wide(path, "utf-16-be", write_lines),
    "utf-16-spark.csv": lambda path: write_wide(path, "utf-16-be", write_spark),
    "utf-32.csv": lambda path: write_wide(path, "utf-32-le"),
    "list.json": lambda path: path.write_text(json.dumps(ROWS)),
    "indented.json": lambda path: path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8-sig"),
    "utf-16.json": lambda path: path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), encoding="utf-16"),
    "p.jsonl": write_lines,
    "untidy.jsonl": write_untidy_lines,
    "p.csv": write_csv,
    "marked.csv": lambda path: write_csv(path, bom=b"\xef\xbb\xbf", end="\r\n"),
    "mac.csv": lambda path: write_csv(path, end="\r"),
    "german.csv": lambda path: write_csv(path, ";", ","),
    "tabs.tsv": lambda path: write_csv(path, "\t", ","),
    "p.parquet": write_parquet,
    "one-group.parquet": lambda path: write_parquet(path, 1000),
}


@pytest.fixture
def read_rows(monkeypatch):
    """The rows of which a problem was made."""
    read = []

    def counted(row, **options):
        read.append(row)
        return read_row(row, **options)

    read_row = stream.read_row
    monkeypatch.setattr(stream, "read_row", counted)
    return read


@pytest.mark.parametrize("name", KINDS)
def test_every_row_of_a_large_file_is_read_alone_as_it_is_read_among_all(tmp_path, name, read_rows):
    path = tmp_path / name
    KINDS[name](path)
    whole = load_file(path)
    assert len(whole.problems) == 1000 and whole.skipped == []
    if "spark" in name:
        assert whole.problems[1].question == r'Say "1", é \sqrt{x} , "?'
    del read_rows[:]
    found = load_first(path, first=100)
    assert len(read_rows) == 100 and found.problems == whole.problems[:100]
    assert (found.rows, found.unread.count, found.skipped) == (1000, 900, [])
    for n in (100, 127, 128, 149, 150, 151, 640, 999, *random.Random(0).sample(range(100, 1000), 20)):
        del read_rows[:]
        assert found.unread.problem(n - 100) == whole.problems[n]
        assert len(read_rows) == 1
    assert load_first(path, first=1000) == whole  # nothing is left: as any small file


def test_the_index_numbers_lines_as_an_editor_does_and_follows_the_file(tmp_path):
    path = tmp_path / "p.jsonl"
    write_untidy_lines(path)
    index = row_index(path, max_bytes=MAX_BYTES)
    numbers = [number for number, _ in index.rows_from(0)]
    for n in (0, 1, STRIDE - 1, STRIDE, 500, 999):
        assert [number for number, _ in index.rows_from(n)] == numbers[n:]
    assert row_index(path, max_bytes=MAX_BYTES) is index  # made once
    write_lines(path, ROWS[:10])
    assert row_index(path, max_bytes=MAX_BYTES).count == 10


def test_rows_that_cannot_be_read_are_named_with_their_line_when_they_are_reached(tmp_path, monkeypatch):
    path = tmp_path / "p.jsonl"
    write_lines(path)
    lines = path.read_text().splitlines()
    lines[4], lines[700] = '{"question": "cut', '{"question": ""}'
    path.write_text("\n".join(lines))
    found = load_first(path, first=100)
    assert found.unreadable().startswith("1 row of the first 100 rows of p.jsonl cannot be read") and found.rows == 1000
    with pytest.raises(UserError, match=r"line 701: its question is blank"):
        found.unread.problem(600)
    with pytest.raises(UserError, match=r"1 row of the first 100 rows of p.jsonl .* line 5"):
        load_first(path, first=100, skip_unreadable=False)
    assert load_first(path, first=3, skip_unreadable=False).problems
    with pytest.raises(UserError, match=r"None of the first 1 rows .* line 1: "):
        write_lines(path, [{"question": ""}, *ROWS])
        load_first(path, first=1)
    monkeypatch.setattr(problem_form.random, "randrange", lambda count: count - 1)
    path.write_text("\n".join([*lines, '{"question": ""}']))
    *unchanged, note = another_problem(LargeFile(load_first(path, first=100)))
    assert "line 1001: its question is blank" in note.replace("\\", "") and len(unchanged) == 3


def test_the_page_reads_the_first_rows_of_a_large_upload_and_draws_from_all(tmp_path, monkeypatch, read_rows):
    path = tmp_path / "p.jsonl"
    write_lines(path)
    monkeypatch.setattr(problem_form, "load_first", lambda *args, **options: load_first(*args, first=50, **options))
    monkeypatch.setattr("ui.components.form_values.load_first", problem_form.load_first)
    problems, *_, note = open_file(SETTINGS, str(path))
    assert note.replace("\\", "").startswith("50 problems in the first 50 of 1,000 rows: question from “question”")
    assert len(problems) == 1000 and len(choices_of(problems)) == len(read_rows) == 50
    monkeypatch.setattr(problem_form.random, "randrange", lambda count: 900)
    place, picked, question, note = another_problem(problems)
    assert (picked.id, question, len(read_rows)) == ("r900", "What is 900 + 1?", 51) and not isinstance(place, int)
    assert "Known answer: **901**" in note
    assert rest_box(SETTINGS, str(path)).visible  # a row that was not read may be unreadable
    said = describe_source(SETTINGS, OWN_FILE, str(path)).replace("\\", "")
    assert said.startswith("50 problems in the first 50 of 1,000 rows.") and "named if it cannot be" in said
    del read_rows[:]
    stored = store_upload(Settings(workspace=tmp_path / "workspace"), str(path))
    assert stored.read_bytes() == path.read_bytes() and len(read_rows) == 50


def test_how_a_large_file_counts_its_choices_is_told_by_rows_from_all_over_it(tmp_path, monkeypatch):
    """The first rows alone leave open whether 1 is the first choice or the second; a 0 far behind tells."""
    path = tmp_path / "p.jsonl"
    rows = [{"question": f"Which, {n}?", "choices": ["a", "b", "c"], "answer": 1 + n % 2} for n in range(900)]
    write_lines(path, [*rows, *[row | {"answer": 0} for row in rows[:100]]])
    monkeypatch.setattr(stream, "FIRST", 8 * STRIDE)
    monkeypatch.setattr(stream, "MAX_WHOLE", 900)
    found = load_first(path, first=10)
    assert found.problems[0].answer == "B" and found.unread.problem(0).answer == "B"


def test_a_limit_reads_no_more_of_a_file_than_it_needs(tmp_path, read_rows):
    write_parquet(tmp_path / "p.parquet")
    write_lines(tmp_path / "p.jsonl")
    write_csv(tmp_path / "p.csv")
    for name in ("p.parquet", "p.jsonl", "p.csv"):
        del read_rows[:]
        assert len(load_file(tmp_path / name, limit=20).problems) == len(read_rows) == 20


def test_a_table_in_one_object_of_json_is_read_whole_within_its_bound(tmp_path, monkeypatch):
    (tmp_path / "p.json").write_text(json.dumps({"data": ROWS}))
    assert load_first(tmp_path / "p.json", first=10) == load_file(tmp_path / "p.json")
    monkeypatch.setattr(stream, "MAX_WHOLE", 999)
    with pytest.raises(UserError, match="has more than 999 rows; set a limit or load a part of it"):
        load_first(tmp_path / "p.json")


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_a_list_of_json_is_read_in_parts_as_json_reads_it(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_list, "CHUNK", chunk)
    path = tmp_path / "p.json"
    values = [{"a": "[é,]\n\\"}, 12.5, -3, [1, [2, {"b": None}]], "x", True, {}, [], 1e5, "🙂"]
    for text in (json.dumps(values), json.dumps(values, indent=3, ensure_ascii=False), f" \n{json.dumps(values)}\n"):
        path.write_text(text, encoding="utf-8")
        found = list(json_list.list_items(path))
        assert [value for _, value in found] == values
        for n, (start, _) in enumerate(found):
            assert [value for _, value in json_list.list_items(path, start)] == values[n:]
    for damage in ("[1, 2", "[1 2]", "[1,, 2]", "[1, ]", "[, 1]", "[1]]", "[1] x", "{}", "1", "", '[{"a": 1, "a": 2}]'):
        path.write_text(damage)
        with pytest.raises((ValueError, KeyError)):
            list(json_list.list_items(path))


def test_a_line_of_json_ends_at_a_line_break_and_not_at_another_separator(tmp_path):
    r"""U+2028 and U+0085 within a question split the first line, so that the file was taken for one document."""
    path = tmp_path / "p.json"
    path.write_text(
        '{"question": "a\u2028b\x85c", "answer": "1"}\n{"question": "d", "answer": "2"}\n', encoding="utf-8"
    )
    assert [problem.question for problem in load_file(path).problems] == ["a\u2028b\x85c", "d"]


def test_a_list_with_a_very_long_item_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_list, "MAX_LINE", 1000)
    monkeypatch.setattr(json_list, "CHUNK", 100)
    path = tmp_path / "p.json"
    path.write_text(json.dumps([*ROWS[:70], {"question": "x" * 5000, "answer": "1"}, *ROWS[70:90]]))
    assert row_index(path, max_bytes=MAX_BYTES) is None and len(load_first(path, first=10).problems) == 91


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("p.json", '[{"question": "1?"},]', r"p.json cannot be read: it is not valid JSON"),
        ("p.json", '[{"question": "1?", "question": "2?"}]', r"it names 'question' twice in one object"),
        ("p.json", "[" * 100_000, r"it is nested too deeply"),
        ("p.json", "[1, 2]", r"None of the 2 rows of p.json is a problem; row 1: it is not an object"),
        (
            "p.csv",
            "\ufeffquestion,answer\n1?,2\n".encode("utf-16-le") + b"\0\xd8,\0",
            "UTF-16 text that is damaged at byte 45",
        ),
        ("p.jsonl", '\ufeff{"question": "1?"}\n'.encode("utf-16-le") + b"\0\xd8,\0", "UTF-16 text .* damaged at byte"),
    ],
)
def test_what_is_damaged_is_named_as_in_a_small_file(tmp_path, name, data, sentence):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(UserError, match=sentence):
        load_file(path, skip_unreadable=True)


def test_broken_rows_of_csv_are_named_alike_alone_and_among_all(tmp_path):
    """A row after a broken one may be its other half, also where the broken one lies before a noted place."""
    lines = [f"What is {n}?,{n}" for n in range(400)]
    for n in (STRIDE - 1, 2 * STRIDE, 200, 300):
        lines[n] = "half of one"
    lines[250], lines[260] = '"a" b,1', "x,1,2"
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["question,answer", *lines]))
    index = row_index(path, max_bytes=MAX_BYTES)
    rows = list(file_rows(path, max_bytes=MAX_BYTES)[1])
    assert len(rows) == index.count == 400 and sum(isinstance(row, str) for _, row in rows) == 10
    for n in range(400):
        assert next(index.rows_from(n)) == rows[n]


@pytest.mark.parametrize("write", [write_untidy_lines, write_csv, write_parquet])
def test_responses_are_judged_against_a_large_file_of_which_only_the_asked_rows_are_kept(tmp_path, monkeypatch, write):
    """Judging against a set of problems kept all of its rows in memory."""
    write(path := tmp_path / ("problems.csv" if write is write_csv else "problems.jsonl"))
    if write is write_untidy_lines:  # a row that is none, and a question that is asked again under another id
        more = [{"id": "bad"}, ROWS[3] | {"id": "again"}, ROWS[3] | {"id": "last", "question": "What is last?"}]
        path.write_bytes(path.read_bytes().rstrip() + "".join("\n" + json.dumps(row) for row in more).encode())

    def known() -> KnownProblems:
        return KnownProblems("set", open_problems(str(path), skip_unreadable=True), lambda p: ([len(p.question)], p.id))

    whole = known()
    monkeypatch.setattr(responses, "LARGE", 50)
    monkeypatch.setattr(responses, "MOST_READ", 7)
    large = known()
    asked = [{"problem_id": f"r{n}"} for n in (0, 3, 700, 999)]
    asked += [{"question": problem.question} for problem in list(whole)[::90]]
    asked += [{"problem_id": name} for name in ("again", "last", "r5000")] + [{"prompt": "r500"}, {"prompt": "none"}]
    asked += [{"problem_id": "r3", "question": "What is 4 + 1?"}]
    told = []
    for problems in (whole, large):
        found = []
        for cells in asked:
            try:
                found.append(problems.find(cells, None, 20_000))
            except UnusableRow as reason:
                found.append(str(reason))
        told.append(found)
    assert told[0] == told[1] and list(whole) == list(large)
    assert (
        large.answered(9) == {problem.id for problem in list(whole)[:9] if problem.answer}
        and len(large.answered(9)) > 8
    )
    assert len(large._kept) <= 7 or write is write_parquet, "whose rows cannot be read alone in a short time"
    if write is not write_parquet:
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(UserError, match="has changed while it was read"):
            list(large)
