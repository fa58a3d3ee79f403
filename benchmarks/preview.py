"""Preview against the expert's own evaluation: the same problems, one process, by turns, in CPU seconds.

    python -m benchmarks.preview [--pair NAME | --expert REF --amateur REF] [--problems 48] [--tokens 128] [--rounds 3]

One cell reads every token with both models. A grid's cells share their beginnings and are decoded in one batch. Time
per token tells what a step costs, since responses by contrast have other lengths than the expert's.
"""

import statistics
import time
from collections.abc import Callable

from benchmarks.measuring import named_pair, pair_parser
from lightreasoner.decoding.contrast import NOTHING, Contrast, contrast_generate, contrast_grid
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.paper import ALPHA, BETA, PREVIEW_BETAS
from lightreasoner.problems.stream import load_problems


def spent(act: Callable[[], list[int]]) -> tuple[float, int]:
    """(CPU seconds, tokens) of a call that returns the lengths of the responses."""
    began = time.process_time()
    lengths = act()
    return time.process_time() - began, sum(lengths)


def main() -> None:
    options = pair_parser(__doc__, "bundled-test", problems=48, tokens=128, rounds=3).parse_args()
    heading, pair = named_pair(options)
    questions = [problem.question for problem in load_problems(options.source, limit=options.problems).problems]
    prompts, most = [pair_prompts(pair, question) for question in questions], options.tokens
    betas = sorted(map(float, PREVIEW_BETAS.split(",")), reverse=True)  # as an evaluation orders them

    def alone() -> list[int]:
        return [len(ids) for ids in greedy_generate(pair.expert, [own for own, _ in prompts], most)]

    def cell() -> list[int]:
        return [len(found.tokens) for found in contrast_generate(pair, prompts, Contrast(ALPHA, BETA), most)]

    decoded = 0

    def grid(*first: Contrast) -> list[int]:
        nonlocal decoded
        found = contrast_grid(pair, prompts, [*first, *(Contrast(ALPHA, beta) for beta in betas)], most)
        decoded = sum(response.decoded for responses in found for response in responses)
        return [len(response.tokens) for responses in found for response in responses]

    ways = {"the expert alone": alone, "one cell": cell, f"{len(betas)} cells": grid}
    ways[f"expert and {len(betas)}"] = lambda: grid(NOTHING)
    times: dict[str, list[tuple[float, int]]] = {way: [] for way in ways}
    alone(), cell()  # warm up
    for turn in range(options.rounds):
        for way in list(ways) if turn % 2 else reversed(ways):
            times[way].append(spent(ways[way]))
    base = times["the expert alone"]
    print(f"{heading}, {len(prompts)} problems")
    for way, found in times.items():
        ratios = [one[0] / other[0] for one, other in zip(found, base, strict=True)]
        per_token = [one[0] / one[1] / (other[0] / other[1]) for one, other in zip(found, base, strict=True)]
        print(
            f"{way:18} {statistics.median(s for s, _ in found):7.2f} s, {found[0][1]:,} tokens; ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), per token "
            f"{statistics.median(per_token):.2f}"
        )
    print(f"tokens decoded for the grid: {decoded:,}, of {times[f'{len(betas)} cells'][0][1]:,} in its responses")


if __name__ == "__main__":
    main()
