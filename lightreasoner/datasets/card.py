"""The card of a published dataset: its contents, the distribution of its KL, its provenance and settings."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from huggingface_hub import DatasetCard, DatasetCardData

from lightreasoner.datasets.imported import is_imported, read_imported
from lightreasoner.datasets.origin import origin_sentences
from lightreasoner.datasets.step_table import compared_share, read_steps
from lightreasoner.datasets.trajectories import is_across, kl_histogram, shards
from lightreasoner.formatting import markdown_cell, markdown_table, printable
from lightreasoner.paper import BETA
from lightreasoner.problems.sources import SOURCES
from lightreasoner.settings import ASSETS
from lightreasoner.storage.runs import flat_config, versions_shown

#: Edges of the card's histogram in nats; the last bin includes everything above.
EDGES = (0, 0.01, 0.05, 0.1, 0.2, BETA, 0.8, 1.6, 3.2, np.inf)
ROLES = ("expert", "amateur")
BAR = 24  # characters of the longest bar
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (np.inf, "n>1M"))


def dataset_card(folder: Path, run: dict, title: str, license: str, further: dict[str, dict] | None = None) -> str:
    """The card, in Markdown with a YAML block. run: the record without private paths. Raises UserError.

    further: the records of further amateurs' datasets, by their folders in the repository.
    """
    imported = is_imported(run)
    counts, above, rows = np.zeros(len(EDGES) - 1, int), 0, 0
    for kl, number_of_rows in _read_kl(folder, imported):
        counts += kl_histogram(kl, [*EDGES[:-1], 1e10])
        above, rows = above + int((kl > BETA).sum()), rows + number_of_rows
    config, about = run["config"], run["about"]
    fingerprints = about.get("fingerprints") or {}
    settings = {name: value for name, value in flat_config(config).items() if name not in ROLES}
    files = "samples.parquet" if imported else "trajectories/*.parquet"
    data = DatasetCardData(
        license=license,
        pretty_name=title,
        task_categories=["text-generation"],
        size_categories=[next(name for limit, name in SIZES if rows < limit)],
        tags=["lightreasoner", "reasoning", "contrastive", "distillation"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": files}]}],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(ASSETS / "templates" / "dataset_card.md.j2"),
        heading=markdown_cell(" ".join(title.split())),
        imported=imported,
        origin=[markdown_cell(sentence) for sentence in origin_sentences(run)],
        rows=rows,
        steps=int(counts.sum()),
        above=above,
        across=_across(folder) if is_across(run) else "",
        beta=BETA,
        histogram=_histogram(counts),
        models=[(role, _code(config[role]), fingerprints.get(role)) for role in ROLES if config.get(role)],
        further=[
            (
                _code(own["config"].get("amateur")),
                (own["about"].get("fingerprints") or {}).get("amateur"),
                _code(place),
                is_across(own),
            )
            for place, own in (further or {}).items()
        ],
        prompt=prompt_text(about),
        notes=[markdown_cell(note) for note in (about.get("prompt") or {}).get("notes", [])],
        source=SOURCES.get(str(config.get("problems"))),
        settings="\n".join(markdown_table(settings)),
        versions="\n".join(markdown_table(versions_shown(run) | {"device": about.get("device")})),
        license_text="Not stated by the publisher" if license == "unknown" else markdown_cell(license),
    )
    return f"{card}\n"


def _across(folder: Path) -> str:
    """What two tokenizers that differ cost, in sentences."""
    share = compared_share(shards(folder))
    return (
        "The amateur's tokenizer differs from the expert's: every KL is a lower bound"
        + ("" if share is None else f", {100 * share:.1f} % of the expert's probability was compared")
        + ", and steps whose plausible tokens were not all compared have no target. The column `compared` tells the "
        "share at each step."
    )


def _code(text: object) -> str:
    return " ".join(str(text).replace("`", "").split())


def prompt_text(about: dict) -> str:
    """The prompt of an example problem, as it stands in a block of code; empty for runs that stored none."""
    text = str((about.get("prompt") or {}).get("example") or "")
    return "\n".join(f"    {line}" for line in printable(text).split("\n")) if text else ""


def _read_kl(folder: Path, imported: bool) -> Iterable[tuple[np.ndarray, int]]:
    """(KL of the steps, NaN where it is undefined; number of rows) per shard."""
    if imported:
        return ((part["kl"].to_numpy(), len(part)) for part in read_imported(folder, ["kl"]))
    parts = (read_steps(path, ("kl",)) for path in shards(folder))
    return ((part.values["kl"].astype(np.float64), part.rows) for part in parts)


def _histogram(counts: np.ndarray) -> list[dict]:
    """One row of the card's table per bin of EDGES."""
    total, most = max(1, int(counts.sum())), max(1, int(counts.max()))
    return [
        {
            "range": f"{low:g} – {high:g}" if np.isfinite(high) else f"over {low:g}",
            "count": n,
            "share": n / total,
            "bar": "█" * round(BAR * n / most),
        }
        for (low, high), n in zip(pairwise(EDGES), counts.tolist(), strict=True)
    ]
