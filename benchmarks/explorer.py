"""The datasets explorer at many steps: a page of rows, and the first one at an α that was not seen before.

    python -m benchmarks.explorer [--steps 100000] [--rounds 7]

The steps come from random logits, of a spread that gives some plausible tokens a step at the lowest α, or many. CPU
seconds of this process, in turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from benchmarks.measuring import number_parser
from lightreasoner.datasets.annotations import Annotations
from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.explorer_columns import ExplorerColumns, Response
from lightreasoner.datasets.explorer_page import Filters, page
from lightreasoner.datasets.selectors import Selection
from lightreasoner.paper import ALPHA_FLOOR
from lightreasoner.scoring.candidates import prefix_signals
from lightreasoner.scoring.divergence import log_probs, measure_steps, plausible
from lightreasoner.scoring.measures import FLOAT_MEASURES
from lightreasoner.storage.runs import begin_run

LENGTH = 100  # steps of a response
VOCABULARY = 300
SPREADS = (8.0, 3.0)  # of the expert's logits: some plausible tokens, or many
ALPHAS = (0.2, 0.05, ALPHA_FLOOR)


def columns(steps: int, spread: float) -> ExplorerColumns:
    """Steps of random logits, as the explorer has them after reading all shards."""
    generator = torch.Generator().manual_seed(0)
    parts, values, agree, top1, taken = [], [], [], [], []
    for start in range(0, steps, 10_000):
        count = min(10_000, steps - start)
        expert = spread * torch.randn(count, VOCABULARY, generator=generator)
        amateur = expert + 1.5 * torch.rand(count, 1, generator=generator) * torch.randn(
            count, VOCABULARY, generator=generator
        )
        token = expert.argmax(-1)
        found = measure_steps(expert, amateur, token, above=float("inf"))
        log_e, log_a = log_probs(expert), log_probs(amateur)
        step, ids = plausible(log_e, ALPHA_FLOOR).nonzero(as_tuple=True)
        order = torch.argsort(log_e[step, ids], descending=True, stable=True)
        order = order[torch.argsort(step[order], stable=True)]
        step, ids = step[order], ids[order]
        parts.append((torch.bincount(step, minlength=count), log_e[step, ids], log_a[step, ids]))
        values.append([getattr(found, name).numpy() for name in FLOAT_MEASURES])
        agree.append(found.agree.numpy())
        top1.append(torch.stack([token, log_a.argmax(-1)], 1).numpy())
        taken.append(token.numpy())
    sizes, log_e, log_a = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    responses = tuple(
        Response(f"p{n}", 0, f"How many, {n}?", None, "…", "stop", "000000.parquet", n, f"how many, {n}?")
        for n in range(-(-steps // LENGTH))
    )
    starts = np.minimum(np.arange(len(responses) + 1) * LENGTH, steps)
    return ExplorerColumns(
        responses,
        starts,
        dict(zip(FLOAT_MEASURES, map(np.concatenate, zip(*values, strict=True)), strict=True)),
        (np.arange(steps) % LENGTH).astype(np.int32),
        np.concatenate(taken).astype(np.int32),
        np.concatenate(agree).astype(np.int8),
        np.zeros(steps, np.int8),
        np.arange(steps, dtype=np.int32),
        bounds,
        log_e - np.repeat(log_e[bounds[:-1]], sizes),
        np.stack([log_e, log_a]),
        prefix_signals(log_e, log_a, bounds),
        np.concatenate(top1).astype(np.int32),
    )


def milliseconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return 1000 * (time.process_time() - began)


def measure(explorer: Explorer, alpha: float, rounds: int) -> list[list[float]]:
    """Milliseconds, a round each: the first page at an α, the same again, and the column of the signal alone."""
    found = []
    for n in range(rounds):
        selection = Selection(alpha=alpha + n * 1e-6)
        look = partial(page, explorer, Filters(), "teaching", 0, 25, selection)
        acts = look, look, partial(explorer.view.data.teaching, selection.alpha)
        found.append([milliseconds(act) for act in acts])
    return found


def main() -> None:
    options = number_parser(__doc__, steps=100_000, rounds=7).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        begin_run(Path(place), "dataset", {"expert": "./nowhere", "amateur": "./nowhere"}, {})
        for spread in SPREADS:
            explorer, data = Explorer(Path(place)), columns(options.steps, spread)
            keys = MappingProxyType({(r.problem_id, r.sample): n for n, r in enumerate(data.responses)})
            explorer.view = View(data, Annotations(), keys, False, ())
            print(f"{options.steps:,} steps, {len(data.gaps) / data.steps:.1f} plausible tokens each at the lowest α")
            page(explorer, Filters(), "kl", 0, 25, Selection())
            for alpha in ALPHAS:
                found = zip(*measure(explorer, alpha, options.rounds), strict=True)
                first, again, column = (f"{statistics.median(each):.1f} ({max(each):.1f})" for each in found)
                print(f"α {alpha:g}: first page {first} ms, again {again}, the column {column}; medians (longest)")


if __name__ == "__main__":
    main()
