"""One batch of problems: the expert writes all responses side by side, the amateur reads along, the scorer measures.

The amateur is teacher-forced through its own key-value cache, CHUNK steps at a time for all rows. Logits exist for at
most one chunk of steps. Rows that ended leave the batch, so no time goes into padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import Pair
from lightreasoner.models.vocabulary import Alignment
from lightreasoner.paper import BETA_FLOOR
from lightreasoner.problems.rows import Problem
from lightreasoner.scoring.divergence import NotADistribution, StepTensors, measure_steps

CHUNK = 16  # steps that the amateur reads, and the scorer measures, at once
#: The expert's rows are moved together when this part of them has ended, and at each chunk's end: moving costs about
#: as much as a step of theirs.
ENDED_SHARE = 1 / 8


@dataclass(frozen=True)
class GenerationRow:
    """A row of a batch: the `sample`-th response to a problem, with the prompts in each model's ids."""

    problem: Problem
    sample: int
    prompt: list[int]
    amateur_prompt: list[int]


@dataclass(frozen=True)
class DecodingConfig:
    """How responses are written, and what of their steps is kept."""

    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0
    beta_floor: float = BETA_FLOOR  # nats; steps of larger KL keep their candidates, all of them where it is 0


@dataclass(frozen=True)
class Responses:
    """What came out for the items of a batch. The steps of all responses are flat, ordered by item, then by step."""

    tokens: list[list[int]]  # the expert's ids, the end of the turn included
    measures: dict[str, np.ndarray]  # the fields of divergence.Measures; ids are the expert's
    known: np.ndarray  # (steps,) bool: the taken token is in the shared vocabulary


def generate_batch(
    pair: Pair, items: list[GenerationRow], decoding: DecodingConfig, on_step: Callable[[int], None]
) -> Responses:
    """Write and measure one response an item. `on_step` is told before each step how many have ended; it may raise.

    Raises UserError naming the problem where a model's output is no distribution.
    """
    with torch.inference_mode():
        return _Batch(pair, items, decoding, on_step).run()


def draws(decoding: DecodingConfig, item: GenerationRow) -> np.ndarray:
    """The random numbers (max_new_tokens,) of one response: they depend on nothing but seed, problem and sample."""
    name = f"{decoding.seed}\0{item.problem.id}\0{item.sample}".encode()
    seed = int.from_bytes(hashlib.sha256(name).digest()[:16])
    return np.random.default_rng(seed).random(decoding.max_new_tokens)


def shared_id_table(alignment: Alignment, rows: int, device: torch.device) -> torch.Tensor:
    """(rows,) the shared id of each of the expert's ids, −1 for those that the amateur lacks."""
    table = torch.full((rows,), -1, dtype=torch.long, device=device)
    shared = torch.arange(alignment.size, device=device)
    table[shared if alignment.expert_ids is None else alignment.expert_ids.to(device)] = shared
    return table


class _Batch:
    """The state of `generate_batch`."""

    def __init__(
        self, pair: Pair, items: list[GenerationRow], decoding: DecodingConfig, on_step: Callable[[int], None]
    ):
        self.pair, self.items, self.decoding, self.on_step = pair, items, decoding, on_step
        self.device = pair.expert.device
        self.vocabulary = len(pair.expert.tokenizer)  # padding rows of the output table beyond it never win
        rows = pair.expert.model.get_output_embeddings().weight.shape[0]
        self.shared = shared_id_table(pair.alignment, max(rows, pair.alignment.size), self.device)
        self.draws = None
        if decoding.temperature > 0:
            kind = torch.float32 if self.device.type == "mps" else torch.float64
            drawn = np.stack([draws(decoding, item) for item in items])
            self.draws = torch.tensor(drawn, dtype=kind, device=self.device)  # (items, max_new_tokens)
        self.tokens: list[list[int]] = [[] for _ in items]
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []

    def run(self) -> Responses:
        self.expert = BatchDecoder(self.pair.expert, len(self.items))
        self.expert.prefill([item.prompt[:-1] for item in self.items])
        self.on_step(0)
        self.amateur = None if self.pair.same_model else BatchDecoder(self.pair.amateur, len(self.items))
        if self.amateur:
            self.amateur.prefill([item.amateur_prompt[:-1] for item in self.items])
        self.amateur_unread = [item.amateur_prompt[-1:] for item in self.items]
        living = list(range(len(self.items)))
        unread = torch.tensor([item.prompt[-1] for item in self.items], device=self.device)
        step = 0
        while living:
            steps = min(CHUNK, self.decoding.max_new_tokens - step)
            logits, taken, kept, unread = self._write(living, unread, step, steps)
            self._measure(living, logits, taken, step)
            if len(kept) < len(living) and kept and self.amateur:
                self.amateur.select(torch.tensor([living.index(item) for item in kept], device=self.device))
            living, step = kept, step + steps
        return self._collect()

    def _write(self, living: list[int], unread: torch.Tensor, first: int, steps: int):
        """The expert writes up to `steps` tokens for the living items.

        Returns (the logits of each step, one row an item; the items at each step, in their order; the items that live
        on; their last tokens).
        """
        logits, taken = [], []
        rows, ended = list(living), set()  # what the reader holds, and which of it has ended
        for step in range(first, first + steps):
            self.on_step(len(self.items) - len(rows) + len(ended))
            out = self.expert.step(unread)  # (rows, vocabulary rows)
            unread = self._choose(out, rows, step)
            writing = [n for n, item in enumerate(rows) if item not in ended]
            logits.append(out if len(writing) == len(rows) else out[writing])
            taken.append([rows[n] for n in writing])
            chosen = unread.tolist()
            for n in writing:
                self.tokens[rows[n]].append(chosen[n])
                if chosen[n] in self.pair.expert.end_ids or step + 1 == self.decoding.max_new_tokens:
                    ended.add(rows[n])
            last = step + 1 == first + steps
            if len(ended) == len(rows):
                rows = []
                break
            if ended and (last or len(ended) > ENDED_SHARE * len(rows)):
                staying = torch.tensor([n for n, item in enumerate(rows) if item not in ended], device=self.device)
                self.expert.select(staying)
                unread, rows, ended = unread[staying], [item for item in rows if item not in ended], set()
        return logits, taken, rows, unread

    def _choose(self, logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        """The next token (rows,) from raw logits: greedy, or the inverse of the cumulated softmax at the draw."""
        logits = logits[:, : self.vocabulary]
        if self.draws is None:
            return logits.float().argmax(-1)
        p = torch.softmax(logits.float() / self.decoding.temperature, -1)
        cumulated = p.to(self.draws.dtype).cumsum(-1)
        drawn = self.draws[rows, step].unsqueeze(-1) * cumulated[:, -1:]
        return torch.searchsorted(cumulated, drawn, right=True).squeeze(-1).clamp_max(self.vocabulary - 1)

    def _measure(self, living: list[int], logits: list[torch.Tensor], taken: list[list[int]], first: int) -> None:
        """Measure a chunk of steps. living: the items that the amateur's reader holds."""
        row_of = {item: row for row, item in enumerate(living)}
        steps = np.concatenate([np.full(len(items), first + n) for n, items in enumerate(taken)])
        items = np.concatenate([np.asarray(items) for items in taken])
        tokens = [self.tokens[item][step] for item, step in zip(items.tolist(), steps.tolist(), strict=True)]
        shared = self.shared[torch.tensor(tokens, device=self.device)]  # (n,)
        expert_logits = logits[0] if len(logits) == 1 else torch.cat(logits)  # (n, the expert's rows)
        logits.clear()
        amateur_logits = expert_logits
        if self.amateur:
            out, columns = self._amateur_logits(living, first)
            row = [row_of[item] for item in items.tolist()]
            column = [columns[r][step - first] for r, step in zip(row, steps.tolist(), strict=True)]
            amateur_logits = out[row, column]  # (n, the amateur's rows)
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
                f"At step {steps[where]} of the problem {self.items[items[where]].problem.id} a model's output is not "
                f"a distribution: {error}. Load it in another dtype, or use another model; what was sampled before "
                "is kept."
            ) from error
        arrays = {field.name: getattr(found, field.name).cpu().numpy() for field in fields(StepTensors)}
        if alignment.expert_ids is not None:  # what is kept speaks the expert's ids
            arrays["ids"] = alignment.expert_ids[found.ids.to(alignment.expert_ids.device)].cpu().numpy()
        self.parts.append((items, steps, (shared >= 0).cpu().numpy(), arrays))

    def _amateur_logits(self, living: list[int], first: int) -> tuple[torch.Tensor, list[list[int]]]:
        """The amateur reads the chunk: (rows, columns, its vocabulary rows), and where in it each row's steps are."""
        sequences, offsets = [], []
        for item in living:
            tokens = self.tokens[item][first:]
            spelled, ends = self.pair.alignment.spell(tokens)
            before_last = ends[-2] + 1 if len(ends) > 1 else 0
            unread = self.amateur_unread[item]
            # Step 0's distribution follows the last unread id, step n's the last id of token n − 1.
            offsets.append([len(unread) - 1 + offset for offset in (0, *(end + 1 for end in ends[:-1]))])
            sequences.append(unread + spelled[:before_last])
            self.amateur_unread[item] = spelled[before_last:]
        width = max(map(len, sequences))
        padding = [width - len(sequence) for sequence in sequences]
        # Where the unread token is spelled by several ids, the columns before its last one are of no use.
        skipped = min(pad + own[0] for pad, own in zip(padding, offsets, strict=True))
        out = self.amateur.read(sequences, keep=width - skipped)
        return out, [[pad + n - skipped for n in own] for pad, own in zip(padding, offsets, strict=True)]

    def _collect(self) -> Responses:
        """Put the chunks together and in order."""
        items, steps, known = (np.concatenate([part[n] for part in self.parts]) for n in range(3))
        joined = {name: np.concatenate([part[3][name] for part in self.parts]) for name in self.parts[0][3]}
        order = np.lexsort((steps, items))
        counts = joined["counts"]
        starts = np.cumsum(counts) - counts
        # the candidates' places, a run for each step in the new order
        new_counts = counts[order]
        new_starts = np.cumsum(new_counts) - new_counts
        runs = np.repeat(starts[order] - new_starts, new_counts) + np.arange(new_counts.sum())
        flat = {"ids", "expert_logprobs", "amateur_logprobs"}
        measures = {name: values[runs if name in flat else order] for name, values in joined.items()}
        return Responses(self.tokens, measures, known[order])
