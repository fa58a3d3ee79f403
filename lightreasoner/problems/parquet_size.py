"""Checks in a bounded process what a Parquet file unpacks to, before any of it is unpacked here.

Metadata tells the size of what is encoded: one long value that a dictionary or a shared prefix repeats counts once
there, and as often as it occurs once it is read. So the batches are measured as they would be read, up to a limit.
"""

from functools import lru_cache
from pathlib import Path

from lightreasoner.bounded_process import Worker, serve

SECONDS = 10  # of computing, per file
MEMORY = 2 << 30  # bytes
BATCH = 64  # rows that are read at a time, since repeated values expand there
MAX_BATCH = 256_000_000  # bytes of a batch
MAX_UNPACKED = 1_000_000_000  # bytes of all batches
PLENTY, RATIO = 64_000_000, 200  # bytes that any file may unpack to, and how often its own size
_worker = Worker("lightreasoner.problems.parquet_size", SECONDS)


def refusal(path: Path, most: int = MAX_UNPACKED) -> str | None:
    """Why a Parquet file is not read, as the end of a sentence that begins with its name; None for one that is fine.

    most: bytes that it may unpack to.
    """
    status = path.stat()
    return _refusal(path.absolute(), most, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _refusal(path: Path, most: int, *stamp: int) -> str | None:
    size = stamp[1]
    answer = _worker.ask({"path": str(path), "most": min(most, PLENTY + RATIO * size), "declared": most})
    if failed := answer.get("failed"):
        much = f"{SECONDS} seconds of computing" if failed == "time" else f"{MEMORY >> 30} GB of memory"
        return f"takes more than {much} to unpack; load a part"
    return answer["refusal"]


def _answer(request: dict) -> dict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(request["path"]) as file:
            return {"refusal": _unpacked(file, request["most"], request["declared"])}
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        return {"refusal": f"is damaged or not a Parquet file ({(str(error).splitlines() or [''])[0][:200]})"}


def _unpacked(file, most: int, declared: int) -> str | None:
    """Measure a pq.ParquetFile, see `refusal`. declared: the most bytes that its metadata may name."""
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    named = sum(group.total_byte_size for group in groups)
    if named > declared:
        return f"unpacks to {named / 1e9:,.1f} GB, over the limit of {declared / 1e9:.1g} GB; load a part"
    total = 0
    for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
        size = batch.nbytes + 8 * sum(map(_cells, batch.columns))
        total += size
        if total > most or size > MAX_BATCH:
            return f"unpacks to more than {total / 1e6:,.0f} MB, far more than its own size; load a part"
    return None


def _cells(array) -> int:
    """The values of a pa.Array on all levels: of lists, also the empty ones, which take no bytes here but do later."""
    import pyarrow.types as kinds

    kind, count = array.type, len(array)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return count + _cells(array.flatten())
    if kinds.is_map(kind):
        return count + _cells(array.keys) + _cells(array.items)
    if kinds.is_struct(kind):
        return count + sum(_cells(array.field(n)) for n in range(kind.num_fields))
    return count


if __name__ == "__main__":
    import pyarrow.parquet

    pyarrow.set_cpu_count(1)
    serve(_answer, SECONDS, MEMORY)
