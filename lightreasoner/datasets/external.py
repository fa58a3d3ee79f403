"""Datasets that came as samples: a file of the released format, kept in DIR/samples.parquet. They have no trajectories.

Their targets are what they are: α was settled when they were made. Everything else works as with datasets of one's own:
β, selectors that need no more than KL, marks, exploring, export.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from lightreasoner.datasets.annotations import load_marks
from lightreasoner.datasets.paper_format import MAX_BYTES, read_released
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.selectors import Selection, select, selector_named
from lightreasoner.errors import UserError
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.runs import LOCK, RECORD, begin_run, versions

FILE = "samples.parquet"
SHOWN = 20  # unreadable lines that are shown one by one
_BATCH = 1000  # rows in memory at a time
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),  # made from the question
        ("sample", pa.int32()),  # counts equal (question, step), so that every row has a name of its own
        ("question", pa.string()),
        ("step", pa.int32()),
        ("prefix", pa.string()),  # the response before the step
        ("tokens", pa.list_(pa.string())),
        ("token_ids", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float64())),  # as given
        ("kl", pa.float64()),  # as given; infinite where the file says null
    ]
)


@dataclass(frozen=True)
class ImportReport:
    """What became of a file: rows imported, lines that could not be read, and the first of those with the reason."""

    rows: int
    unreadable: int
    first: tuple[tuple[int, str], ...]  # (line number, why), at most SHOWN

    def sentences(self) -> str:
        """For people: what was read, and line by line what was not."""
        lines = [f"{self.rows:,} samples imported."]
        if self.unreadable:
            noun = "line" if self.unreadable == 1 else "lines"
            lines = [f"{self.rows:,} samples imported; {self.unreadable:,} {noun} could not be read:"]
            lines += [f"line {number}: {why}" for number, why in self.first]
            if self.unreadable > len(self.first):
                lines.append(f"and {self.unreadable - len(self.first):,} more")
        return "\n".join(lines)


def is_imported(run: dict) -> bool:
    return bool(run["about"].get("imported"))


def import_samples(path: Path, folder: Path, max_bytes: int = MAX_BYTES) -> ImportReport:
    """Make a dataset of a file in the released format: all rows that can be read, in their order.

    Nothing is left behind when it fails. Raises UserError for a folder in use, for a file that cannot be read and for
    one without a single readable row.
    """
    path, folder = Path(path), Path(folder)
    rows = read_released(path, max_bytes)
    if (folder / RECORD).exists() or (folder / FILE).exists() or (folder / "trajectories").exists():
        raise UserError(f"{folder} holds a dataset already; name a new folder to import {path.name} into.")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}. Name another folder.") from None
    lock = FileLock(folder / LOCK)
    try:
        with lock.acquire(timeout=0):
            report = _write(rows, path, folder)
            about = {"imported": True, "versions": versions(), "import": asdict(report)}
            begin_run(folder, "dataset", {"source": path.name}, about)
            return report
    except Timeout:
        raise UserError(f"Something else is being imported into {folder} right now; name another folder.") from None
    except BaseException:
        (folder / FILE).unlink(missing_ok=True)
        if made:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        raise


def _write(rows: Iterator[tuple[int, Sample | str]], path: Path, folder: Path) -> ImportReport:
    taken: Counter[tuple[str, int]] = Counter()
    count, bad, first = 0, 0, []

    def readable() -> Iterator[dict]:
        nonlocal bad
        for number, row in rows:
            if isinstance(row, str):
                bad += 1
                if len(first) < SHOWN:
                    first.append((number, row))
                continue
            name = (hashlib.sha256(row.question.encode()).hexdigest()[:12], row.step)
            values = {field: getattr(row, field) for field in SCHEMA.names}
            yield values | {"problem_id": name[0], "sample": taken[name]}
            taken[name] += 1

    good = readable()
    with atomic_file(folder / FILE) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        while batch := list(itertools.islice(good, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
            count += len(batch)
        if not count:
            why = f"; line {first[0][0]}: {first[0][1]}" if first else " in it"
            raise UserError(
                f"{path.name} holds no sample of the released format: {bad:,} lines, none readable{why}."
                if first
                else f"{path.name} is empty; it must hold at least one sample."
            )
    return ImportReport(count, bad, tuple(first))


def read_imported(folder: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The imported rows, some columns of them, a thousand or so at a time. Raises UserError for a damaged file."""
    path = Path(folder) / FILE
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield pa.Table.from_batches([batch])
    except FileNotFoundError:
        raise UserError(f"{path} is not there any more; import the file again.") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path} is damaged ({reason}); import the file again into another folder.") from None


def imported_samples(
    folder: Path, selection: Selection | None, on_report: Callable[[SelectionReport], None] | None = None
) -> Iterator[Sample]:
    """See supervision.samples; None selects every row."""
    marks = load_marks(folder)
    chosen = None if selection is None else _select(folder, selection)
    steps = selected = usable = kept = dropped = 0
    for table in read_imported(folder):
        for row in table.to_pylist():
            sample = Sample(prefix_ids=None, **row)
            wanted = chosen is None or bool(chosen[steps])
            mark = marks.get(sample.problem_id, sample.sample, sample.step)
            takes = mark == "keep" or (wanted and mark != "drop")
            steps, selected, usable = steps + 1, selected + wanted, usable + takes
            kept, dropped = kept + (takes and not wanted), dropped + (wanted and not takes)
            if takes:
                yield sample
    if on_report:
        on_report(SelectionReport(steps, selected, usable, 0, kept, dropped))


def _select(folder: Path, selection: Selection) -> np.ndarray:
    needs = set(selector_named(selection.selector).needs) - {"kl"}
    if needs:
        raise UserError(
            f"The selector {selection.selector} needs more than an imported set holds ({', '.join(sorted(needs))}); "
            "use kl, top-percent, random or every-k."
        )
    kls = [table["kl"].to_numpy() for table in read_imported(folder, ["kl"])]
    return select({"kl": np.concatenate(kls)}, selection)
