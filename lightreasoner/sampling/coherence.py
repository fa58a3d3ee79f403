"""Whether an amateur still writes sense: its own greedy responses, read by the expert, beside the expert's own.

An amateur that writes nonsense diverges from the expert everywhere; contrast with it rewards what is merely unusual.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, Given, generate_batch, greedy_generate
from lightreasoner.formatting import percent
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PAPER
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.models.turn_ends import finished_text
from lightreasoner.problems.rows import Problem

GRAM = 4  # tokens of a sequence that counts as repeated
MAX_LOSS = 1.2  # nats per token of the amateur's text under the expert, beyond those of the expert's own text
MAX_REPEATED = 0.3  # of the sequences, beyond the expert's own share
MIN_FINISHED = 0.5  # of the share of responses that the expert finishes


@dataclass(frozen=True)
class Writing:
    """Greedy responses of one model. Shares from 0 to 1."""

    loss: float  # −log p of the expert per token, nats
    repeated: float  # share of the sequences of GRAM tokens that stood before in the same response
    finished: float  # share of the responses that ended within the limit


@dataclass(frozen=True)
class Coherence:
    """What an amateur writes, beside what its expert writes."""

    problems: int
    amateur: Writing
    expert: Writing

    @property
    def troubles(self) -> list[str]:
        """What speaks against the amateur, in half sentences; none where it writes sense."""
        own, best, found = self.amateur, self.expert, []
        if not own.loss - best.loss < MAX_LOSS:
            found.append(f"the expert finds its text unlikely, {own.loss:.2f} nats per token ({best.loss:.2f} its own)")
        if own.repeated - best.repeated > MAX_REPEATED:
            found.append(
                f"{percent(own.repeated)} of what it writes repeats itself ({percent(best.repeated)} of the expert's)"
            )
        if own.finished < MIN_FINISHED * best.finished:
            found.append(f"it finishes {percent(own.finished)} of its responses (the expert {percent(best.finished)})")
        return found

    @property
    def sentence(self) -> str:
        own, best = self.amateur, self.expert
        if self.troubles:
            return (
                f"It no longer writes sense: on {self.problems:,} problems {', and '.join(self.troubles)}. Contrast "
                "with it rewards what is merely unusual; take an amateur that is nearer to the expert."
            )
        return (
            f"It still writes sense: on {self.problems:,} problems its own text costs the expert {own.loss:.2f} nats "
            f"per token ({best.loss:.2f} the expert's own), {percent(own.repeated)} of it repeats itself "
            f"({percent(best.repeated)}), and it finishes {percent(own.finished)} of its responses "
            f"({percent(best.finished)})."
        )


def coherence(
    pair: Pair, problems: Sequence[Problem], max_new_tokens: int, checkpoint: Callable[[], None] = lambda: None
) -> Coherence:
    """Let both models write, and the expert read. Raises UserError where a model's output is not a distribution."""
    prompts = [pair_prompts(pair, problem.question, PAPER, problem.context) for problem in problems]
    found = []
    for which, loaded in enumerate((pair.amateur, pair.expert)):
        texts = greedy_generate(loaded, [both[1 - which] for both in prompts], max_new_tokens, checkpoint)
        if which == 0 and pair.across:
            texts = [_in_experts_ids(pair, ids) for ids in texts]
        elif which == 0 and pair.alignment.amateur_ids is not None:  # the expert reads its own ids
            known = dict(zip(pair.alignment.amateur_list, pair.alignment.expert_list, strict=True))
            texts = [[known[id] for id in ids if id in known] for ids in texts]
        rows = [
            GenerationRow(problem, 0, *both, Given(ids))
            for problem, both, ids in zip(problems, prompts, texts, strict=True)
            if ids
        ]
        decoding, loss = DecodingConfig(max_new_tokens, beta_floor=1e9), float("inf")
        if rows:
            read = generate_batch(pair, rows, decoding, lambda ended: checkpoint())
            loss = float(-read.measures["expert_logprob"][read.known].mean(dtype=np.float64))
        ended = [finished_text(pair.expert, ids)[1] == "stop" for ids in texts]
        found.append(Writing(loss, float(np.mean([repeated(ids) for ids in texts])), float(np.mean(ended))))
    return Coherence(len(problems), *found)


def _in_experts_ids(pair: Pair, ids: list[int]) -> list[int]:
    """What an amateur with another tokenizer wrote, with the end of its turn."""
    text, reason = finished_text(pair.amateur, ids)
    ends = sorted(pair.expert.end_ids, key=lambda id: (id != pair.expert.tokenizer.eos_token_id, id))
    return [*pair.expert.tokenizer(text, add_special_tokens=False)["input_ids"], *ends[: reason == "stop"]]


def repeated(ids: Sequence[int]) -> float:
    """The share of the sequences of GRAM tokens that stood in the response before."""
    grams = [tuple(ids[n : n + GRAM]) for n in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
