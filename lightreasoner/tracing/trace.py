"""One problem, live: the expert writes, the amateur reads along, and a generator yields typed events.

The amateur reads in small chunks behind the expert, with its own key-value cache, and never reads a token twice.
Expert logits come out of generation. Vocabulary-sized tensors exist for at most one chunk of steps.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lightreasoner.errors import UserError
from lightreasoner.models.context_length import check_lengths
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompts import prompt_ids, response_ids
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import EndEvent, Event, PromptEvent, StepsEvent
from lightreasoner.tracing.pair_decoder import PairDecoder
from lightreasoner.tracing.tuned_decoder import TunedModel, TunedPairDecoder
from lightreasoner.validation import number

#: Steps scored at once while generating: the first appear at once, later ones cost the amateur a pass per eight.
LIVE_CHUNKS = (1, 2, 4, 8)
GIVEN_CHUNK = 64  # steps scored at once where the response is already there
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TraceRequest:
    """What to trace. `response` scores a text that is there; `prefix` (response ids) is kept and continued."""

    question: str
    response: str | None = None
    prefix: tuple[int, ...] = ()
    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0


def choose(logits: torch.Tensor, vocabulary: int, temperature: float, generator: torch.Generator | None) -> int:
    """The next token id from raw logits (rows,): greedy, or sampled at a temperature. Padding rows never win."""
    logits = logits[:vocabulary].float()
    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator))


def trace(
    pair: Pair,
    request: TraceRequest,
    settings: Settings,
    stop: threading.Event | None = None,
    tuned: TunedModel | None = None,
) -> Iterator[Event]:
    """Trace one problem. Yields a PromptEvent, StepsEvents, and an EndEvent unless `stop` was set on the way.

    tuned: a tuned expert that reads along, or writes; every step then says what training moved.

    Raises UserError for a request that cannot work, before any model has read a token. Closing the generator frees
    both caches.
    """
    check(request, settings)
    expert_prompt = prompt_ids(pair.expert, request.question)
    amateur_prompt = expert_prompt if pair.same_special_tokens else prompt_ids(pair.amateur, request.question)
    scoring = request.response is not None
    given = response_ids(pair.expert, request.response) if scoring else list(request.prefix)
    budget = 0 if scoring else request.max_new_tokens
    longest, more = max(len(expert_prompt), len(amateur_prompt)), [tuned.loaded] if tuned else []
    check_lengths(pair, settings, longest, len(given), budget, *more)
    vocabulary = len(pair.expert.tokenizer)
    if not all(0 <= t < vocabulary for t in given):
        raise UserError(f"A forced token id lies outside the expert's vocabulary of {vocabulary:,} tokens.")
    yield PromptEvent(expert_prompt, pair.expert.tokenizer.decode(expert_prompt))

    began, tokens = time.perf_counter(), []
    prompts = (expert_prompt, amateur_prompt)
    decoder = TunedPairDecoder(pair, *prompts, tuned) if tuned else PairDecoder(pair, *prompts)
    for start in range(0, len(given), GIVEN_CHUNK):
        if stop and stop.is_set():
            return
        chunk = given[start : start + GIVEN_CHUNK]
        yield decoder.score(chunk, decoder.teacher_force(chunk))
        tokens += chunk
    reason = "given" if scoring else "stop" if given and given[-1] in decoder.writer.end_ids else None
    if reason is None:
        for event in generate(decoder, request, vocabulary, stop):
            tokens += [step.token_id for step in event.steps]
            yield event
        if stop and stop.is_set():
            return
        reason = "stop" if tokens and tokens[-1] in decoder.writer.end_ids else "length"
    ended = tokens[:-1] if reason == "stop" else tokens
    yield EndEvent(reason, pair.expert.tokenizer.decode(ended), time.perf_counter() - began)


def generate(
    decoder: PairDecoder, request: TraceRequest, vocabulary: int, stop: threading.Event | None
) -> Iterator[StepsEvent]:
    """Let the writer write; score every few tokens."""
    generator = None
    if request.temperature > 0:
        generator = torch.Generator(decoder.writer.device).manual_seed(request.seed)
    chunks, pending, rows = iter(LIVE_CHUNKS), [], []
    size = next(chunks)
    for n in range(request.max_new_tokens):
        if stop and stop.is_set():
            break
        row = decoder.next_logits()
        token = choose(row, vocabulary, request.temperature, generator)
        decoder.append(token)
        pending.append(token)
        rows.append(row)
        ended = token in decoder.writer.end_ids or n + 1 == request.max_new_tokens
        if ended or len(pending) == size:
            yield decoder.score(pending, torch.stack(rows))
            pending, rows, size = [], [], next(chunks, size)
        if ended:
            return
    if pending:  # stopped: what was written is still shown
        yield decoder.score(pending, torch.stack(rows))


def check(request: TraceRequest, settings: Settings) -> None:
    """The limits that need no model. Raises UserError."""
    for name, text in (("problem", request.question), ("response", request.response)):
        if text is None and name == "response":
            continue
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"The {name} is empty, so there is nothing to read; write or pick one.")
        if LONE_SURROGATE.search(text):
            raise UserError(
                f"The {name} holds half of a character (a lone surrogate), which no tokenizer reads; remove it."
            )
        if len(text) > settings.max_problem_chars:
            raise UserError(
                f"The {name} has {len(text):,} characters; at most {settings.max_problem_chars:,} are read. Shorten it."
            )
    number("The token limit", request.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    number("The temperature", request.temperature, 0, 10)
    number("The seed", request.seed, 0, 2**53, whole=True)
