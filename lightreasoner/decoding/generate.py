"""Decoding a batch: greedy_generate with one model; generate_batch with a pair, whose steps are measured as well.

In generate_batch the expert generates all responses side by side, or reads given ones. The amateur is teacher-forced
through its own key-value cache, CHUNK steps at a time for all rows, so logits exist for at most one chunk of steps.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder, DecodedChunk, decode_rows, in_chunks, read_rows
from lightreasoner.decoding.cached_decoder import left_unread
from lightreasoner.decoding.reading import APART, reading_of
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.vocabulary import VocabularyAlignment
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.rows import Problem
from lightreasoner.scoring.divergence import NotADistribution, StepTensors, measure_steps, to_host

CHUNK = 16  # steps that the amateur reads, and the scorer measures, at once
GIVEN_CHUNK = 128  # the same where one response is given and read by itself


@torch.inference_mode()
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
    vocabulary = len(loaded.tokenizer)
    check_reading(loaded)
    decoder = BatchDecoder(loaded, len(prompts))
    decoder.prefill([prompt[:-1] for prompt in prompts])
    unread = torch.tensor([prompt[-1] for prompt in prompts], device=loaded.device)
    responses: list[list[int]] = [[] for _ in prompts]

    def choose(logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        return logits[:, :vocabulary].float().argmax(-1)

    for step in decode_rows(decoder, unread, choose, max_new_tokens, lambda ended: checkpoint(), stop=stop):
        for row, token in zip(step.rows, step.tokens, strict=True):
            responses[row].append(token)
    return responses


@torch.inference_mode()
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
    vocabulary = len(loaded.tokenizer)
    kind = torch.float32 if loaded.device.type == "mps" else torch.float64
    numbers = torch.tensor(drawn, dtype=kind, device=loaded.device)
    decoder = BatchDecoder(loaded, len(prompts))
    decoder.prefill([prompt[:-1] for prompt in prompts])
    unread = torch.tensor([prompt[-1] for prompt in prompts], device=loaded.device)
    responses: list[list[int]] = [[] for _ in prompts]

    def choose(logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        return inverse_cdf(logits[:, :vocabulary], temperature, numbers[rows, step])

    for step in decode_rows(decoder, unread, choose, max_new_tokens, lambda ended: checkpoint(), stop=stop):
        for row, token in zip(step.rows, step.tokens, strict=True):
            responses[row].append(token)
    return responses


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
    """A response that something else wrote: the expert's ids, and why it ended, where that is known."""

    ids: list[int]
    finish_reason: str | None = None


@dataclass(frozen=True)
class GenerationRow:
    """A row of a batch: the `sample`-th response to a problem, with the prompt in each model's token ids."""

    problem: Problem
    sample: int
    prompt: list[int]
    amateur_prompt: list[int]
    given: Given | None = None  # the response, where something else wrote it

    @property
    def length(self) -> int:
        """The known tokens, by which rows are put into batches."""
        return len(self.prompt) + (len(self.given.ids) if self.given else 0)


@dataclass(frozen=True)
class DecodingConfig:
    """How responses are generated, and which of their steps store details."""

    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0
    beta_floor: float = BETA_FLOOR  # nats; steps of larger KL store their candidates, all steps where it is 0
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn


@dataclass(frozen=True)
class Responses:
    """The responses of a batch. The steps of all responses are flat, ordered by row, then by step."""

    tokens: list[list[int]]  # the expert's ids, the end-of-turn token included
    measures: dict[str, np.ndarray]  # the fields of StepTensors; candidate ids are the expert's
    known: np.ndarray  # (steps,) bool: the taken token is in the shared vocabulary


def generate_batch(
    pair: Pair, rows: list[GenerationRow], decoding: DecodingConfig, on_step: Callable[[int], None]
) -> Responses:
    """Generate and measure one response per row, or read and measure the rows' given responses.

    On a CPU, where more rows are hardly faster, each given response is read by itself in the pieces in which the
    inspector reads it, so that the numbers are the same to the bit. Elsewhere they are read side by side.

    `on_step` is called before each step with the number of responses that have ended; it may raise. Raises UserError,
    naming the problem, where a model's output is not a distribution.
    """
    for loaded in (pair.expert, pair.amateur):
        check_reading(loaded)
    size = 1 if rows[0].given and pair.expert.device.type == "cpu" else len(rows)
    with torch.inference_mode():
        found = [
            _Batch(pair, rows[start : start + size], decoding, lambda ended, first=start: on_step(first + ended)).run()
            for start in range(0, len(rows), size)
        ]
    return found[0] if len(found) == 1 else _joined(found)


def _joined(parts: list[Responses]) -> Responses:
    """The responses of several batches as one."""
    measures = {name: np.concatenate([part.measures[name] for part in parts]) for name in parts[0].measures}
    tokens = [ids for part in parts for ids in part.tokens]
    return Responses(tokens, measures, np.concatenate([part.known for part in parts]))


def draws(decoding: DecodingConfig, row: GenerationRow) -> np.ndarray:
    """The uniform random numbers (max_new_tokens,) of one response."""
    return uniform(decoding.seed, row.problem.id, row.sample, decoding.max_new_tokens)


def shared_id_table(alignment: VocabularyAlignment, rows: int, device: torch.device) -> torch.Tensor:
    """(rows,) the shared id of each of the expert's ids, −1 for those that the amateur lacks."""
    table = torch.full((rows,), -1, dtype=torch.long, device=device)
    shared = torch.arange(alignment.size, device=device)
    table[shared if alignment.expert_ids is None else alignment.expert_ids.to(device)] = shared
    return table


class _Batch:
    """The state of `generate_batch`. A row is named by its index in `rows`."""

    def __init__(self, pair: Pair, rows: list[GenerationRow], decoding: DecodingConfig, on_step: Callable[[int], None]):
        self.pair, self.rows, self.decoding, self.on_step = pair, rows, decoding, on_step
        self.device = pair.expert.device
        self.apart = rows[0].given is not None and len(rows) == 1  # read as the inspector reads it
        self.vocabulary = len(pair.expert.tokenizer)  # the output table's padding rows beyond it are never chosen
        table_rows = pair.expert.model.get_output_embeddings().weight.shape[0]
        self.shared = shared_id_table(pair.alignment, max(table_rows, pair.alignment.size), self.device)
        self.draws = None
        if decoding.temperature > 0 and not rows[0].given:
            kind = torch.float32 if self.device.type == "mps" else torch.float64
            drawn = np.stack([draws(decoding, row) for row in rows])
            self.draws = torch.tensor(drawn, dtype=kind, device=self.device)  # (rows, max_new_tokens)
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []

    def run(self) -> Responses:
        expert, unread = self._begin(self.pair.expert, [row.prompt for row in self.rows])
        self.on_step(0)
        self.amateur, amateur_prompts = None, [row.amateur_prompt for row in self.rows]
        if not self.pair.same_model:
            self.amateur, self.amateur_unread = self._begin(self.pair.amateur, amateur_prompts)
        self.amateur_rows = list(range(len(self.rows)))  # the rows in the amateur's cache
        for chunk in self._chunks(expert, unread, GIVEN_CHUNK if self.apart else CHUNK):
            for row, token in zip(chunk.rows.tolist(), chunk.tokens.tolist(), strict=True):
                self.tokens[row].append(token)
            self._measure(chunk)
        return self._collect()

    def _begin(self, loaded: LoadedModel, prompts: list[list[int]]) -> tuple[BatchDecoder, list[list[int]]]:
        """A model that has read the prompts up to their last tokens, and these, which are still to be read."""
        count = left_unread(loaded, prompts[0]) if self.apart else 1
        reading = replace(reading_of(loaded), many=APART) if self.apart else None
        decoder = BatchDecoder(loaded, len(prompts), *filter(None, [reading]))
        decoder.prefill([prompt[:-count] for prompt in prompts])
        return decoder, [prompt[-count:] for prompt in prompts]

    def _chunks(self, expert: BatchDecoder, unread: list[list[int]], size: int) -> Iterator[DecodedChunk]:
        """The steps of the responses with the expert's logits, `size` at a time; rows that ended leave in between."""
        if self.rows[0].given:
            return read_rows(expert, unread, [row.given.ids for row in self.rows], self.on_step, size)
        last = torch.tensor([prompt[-1] for prompt in unread], device=self.device)
        limit, stop = self.decoding.max_new_tokens, self.decoding.stop
        steps = decode_rows(expert, last, self._choose, limit, self.on_step, size, keep_logits=True, stop=stop)
        return in_chunks(steps, size)

    def _choose(self, logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        """The next token (rows,) from raw logits: greedy, or the inverse of the cumulative distribution at the draw."""
        logits = logits[:, : self.vocabulary]
        if self.draws is None:
            return logits.float().argmax(-1)
        return inverse_cdf(logits, self.decoding.temperature, self.draws[rows, step])

    def _measure(self, chunk: DecodedChunk) -> None:
        """Measure the steps of a chunk."""
        first, living, rows, steps, expert_logits = chunk.first, chunk.living, chunk.rows, chunk.steps, chunk.logits
        place_of = {row: place for place, row in enumerate(living)}
        shared = self.shared[torch.from_numpy(chunk.tokens).to(self.device)]
        amateur_logits = expert_logits  # (n, the expert's output rows)
        if self.amateur:
            out, columns = self._amateur_logits(living, first)
            places = [place_of[row] for row in rows.tolist()]
            column = [columns[place][step - first] for place, step in zip(places, steps.tolist(), strict=True)]
            amateur_logits = out[places, column]  # (n, the amateur's output rows)
            del out
        alignment, floor = self.pair.alignment, self.decoding.beta_floor
        try:
            found = measure_steps(
                alignment.expert(expert_logits),
                alignment.amateur(amateur_logits).to(self.device),
                shared,
                above=floor if floor > 0 else None,
            )
        except NotADistribution as error:
            where = error.rows[0]
            raise UserError(
                f"At step {steps[where]} of the problem {self.rows[rows[where]].problem.id} a model's output is not "
                f"a distribution: {error}. Load it in another dtype, or use another model; what was sampled before "
                "is saved."
            ) from error
        moved = to_host(found)
        arrays = {field.name: getattr(moved, field.name).numpy() for field in fields(StepTensors)}
        if alignment.expert_ids is not None:  # stored ids are the expert's
            arrays["ids"] = alignment.expert_ids[found.ids.to(alignment.expert_ids.device)].cpu().numpy()
        self.parts.append((rows, steps, (shared >= 0).cpu().numpy(), arrays))

    def _amateur_logits(self, living: list[int], first: int) -> tuple[torch.Tensor, list[list[int]]]:
        """The amateur reads the living rows' tokens from step `first` on.

        Returns its logits (living rows, columns, its output rows) and, per row, the column of each step.
        """
        if len(living) < len(self.amateur_rows):
            places = {row: place for place, row in enumerate(self.amateur_rows)}
            self.amateur.select(torch.tensor([places[row] for row in living], device=self.device))
            self.amateur_rows = living
        sequences, offsets = [], []
        for row in living:
            ids, own, rest = self.pair.alignment.retokenize_chunk(self.amateur_unread[row], self.tokens[row][first:])
            sequences.append(ids)
            offsets.append(own)
            self.amateur_unread[row] = rest
        width, steps = max(map(len, sequences)), max(len(self.tokens[row]) for row in living)
        padding = [width - len(sequence) for sequence in sequences]
        for place, row in enumerate(living):
            # A row that has ended is read no further, so it may be filled up behind its end. Padding before its tokens
            # would lie inside its sequence, which only full attention bears.
            if len(self.tokens[row]) < steps:
                sequences[place] = sequences[place] + sequences[place][-1:] * padding[place]
                padding[place] = 0
        # Where the unread token takes several ids, the columns before its last one are of no use.
        skipped = min(pad + own[0] for pad, own in zip(padding, offsets, strict=True))
        out = self.amateur.read(sequences, keep=width - skipped)
        return out, [[pad + n - skipped for n in own] for pad, own in zip(padding, offsets, strict=True)]

    def _collect(self) -> Responses:
        """Join the chunks and order them by row, then by step."""
        rows, steps, known = (np.concatenate([part[n] for part in self.parts]) for n in range(3))
        joined = {name: np.concatenate([part[3][name] for part in self.parts]) for name in self.parts[0][3]}
        order = np.lexsort((steps, rows))
        counts = joined["counts"]
        starts = np.cumsum(counts) - counts
        # the candidates' places: one run per step, in the new order
        new_counts = counts[order]
        new_starts = np.cumsum(new_counts) - new_counts
        runs = np.repeat(starts[order] - new_starts, new_counts) + np.arange(new_counts.sum())
        flat = {"ids", "expert_logprobs", "amateur_logprobs"}
        measures = {name: values[runs if name in flat else order] for name, values in joined.items()}
        return Responses(self.tokens, measures, known[order])
