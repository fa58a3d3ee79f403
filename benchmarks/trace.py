"""Live trace against a bare `generate` of the same expert, batch 1, one process, alternating.

    python -m benchmarks.trace [--pair NAME | --expert REF --amateur REF] [--problems 8] [--tokens 128] [--rounds 3]

Both generate the same greedy tokens, which is checked in float32. In 16 bits another kernel may round two nearly equal
logits the other way, so there the share of responses that agree is printed. The ratio is the cost of the amateur, the
scorer and the events.
"""

import statistics
import time

import torch

from benchmarks.measuring import named_pair, pair_parser
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.problems.stream import load_problems
from lightreasoner.settings import from_environment
from lightreasoner.tracing.events import EndEvent, StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace


def bare(pair: Pair, question: str, tokens: int) -> tuple[float, list[int]]:
    """(seconds, response ids) of transformers' own greedy generation."""
    ids = torch.tensor([prompt_ids(pair.expert, question)], device=pair.expert.device)
    began = time.perf_counter()
    output = pair.expert.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=sorted(pair.expert.end_ids),
        pad_token_id=pair.expert.tokenizer.pad_token_id,
    )
    response = output[0, ids.shape[1] :].tolist()
    return time.perf_counter() - began, response


def live(pair: Pair, question: str, tokens: int, settings) -> tuple[float, float, list[int]]:
    """(seconds, seconds to the first step, response ids) of a whole live trace."""
    began, first, response = time.perf_counter(), 0.0, []
    for event in trace(pair, TraceRequest(question, max_new_tokens=tokens), settings):
        if isinstance(event, StepsEvent):
            first = first or time.perf_counter() - began
            response += [step.token_id for step in event.steps]
        assert not isinstance(event, EndEvent) or event.finish_reason in ("stop", "length")
    return time.perf_counter() - began, first, response


def main() -> None:
    options = pair_parser(__doc__, "bundled-test", problems=8, tokens=128, rounds=3).parse_args()
    settings, (heading, pair) = from_environment(), named_pair(options)
    questions = [p.question for p in load_problems(options.source, limit=options.problems).problems]
    print(heading)
    bare(pair, questions[0], 16), live(pair, questions[0], 16, settings)  # warm both up
    ratios, firsts, same = [], [], []
    for n in range(options.rounds):
        spent, count = [0.0, 0.0], 0
        for i, question in enumerate(questions):
            for side in (0, 1) if (i + n) % 2 else (1, 0):  # each side goes first half of the time
                if side == 0:
                    seconds, plain = bare(pair, question, options.tokens)
                else:
                    seconds, first, traced = live(pair, question, options.tokens, settings)
                    firsts.append(first)
                spent[side] += seconds
            same.append(plain == traced)
            exact = pair.expert.dtype == torch.float32
            assert same[-1] or not exact, f"problem {i}: the trace's tokens differ from generate's"
            count += len(traced)
        ratios.append(spent[1] / spent[0])
        rates = [count / seconds for seconds in spent]
        print(f"round {n + 1}: generate {rates[0]:.1f} tokens/s, live trace {rates[1]:.1f}, ratio {ratios[-1]:.3f}")
    print(
        f"ratio of times, live / bare: median {statistics.median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}); first step after {statistics.median(firsts) * 1000:.0f} ms; "
        f"{sum(same)} of {len(same)} responses alike"
    )


if __name__ == "__main__":
    main()
