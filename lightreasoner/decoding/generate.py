"""Decoding a batch: greedy_generate with one model; generate_batch with a pair, whose steps are measured as well.

In generate_batch the expert generates all responses side by side, or reads given ones. The amateur is teacher-forced
through its own key-value cache, CHUNK steps at a time for all rows, so logits exist for at most one chunk of steps.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lightreasoner.decoding.amateur_reader import Responses, begin_reading, join_responses
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.batch_size import chunk_steps
from lightreasoner.decoding.cross_tokenizer_reader import amateur_reader
from lightreasoner.decoding.decoding_loop import DecodedChunk, decode_rows, in_chunks, read_rows
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.rows import Problem

CHUNK = 16  # steps that the amateur reads, and the scorer measures, at once
GIVEN_CHUNK = 128  # the same where one response is given and read by itself


def greedy_generate(
    loaded: LoadedModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    checkpoint: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
) -> list[list[int]]:
    """Greedy responses to these prompts, in token ids, each with its end-of-turn token unless the limit cut it off.

    A response also ends with the token that completes one of the texts `stop`.

    Padding rows of the output table are never chosen. `checkpoint` is called before each step and may raise.
    """
    choose = lambda logits, rows, step: logits.float().argmax(-1)  # noqa: E731
    return _responses(loaded, prompts, max_new_tokens, choose, checkpoint, stop)


def sampled_generate(
    loaded: LoadedModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    drawn: np.ndarray,
    checkpoint: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
) -> list[list[int]]:
    """Like greedy_generate, sampled at a temperature. drawn: (rows, max_new_tokens), uniform numbers from `uniform`."""
    numbers = _Columns(drawn, loaded.device)
    choose = lambda logits, rows, step: inverse_cdf(logits, temperature, numbers.at(rows, step))  # noqa: E731
    return _responses(loaded, prompts, max_new_tokens, choose, checkpoint, stop)


@torch.inference_mode()
def _responses(
    loaded: LoadedModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    choose: Callable[[torch.Tensor, list[int], int], torch.Tensor],
    checkpoint: Callable[[], None],
    stop: tuple[str, ...],
) -> list[list[int]]:
    """choose: from logits (rows, vocabulary), the indices of these rows and the step, the next tokens (rows,)."""
    vocabulary = len(loaded.tokenizer)
    check_reading(loaded)
    decoder = BatchDecoder(loaded, len(prompts), steps=max_new_tokens)
    decoder.prefill([prompt[:-1] for prompt in prompts])
    unread = torch.tensor([prompt[-1] for prompt in prompts], device=loaded.device)
    responses: list[list[int]] = [[] for _ in prompts]

    def next_tokens(logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        return choose(logits[:, :vocabulary], rows, step)

    for step in decode_rows(decoder, unread, next_tokens, max_new_tokens, lambda ended: checkpoint(), stop=stop):
        for row, token in zip(step.rows, step.tokens, strict=True):
            responses[row].append(token)
    return responses


class _Columns:
    """Numbers (rows, steps) on a device, of which a step needs those of the rows that are left."""

    def __init__(self, numbers: np.ndarray, device: torch.device):
        numbers = torch.from_numpy(numbers)
        if device.type == "mps" and numbers.is_floating_point():
            numbers = numbers.float()  # which has no other there
        self._all = self._left = numbers.to(device)
        self._rows = list(range(len(numbers)))

    def at(self, rows: list[int], step: int) -> torch.Tensor:
        """(rows,) the step's numbers, the last ones where it is beyond them. Picking rows makes the host wait."""
        if rows != self._rows:
            self._left, self._rows = self._all[rows], list(rows)
        return self._left[:, min(step, self._left.shape[1] - 1)]


def inverse_cdf(logits: torch.Tensor, temperature: float, drawn: torch.Tensor) -> torch.Tensor:
    """Tokens (rows,) from logits (rows, vocabulary): the inverse of the cumulative distribution at uniform numbers."""
    p = torch.softmax(logits.float() / temperature, -1)
    cumulative = p.to(drawn.dtype).cumsum(-1)
    at = drawn.unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, at, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)


def uniform(seed: int, problem_id: str, sample: int, count: int) -> np.ndarray:
    """The uniform random numbers (count,) of one response; they depend on seed, problem and sample alone."""
    name = f"{seed}\0{problem_id}\0{sample}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16])).random(count)


@dataclass(frozen=True)
class Given:
    """A response that is known: the expert's ids, and why it ended, where that is known.

    sampled: it was sampled here, so it is read in the steps in which it was written. Its measures are then those of a
    run that writes it, to the bit where the batch is the same.
    """

    ids: list[int]
    finish_reason: str | None = None
    sampled: bool = False


@dataclass(frozen=True)
class GenerationRow:
    """A row of a batch: the `sample`-th response to a problem, with the prompt in each model's token ids."""

    problem: Problem
    sample: int
    prompt: list[int]
    amateur_prompt: list[int]
    given: Given | None = None  # the response, where it is known
    other_prompts: tuple[list[int], ...] = ()  # of further amateurs

    @property
    def length(self) -> int:
        """The known tokens, by which rows are put into batches."""
        return len(self.prompt) + (len(self.given.ids) if self.given else 0)

    def read_by(self, amateurs: Sequence[int]) -> "GenerationRow":
        """The same for some of its amateurs, by number from 0, at least one."""
        first, *others = ((self.amateur_prompt, *self.other_prompts)[n] for n in amateurs)
        return replace(self, amateur_prompt=first, other_prompts=tuple(others))


@dataclass(frozen=True)
class DecodingConfig:
    """How responses are generated, and which of their steps store details."""

    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0
    beta_floor: float = BETA_FLOOR  # nats; steps of larger KL store their candidates, all steps where it is 0
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn


def generate_batch(
    pair: Pair,
    rows: list[GenerationRow],
    decoding: DecodingConfig,
    on_step: Callable[[int], None],
    others: Sequence[Pair] = (),
) -> Responses:
    """Generate and measure one response per row, or read and measure the rows' given responses.

    others: further amateurs beside the same expert, whose logits are computed once for all; the rows have a prompt for
    each.

    On a CPU more rows are hardly faster. A given response that was not sampled here is therefore read there by itself,
    in the pieces in which the inspector reads it: the numbers are the same to the bit. Elsewhere they are read side by
    side.

    `on_step` is called before each step with the number of responses that have ended; it may raise. Raises UserError,
    naming the problem, where a model's output is not a distribution.
    """
    for loaded in (pair.expert, *(each.amateur for each in (pair, *others))):
        check_reading(loaded)
    size = 1 if _read_whole(rows) and pair.expert.device.type == "cpu" else len(rows)
    with torch.inference_mode():
        parts = []
        for start in range(0, len(rows), size):
            own, ended = rows[start : start + size], lambda ended, first=start: on_step(first + ended)
            parts.append(_Batch(pair, own, decoding, ended, others).run())
    found = join_responses(parts)
    if rows[0].given and found.tokens != [row.given.ids for row in rows]:  # another version ended them elsewhere
        rows = [replace(row, given=replace(row.given, sampled=False)) for row in rows]
        return generate_batch(pair, rows, decoding, on_step, others)
    return found


def _read_whole(rows: list[GenerationRow]) -> bool:
    """Whether the rows' responses are known and read in pieces, not step by step."""
    return rows[0].given is not None and not rows[0].given.sampled


def draws(decoding: DecodingConfig, row: GenerationRow) -> np.ndarray:
    """The uniform random numbers (max_new_tokens,) of one response."""
    return uniform(decoding.seed, row.problem.id, row.sample, decoding.max_new_tokens)


class _Batch:
    """The state of `generate_batch`. A row is named by its index in `rows`."""

    def __init__(
        self,
        pair: Pair,
        rows: list[GenerationRow],
        decoding: DecodingConfig,
        on_step: Callable[[int], None],
        others: Sequence[Pair] = (),
    ):
        self.pair, self.rows, self.decoding, self.on_step, self.others = pair, rows, decoding, on_step, others
        self.device = pair.expert.device
        self.apart = _read_whole(rows) and len(rows) == 1  # read as the inspector reads it
        self.vocabulary = len(pair.expert.tokenizer)  # the output table's padding rows beyond it are never chosen
        self.given = self.draws = None
        if rows[0].given and not _read_whole(rows):
            longest = max(len(row.given.ids) for row in rows)
            known = [row.given.ids + row.given.ids[-1:] * (longest - len(row.given.ids)) for row in rows]
            self.given = _Columns(np.array(known), self.device)
        elif decoding.temperature > 0 and not rows[0].given:
            self.draws = _Columns(np.stack([draws(decoding, row) for row in rows]), self.device)
        self.tokens: list[list[int]] = [[] for _ in rows]

    def run(self) -> Responses:
        prompts, steps = [row.prompt for row in self.rows], self._steps()
        expert, unread = begin_reading(self.pair.expert, prompts, self.apart, steps)
        self.on_step(0)
        prompts = zip(*([row.amateur_prompt, *row.other_prompts] for row in self.rows), strict=True)
        names, floor = [row.problem.id for row in self.rows], self.decoding.beta_floor
        amateurs = [
            amateur_reader(pair, list(own), self.tokens, names, floor, self.apart, steps)
            for pair, own in zip((self.pair, *self.others), prompts, strict=True)
        ]
        for chunk in self._chunks(expert, unread, GIVEN_CHUNK if self.apart else chunk_steps(len(self.rows), CHUNK)):
            for row, token in zip(chunk.rows.tolist(), chunk.tokens.tolist(), strict=True):
                self.tokens[row].append(token)
            for amateur in amateurs:
                amateur.measure(chunk)
        found, *others = [amateur.collect() for amateur in amateurs]
        return replace(found, others=tuple(others))

    def _steps(self) -> int:
        """The most steps of a response."""
        if _read_whole(self.rows):
            return max(len(row.given.ids) for row in self.rows)
        return self.decoding.max_new_tokens

    def _chunks(self, expert: BatchDecoder, unread: list[list[int]], size: int) -> Iterator[DecodedChunk]:
        """The steps of the responses with the expert's logits, `size` at a time; rows that ended leave in between."""
        if _read_whole(self.rows):
            return read_rows(expert, unread, [row.given.ids for row in self.rows], self.on_step, size)
        last = torch.tensor([prompt[-1] for prompt in unread], device=self.device)
        limit, stop = self.decoding.max_new_tokens, self.decoding.stop
        steps = decode_rows(expert, last, self._choose, limit, self.on_step, size, keep_logits=True, stop=stop)
        return in_chunks(steps, size)

    def _choose(self, logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        """The next token (rows,) from raw logits: greedy, or the inverse of the cumulative distribution at the draw."""
        if self.given:
            return self.given.at(rows, step)
        logits = logits[:, : self.vocabulary]
        if self.draws is None:
            return logits.float().argmax(-1)
        return inverse_cdf(logits, self.decoding.temperature, self.draws.at(rows, step))
