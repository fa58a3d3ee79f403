"""Several amateurs beside one expert: what reading them together costs against one alone, and that the numbers agree.

    python -m benchmarks.amateurs [--expert REF --amateur REF --amateur REF …] [--problems 128] [--rounds 3]

CPU seconds of this process, one thread, alternating: each amateur in a batch of its own, then all in one. The cost is
that of all together against the mean of one alone. Checked: the same tokens, the same steps above β, and no measure of
an amateur differs from its own single run by more than 1e-5. The default is the bundled pair, its amateur four times
with other weights: noise of 1 % to 3 % on them.
"""

import copy
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.measuring import number_parser
from lightreasoner.cli.pairs import add_pair_options, expert_and_amateurs
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, generate_batch
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.paper import BETA
from lightreasoner.problems.stream import open_problems
from lightreasoner.sampling.plan import Prompts, batches
from lightreasoner.sampling.trajectory_table import batch_table
from lightreasoner.scoring.measures import FLOAT_MEASURES
from lightreasoner.settings import from_environment

BATCH = 64  # responses
WITHIN = 1e-5


def noisy(pair: Pair, number: int) -> Pair:
    model = copy.deepcopy(pair.amateur.model)
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight += 0.01 * number * weight.std() * noise if weight.dim() > 1 else 0
    return replace(pair, amateur=replace(pair.amateur, model=model), same_model=False)


def sample(pairs: list[Pair], plan: list[list[GenerationRow]], numbers: list[int]) -> tuple[float, list[dict]]:
    """(CPU seconds, the measures of each of these amateurs over all steps)."""
    began, found = time.process_time(), []
    for rows in plan:
        rows = [row.read_by(numbers) for row in rows]
        first, *others = (pairs[n] for n in numbers)
        responses = generate_batch(first, rows, DecodingConfig(), lambda ended: None, others)
        seen = (responses, *responses.others)
        for pair, own in zip((first, *others), seen, strict=True):
            batch_table(pair, rows, own)
        found.append([own.measures for own in seen])
    seconds = time.process_time() - began
    parts = zip(*found, strict=True)
    return seconds, [{name: np.concatenate([p[name] for p in own]) for name in FLOAT_MEASURES} for own in parts]


def main() -> None:
    parser = number_parser(__doc__, problems=128, rounds=3)
    add_pair_options(parser, several=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = from_environment()
    _, expert, amateurs = expert_and_amateurs(options)
    models = LoadedModels(settings)
    pairs = [load_pair(expert, amateur, models) for amateur in amateurs]
    if len(pairs) == 1:
        pairs += [noisy(pairs[0], number) for number in (1, 2, 3)]
    stream = open_problems("bundled-train", limit=options.problems)
    prompts = Prompts(pairs[0], stream, DecodingConfig(), settings, others=pairs[1:])
    plan = [rows for _, rows in batches(prompts, BATCH, 1)]
    sample(pairs, plan[:1], list(range(len(pairs))))  # warm
    for _ in range(options.rounds):
        alone = [sample(pairs, plan, [n]) for n in range(len(pairs))]
        seconds, together = sample(pairs, plan, list(range(len(pairs))))
        one = sum(own for own, _ in alone) / len(alone)
        worst = 0.0
        for (_, (own,)), seen in zip(alone, together, strict=True):
            assert ((own["kl"] > BETA) == (seen["kl"] > BETA)).all(), "another selection"
            worst = max(worst, *(np.abs(own[name] - seen[name]).max() for name in FLOAT_MEASURES))
        assert worst <= WITHIN, f"a measure differs by {worst}"
        print(
            f"{len(pairs)} amateurs {seconds:.2f} s, one {one:.2f} s: {seconds / one:.2f} times; {len(own['kl']):,} "
            f"steps, largest difference of a measure {worst:.1e}"
        )


if __name__ == "__main__":
    main()
