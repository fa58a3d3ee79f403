"""What sampling writes and everything else reads: one Parquet row per response, one shard per batch.

`folder` is always the run folder; the shards lie in its `trajectories/`, named by batch number. Each is written under a
temporary name and renamed, so the shards present are whole, and they *are* the progress of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.errors import UserError
from lightreasoner.scoring.measures import MEASURES, STEP_MEASURES
from lightreasoner.storage.atomic import atomic_file

FOLDER = "trajectories"

ARROW = {float: pa.float32(), int: pa.int32(), bool: pa.bool_()}  # the stored type of a measure

#: One step in full. ids are the expert's, ordered by its probability: the plausible set at ALPHA_FLOOR,
#: each model's most likely tokens, and the taken one.
STEP = pa.struct(
    [
        ("index", pa.int32()),  # position in the response, from 0
        ("token_id", pa.int32()),  # what was taken
        ("kl", pa.float32()),
        ("ids", pa.list_(pa.int32())),
        ("expert_logprobs", pa.list_(pa.float32())),
        ("amateur_logprobs", pa.list_(pa.float32())),
    ]
)
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample", pa.int32()),  # 0 … samples per problem − 1
        ("question", pa.string()),
        ("answer", pa.string()),  # null where the source has none
        ("prompt_ids", pa.list_(pa.int32())),  # the expert's, chat template included
        ("response_ids", pa.list_(pa.int32())),  # the expert's, the end of the turn included
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # "stop" or "length"
        # Over every step of the response, the end-of-turn token included. Null where the taken token lies outside the
        # shared vocabulary; infinite where one model rules out what the other holds possible.
        *((m.key, pa.list_(ARROW[m.type])) for m in MEASURES if m.key in STEP_MEASURES),
        ("steps", pa.list_(STEP)),  # only steps above the run's β floor; all of them where that is 0
    ]
)

#: Edges of the KL histogram in nats, the same wherever one is shown: 1,000ths below 0.01, then 24 bins a decade up
#: to 20. The last bin takes everything above, the infinite included.
KL_EDGES: tuple[float, ...] = (
    *(n / 1000 for n in range(10)),
    *(float(f"{10 ** (-2 + n / 24):.6g}") for n in range(80)),
    20.0,
)


def kl_histogram(kl: Any) -> np.ndarray:
    """How many of these KLs fall into each bin [KL_EDGES[i], KL_EDGES[i + 1]): int64, one fewer than edges."""
    values = np.asarray(kl, dtype=np.float64)
    values = values[~np.isnan(values)].clip(0, np.nextafter(KL_EDGES[-1], 0))
    return np.histogram(values, KL_EDGES)[0].astype(np.int64)


def write_shard(folder: Path, name: str, table: pa.Table) -> Path:
    """Write a shard whole or not at all: `name` is without ending. Raises UserError when the disk refuses."""
    path = Path(folder) / FOLDER / f"{name}.parquet"
    advice = "Free some space and resume the run; the shards so far are complete."
    with atomic_file(path, f"The dataset in {folder}", advice) as file:
        pq.write_table(table.cast(SCHEMA), file, compression="zstd", write_page_checksum=True)
    return path


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files of writers that were killed; how many. Only for who holds the folder's lock."""
    leftovers = [*Path(folder).glob(".run.json.*"), *(Path(folder) / FOLDER).glob(".*.parquet.*")]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def shards(folder: Path) -> list[Path]:
    """The shards present, in order; none where there is no such folder."""
    return sorted((Path(folder) / FOLDER).glob("[!.]*.parquet"))


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A shard, or some columns of it. Raises UserError naming it when it is damaged or no trajectories."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            wanted = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
            table = file.read(columns)
        return table.select(wanted.names).cast(wanted)
    except FileNotFoundError:
        raise UserError(f"The shard {path} is not there any more; the dataset was changed or deleted.") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"The shard {path} is damaged ({reason}). Resume the run that wrote it, and it is sampled again."
        ) from None


def rows(
    folder: Path, columns: list[str] | None = None, on_corrupt: Callable[[Path, UserError], None] | None = None
) -> Iterator[dict]:
    """Every row as a dict, one shard in memory at a time.

    A damaged shard raises its UserError, or goes to `on_corrupt` and is passed over.
    """
    for path in shards(folder):
        try:
            table = read_shard(path, columns)
        except UserError as error:
            if on_corrupt is None:
                raise
            on_corrupt(path, error)
            continue
        yield from table.to_pylist()
