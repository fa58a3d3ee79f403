"""Scoring responses against sampling them: the same pair and problems, one process, alternating.

    python -m benchmarks.scoring [--pair NAME | --expert REF --amateur REF] [--problems 512] [--rounds 2] [--cpu]

(a) `sample`: generate, teacher-force the amateur, score every step, write shards. (b) `score` of the responses that
(a) wrote: both models are teacher-forced. Both put their rows into batches of their own, as large as the verbs' are.
Checked: no KL differs by more than 1e-4, and no step is selected by one of them only.
"""

import json
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import named_pair, pair_parser
from lightreasoner.datasets.trajectories import rows
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.models.prompt_settings import PAPER
from lightreasoner.paper import BETA
from lightreasoner.problems.response_files import ResponseFile
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.progress import SilentProgress
from lightreasoner.sampling.given_responses import GivenPrompts
from lightreasoner.sampling.plan import TYPICAL_PROMPT, Prompts, planned_rows
from lightreasoner.sampling.sampler import SamplingCounts, sample_dataset
from lightreasoner.settings import from_environment

TOLERANCE = 1e-4  # nats
KEPT = ("problem_id", "question", "answer", "prompt_ids", "response_ids")


def compare(sampled: Path, scored: Path) -> tuple[float, int]:
    """(largest difference of a KL, selections that flip) between two datasets of the same responses."""
    own, given = ({row["problem_id"]: row for row in rows(folder)} for folder in (sampled, scored))
    assert own.keys() == given.keys()
    worst, flips = 0.0, 0
    for name, row in own.items():
        assert row["response_ids"] == given[name]["response_ids"], name
        for a, b in zip(row["kl"], given[name]["kl"], strict=True):
            worst, flips = max(worst, abs(a - b)), flips + ((a > BETA) != (b > BETA))
    return worst, flips


def main() -> None:
    parser = pair_parser(__doc__, "bundled-train", problems=512, tokens=128, rounds=2)
    parser.add_argument("--cpu", action="store_true", help="of this process, where others share the machine")
    options = parser.parse_args()
    settings, decoding = from_environment(), DecodingConfig(options.tokens)
    heading, pair = named_pair(options)
    clock = time.process_time if options.cpu else time.perf_counter
    size = planned_rows(pair, TYPICAL_PROMPT + options.tokens)  # as the verbs do

    def run(found: Prompts | GivenPrompts, folder: Path) -> float:
        began, counts = clock(), SamplingCounts()
        options = {"batch_size": size, "total": 0, "progress": SilentProgress(), "counts": counts}
        sample_dataset(pair, found, folder, decoding, **options)
        return clock() - began

    def problems() -> Prompts:
        split = training_split(options.source)
        return Prompts(
            pair, open_problems(options.source, split=split, limit=options.problems, distinct=True), decoding, settings
        )

    ratios = []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(-1, options.rounds):  # the first warms up and writes the responses
            sampled, scored = (Path(place) / f"{turn}-{what}" for what in ("sampled", "scored"))
            if turn < 0 or not turn % 2:  # each goes first half of the time
                sample = run(problems(), sampled)
            if turn < 0:
                lines = ({name: row[name] for name in KEPT} for row in rows(sampled))
                written = Path(place) / "responses.jsonl"
                written.write_text("".join(json.dumps(line) + "\n" for line in lines))
                continue
            score = run(GivenPrompts(pair, ResponseFile(written), PAPER, ()), scored)
            if turn % 2:
                sample = run(problems(), sampled)
            ratios.append(score / sample)
            worst, flips = compare(sampled, scored)
            print(f"sample {sample:.2f} s, score {score:.2f} s: {ratios[-1]:.3f}; KL within {worst:.1e}, {flips} flips")
            assert worst < TOLERANCE and not flips
    print(f"{heading}; score takes {sorted(ratios)[len(ratios) // 2]:.3f} of sample's time")


if __name__ == "__main__":
    main()
