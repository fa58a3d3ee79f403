"""The files that a dataset exports: its samples at a selection, or all its trajectories."""

from pathlib import Path

import pyarrow.parquet as pq

from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.export import FORMATS, export_samples, export_steps
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import SCHEMA, read_shard, shards
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import atomic_file
from ui.components.downloads import offer

RAW, STEPS = "raw", "steps"


def dataset_file(settings: Settings, explorer: Explorer, kind: object, selection: Selection) -> dict:
    """Write a file to download: {"url", "name"}. kind: "paper" and "parquet" are samples, "steps" is a
    table of all steps, "raw" is trajectories.

    Raises UserError.
    """
    short = explorer.folder.name[:8]
    if kind == RAW and not explorer.imported:
        return offer(settings, f"trajectories-{short}.parquet", lambda out: write_trajectories(explorer.folder, out))
    chosen = f"{short}-{selection.selector}-a{selection.alpha:g}-b{selection.beta:g}"
    chosen += "" if selection.tau is None else f"-t{selection.tau:g}"
    chosen += "" if selection.cap is None else f"-c{selection.cap:g}"
    chosen += f"-box-{selection.box.replace(':', '-')}" if selection.box else ""
    if kind == STEPS and not explorer.imported:
        return offer(settings, f"steps-{chosen}.csv", lambda out: export_steps(explorer, out, selection))
    if not isinstance(kind, str) or kind not in FORMATS:
        raise UserError(f"There is no file called {str(kind)[:20]!r}; choose paper, parquet, steps or raw.")
    name = f"samples-{chosen}{FORMATS[kind]}"
    # the page lists damaged shards; the rest is exported
    return offer(settings, name, lambda out: export_samples(explorer.folder, out, kind, selection, lambda *_: None))


def write_trajectories(folder: Path, out: Path) -> None:
    """Write all readable shards into one Parquet file, one shard in memory at a time. Raises UserError without any."""
    written = 0
    with atomic_file(out) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for path in shards(folder):
            try:
                table = read_shard(path)
            except UserError:
                continue
            writer.write_table(table)
            written += len(table)
    if not written:
        raise UserError("There are no trajectories yet; wait for the first batch.")
