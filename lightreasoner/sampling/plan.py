"""Which responses are sampled in which batch: a pure function of the problems and the batch size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from lightreasoner.decoding.generate import Decoding, Item
from lightreasoner.errors import UserError
from lightreasoner.models.context_length import check_lengths
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.problems.stream import ProblemStream
from lightreasoner.settings import Settings
from lightreasoner.validation import number

WINDOW = 512  # problems that are sorted by length together, and held in memory
TYPICAL_PROMPT = 512  # tokens that a prompt is taken to have when the batch size is chosen; longer ones halve it
SHOWN = 10  # reasons that are kept for what was left out


def check(decoding: Decoding, samples: int, settings: Settings) -> None:
    """The limits that need no model. Raises UserError."""
    number("The token limit", decoding.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    number("The temperature", decoding.temperature, 0, 10)
    number("The seed", decoding.seed, 0, 2**53, whole=True)
    number("The number of samples per problem", samples, 1, 64, whole=True)
    number("The β floor", decoding.beta_floor, 0, 1000)
    if samples > 1 and decoding.temperature == 0:
        raise UserError(
            f"{samples} samples per problem at temperature 0 would all be the same; set a temperature such as 0.8, or "
            "take one sample."
        )


class Prompts:
    """The problems of a stream in both models' ids; those that a model cannot read are left out and counted."""

    def __init__(self, pair: Pair, stream: ProblemStream, decoding: Decoding, settings: Settings):
        self._pair, self._stream, self._decoding, self._settings = pair, stream, decoding, settings
        self.unreadable, self._reasons = 0, []

    def __iter__(self) -> Iterator[Item]:
        """One item a problem, its sample 0. Raises UserError at the end when there was none."""
        for problem in self._stream:
            try:
                prompt = prompt_ids(self._pair.expert, problem.question)
                own = self._pair.same_specials
                amateur_prompt = prompt if own else prompt_ids(self._pair.amateur, problem.question)
                longest = max(len(prompt), len(amateur_prompt))
                check_lengths(self._pair, self._settings, longest, 0, self._decoding.max_new_tokens)
            except UserError as error:
                self.unreadable += 1
                if len(self._reasons) < SHOWN:
                    self._reasons.append(f"{problem.id}: {error}")
                continue
            yield Item(problem, 0, prompt, amateur_prompt)
        if self.unreadable == self._stream.count:
            raise UserError(f"None of the {self.unreadable:,} problems can be read by these models; {self._reasons[0]}")

    def skipped(self) -> dict[str, Any]:
        """What was left out until now: rows that are no problem, repeated questions, problems that a model cannot
        read, and the first reasons."""
        rows = [f"row {row}: {why}" for row, why in self._stream.skipped[:SHOWN]]
        return {
            "unusable": len(self._stream.skipped),
            "duplicates": self._stream.duplicates,
            "unreadable": self.unreadable,
            "reasons": (rows + self._reasons)[:SHOWN],
        }


def batches(prompts: Iterable[Item], size: int, samples: int) -> Iterator[tuple[int, list[Item]]]:
    """(number, items) of each batch: windows of the stream, sorted by the prompt's length and cut.

    prompts: one item a problem; each is taken `samples` times.
    """
    stream, numbers = iter(prompts), itertools.count()
    while window := list(itertools.islice(stream, WINDOW)):
        window.sort(key=lambda item: len(item.prompt))  # stable: equal lengths stay in the stream's order
        rows = [Item(i.problem, n, i.prompt, i.amateur_prompt) for i in window for n in range(samples)]
        for start in range(0, len(rows), size):
            yield next(numbers), rows[start : start + size]
