"""An amateur that reads along: teacher-forced on a batch's responses, chunk by chunk, and measured against the expert.

Several amateurs can read the same chunks, so that the expert's logits are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cached_decoder import left_unread
from lightreasoner.decoding.decoding_loop import DecodedChunk
from lightreasoner.decoding.forward_pass import APART, reading_of
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.vocabulary import VocabularyAlignment
from lightreasoner.scoring.divergence import CANDIDATES, NotADistribution, StepTensors, measure_steps, to_host


@dataclass(frozen=True)
class Responses:
    """The responses of a batch. The steps of all responses are flat, ordered by row, then by step."""

    tokens: list[list[int]]  # the expert's ids, the end-of-turn token included
    measures: dict[str, np.ndarray]  # the fields of StepTensors; candidate ids are the expert's
    known: np.ndarray  # (steps,) bool: the taken token is in the shared vocabulary
    others: tuple[Responses, ...] = ()  # the same responses, measured against further amateurs


def join_responses(parts: list[Responses]) -> Responses:
    """The responses of several batches as one."""
    if len(parts) == 1:
        return parts[0]
    measures = {name: np.concatenate([part.measures[name] for part in parts]) for name in parts[0].measures}
    tokens = [ids for part in parts for ids in part.tokens]
    others = tuple(join_responses(list(seen)) for seen in zip(*(part.others for part in parts), strict=True))
    return Responses(tokens, measures, np.concatenate([part.known for part in parts]), others)


def shared_id_table(alignment: VocabularyAlignment, rows: int, device: torch.device) -> torch.Tensor:
    """(rows,) the shared id of each of the expert's ids, −1 for those that the amateur lacks."""
    table = torch.full((rows,), -1, dtype=torch.long, device=device)
    shared = torch.arange(alignment.size, device=device)
    table[shared if alignment.expert_ids is None else alignment.expert_ids.to(device)] = shared
    return table


def begin_reading(
    loaded: LoadedModel, prompts: list[list[int]], apart: bool, steps: int
) -> tuple[BatchDecoder, list[list[int]]]:
    """A model that has read the prompts up to their last tokens, and these, which are still to be read.

    apart: the one row is read as the inspector reads it. steps: the most that follow.
    """
    count = left_unread(loaded, prompts[0]) if apart else 1
    reading = replace(reading_of(loaded), many=APART) if apart else None
    decoder = BatchDecoder(loaded, len(prompts), reading, steps)
    decoder.prefill([prompt[:-count] for prompt in prompts])
    return decoder, [prompt[-count:] for prompt in prompts]


class AmateurReader:
    """One amateur on the responses of a batch. A row is named by its index.

    tokens: per row, the response so far, to which the caller appends. problem_ids: per row, for messages. floor: steps
    of larger KL keep their candidates, all steps where it is 0. apart, steps: see `begin_reading`.
    """

    def __init__(
        self,
        pair: Pair,
        prompts: list[list[int]],
        tokens: list[list[int]],
        problem_ids: list[str],
        floor: float,
        apart: bool,
        steps: int,
    ):
        self.pair, self.tokens, self.problem_ids, self.floor = pair, tokens, problem_ids, floor
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []
        self._begin(prompts, apart, steps)

    def _begin(self, prompts: list[list[int]], apart: bool, steps: int) -> None:
        """Read the prompts."""
        pair, self.device = self.pair, self.pair.expert.device
        table_rows = pair.expert.model.get_output_embeddings().weight.shape[0]
        self.shared = shared_id_table(pair.alignment, max(table_rows, pair.alignment.size), self.device)
        self.decoder = None
        if not pair.same_model:
            self.decoder, self.unread = begin_reading(pair.amateur, prompts, apart, steps)
        self.rows = list(range(len(prompts)))  # the rows in the decoder

    def measure(self, chunk: DecodedChunk) -> None:
        """Measure the steps of a chunk."""
        first, living, rows, steps, expert_logits = chunk.first, chunk.living, chunk.rows, chunk.steps, chunk.logits
        place_of = {row: place for place, row in enumerate(living)}
        shared = self.shared[torch.from_numpy(chunk.tokens).to(self.device)]
        amateur_logits = expert_logits  # (n, the expert's output rows)
        if self.decoder:
            out, columns = self._logits(living, first)
            places = [place_of[row] for row in rows.tolist()]
            column = [columns[place][step - first] for place, step in zip(places, steps.tolist(), strict=True)]
            amateur_logits = out[places, column]  # (n, the amateur's output rows)
            del out
        alignment = self.pair.alignment
        try:
            found = measure_steps(
                alignment.expert(expert_logits),
                alignment.amateur(amateur_logits),
                shared,
                above=self.floor if self.floor > 0 else None,
            )
        except NotADistribution as error:
            raise self._not_a_distribution(rows[error.rows[0]], steps[error.rows[0]], error) from error
        moved = to_host(found)
        arrays = {field.name: getattr(moved, field.name).numpy() for field in fields(StepTensors)}
        if alignment.expert_ids is not None:  # stored ids are the expert's
            arrays["ids"] = alignment.expert_ids[found.ids.to(alignment.expert_ids.device)].cpu().numpy()
        self.parts.append((rows, steps, (shared >= 0).cpu().numpy(), arrays))

    def _not_a_distribution(self, row: int, step: int, error: NotADistribution) -> UserError:
        return UserError(
            f"At step {step} of the problem {self.problem_ids[row]} a model's output is not a distribution: {error}. "
            "Load it in another dtype, or use another model; what was sampled before is saved."
        )

    def _logits(self, living: list[int], first: int) -> tuple[torch.Tensor, list[list[int]]]:
        """The amateur reads the living rows' tokens from step `first` on.

        Returns its logits (living rows, columns, its output rows) and, per row, the column of each step.
        """
        if len(living) < len(self.rows):
            places = {row: place for place, row in enumerate(self.rows)}
            staying = torch.tensor([places[row] for row in living], device=self.pair.amateur.device)
            self.decoder.select(staying)
            self.rows = living
        sequences, offsets = [], []
        for row in living:
            ids, own, rest = self.pair.alignment.retokenize_chunk(self.unread[row], self.tokens[row][first:])
            sequences.append(ids)
            offsets.append(own)
            self.unread[row] = rest
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
        out = self.decoder.read(sequences, keep=width - skipped)
        return out, [[pad + n - skipped for n in own] for pad, own in zip(padding, offsets, strict=True)]

    def collect(self) -> Responses:
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
        measures = {name: values[runs if name in CANDIDATES else order] for name, values in joined.items()}
        return Responses(self.tokens, measures, known[order])
