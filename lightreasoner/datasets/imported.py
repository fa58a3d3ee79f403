"""External samples: datasets imported from a file in the paper's format, stored in samples.parquet.

They have no trajectories, and their targets have a fixed α. Everything else works as for sampled datasets: β, selectors
that need only KL, annotations, the explorer, export.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.annotations import load_annotations
from lightreasoner.datasets.paper_format import MAX_BYTES, read_paper_file
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.selectors import Selection, needs_of, select
from lightreasoner.errors import UserError, first_line
from lightreasoner.formatting import plural
from lightreasoner.storage.atomic import atomic_file, locked
from lightreasoner.storage.runs import LOCK, RECORD, begin_run, read_run, versions

FILE = "samples.parquet"
MAX_LISTED = 20  # unreadable lines that are listed with their reason
_BATCH = 1000  # rows in memory at a time
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),  # made from the question
        ("sample", pa.int32()),  # numbers equal (question, step), so that every row has a key of its own
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
    """The result of an import: rows imported, lines that could not be read, and the first of these with the reason."""

    rows: int
    unreadable: int
    first: tuple[tuple[int, str], ...]  # (line number, reason), at most MAX_LISTED

    def sentences(self) -> str:
        """The report as text, one line per unreadable line."""
        lines = [f"{plural(self.rows, 'sample')} imported."]
        if self.unreadable:
            noun = "line" if self.unreadable == 1 else "lines"
            lines = [f"{self.rows:,} samples imported; {self.unreadable:,} {noun} could not be read:"]
            lines += [f"line {number}: {reason}" for number, reason in self.first]
            if self.unreadable > len(self.first):
                lines.append(f"and {self.unreadable - len(self.first):,} more")
        return "\n".join(lines)


def is_imported(run: dict) -> bool:
    return bool(run["about"].get("imported"))


def import_samples(path: Path, folder: Path, max_bytes: int = MAX_BYTES) -> ImportReport:
    """Import the readable lines of a file in the paper's format as a dataset, in their order.

    It leaves nothing behind when it fails. Raises UserError for a folder in use, for a file that cannot be read and
    for one without a readable line.
    """
    path, folder = Path(path), Path(folder)
    rows = read_paper_file(path, max_bytes)
    if (folder / RECORD).exists() or (folder / FILE).exists() or (folder / "trajectories").exists():
        raise UserError(f"{folder} already contains a dataset; name a new folder to import {path.name} into.")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be created: {error.strerror}. Name another folder.") from None
    with locked(folder / LOCK, f"Another import into {folder} is running; name another folder."):
        try:
            report = _write(rows, path, folder)
            about = {"imported": True, "versions": versions(), "import": asdict(report)}
            begin_run(folder, "dataset", {"source": path.name}, about)
            return report
        except BaseException:
            (folder / FILE).unlink(missing_ok=True)
            if new:
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
            raise


def _write(rows: Iterator[tuple[int, Sample | str]], path: Path, folder: Path) -> ImportReport:
    repeats: Counter[tuple[str, int]] = Counter()
    count, unreadable, first = 0, 0, []

    def readable() -> Iterator[dict]:
        nonlocal unreadable
        for number, row in rows:
            if isinstance(row, str):
                unreadable += 1
                if len(first) < MAX_LISTED:
                    first.append((number, row))
                continue
            key = (hashlib.sha256(row.question.encode()).hexdigest()[:12], row.step)
            values = {field: getattr(row, field) for field in SCHEMA.names}
            yield values | {"problem_id": key[0], "sample": repeats[key]}
            repeats[key] += 1

    samples = readable()
    with atomic_file(folder / FILE) as file, _writer(file) as writer:
        while batch := list(itertools.islice(samples, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
            count += len(batch)
        if not count:
            raise UserError(
                f"{path.name} contains no sample in the paper's format: {unreadable:,} lines, none readable; "
                f"line {first[0][0]}: {first[0][1]}."
                if first
                else f"{path.name} is empty; it must contain at least one sample."
            )
    return ImportReport(count, unreadable, tuple(first))


def _writer(file) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True)


def read_imported(folder: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The imported rows in batches of up to 1,000, or some columns of them. Raises UserError for a damaged file."""
    path = Path(folder) / FILE
    record = read_run(folder) if (Path(folder) / RECORD).exists() else {"about": {}}
    rows = (record["about"].get("import") or {}).get("rows")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if rows and file.metadata.num_rows != rows:
                raise ValueError(f"it holds {file.metadata.num_rows:,} samples of the {rows:,} that were imported")
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield pa.Table.from_batches([batch])
    except FileNotFoundError:
        raise UserError(f"{path} no longer exists; import the file again.") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise UserError(f"{path} is damaged ({reason}); import the file again into another folder.") from None


def select_imported(
    folder: Path, selection: Selection | None, on_report: Callable[[SelectionReport], None] | None = None
) -> Iterator[Sample]:
    """`select_steps.training_samples` of an imported dataset; None selects every row."""
    if selection and selection.cap is not None:
        raise UserError("The targets of an imported dataset are fixed, so a cap cannot change them; leave it out.")
    annotations = load_annotations(folder)
    by_selector = None if selection is None else _select(folder, selection)
    chosen, used = [], []
    for table in read_imported(folder):
        for row in table.to_pylist():
            sample = Sample(prefix_ids=None, **row)
            if by_selector is not None and len(used) >= len(by_selector):
                raise UserError(f"{Path(folder) / FILE} changed while it was read; try again.")
            chosen.append(by_selector is None or bool(by_selector[len(used)]))
            kind = annotations.get(sample.problem_id, sample.sample, sample.step)
            used.append(kind == "keep" or (chosen[-1] and kind != "drop"))
            if used[-1]:
                yield sample
    if on_report:
        on_report(SelectionReport.count(np.array(chosen, bool), np.array(used, bool), np.ones(len(used), bool)))


def refuse_missing_measures(selection: Selection) -> None:
    """Raises UserError for a selector that reads measures other than KL: an imported dataset has no others."""
    if needs := sorted(set(needs_of(selection)) - {"kl"}):
        what = f"{'A box with' if selection.box else 'The'} selector {selection.selector}"
        raise UserError(
            f"{what} needs measures that an imported dataset does not have "
            f"({', '.join(needs)}); use kl, top-percent, random or every-k, without a box."
        )


def _select(folder: Path, selection: Selection) -> np.ndarray:
    refuse_missing_measures(selection)
    kls = [table["kl"].to_numpy() for table in read_imported(folder, ["kl"])]
    return select({"kl": np.concatenate(kls)}, selection)
