"""The one decoding loop: a token per step for every row; and the same steps of responses that are given.

The tokens come a step or a chunk of steps at a time, each with the logits that predict it where they are wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.models.turn_ends import ResponseEnds

ENDED_SHARE = 1 / 8  # ended rows leave the decoder once they are a larger share; moving the rest costs about a step


@dataclass(frozen=True)
class DecodedStep:
    """One new token for every row that has not ended."""

    index: int  # of the step, from 0
    rows: list[int]
    tokens: list[int]  # one per row
    logits: torch.Tensor | None  # (rows, output rows) that the tokens were chosen from


def decode_rows(
    decoder: BatchDecoder,
    unread: torch.Tensor,
    choose: Callable[[torch.Tensor, list[int], int], torch.Tensor],
    max_new_tokens: int,
    on_step: Callable[[int], None],
    compact_every: int | None = None,
    keep_logits: bool = False,
    stop: Iterable[str] = (),
    begun: Sequence[Sequence[int]] | None = None,
) -> Iterator[DecodedStep]:
    """The one decoding loop: a token per step for each of the decoder's rows, until all have ended their turn.

    unread: (rows,) the last token of each prompt, which the decoder has not read yet.
    choose: from logits (rows, output rows), the indices of these rows and the step, the next tokens (rows,).
    on_step: called before each step with the number of rows that have ended; it may raise.
    stop: texts that end a response, besides the ends of the model's turn.
    compact_every: rows that have ended also leave the decoder after so many steps, not only once they are numerous.
    begun: the tokens of each row's response that its prompt already holds; they count towards max_new_tokens.
    """
    count, ends = len(unread), ResponseEnds(decoder.loaded, stop)
    rows, ended = list(range(count)), set()  # the rows in the decoder, and the places of those that have ended
    written = [len(tokens) for tokens in begun or [()] * count]  # tokens of each response before the first step
    for row, tokens in enumerate(begun or ()):
        for token in tokens:
            ends.ended(token, row)  # a stop string may have begun in them
    for step in range(max_new_tokens - min(written, default=0)):
        if ended and (len(ended) > ENDED_SHARE * len(rows) or (compact_every and step % compact_every == 0)):
            staying = [place for place in range(len(rows)) if place not in ended]
            index = torch.tensor(staying, device=unread.device)
            decoder.select(index)
            unread, rows, ended = unread[index], [rows[place] for place in staying], set()
        on_step(count - len(rows) + len(ended))
        logits = decoder.step(unread)
        unread = choose(logits, rows, step)
        tokens = unread.tolist()
        places = [place for place in range(len(rows)) if place not in ended]
        picked = (logits if len(places) == len(rows) else logits[places]) if keep_logits else None
        del logits
        full = {place for place in places if written[rows[place]] + step + 1 >= max_new_tokens}
        ended.update(full, (place for place in places if ends.ended(tokens[place], rows[place])))
        yield DecodedStep(step, [rows[place] for place in places], [tokens[place] for place in places], picked)
        if len(ended) == len(rows):
            return


@dataclass(frozen=True)
class DecodedChunk:
    """Successive steps of several rows, n in all. A row may end within them."""

    first: int  # step
    living: list[int]  # the rows at the first step
    rows: np.ndarray  # (n,) int64, like the next two
    steps: np.ndarray
    tokens: np.ndarray
    logits: torch.Tensor  # (n, output rows) that predict the tokens


def in_chunks(decoded: Iterable[DecodedStep], size: int) -> Iterator[DecodedChunk]:
    """Steps with logits, `size` of them at a time."""
    decoded = iter(decoded)
    while chunk := list(itertools.islice(decoded, size)):
        steps = np.concatenate([np.full(len(step.rows), step.index) for step in chunk])
        rows = np.concatenate([np.asarray(step.rows) for step in chunk])
        tokens = np.array([token for step in chunk for token in step.tokens])
        logits = chunk[0].logits if len(chunk) == 1 else torch.cat([step.logits for step in chunk])
        first, living = chunk[0].index, chunk[0].rows
        chunk.clear()
        yield DecodedChunk(first, living, rows, steps, tokens, logits)


def read_rows(
    decoder: BatchDecoder,
    unread: list[list[int]],
    responses: list[list[int]],
    on_step: Callable[[int], None],
    size: int,
) -> Iterator[DecodedChunk]:
    """The steps of given responses, of which `size` are read at once.

    unread: the last tokens of each prompt, which the decoder has not read yet; several of one row only. on_step:
    called before each reading, as by `decode_rows`. Rows that have ended leave the decoder before the next one.
    """
    rows = list(range(len(responses)))
    for first in range(0, max(map(len, responses)), size):
        places = [place for place, row in enumerate(rows) if len(responses[row]) > first]
        if len(places) < len(rows):
            decoder.select(torch.tensor(places, device=decoder.loaded.device))
            rows = [rows[place] for place in places]
        on_step(len(responses) - len(rows))
        taken = [responses[row][first : first + size] for row in rows]
        lengths = np.array([len(own) for own in taken])
        width = int(lengths.max())
        before = [responses[row][first - 1 : first] if first else unread[row] for row in rows]
        # filled up behind the end, where nothing is read any more: only full attention bears padding before a token
        ids = [[*last, *own[:-1], *own[-1:] * (width - len(own))] for last, own in zip(before, taken, strict=True)]
        place, column = np.nonzero(np.arange(width) < lengths[:, None])  # (n,) of the steps, by row
        logits = decoder.read(ids, keep=width)  # (rows, width, output rows)
        logits = logits[0] if len(rows) == 1 else logits[torch.from_numpy(place), torch.from_numpy(column)]
        yield DecodedChunk(first, rows, np.array(rows)[place], first + column, np.concatenate(taken), logits)
