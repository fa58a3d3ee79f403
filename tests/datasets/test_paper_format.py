"""The paper's format: round trips are exact, and rows that cannot be read are counted and listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from lightreasoner.cli.main import main
from lightreasoner.datasets.annotations import set_annotation
from lightreasoner.datasets.export import export_samples
from lightreasoner.datasets.imported import MAX_LISTED, import_samples
from lightreasoner.datasets.paper_format import MAX_LINE
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.settings import ROOT
from lightreasoner.storage.runs import read_run
from tests.support import warm_app
from tests.support.tiny_dataset import make_dataset, selection_report
from tests.support.tiny_models import tiny_tokenizer

ROW = {
    "prompt_id": "How much is “3 + 4”?\n",
    "step": 3,
    "prefix": "3 + 4 is\u2028 é",
    "tokens": [" 7", "\ufffd", ""],
    "token_ids": [22, 151_643, 0],
    "weights": [0.1 + 0.2, 0.6999999999999998, 1e-17],
    "kl_divergence": 0.4000000059604645,
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_import_and_export_in_the_papers_format_are_byte_for_byte(tmp_path):
    rows = [ROW, ROW | {"step": 4, "weights": [1.0, 0.0, 0.0]}, ROW, ROW | {"kl_divergence": None}]
    given = write(tmp_path / "given.jsonl", rows)
    assert import_samples(given, tmp_path / "set").rows == 4
    export_samples(tmp_path / "set", tmp_path / "out.jsonl", "paper")
    assert (tmp_path / "out.jsonl").read_bytes() == given.read_bytes()
    run = read_run(tmp_path / "set")
    assert run["kind"] == "dataset" and run["about"]["imported"] is True


def test_export_to_import_to_export_is_byte_for_byte_and_reads_as_the_paper_wrote_it(tmp_path):
    folder, tokenizer = tmp_path / "set", tiny_tokenizer()
    rows = make_dataset(folder, tokens=True)
    counted = export_samples(folder, tmp_path / "one.jsonl", "paper", Selection(beta=0.1))
    import_samples(tmp_path / "one.jsonl", tmp_path / "again")
    export_samples(tmp_path / "again", tmp_path / "two.jsonl", "paper")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    found = list(training_samples(folder, Selection(beta=0.1)))
    assert len(lines) == len(found) == counted.usable > 10
    by_id = {row["problem_id"]: row for row in rows}
    for line, sample in zip(lines, found, strict=True):
        response = by_id[sample.problem_id]["response_ids"]
        assert line["prompt_id"] == sample.question and line["step"] == sample.step
        assert line["prefix"] == tokenizer.decode(response[: sample.step])
        assert line["tokens"] == [tokenizer.decode([id]) for id in sample.token_ids]
        assert (line["token_ids"], line["weights"]) == (sample.token_ids, sample.weights)
        assert line["kl_divergence"] == sample.kl


def test_the_copy_of_the_tokenizer_outlives_the_model(tmp_path):
    from lightreasoner.datasets.tokenizer import save_tokenizer

    make_dataset(tmp_path / "set")  # its expert is nowhere
    with pytest.raises(UserError, match="parquet"):
        export_samples(tmp_path / "set", tmp_path / "out.jsonl", "paper")
    assert not (tmp_path / "out.jsonl").exists()
    save_tokenizer(tiny_tokenizer(), tmp_path / "set")
    export_samples(tmp_path / "set", tmp_path / "out.jsonl", "paper")
    assert (tmp_path / "out.jsonl").stat().st_size


def test_parquet_needs_no_tokenizer(tmp_path):
    folder = tmp_path / "set"
    make_dataset(folder)
    export_samples(folder, tmp_path / "out.parquet", "parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.row_group(0).column(0).compression == "ZSTD"
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    found = list(training_samples(folder))
    assert len(rows) == len(found) > 0
    for row, sample in zip(rows, found, strict=True):
        assert list(row) == ["problem_id", "sample", "question", "step", "prefix_ids", "token_ids", "weights", "kl"]
        assert row == {name: getattr(sample, name) for name in row}


def test_an_imported_set_is_selected_from_and_marked(tmp_path):
    rows = [ROW | {"step": n, "kl_divergence": n / 10} for n in range(10)]
    folder = tmp_path / "set"
    import_samples(write(tmp_path / "f.jsonl", rows), folder)
    name = next(training_samples(folder)).problem_id
    assert [s.step for s in training_samples(folder, Selection(beta=0.4))] == [5, 6, 7, 8, 9]
    assert [s.step for s in training_samples(folder, Selection("top-percent", budget=0.2))] == [8, 9]
    assert len(list(training_samples(folder, Selection("random", budget=0.5)))) == 5
    with pytest.raises(UserError, match="expert_entropy"):
        list(training_samples(folder, Selection("expert-entropy")))
    set_annotation(folder, (name, 0, 9), "drop")
    set_annotation(folder, (name, 0, 0), "keep")
    assert [s.step for s in training_samples(folder, Selection(beta=0.7))] == [0, 8]
    counted = selection_report(folder, Selection(beta=0.7))
    assert (counted.selected, counted.usable, counted.kept_by_annotation, counted.dropped_by_annotation) == (2, 2, 1, 1)
    sample = next(training_samples(folder, Selection(beta=0.7)))
    assert sample.prefix_ids is None and sample.prefix == ROW["prefix"] and sample.tokens == ROW["tokens"]
    export_samples(folder, tmp_path / "out.parquet", "parquet")
    assert {row["prefix"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()} == {ROW["prefix"]}


BAD = {
    "not JSON": b'{"prompt_id": ',
    "not an object": b"[1, 2]",
    "missing fields": json.dumps({k: v for k, v in ROW.items() if k not in ("step", "weights")}).encode(),
    "question": json.dumps(ROW | {"prompt_id": 7}).encode(),
    "blank question": json.dumps(ROW | {"prompt_id": " "}).encode(),
    "step": json.dumps(ROW | {"step": "3"}).encode(),
    "boolean step": json.dumps(ROW | {"step": True}).encode(),
    "negative step": json.dumps(ROW | {"step": -1}).encode(),
    "prefix": json.dumps(ROW | {"prefix": None}).encode(),
    "lengths": json.dumps(ROW | {"token_ids": [1, 2]}).encode(),
    "empty": json.dumps(ROW | {"token_ids": [], "tokens": [], "weights": []}).encode(),
    "tokens": json.dumps(ROW | {"tokens": ["a", "b", 3]}).encode(),
    "twice": json.dumps(ROW | {"token_ids": [1, 2, 1]}).encode(),
    "ids": json.dumps(ROW | {"token_ids": [1, 2.0, 3]}).encode(),
    "huge id": json.dumps(ROW | {"token_ids": [1, 2, 2**31]}).encode(),
    "NaN": json.dumps(ROW | {"weights": [float("nan"), 0.5, 0.5]}).encode(),
    "negative weight": json.dumps(ROW | {"weights": [1.5, -0.5, 0.0]}).encode(),
    "no distribution": json.dumps(ROW | {"weights": [0.5, 0.2, 0.1]}).encode(),
    "text weights": json.dumps(ROW | {"weights": ["1", 0, 0]}).encode(),
    "NaN divergence": json.dumps(ROW | {"kl_divergence": float("nan")}).encode(),
    "negative divergence": json.dumps(ROW | {"kl_divergence": -0.5}).encode(),
    "text divergence": json.dumps(ROW | {"kl_divergence": "0.5"}).encode(),
    "half a character": json.dumps(ROW | {"prefix": "\ud83d"}).encode(),
    "Latin-1": '{"prompt_id": "é"}'.encode("latin-1"),
    "deep": b"[" * 100_000,
    "long number": b'{"step": ' + b"1" * 5000 + b"}",
}


def test_every_kind_of_bad_row_is_shown_with_its_line_and_the_rest_loads(tmp_path):
    good = json.dumps(ROW).encode()
    lines = [good, *BAD.values(), b"", good]
    (tmp_path / "f.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    done = import_samples(tmp_path / "f.jsonl", tmp_path / "set")
    assert done.rows == 2 and done.unreadable == len(BAD) > MAX_LISTED
    assert [number for number, _ in done.first] == list(range(2, 2 + MAX_LISTED))
    text = done.sentences()
    assert "line 2: it is not valid JSON" in text and "weights add up to 0.8, not to 1" in text
    assert f"and {len(BAD) - MAX_LISTED} more" in text
    assert len(list(training_samples(tmp_path / "set"))) == 2


@pytest.mark.parametrize("name", BAD)
def test_a_file_with_no_readable_row_is_refused_and_leaves_nothing(tmp_path, name):
    (tmp_path / "f.jsonl").write_bytes(b"\n" + BAD[name] + b"\n")
    with pytest.raises(UserError, match=r"line 2: \w+"):
        import_samples(tmp_path / "f.jsonl", tmp_path / "set")
    assert os.listdir(tmp_path) == ["f.jsonl"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"PAR1....", "Parquet"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0" * 5000, "zero bytes"),
    ],
)
def test_files_of_other_kinds_are_refused_with_a_sentence(tmp_path, content, says):
    (tmp_path / "f.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=says):
        import_samples(tmp_path / "f.jsonl", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_huge_files_and_huge_lines(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"prefix": "' + b"x" * 2 * MAX_LINE + b'"}\n' + json.dumps(ROW).encode() + b"\n")
    with pytest.raises(UserError, match="split it"):
        import_samples(path, tmp_path / "set", max_bytes=1000)
    done = import_samples(path, tmp_path / "set")
    assert done.rows == 1 and done.first == ((1, "it is longer than 8 MB"),)


def test_missing_files_folders_and_folders_in_use(tmp_path):
    write(tmp_path / "f.jsonl", [ROW])
    for path, says in ((tmp_path / "nothing", "cannot be opened"), (tmp_path, "not a file")):
        with pytest.raises(UserError, match=says):
            import_samples(path, tmp_path / "set")
    make_dataset(tmp_path / "used")
    with pytest.raises(UserError, match="already contains a dataset"):
        import_samples(tmp_path / "f.jsonl", tmp_path / "used")


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    folder, out = tmp_path / "set", tmp_path / "out.parquet"
    make_dataset(folder)
    out.write_text("old")
    with pytest.raises(UserError, match="lower β"):
        export_samples(folder, out, "parquet", Selection(beta=1000))
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        export_samples(folder, out, "parquet")
    assert out.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["out.parquet", "set"]


def test_a_dataset_without_steps_yet_says_so(tmp_path):
    make_dataset(tmp_path / "set", problems=0)
    with pytest.raises(UserError, match="no steps yet"):
        export_samples(tmp_path / "set", tmp_path / "out.parquet", "parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("kind", ["parquet", "paper", "import"])
def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(tmp_path, kind):
    """The limit on a file's size stands in for a full disk: writing fails half-way, in a process of its own."""
    make_dataset(tmp_path / "set", problems=30, tokens=True)
    export_samples(tmp_path / "set", tmp_path / "given.jsonl", "paper", Selection(beta=0.05))
    given, new, dataset = (str(tmp_path / name) for name in ("given.jsonl", "new", "set"))
    verb = ["import", given, "--run-dir", new]
    if kind != "import":
        verb = ["export", "--run-dir", dataset, "--format", kind, "--out", new, "--beta", "0.05"]
    before = sorted(os.listdir(tmp_path))
    done = warm_app.command(dict(os.environ), "4000", *verb, module="tests.support.small_files")
    assert done.returncode == 2 and "could not be written" in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


def test_the_verbs(tmp_path, capsys):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    folder, out, again = tmp_path / "set", tmp_path / "out.jsonl", tmp_path / "again"
    make_dataset(folder, tokens=True)
    code, says, _ = run("export", "--run-dir", folder, "--format", "released", "--out", out, "--beta", 0.01)
    assert code == 0 and "samples of" in says and "were not stored in detail" in says
    with out.open("a") as file:
        file.write("not json\n")
    code, says, _ = run("import", out, "--run-dir", again)
    assert code == 0 and "1 line could not be read" in says
    for arguments, why in (
        (["--alpha", 0.3], "--alpha"),
        (["--selector", "best"], "best"),
        (["--selector", "random", "--budget", 3], "budget"),
    ):
        code, _, err = run("export", "--run-dir", again, "--format", "released", "--out", tmp_path / "x", *arguments)
        assert code == 2 and why in err and len(err.splitlines()) == 1
    code, _, err = run("import", tmp_path / "none", "--run-dir", tmp_path / "y")
    assert code == 2 and "none" in err


def test_selecting_importing_and_marking_need_no_torch():
    code = "import sys, lightreasoner.cli.dataset, lightreasoner.datasets.imported; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
