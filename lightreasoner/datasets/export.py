"""Export a dataset's training samples to a file in the paper's format or Parquet, and all its steps as CSV."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.paper_format import paper_line
from lightreasoner.datasets.samples import Sample, SelectionReport
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.token_categories import CATEGORY_NAMES
from lightreasoner.datasets.tokenizer import dataset_tokenizer
from lightreasoner.datasets.trajectories import OnCorrupt, holds_conversations
from lightreasoner.errors import UserError
from lightreasoner.formatting import csv_cell
from lightreasoner.scoring.measures import FLOAT_MEASURES, TARGET_MEASURES
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.runs import read_run

FORMATS = {"paper": ".jsonl", "parquet": ".parquet"}  # name → suffix
_BATCH = 1000  # samples in memory at a time
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("question", pa.string()),
        ("step", pa.int32()),
        ("prefix_ids", pa.list_(pa.int32())),  # prompt and response before the step; null in an imported dataset
        ("token_ids", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float64())),
        ("kl", pa.float64()),
    ]
)
IMPORTED_SCHEMA = SCHEMA.append(pa.field("prefix", pa.string()))  # text; imported datasets only


def export_samples(
    folder: Path, out: Path, kind: str, selection: Selection | None = None, on_corrupt: OnCorrupt = None
) -> SelectionReport:
    """Write a dataset's training samples (see `select_steps.training_samples`) to `out`, atomically.

    kind: a key of FORMATS; "paper" needs the expert's tokenizer for the texts. Raises UserError, also when there is no
    sample to write.
    """
    if kind not in FORMATS:
        raise UserError(f"There is no format {str(kind)[:20]!r}; use {' or '.join(FORMATS)}.")
    if out.is_dir() or not out.name:
        raise UserError(f"{out} is a folder; name the file to write in it.")
    run, reports = read_run(folder, "dataset"), []
    imported = is_imported(run)
    if kind == "paper" and not imported and holds_conversations(folder):
        raise UserError(
            f"{folder} holds conversations, and the paper's format has no place for the turns before a question, so "
            "others would train with another prompt; export the samples as parquet."
        )
    samples = training_samples(folder, selection, reports.append, on_corrupt)
    if kind == "parquet":
        schema = IMPORTED_SCHEMA if imported else SCHEMA
        chunks: Iterator = _tables(samples, schema)
    else:
        chunks = _lines(samples, None if imported else _tokenizer(folder, run))
    with atomic_file(Path(out)) as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd") if kind == "parquet" else None
        written = 0
        for chunk in chunks:
            if writer:
                writer.write_table(chunk)
            else:
                file.writelines(chunk)
            written += len(chunk)
        if writer:
            writer.close()
        if not written:
            raise UserError(_why_empty(folder, reports[0]))
    return reports[0]


def export_steps(explorer: Explorer, out: Path, selection: Selection) -> None:
    """Write every step's measures as CSV, as last refreshed: also its teaching signal at the selection's α, empty where
    it was not stored in detail, whether the selection takes it, before annotations, and its annotation. Texts that a
    spreadsheet would run as formulas start with a quote. Raises UserError."""
    view = explorer.view
    data, table = view.data, explorer.table(selection.alpha, view, selection.cap)
    ids, back = np.unique(data.token_id, return_inverse=True)
    texts = np.array([csv_cell(explorer.texts.text(id)) for id in ids.tolist()], object)
    problems = np.array([csv_cell(response.problem_id) for response in data.responses], object)
    columns = {
        "problem_id": problems[data.row],
        "sample": np.array([response.sample for response in data.responses], np.int64)[data.row],
        "step": data.index,
        "token_id": data.token_id,
        "token": texts[back],
        "category": np.array(CATEGORY_NAMES, object)[data.category],
        **{name: table[name] for name in FLOAT_MEASURES},
        "agree": data.agree,
        **{name: table[name] for name in TARGET_MEASURES},
        "selected": explorer.selected_steps(selection, view),
        "mark": pd.Series(view.annotated(), index=table.index, dtype=object),
    }
    with atomic_file(Path(out)) as file:
        pd.DataFrame(columns).to_csv(file, index=False, float_format="%.7g")


def _why_empty(folder: Path, report: SelectionReport) -> str:
    if not report.steps:
        return f"{folder} has no steps yet, so there is nothing to export; wait for its first batch, or resume its run."
    missing = f" ({report.missing:,} selected steps were not stored in detail)" if report.missing else ""
    return f"No step of {folder} became a sample{missing}; lower β or use another selector."


def _tokenizer(folder: Path, run: dict) -> Any:
    try:
        return dataset_tokenizer(folder, run)
    except UserError as error:
        raise UserError(f"{error} Export as parquet, which contains token ids and needs no texts.") from None


def _chunks(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while chunk := list(itertools.islice(samples, _BATCH)):
        yield chunk


def _tables(samples: Iterator[Sample], schema: pa.Schema) -> Iterator[pa.Table]:
    for chunk in _chunks(samples):
        yield pa.table({name: [getattr(sample, name) for sample in chunk] for name in schema.names}, schema)


def _lines(samples: Iterator[Sample], tokenizer: Any) -> Iterator[list[bytes]]:
    texts: dict[int, str] = {}

    def text(id: int) -> str:
        if id not in texts:
            texts[id] = tokenizer.decode([id])
        return texts[id]

    def line(sample: Sample) -> bytes:
        if sample.prefix_ids is None:
            return paper_line(sample, sample.prefix, sample.tokens)
        prefix = tokenizer.decode(sample.prefix_ids[sample.prompt_tokens :])
        return paper_line(sample, prefix, [text(id) for id in sample.token_ids])

    for chunk in _chunks(samples):
        yield [line(sample) for sample in chunk]
