"""The card of a published dataset: what it is, how its KL is distributed, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from lightreasoner.datasets.external import is_imported, read_imported
from lightreasoner.datasets.step_table import read_steps
from lightreasoner.datasets.trajectories import shards
from lightreasoner.formatting import markdown_table
from lightreasoner.paper import BETA
from lightreasoner.problems.sources import SOURCES

#: Edges of the card's histogram, nats; the last bin takes everything above.
EDGES = (0, 0.01, 0.05, 0.1, 0.2, BETA, 0.8, 1.6, 3.2, np.inf)
BAR = 24  # characters of the longest bar
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (np.inf, "n>1M"))


def dataset_card(folder: Path, run: dict, title: str, license: str) -> str:
    """The card, in Markdown with YAML before it. run: the record without private paths. Raises UserError."""
    imported = is_imported(run)
    counts, over, rows = np.zeros(len(EDGES) - 1, int), 0, 0
    for kl, held in _kls(folder, imported):
        counts += np.histogram(np.minimum(kl, 1e9), [*EDGES[:-1], 1e10])[0]
        over, rows = over + int((kl > BETA).sum()), rows + held
    steps, unit = int(counts.sum()), "samples" if imported else "responses"
    config, about = run["config"], run["about"]
    front = {
        "license": license,
        "pretty_name": title,
        "task_categories": ["text-generation"],
        "tags": ["lightreasoner", "reasoning", "contrastive", "distillation"],
        "size_categories": [next(name for below, name in SIZES if rows < below)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "samples.parquet" if imported else "trajectories/*.parquet"}],
            }
        ],
    }
    what = (
        "Training samples that were imported from a file: prefixes and the contrastive targets after them."
        if imported
        else "What an expert model wrote for many problems, and at every token how far an amateur model's expectation "
        "was from its own. The steps where the two part are training samples (LightReasoner, arXiv 2510.07962)."
    )
    source = SOURCES.get(str(config.get("problems")))
    prints = about.get("fingerprints") or {}
    models = [
        f"- {role}: `{str(config.get(role, 'not known')).replace('`', '')}`"
        + (f", fingerprint `{prints[role]}`" if prints.get(role) else "")
        for role in ("expert", "amateur")
        if config.get(role)
    ]
    lines = [
        "---",
        # JSON is YAML, and nothing in it can be mistaken for anything else
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()),
        "---",
        f"# {' '.join(title.split())}",
        "",
        what,
        "",
        f"{rows:,} {unit}, {steps:,} steps, {over:,} of them above β = {BETA:g} nats.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("OWNER/NAME", split="train")',
        "```",
        "",
        "`python -m lightreasoner pull OWNER/NAME --run-dir DIR` brings it back as a run that can be explored and "
        "trained on.",
        "",
        "## KL(expert ‖ amateur)",
        "",
        *_histogram(counts),
        "",
        "## Provenance",
        "",
        *(models or ["- the models are not known: the samples were imported"]),
        *([f"- problems: {source.title}, licence: {source.license}"] if source else []),
        "",
        "## Settings",
        "",
        *markdown_table({name: value for name, value in config.items() if name not in ("expert", "amateur")}),
        "",
        "## Versions",
        "",
        *markdown_table(dict(about.get("versions") or {}) | {"device": about.get("device")}),
        "",
        "## Licence",
        "",
        f"{'Not stated by who published it' if license == 'unknown' else license}. The questions are their authors', "
        "the responses are a model's: the licences of both apply.",
        "",
    ]
    return "\n".join(lines)


def _kls(folder: Path, imported: bool) -> Iterable[tuple[np.ndarray, int]]:
    """(KL of every step that has one, rows) a shard."""
    if imported:
        for part in read_imported(folder, ["kl"]):
            values = part["kl"].to_numpy()
            yield values[~np.isnan(values)], len(values)
        return
    for path in shards(folder):
        part = read_steps(path, ("kl",))
        values = part.values["kl"].astype(np.float64)
        yield values[~np.isnan(values)], part.rows


def _histogram(counts: np.ndarray) -> list[str]:
    total, most = max(1, int(counts.sum())), max(1, int(counts.max()))
    rows = ["| nats | steps | share | |", "|---|--:|--:|---|"]
    for (low, high), n in zip(pairwise(EDGES), counts.tolist(), strict=True):
        name = f"{low:g} – {high:g}" if np.isfinite(high) else f"over {low:g}"
        rows.append(f"| {name} | {n:,} | {n / total:.1%} | {'█' * round(BAR * n / most)} |")
    return rows
