"""Files of problems that become far larger than they are: refused before they are unpacked here."""

from __future__ import annotations

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightreasoner.errors import UserError
from lightreasoner.problems import files
from lightreasoner.problems import text_encoding as texts
from lightreasoner.problems.stream import load_file


def repeated(value: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [value])


def nulls(starts) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.nulls(starts[-1]))


#: Tables of some kB on the disk. What their metadata tells of their size is small, too, except for the second one's.
BOMBS = {
    "a dictionary of one value": lambda: (pa.table({"question": repeated("q" * 1_000_000, 5000)}), {}),
    "a dictionary of a long value": lambda: (
        pa.table({"question": repeated("q" * 10_000_000, 5000)}),
        {"dictionary_pagesize_limit": 1 << 30},
    ),
    "one value": lambda: (pa.table({"question": ["q" * 70_000_000]}), {"use_dictionary": False}),
    "shared prefixes": lambda: (
        pa.table({"question": ["q" * 1_000_000] * 80}),
        {"use_dictionary": False, "column_encoding": {"question": "DELTA_BYTE_ARRAY"}},
    ),
    "a list of nulls": lambda: (pa.table({"question": ["q"], "x": nulls([0, 9_000_000])}), {}),
    "lists of nulls": lambda: (pa.table({"question": ["q"] * 900, "x": nulls(range(0, 9_010_000, 10_000)[:901])}), {}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_parquet_file_that_unpacks_to_gigabytes_is_refused(tmp_path, kind):
    """13 kB that unpack to 8 GB cost six CPU-seconds a read: metadata counts a value of a dictionary once."""
    path, (table, options) = tmp_path / "p.parquet", BOMBS[kind]()
    pq.write_table(table, path, compression="zstd", **options)
    assert path.stat().st_size < 50_000
    before = psutil.Process().cpu_times().user
    for _ in range(3):
        with pytest.raises(
            UserError, match=r"^p.parquet (unpacks to more than|takes more than .* to unpack).*load a part"
        ):
            load_file(path, limit=1)
    assert psutil.Process().cpu_times().user - before < 0.5


def test_an_ordinary_file_with_repeated_values_is_read(tmp_path):
    rows = {"question": [f"{n}?" for n in range(20_000)], "system": ["You are a careful assistant. " * 50] * 20_000}
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    assert len(load_file(tmp_path / "p.parquet", limit=100).problems) == 100


def test_a_line_without_an_end_is_a_row_that_cannot_be_read(tmp_path, monkeypatch):
    """It was read whole, whatever its length."""
    for module in (files, texts):
        monkeypatch.setattr(module, "MAX_LINE", 50)
    lines = ['{"question": "1 + 1?"}', "x" * 200, '{"question": "2 + 2?"}', "y" * 50, '{"question": "3 + 3?"}']
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    found = load_file(tmp_path / "p.jsonl")
    assert [problem.question for problem in found.problems] == ["1 + 1?", "2 + 2?", "3 + 3?"]
    assert [number for number, _ in found.skipped] == [2, 4] and "more than" in found.skipped[0][1]


@pytest.mark.parametrize("name", ["p.json", "p.csv"])
def test_a_document_that_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch, name):
    """A JSON document takes some twenty times its size in memory, in the worst case."""
    monkeypatch.setattr(files, "PLENTY", 0)
    monkeypatch.setattr(files.psutil, "virtual_memory", lambda: type("memory", (), {"available": 1_000_000}))
    (tmp_path / name).write_text('{"question": [' + "[],\n" * 50_000 + "[]]}")
    with pytest.raises(UserError, match=rf"^{name} needs some .* GB of memory.*save it as JSON lines or Parquet"):
        load_file(tmp_path / name)
