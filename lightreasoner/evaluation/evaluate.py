"""Evaluates model variants: each solves every problem, and a file of graded answers is written per batch.

The base model is loaded once, and its adapters are switched. Batches whose file exists are not solved again.
"""

import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.decoding.batch_size import fitting_rows
from lightreasoner.decoding.contrast import NOTHING, contrast_grid
from lightreasoner.decoding.generate import greedy_generate, sampled_generate, uniform
from lightreasoner.errors import UserError, first_line
from lightreasoner.evaluation.results import FOLDER, SCHEMA, Variant, answer_row, shard, write_results, write_shard
from lightreasoner.evaluation.summaries import Summary
from lightreasoner.grading.grading import Grade, grade, stated_answer
from lightreasoner.models.adapters import attach_adapter
from lightreasoner.models.devices import DoesNotFit, run_with_oom_backoff
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.prompts import describe_prompt, pair_prompts, prompt_ids
from lightreasoner.models.turn_ends import finished_text
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import Progress
from lightreasoner.storage.checksums import verify
from lightreasoner.storage.runs import note_versions

#: What is asked of a Solver: the numbers of variants, one or several contrasts; a batch's prompts as token ids, of a
#: contrast (expert's, amateur's); (problem id, sample) of each.
Request = tuple[tuple[int, ...], list[Any], list[tuple[str, int]]]
#: For each of these variants: responses, seconds, more columns of SCHEMA.
Solved = list[tuple[list[list[int]], float, dict[str, list[int]]]]
#: (key, request for a Solver) of each missing batch → (key, what the Solver returns), in any order.
ParallelMap = Callable[[Iterable[tuple[Any, Any]]], Iterable[tuple[Any, Any]]]


@dataclass(frozen=True)
class Sampling:
    """How many responses each problem gets, and how they are drawn. The default is one greedy response."""

    samples: int = 1
    temperature: float = 0.0
    seed: int = 0


GREEDY = Sampling()


@dataclass(frozen=True)
class Solving:
    """Which models solve the problems, and how they write their responses."""

    variants: list[Variant]
    max_new_tokens: int
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn
    sampling: Sampling = GREEDY


def batches(prompts: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Indices of the problems of each batch: prompts of similar length together, the same on every attempt."""
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
    return [order[start : start + size] for start in range(0, len(order), size)]


@dataclass
class _Evaluation:
    """An evaluation in progress: which files of answers it plans, which are missing, and how many are right."""

    folder: Path
    loaded: LoadedModel
    problems: list[Problem]
    solving: Solving
    plan: list[list[int]]  # batches of responses; the k-th one to problem n has the number n × samples + k
    opening: str  # the beginning of the answers, see prompts.Prompt
    done: int = 0  # responses
    answered: Counter[int] = field(default_factory=Counter)  # number of a variant → its responses in this process
    right: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return len(self.solving.variants) * sum(map(len, self.plan))

    def missing(self) -> list[tuple[int, int]]:
        """(number of a variant, batch) of each file that is missing."""
        files = [(n, batch) for n in range(len(self.solving.variants)) for batch in range(len(self.plan))]
        return [(n, batch) for n, batch in files if not shard(self.folder, n, batch).exists()]

    def requests(
        self, missing: list[tuple[int, int]], prompts: list[array], both: list[tuple[array, ...]]
    ) -> Iterator[tuple[tuple[tuple[int, ...], int], Request]]:
        """((numbers of variants, batch), the Request for them). both: of each problem the expert's and the amateur's
        prompt, for contrasts."""
        variants, k = self.solving.variants, self.solving.sampling.samples
        for group, batch in _groups(variants, missing, together=not self.solving.sampling.temperature):
            own = both if variants[group[-1]].contrast else prompts
            numbers = self.plan[batch]
            names = [(self.problems[i // k].id, i % k) for i in numbers]
            yield (group, batch), (group, [_listed(own[i // k]) for i in numbers], names)

    def store(self, group: tuple[int, ...], batch: int, solved: Solved, progress: Progress) -> None:
        """Grade and write what these variants answered to a batch."""
        k, numbers = self.solving.sampling.samples, self.plan[batch]
        for n, (responses, seconds, columns) in zip(group, solved, strict=True):
            name, problems = self.solving.variants[n].name, [self.problems[i // k] for i in numbers]
            rows = graded_rows(self.loaded, name, problems, responses, seconds, self.solving.stop, self.opening)
            for place, (row, i) in enumerate(zip(rows, numbers, strict=True)):
                row |= {"sample": i % k} | {column: values[place] for column, values in columns.items()}
            write_shard(shard(self.folder, n, batch), pa.Table.from_pylist(rows, SCHEMA))
            known = [row["right"] for row in rows if row["right"] is not None]
            self.done += len(rows)
            self.answered[n] += len(rows)
            self.right[n] += sum(known)
            share = {"pass_at_1": self.right[n] / self.answered[n]} if known else {}
            progress.update(self.done, self.total, model=name, **share)
            progress.checkpoint()


def evaluate(
    folder: Path,
    loaded: LoadedModel,
    problems: list[Problem],
    solving: Solving,
    progress: Progress,
    *,
    prompt: PromptSettings = PAPER,
    pair: Pair | None = None,
    batch_size: int | None = None,
    parallel_map: ParallelMap | None = None,
) -> list[Summary]:
    """Let every variant solve every problem, and write answers and results.json. Raises UserError, StopRequested.

    problems: either each has a reference answer, or none has, and nothing is graded. pair: `loaded` as the expert
    beside its amateur, where a variant is a contrast. batch_size: responses; None: as many as fit. parallel_map: solves
    the missing batches in place of this process.
    """
    prompts = [array("I", prompt_ids(loaded, problem.question, prompt, problem.context)) for problem in problems]
    longest = max(map(len, prompts)) + solving.max_new_tokens
    if loaded.max_positions and longest > loaded.max_positions:
        raise UserError(
            f"The longest problem and {solving.max_new_tokens} new tokens need {longest:,} positions, but {loaded.ref} "
            f"reads {loaded.max_positions:,}; lower --max-new-tokens."
        )
    both = [pair_prompts(pair, problem.question, prompt, problem.context) for problem in problems] if pair else []
    both = [tuple(array("I", ids) for ids in prompts) for prompts in both]
    size = batch_size or fitting_rows([loaded, pair.amateur] if pair else [loaded], longest, 1)
    plan = batches([own for own in prompts for _ in range(solving.sampling.samples)], size)
    opening = describe_prompt(loaded, prompt)["opening"]
    evaluation = _Evaluation(folder, loaded, problems, solving, plan, opening)
    set_aside_damaged(folder, progress)
    missing = evaluation.missing()
    if missing and (changed := note_versions(folder)):
        progress.status(changed)
    evaluation.done = evaluation.total - sum(len(plan[batch]) for _, batch in missing)
    requests = evaluation.requests(missing, prompts, both)
    solver = Solver(loaded, solving, progress, pair)
    solved = parallel_map(requests) if parallel_map else ((key, solver(request)) for key, request in requests)
    for (group, batch), found in solved:
        evaluation.store(group, batch, found, progress)
    if gone := evaluation.missing():
        raise UserError(
            f"{len(gone)} files of answers in {folder} were deleted meanwhile; resume to solve their problems again."
        )
    return write_results(folder, solving.variants)


def _listed(prompt: array | tuple[array, ...]) -> list[int] | tuple[list[int], ...]:
    return prompt.tolist() if isinstance(prompt, array) else tuple(ids.tolist() for ids in prompt)


def _groups(
    variants: list[Variant], missing: list[tuple[int, int]], together: bool
) -> list[tuple[tuple[int, ...], int]]:
    """(numbers of variants, batch): models one after another, then all contrasts of a batch, which share beginnings.

    together: the base's responses are decoded with them, as the contrast that changes nothing.
    """
    cells: dict[int, list[int]] = {}
    for n, batch in missing:
        if variants[n].contrast:
            cells.setdefault(batch, []).append(n)
    shared = {at for at in missing if together and variants[at[0]].is_base and at[1] in cells}
    plain = [((n,), batch) for n, batch in missing if not variants[n].contrast and (n, batch) not in shared]
    for n, batch in shared:
        cells[batch].insert(0, n)
    return [*plain, *((tuple(numbers), batch) for batch, numbers in cells.items())]


class Solver:
    """The base model and its adapters; called with a Request, it returns what is Solved."""

    def __init__(self, loaded: LoadedModel, solving: Solving, progress: Progress, pair: Pair | None = None):
        self._loaded, self._pair, self._progress = loaded, pair, progress
        self._variants, self._sampling = solving.variants, solving.sampling
        self._max_new_tokens, self._stop = solving.max_new_tokens, solving.stop
        self._peft_model, self._active = None, None
        self._rows: int | None = None  # that fit into memory, once a batch did not

    def __call__(self, request: Request) -> Solved:
        numbers, prompts, names = request
        n, variant = numbers[0], self._variants[numbers[-1]]
        if self._active != n:
            others = f" and {len(numbers) - 1} more" if numbers[1:] else ""
            self._progress.status(f"Solving with {variant.name}{others}")
            self._peft_model, self._active = activate_adapter(self._loaded, self._peft_model, variant), n
        start, model = time.monotonic(), self._peft_model
        with model.disable_adapter() if model is not None and variant.adapter is None else nullcontext():
            loaded = replace(self._loaded, model=self._loaded.model if model is None else model)
            if variant.contrast is None:
                return [(self._solve(loaded, prompts, names), time.monotonic() - start, {})]
            return self._contrasts(replace(self._pair, expert=loaded), numbers, prompts)

    def _solve(self, loaded: LoadedModel, prompts: list[list[int]], names: list[tuple[str, int]]) -> list[list[int]]:
        most, sampling, checkpoint, stop = self._max_new_tokens, self._sampling, self._progress.checkpoint, self._stop

        def attempt(part: list[list[int]], first: int) -> list[list[int]]:
            if not sampling.temperature:
                return greedy_generate(loaded, part, most, checkpoint, stop)
            drawn = np.stack([uniform(sampling.seed, *name, most) for name in names[first : first + len(part)]])
            return sampled_generate(loaded, part, most, sampling.temperature, drawn, checkpoint, stop)

        return self._in_parts(loaded, prompts, attempt)

    def _contrasts(self, pair: Pair, numbers: tuple[int, ...], prompts: list[tuple[list[int], list[int]]]) -> Solved:
        """What is solved with these contrasts, and by the base, which is the contrast that changes nothing.

        All contrasts of the evaluation are decoded, so that a resumed one has the same batches. The seconds are shared
        out by the tokens that were decoded for each.
        """
        cells = [n for n, variant in enumerate(self._variants) if variant.contrast or n in numbers]
        found = {n: self._variants[n].contrast or NOTHING for n in cells}
        cells.sort(key=lambda n: -found[n].beta)  # stable; the base comes first
        contrasts, most, stop = [found[n] for n in cells], self._max_new_tokens, self._stop
        start = time.monotonic()

        def attempt(part: list, first: int) -> list:
            found = contrast_grid(pair, part, contrasts, most, self._progress.checkpoint, stop)
            return list(zip(*found, strict=True))

        # rows are added where cells part: on average half of the cells have one of their own
        longest = max(len(ids) for both in prompts for ids in both) + most
        fitting = max(1, 2 * fitting_rows([pair.expert, pair.amateur], longest, 1) // (1 + len(cells)))
        responses = list(zip(*self._in_parts(pair.expert, prompts, attempt, fitting), strict=True))
        spent, decoded = time.monotonic() - start, sum(r.decoded for own in responses for r in own)
        solved = []
        for n in numbers:
            own = responses[cells.index(n)]
            columns = {"changed": [r.changed for r in own], "decoded": [r.decoded for r in own]}
            share = sum(columns["decoded"]) / max(1, decoded)
            columns = columns if self._variants[n].contrast else {}
            solved.append(([r.tokens.tolist() for r in own], spent * share, columns))
        return solved

    def _in_parts(
        self, loaded: LoadedModel, prompts: list, attempt: Callable[[list, int], list], most: int | None = None
    ) -> list:
        """The results of attempt(prompts, index of the first), for fewer at a time where memory runs out.

        most: prompts at a time; None: all.
        """

        def on_halved(rows: int) -> None:
            self._rows = rows
            self._progress.event("halved", rows=rows)

        try:
            most = min(most or len(prompts), self._rows or len(prompts))
            parts, _ = run_with_oom_backoff(prompts, most, attempt, on_halved)
        except DoesNotFit:
            raise UserError(
                f"A single problem needs more memory than {loaded.device} has free; free some memory, lower "
                "--max-new-tokens, or choose a smaller model. The answers so far are saved."
            ) from None
        return [response for part in parts for response in part]


def activate_adapter(loaded: LoadedModel, model: Any, variant: Variant) -> Any:
    """The PEFT model with the variant's adapter active. model: the PEFT model of the variants before, or None.

    Raises UserError, see `attach_adapter`.
    """
    if variant.adapter is None:
        return model
    name = variant.name.replace(".", "_")
    model = attach_adapter(loaded.model, variant.adapter, str(loaded.ref), loaded.files, name, onto=model)
    model.set_adapter(name)
    return model.eval()


def graded_rows(
    loaded: LoadedModel,
    name: str,
    problems: list[Problem],
    responses: list[list[int]],
    seconds: float,
    stop: tuple[str, ...] = (),
    opening: str = "",
) -> list[dict]:
    """The graded responses of a batch as rows of SCHEMA. seconds: of the whole batch; stop: as for `evaluate`.

    opening: the beginning of the answers, see prompts.Prompt.
    """
    rows = []
    for problem, ids in zip(problems, responses, strict=True):
        text, reason = finished_text(loaded, ids, stop)
        said = opening + text
        graded = grade(said, problem.answer) if problem.answer else Grade(None, stated_answer(said))
        response = {"response_ids": ids, "response": text, "finish_reason": reason, "seconds": seconds / len(problems)}
        rows.append(answer_row(name, problem, graded, **response))
    return rows


def set_aside_damaged(folder: Path, progress: Progress) -> None:
    """Rename the files of answers that cannot be read, so that their batches are solved again."""
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        try:
            verify(path)
            pq.read_table(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            os.replace(path, path.with_name(f"{path.name}.corrupt"))
            progress.event("corrupt", shard=path.name, message=first_line(error))
