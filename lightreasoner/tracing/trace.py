"""One problem, live: the expert writes, the amateur reads along, and a generator yields typed events.

The amateur reads in small chunks behind the expert, with its own key-value cache, and never reads a token twice.
Expert logits come out of generation. Vocabulary-sized tensors exist for at most one chunk of steps.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompts import prompt_ids, response_ids
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import StepScore, score_steps
from lightreasoner.settings import Settings
from lightreasoner.validation import check_lengths, number

if TYPE_CHECKING:
    from lightreasoner.tracing.tuned_decoder import Lens, TunedScore

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


@dataclass(frozen=True)
class PromptEvent:
    """The expert's prompt, before anything is generated."""

    ids: list[int]
    text: str


@dataclass(frozen=True)
class Step:
    """One response position: the token taken there and how the two models saw it coming."""

    index: int
    token_id: int  # the expert's id
    text: str
    score: StepScore
    lens: TunedScore | None = None  # where a tuned expert reads along


@dataclass(frozen=True)
class StepsEvent:
    """The next few steps, in order."""

    steps: list[Step]


@dataclass(frozen=True)
class EndEvent:
    """Why the response ended: "stop" (end of turn), "length" (token limit) or "given" (a scored text)."""

    finish_reason: str
    text: str
    seconds: float  # spent in the models and the scorer


Event = PromptEvent | StepsEvent | EndEvent


class Reader:
    """One model reading one sequence through a key-value cache."""

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded
        self.cache = DynamicCache(config=loaded.model.config)

    @torch.inference_mode()
    def read(self, ids: list[int], keep: int) -> torch.Tensor:
        """Read further; the logits (keep, rows) that follow the last `keep` of these ids."""
        tokens = torch.tensor([ids], device=self.loaded.device)
        output = self.loaded.model(
            input_ids=tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=max(keep, 1)
        )
        return output.logits[0, -keep:] if keep else output.logits[0, :0]

    def skim(self, ids: list[int]) -> None:
        """Read without wanting any logits."""
        for start in range(0, len(ids), 512):
            self.read(ids[start : start + 512], keep=0)


class Duet:
    """Both models at the same place of the same response."""

    def __init__(self, pair: Pair, expert_prompt: list[int], amateur_prompt: list[int]):
        self.pair, self.alignment = pair, pair.alignment
        self.texts = TokenTexts(pair.expert.tokenizer)
        self.expert, self.expert_unread = Reader(pair.expert), expert_prompt[-1:]
        self.expert.skim(expert_prompt[:-1])
        self.amateur = None if pair.same_model else Reader(pair.amateur)
        self.amateur_unread = amateur_prompt[-1:]
        if self.amateur:
            self.amateur.skim(amateur_prompt[:-1])
        self.index = 0

    @property
    def writer(self) -> LoadedModel:
        """The model whose tokens the response is made of."""
        return self.pair.expert

    def predict(self) -> torch.Tensor:
        """The writer's logits (rows,) for the next token."""
        return self.expert.read(self.expert_unread, keep=1)[0]

    def wrote(self, token: int) -> None:
        """What became of the last prediction."""
        self.expert_unread = [token]

    def follow(self, tokens: list[int]) -> torch.Tensor:
        """The writer's logits (steps, rows) for tokens that are already decided."""
        logits = self.expert.read(self.expert_unread + tokens[:-1], keep=len(tokens))
        self.expert_unread = tokens[-1:]
        return logits

    def _amateur_logits(self, tokens: list[int]) -> torch.Tensor:
        """(steps, rows): the amateur reads what it has not read yet, up to before the last of the tokens."""
        spelled, ends = self.alignment.spell(tokens)
        before_last = ends[-2] + 1 if len(ends) > 1 else 0
        unread = self.amateur_unread + spelled[:before_last]
        # Step 0's distribution follows the last unread id, step n's the last id of token n − 1.
        rows = [len(self.amateur_unread) - 1 + offset for offset in (0, *(end + 1 for end in ends[:-1]))]
        keep = len(unread) - rows[0]
        logits = self.amateur.read(unread, keep)
        self.amateur_unread = spelled[before_last:]
        return logits if len(rows) == keep else logits[[row - rows[0] for row in rows]]

    def _logits(self, tokens: list[int], written: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each model's logits (steps, shared) for these tokens. written: (steps, rows), the writer's."""
        amateur_logits = self._amateur_logits(tokens) if self.amateur else written
        return self.alignment.expert(written), self.alignment.amateur(amateur_logits)

    def _compare(self, *logits_and_taken) -> list[tuple[StepScore, TunedScore | None]]:
        return [(score, None) for score in score_steps(*logits_and_taken)]

    def score(self, tokens: list[int], written: torch.Tensor) -> StepsEvent:
        """Score the next tokens of the response. written: (steps, rows), the writer's logits."""
        shared = [self.alignment.to_shared(t) for t in tokens]
        try:
            scores = self._compare(*self._logits(tokens, written), shared)
        except ValueError as error:
            raise UserError(
                f"At step {self.index} a model's output is not a distribution: {error}. "
                "Load it in another dtype, or use another model."
            ) from error
        if self.alignment.expert_ids is not None:  # what is kept speaks the expert's ids
            scores = [(replace(s, ids=tuple(map(self.alignment.to_expert, s.ids))), lens) for s, lens in scores]
        steps = [
            Step(self.index + n, token, self.texts.text(token), *score)
            for n, (token, score) in enumerate(zip(tokens, scores, strict=True))
        ]
        self.index += len(steps)
        return StepsEvent(steps)


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
    lens: Lens | None = None,
) -> Iterator[Event]:
    """Trace one problem. Yields a PromptEvent, StepsEvents, and an EndEvent unless `stop` was set on the way.

    lens: a tuned expert that reads along, or writes; every step then says what training moved.

    Raises UserError for a request that cannot work, before any model has read a token. Closing the generator frees
    both caches.
    """
    check(request, settings)
    expert_prompt = prompt_ids(pair.expert, request.question)
    amateur_prompt = expert_prompt if pair.same_specials else prompt_ids(pair.amateur, request.question)
    scoring = request.response is not None
    given = response_ids(pair.expert, request.response) if scoring else list(request.prefix)
    budget = 0 if scoring else request.max_new_tokens
    longest, more = max(len(expert_prompt), len(amateur_prompt)), [lens.tuned] if lens else []
    check_lengths(pair, settings, longest, len(given), budget, *more)
    vocabulary = len(pair.expert.tokenizer)
    if not all(0 <= t < vocabulary for t in given):
        raise UserError(f"A forced token id lies outside the expert's vocabulary of {vocabulary:,} tokens.")
    yield PromptEvent(expert_prompt, pair.expert.tokenizer.decode(expert_prompt))

    began, tokens = time.perf_counter(), []
    duet = (lens.trio if lens else Duet)(pair, expert_prompt, amateur_prompt)
    for start in range(0, len(given), GIVEN_CHUNK):
        if stop and stop.is_set():
            return
        chunk = given[start : start + GIVEN_CHUNK]
        yield duet.score(chunk, duet.follow(chunk))
        tokens += chunk
    reason = "given" if scoring else "stop" if given and given[-1] in duet.writer.end_ids else None
    if reason is None:
        for event in generate(duet, request, vocabulary, stop):
            tokens += [step.token_id for step in event.steps]
            yield event
        if stop and stop.is_set():
            return
        reason = "stop" if tokens and tokens[-1] in duet.writer.end_ids else "length"
    ended = tokens[:-1] if reason == "stop" else tokens
    yield EndEvent(reason, pair.expert.tokenizer.decode(ended), time.perf_counter() - began)


def generate(duet: Duet, request: TraceRequest, vocabulary: int, stop: threading.Event | None) -> Iterator[StepsEvent]:
    """Let the writer write; score every few tokens."""
    generator = None
    if request.temperature > 0:
        generator = torch.Generator(duet.writer.device).manual_seed(request.seed)
    chunks, pending, rows = iter(LIVE_CHUNKS), [], []
    size = next(chunks)
    for n in range(request.max_new_tokens):
        if stop and stop.is_set():
            break
        row = duet.predict()
        token = choose(row, vocabulary, request.temperature, generator)
        duet.wrote(token)
        pending.append(token)
        rows.append(row)
        ended = token in duet.writer.end_ids or n + 1 == request.max_new_tokens
        if ended or len(pending) == size:
            yield duet.score(pending, torch.stack(rows))
            pending, rows, size = [], [], next(chunks, size)
        if ended:
            return
    if pending:  # stopped: what was written is still shown
        yield duet.score(pending, torch.stack(rows))


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
