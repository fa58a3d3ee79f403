"""The dataset on disk: Parquet shards of trajectories, one row per response and one shard per batch.

`folder` is always the run folder; the shards are in its `trajectories/`, named by batch number. Each is written under a
temporary name and renamed, so every shard present is complete, and the shards are the progress of the run.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightreasoner.errors import UserError, first_line
from lightreasoner.scoring.measures import MEASURES, STEP_MEASURES
from lightreasoner.storage.atomic import atomic_file
from lightreasoner.storage.checksums import note_checksum, noted, verify
from lightreasoner.storage.runs import RECORD, read_run

FOLDER = "trajectories"

ARROW = {float: pa.float32(), int: pa.int32(), bool: pa.bool_()}  # the stored type of a measure

#: One step in full. ids are the expert's, ordered by its probability: the plausible set at ALPHA_FLOOR,
#: each model's most likely tokens, and the generated one.
STEP = pa.struct(
    [
        ("index", pa.int32()),  # position in the response, from 0
        ("token_id", pa.int32()),  # the generated token
        ("kl", pa.float32()),
        ("ids", pa.list_(pa.int32())),
        ("expert_logprobs", pa.list_(pa.float32())),
        ("amateur_logprobs", pa.list_(pa.float32())),
    ]
)
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample", pa.int32()),  # 0 to samples per problem − 1
        ("question", pa.string()),
        ("context", pa.string()),  # JSON of the turns before the question; null where there are none
        ("answer", pa.string()),  # null if the source has none
        ("prompt_ids", pa.list_(pa.int32())),  # the expert's, including the chat template
        ("response_ids", pa.list_(pa.int32())),  # the expert's, including the end-of-turn token
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # "stop", "length", or "given" for a text of which nobody says why it ended
        # Over every step of the response, the end-of-turn token included. Null where the taken token lies outside the
        # shared vocabulary; infinite where one model rules out what the other holds possible.
        *((m.key, pa.list_(ARROW[m.type])) for m in MEASURES if m.key in STEP_MEASURES),
        ("steps", pa.list_(STEP)),  # steps of KL above the run's β floor; all steps if that is 0
    ]
)

#: In datasets of pairs across tokenizers also, per step, how much of the expert's probability was compared.
COMPARED = pa.field("compared", pa.list_(pa.float32()))

#: Edges of every KL histogram in nats: steps of 0.001 below 0.01, then 24 bins per decade up to 20. The last bin
#: includes everything above, also infinite values.
KL_EDGES: tuple[float, ...] = (
    *(n / 1000 for n in range(10)),
    *(float(f"{10 ** (-2 + n / 24):.6g}") for n in range(80)),
    20.0,
)


def kl_histogram(kl: Any, edges: Sequence[float] = KL_EDGES) -> np.ndarray:
    """Counts per bin [edges[i], edges[i + 1]): int64 (edges − 1,). NaN is not counted."""
    values = np.asarray(kl, dtype=np.float64)
    values = values[~np.isnan(values)].clip(0, np.nextafter(edges[-1], 0))
    return np.histogram(values, edges)[0].astype(np.int64)


def flat(table: pa.Table, measure: str) -> np.ndarray:
    """(steps,) a measure of all rows."""
    return pc.list_flatten(table[measure]).to_numpy()


def write_shard(folder: Path, name: str, table: pa.Table) -> Path:
    """Write a shard atomically. name: without suffix. Raises UserError when it cannot be written."""
    path = Path(folder) / FOLDER / f"{name}.parquet"
    advice = "Free some space and resume the run; the shards so far are complete."
    note = functools.partial(note_checksum, path)
    with atomic_file(path, f"The dataset in {folder}", advice, note) as file:
        pq.write_table(table.cast(_schema(table.column_names)), file, compression="zstd", write_page_checksum=True)
    return path


def _schema(columns: list[str]) -> pa.Schema:
    return SCHEMA.append(COMPARED) if COMPARED.name in columns else SCHEMA


def is_across(run: dict[str, Any]) -> bool:
    """Whether a dataset's amateur has another tokenizer than its expert, by the run's record: its KLs are then lower
    bounds, and its shards have the column COMPARED."""
    return bool((run["about"].get("pair") or {}).get("across"))


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files of killed writers and return their number. The caller holds the folder's lock."""
    leftovers = [*Path(folder).glob(".run.json.*"), *(Path(folder) / FOLDER).glob(".*.parquet.*")]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def shards(folder: Path) -> list[Path]:
    """The shards present, in order; none if the folder does not exist."""
    return sorted((Path(folder) / FOLDER).glob("[!.]*.parquet"))


OnCorrupt = Callable[[Path, UserError], None] | None


def complete_shards(folder: Path, on_corrupt: OnCorrupt = None) -> list[Path]:
    """The shards of a dataset, in order, with those that a finished one has lost since, which `read_shard` refuses.

    Those lost are known by their checksums and by the gaps in their numbers. Responses that are missing in another way
    raise UserError, or are told to `on_corrupt` with the folder of the shards.
    """
    place, present = Path(folder) / FOLDER, shards(folder)
    result = read_run(folder).get("result") if (Path(folder) / RECORD).exists() else None
    responses = (result or {}).get("responses") or 0
    if not responses:  # it is still being sampled
        return present
    last = max((int(path.stem) for path in present if path.stem.isdecimal()), default=-1)
    names = {f"{n:06d}.parquet" for n in range(last)} if any(path.stem == f"{last:06d}" for path in present) else set()
    names |= {name for name in noted(place) if name.endswith(".parquet")}
    if lost := names - {path.name for path in present}:
        return sorted({*present, *(place / name for name in lost)})
    with contextlib.suppress(pa.ArrowException, OSError, ValueError):  # a damaged shard is named when it is read
        held = sum(pq.read_metadata(path).num_rows for path in present)
        if held < responses:
            error = UserError(
                f"{responses - held:,} of the {responses:,} responses of the dataset {folder} are missing: it has lost "
                "shards since it was finished. Resume the run that wrote it to sample them again."
            )
            if on_corrupt is None:
                raise error
            on_corrupt(place, error)
    return present


def is_as_written(folder: Path, name: str) -> bool:
    """Whether a shard is there with the content that was written. Hashes a file that changed; reads no rows."""
    path = Path(folder) / FOLDER / f"{name}.parquet"
    try:
        verify(path)
        return path.exists()
    except (OSError, ValueError):
        return False


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A shard, or some columns of it. Raises UserError when it is damaged or has other columns."""
    try:
        verify(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            held = _schema(file.schema_arrow.names)
            wanted = held if columns is None else pa.schema([held.field(name) for name in columns])
            absent = {"context"} - set(file.schema_arrow.names)  # versions up to 0.4 knew no conversations
            table = file.read([name for name in wanted.names if name not in absent])
        if "context" in absent & set(wanted.names):
            table = table.append_column("context", pa.nulls(len(table), pa.string()))
        return table.select(wanted.names).cast(wanted)
    except FileNotFoundError:
        raise UserError(
            f"The shard {path} no longer exists: the dataset was changed or deleted. Resume the run that wrote it to "
            "sample it again."
        ) from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"The shard {path} is damaged ({first_line(error)}). Resume the run that wrote it to sample it again."
        ) from None


def holds_conversations(folder: Path) -> bool:
    """Whether problems of a dataset have turns before their question. A damaged shard has none to export."""
    for path in shards(folder):
        with contextlib.suppress(UserError):
            column = read_shard(path, ["context"])["context"]
            if column.null_count < len(column):
                return True
    return False


def rows(folder: Path, columns: list[str] | None = None, on_corrupt: OnCorrupt = None) -> Iterator[dict]:
    """Every row as a dict, one shard in memory at a time.

    A damaged or lost shard raises its UserError, or is passed to `on_corrupt` and skipped; see `complete_shards`.
    """
    for path in complete_shards(folder, on_corrupt):
        try:
            table = read_shard(path, columns)
        except UserError as error:
            if on_corrupt is None:
                raise
            on_corrupt(path, error)
            continue
        yield from table.to_pylist()
