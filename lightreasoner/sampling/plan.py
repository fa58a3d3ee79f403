"""The batch plan: which problems are sampled in which batch, as a pure function of the problems and the batch size."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lightreasoner.decoding.batch_size import fitting_rows
from lightreasoner.decoding.generate import CHUNK, DecodingConfig, GenerationRow
from lightreasoner.errors import UserError
from lightreasoner.models.context_length import check_lengths
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.problems.stream import ProblemStream
from lightreasoner.settings import Settings

WINDOW = 512  # problems that are held in memory and sorted by length together; as many as a larger batch has
TYPICAL_PROMPT = 512  # tokens per prompt assumed when the batch size is chosen; longer prompts halve it
#: The most rows of a batch on a CPU. A batch is shown and kept when it is whole, which should be every few seconds; the
#: bundled pair takes 1.8 s for 64 rows, and is at most 5 % slower so than with 192.
CPU_ROWS = 64
TYPICAL_ROW = 2 * TYPICAL_PROMPT  # tokens of prompt and response, likewise, where the response is given
MAX_REASONS = 10  # that are saved for problems left out


@dataclass(frozen=True)
class Skipped:
    """How many problems were left out, and the first reasons."""

    unusable: int  # rows that are no problem
    duplicates: int  # repeated questions
    unreadable: int  # problems that do not fit into a model
    reasons: tuple[str, ...]  # at most MAX_REASONS


class Prompts:
    """The problems of a stream as prompts for both models; problems that do not fit are skipped and counted."""

    doing = "Sampling"  # what a run says that it does

    def __init__(
        self,
        pair: Pair,
        stream: ProblemStream,
        decoding: DecodingConfig,
        settings: Settings,
        prompt: PromptSettings = PAPER,
        others: Sequence[Pair] = (),
    ):
        """others: further amateurs of the same expert."""
        self._prompt, self._others = prompt, others
        self._pair, self._stream, self._decoding, self._settings = pair, stream, decoding, settings
        self.unreadable, self._reasons = 0, []

    def __iter__(self) -> Iterator[GenerationRow]:
        """One item per problem, its sample 0. Raises UserError at the end when no problem fits."""
        for problem in self._stream:
            try:
                asked = (problem.question, self._prompt, problem.context)
                prompt, amateur_prompt = pair_prompts(self._pair, *asked)
                others = tuple(pair_prompts(pair, *asked)[1] for pair in self._others)
                longest, more = max(map(len, (prompt, amateur_prompt, *others))), [p.amateur for p in self._others]
                check_lengths(self._pair, self._settings, longest, 0, self._decoding.max_new_tokens, *more)
            except UserError as error:
                self.unreadable += 1
                if len(self._reasons) < MAX_REASONS:
                    self._reasons.append(f"{problem.id}: {error}")
                continue
            yield GenerationRow(problem, 0, prompt, amateur_prompt, other_prompts=others)
        if self.unreadable == self._stream.count:
            raise UserError(f"None of the {self.unreadable:,} problems fits into these models; {self._reasons[0]}")

    def skipped(self) -> Skipped:
        """What was left out so far."""
        rows = [f"{self._stream.unit} {row}: {reason}" for row, reason in self._stream.skipped[:MAX_REASONS]]
        reasons = tuple((rows + self._reasons)[:MAX_REASONS])
        return Skipped(len(self._stream.skipped), self._stream.duplicates, self.unreadable, reasons)


def planned_rows(pair: Pair, tokens: int, others: Sequence[Pair] = ()) -> int:
    """The responses in a batch, for sequences of `tokens` tokens: as many as are fast, fit into memory, and can be kept
    every few seconds. others: further amateurs."""
    rows = fitting_rows((pair.expert, *(each.amateur for each in (pair, *others))), tokens, CHUNK)
    return min(rows, CPU_ROWS) if pair.expert.device.type == "cpu" else rows


def batches(rows: Iterable[GenerationRow], size: int, samples: int) -> Iterator[tuple[int, list[GenerationRow]]]:
    """(number, items) of each batch. Each window of the stream is sorted by length and cut into batches.

    rows: one item per problem, each of which is sampled `samples` times; or one per given response. A batch has at most
    `size` items; of given responses fewer where they have more tokens than so many usual ones.
    """
    stream, numbers = iter(rows), itertools.count()
    while window := list(itertools.islice(stream, max(WINDOW, size))):
        window.sort(key=lambda item: item.length)  # stable: equal lengths stay in the stream's order
        items = [replace(item, sample=item.sample + n) for item in window for n in range(samples)]
        while items:
            most = size
            if items[0].given:
                most = next((n for n in range(1, size + 1) if n >= len(items) or _too_many(items, n + 1, size)), size)
            yield next(numbers), items[:most]
            del items[:most]


def _too_many(items: list[GenerationRow], count: int, size: int) -> bool:
    """Whether so many of these items, sorted by length, have more tokens than `size` usual ones."""
    return count * items[count - 1].length > size * TYPICAL_ROW
