"""Tracing one problem live: the expert generates, the amateur is scored beside it, a generator yields typed events.

The amateur reads in small chunks behind the expert, with its own key-value cache, and reads every token once. The
expert's logits are those that generated the token. Tensors of vocabulary size exist for one chunk of steps at most.
"""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lightreasoner.decoding.contrast import Contrast, check_greedy
from lightreasoner.decoding.generate import GIVEN_CHUNK  # steps scored together where the response is given
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.decoding.tree_reader import check_tree
from lightreasoner.errors import UserError
from lightreasoner.models.context_length import check_lengths
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings, check_prompt
from lightreasoner.models.prompts import prompt_ids, render, response_ids, settle_date
from lightreasoner.models.turn_ends import ResponseEnds, finished_text
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import EndEvent, Event, PromptEvent, StepsEvent
from lightreasoner.tracing.pair_decoder import FurtherAmateur, PairDecoder
from lightreasoner.tracing.tuned_decoder import TUNED, TunedModel, TunedPairDecoder
from lightreasoner.validation import number

#: Steps scored together while generating: the first appear immediately, later ones take one amateur pass per eight.
LIVE_CHUNKS = (1, 2, 4, 8)
MOST_READERS = 4  # amateurs of one trace
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TraceRequest:
    """The problem to trace. With `response` that text is scored; `prefix`, token ids, is the beginning to continue."""

    question: str
    response: str | None = None
    prefix: tuple[int, ...] = ()
    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn
    context: tuple[tuple[str, str], ...] = ()  # (role, text) of the turns before the problem
    prompt: PromptSettings = PAPER
    contrast: Contrast | None = None  # decode by it, and not by the expert alone


def choose(logits: torch.Tensor, vocabulary: int, temperature: float, generator: torch.Generator | None) -> int:
    """The next token id from raw logits (output rows,): greedy, or sampled at a temperature; never a padding row."""
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
    others: Sequence[Pair] = (),
) -> Iterator[Event]:
    """Trace one problem. Yields a PromptEvent, StepsEvents, and an EndEvent unless `stop` is set meanwhile.

    tuned: a tuned expert to compare with, or to generate the response; every step then has a TuningShift.
    others: the expert beside further amateurs, which read along; every step then has their KL.

    Raises UserError for an impossible request before any model reads a token. Closing the generator frees the caches.
    """
    prepared = _prepare(pair, request, settings, tuned, others)
    yield prepared.opening

    began, tokens, scoring = time.perf_counter(), [], request.response is not None
    along = [FurtherAmateur(other, own) for other, own in zip(others, prepared.others, strict=True)]
    prompts, contrast = (prepared.expert, prepared.amateur), request.contrast
    if tuned:
        decoder = TunedPairDecoder(pair, *prompts, tuned, contrast, along)
    else:
        decoder = PairDecoder(pair, *prompts, contrast, along)
    for start in range(0, len(prepared.given), GIVEN_CHUNK):
        if stop and stop.is_set():
            return
        chunk = prepared.given[start : start + GIVEN_CHUNK]
        yield decoder.score(chunk, decoder.writer.teacher_force(chunk))
        tokens += chunk
    ends = ResponseEnds(decoder.writer.loaded, request.stop)
    ended = [ends.ended(token) for token in prepared.given][-1:] == [True]  # by the last token of a given beginning
    if not scoring and not ended:
        for event in generate(decoder, request, ends, len(pair.expert.tokenizer), stop):
            tokens += [step.token_id for step in event.steps]
            yield event
        if stop and stop.is_set():
            return
    text, reason = finished_text(decoder.writer.loaded, tokens, request.stop)
    if scoring:
        text, reason = pair.expert.tokenizer.decode(tokens), "given"
    yield EndEvent(reason, text, time.perf_counter() - began)


@dataclass(frozen=True)
class _Prepared:
    """What the models are to read, in token ids."""

    opening: PromptEvent
    expert: list[int]  # its prompt, like the next two
    amateur: list[int]
    others: list[list[int]]  # of the further amateurs
    given: list[int]  # of the response: all of it, or its beginning


def _prepare(
    pair: Pair, request: TraceRequest, settings: Settings, tuned: TunedModel | None, others: Sequence[Pair]
) -> _Prepared:
    """Check everything and render the prompts. Raises UserError for an impossible request."""
    check(request, settings)
    if request.contrast and tuned and tuned.writer == TUNED:
        raise UserError("Both the tuned expert and the contrast are to write the response; choose one of them.")
    check_readers(pair, others)
    tokenizers = [loaded.tokenizer for loaded in (pair.expert, pair.amateur, *(other.amateur for other in others))]
    settled = settle_date(request.prompt, tokenizers)
    asked = (request.question, settled, request.context)
    rendered = render(pair.expert.tokenizer, str(pair.expert.ref), *asked)
    expert = rendered.ids
    amateur, *further = (
        expert if each.same_special_tokens else prompt_ids(each.amateur, *asked) for each in (pair, *others)
    )
    scoring = request.response is not None
    given = response_ids(pair.expert, request.response) if scoring else list(request.prefix)
    longest = max(map(len, (expert, amateur, *further)))
    more = [*([tuned.loaded] if tuned else []), *(other.amateur for other in others)]
    check_lengths(pair, settings, longest, len(given), 0 if scoring else request.max_new_tokens, *more)
    vocabulary = len(pair.expert.tokenizer)
    if not all(0 <= t < vocabulary for t in given):
        raise UserError(f"A forced token id lies outside the expert's vocabulary of {vocabulary:,} tokens.")
    for loaded in (pair.expert, pair.amateur, *more):
        check_reading(loaded)
    for each in (pair, *others):
        if each.across:
            check_tree(each.amateur)
    text = pair.expert.tokenizer.decode(expert)
    opening = PromptEvent(expert, text, settled, rendered.notes, rendered.opening)
    return _Prepared(opening, expert, amateur, further, given)


def check_readers(pair: Pair, others: Sequence[Pair]) -> None:
    """Raises UserError for more amateurs than a curve can show, and for one that is named twice."""
    names = [str(each.amateur.ref) for each in (pair, *others)]
    if len(names) > MOST_READERS:
        raise UserError(f"These are {len(names)} amateurs; at most {MOST_READERS} read along with a trace. Name fewer.")
    if twice := next((name for n, name in enumerate(names) if name in names[:n]), None):
        raise UserError(f"The amateur {twice} is named twice, and would read along twice; name it once.")


def generate(
    decoder: PairDecoder, request: TraceRequest, ends: ResponseEnds, vocabulary: int, stop: threading.Event | None
) -> Iterator[StepsEvent]:
    """Generate the response until `ends` sees its end, scoring every few tokens."""
    writer, generator = decoder.writer, None
    if request.temperature > 0:
        generator = torch.Generator(writer.loaded.device).manual_seed(request.seed)
    chunks, pending, rows = iter(LIVE_CHUNKS), [], []
    size = next(chunks)
    for n in range(request.max_new_tokens):
        if stop and stop.is_set():
            break
        row = writer.next_logits()
        if request.contrast:
            token = decoder.choose_by_contrast(row)
        else:
            token = choose(row, vocabulary, request.temperature, generator)
        writer.append(token)
        pending.append(token)
        rows.append(row)
        ended = ends.ended(token) or n + 1 == request.max_new_tokens
        if ended or len(pending) == size:
            yield decoder.score(pending, torch.stack(rows))
            pending, rows, size = [], [], next(chunks, size)
        if ended:
            return
    if pending:  # stopped: the tokens so far are still shown
        yield decoder.score(pending, torch.stack(rows))


def check(request: TraceRequest, settings: Settings) -> None:
    """Check the limits that need no model. Raises UserError."""
    before = [("context", text) for _, text in request.context]
    for name, text in (("problem", request.question), ("response", request.response), *before):
        if text is None and name == "response":
            continue
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"The {name} is empty; enter or choose one.")
        if LONE_SURROGATE.search(text):
            raise UserError(
                f"The {name} holds half of a character (a lone surrogate), which no tokenizer accepts; remove it."
            )
        if len(text) > settings.max_problem_chars:
            raise UserError(
                f"The {name} has {len(text):,} characters; the limit is {settings.max_problem_chars:,}. Shorten it."
            )
    check_prompt(request.prompt)
    number("The token limit", request.max_new_tokens, 1, settings.max_new_tokens, whole=True)
    number("The temperature", request.temperature, 0, 10)
    if request.contrast:
        if request.response is not None:
            raise UserError("A response is given, so nobody writes one; leave out the contrast.")
        check_greedy(request.temperature)
    number("The seed", request.seed, 0, 2**53, whole=True)
