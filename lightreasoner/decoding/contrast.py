"""Selective contrastive decoding: both models read every token, and decide step by step who chooses the next.

Where KL(expert ‖ amateur) is above β, the contrastive target's most likely token is taken, elsewhere the expert's own
choice. Fine-tuning on the selected steps pulls the expert towards just this, so the response previews a training that
reaches its target (cf. arXiv 2309.09117 and 2311.08981). In a takeover the amateur writes, and above β the expert's
choice is taken in place of the amateur's (cf. arXiv 2605.16874).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.cross_tokenizer_ahead import AcrossAhead
from lightreasoner.decoding.decoding_loop import ENDED_SHARE
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import Pair
from lightreasoner.models.turn_ends import ResponseEnds
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.scoring.divergence import (
    CANDIDATES,
    NotADistribution,
    StepTensors,
    blocks,
    contrastive_choice,
    expectation_by_row,
    kl,
    log_probs,
    log_probs_unseen,
    on_host,
)
from lightreasoner.validation import check_alpha_beta, check_cap

MOST_CELLS = 64  # of a grid


@dataclass(frozen=True)
class Contrast:
    """Who chooses the next token."""

    alpha: float = ALPHA  # without meaning in a takeover, and there 0
    beta: float = BETA  # nats
    takeover: bool = False  # the amateur writes, and above β the expert's choice is taken
    cap: float | None = None  # the largest log ratio that counts in the target, in nats; None: any

    @property
    def title(self) -> str:
        if self.takeover:
            return f"takeover β {self.beta:g}"
        return f"contrast α {self.alpha:g} β {self.beta:g}" + ("" if self.cap is None else f" cap {self.cap:g}")

    def as_json(self) -> dict:
        """For run.json and traces; the cap only where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NOTHING = Contrast(beta=float("inf"))  # changes nothing: the expert writes alone


def takeover(beta: float) -> Contrast:
    return Contrast(0.0, beta, takeover=True)


def check_greedy(temperature: float) -> None:
    """Raises UserError for a temperature that a contrast would ignore."""
    if temperature:
        raise UserError(f"The temperature is {temperature:g}, but decoding by contrast draws nothing; set it to 0.")


def parse_contrasts(
    alphas: str, betas: str, takeovers: bool, names: tuple[str, str] = ("α", "β"), cap: object = None
) -> tuple[Contrast, ...]:
    """A contrast of each α with each β, both as a user writes them: "0.1, 0.2"; takeovers have no α and no cap.

    names: of both, in messages. cap: of all targets. Raises UserError.
    """
    cap = check_cap(cap)
    if cap is not None and takeovers:
        raise UserError(
            "A takeover takes the expert's own choice and has no target, so a cap has no effect; leave it out."
        )
    lists = [_numbers(name, text) for name, text in zip(names, (alphas, betas), strict=True)]
    checked = [check_alpha_beta(alpha, beta, names) for alpha in lists[0] for beta in lists[1]]
    found = tuple(
        dict.fromkeys(takeover(beta) if takeovers else Contrast(alpha, beta, cap=cap) for alpha, beta in checked)
    )
    if len(found) > MOST_CELLS:
        raise UserError(f"These are {len(found)} cells of α and β; at most {MOST_CELLS} can be decoded together.")
    return found


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except (ValueError, AttributeError):
        raise UserError(f"{name} is {text!r:.40}; give numbers with commas between them, such as 0.1,0.2.") from None


@dataclass(frozen=True)
class ContrastResponse:
    """A response with both models' reading of it. Arrays have one entry per token; ids are the expert's."""

    tokens: np.ndarray
    kl: np.ndarray  # nats
    own: np.ndarray  # the writer's own choice: the expert's, in a takeover the amateur's
    above: np.ndarray  # the choice above β
    decoded: int  # tokens that were decoded for this response; what it shares with an earlier cell's is not

    @property
    def changed(self) -> int:
        """Tokens that differ from the writer's own choice."""
        return int((self.tokens != self.own).sum())


def contrast_generate(
    pair: Pair,
    prompts: list[tuple[list[int], list[int]]],
    contrast: Contrast,
    max_new_tokens: int,
    checkpoint: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
) -> list[ContrastResponse]:
    """`contrast_grid` with one cell: a response per prompt."""
    return contrast_grid(pair, prompts, [contrast], max_new_tokens, checkpoint, stop)[0]


def contrast_grid(
    pair: Pair,
    prompts: list[tuple[list[int], list[int]]],
    contrasts: Sequence[Contrast],
    max_new_tokens: int,
    checkpoint: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
) -> list[list[ContrastResponse]]:
    """For each contrast a response per prompt (expert's, amateur's ids), with its end-of-turn token unless cut off.

    All are decoded in one batch. Cells whose responses to a prompt are the same so far share a row, which is copied
    where they part. `checkpoint` is called before each step and may raise. Raises UserError where a model's output is
    not a distribution.
    """
    for loaded in (pair.expert, pair.amateur):
        check_reading(loaded)
    with torch.inference_mode():
        return _Grid(pair, prompts, contrasts).run(max_new_tokens, checkpoint, stop)


@dataclass(frozen=True)
class Choices:
    """What each model would write at some steps, and how far apart they are; each array (steps,), ids the expert's."""

    kl: np.ndarray  # nats, float32
    expert: np.ndarray  # the expert's choice
    amateur: np.ndarray
    #: (α, cap) → the contrastive target's choice, where KL is above the lowest β, else the expert's
    target: dict[tuple[float, float | None], np.ndarray]

    def own(self, contrast: Contrast) -> np.ndarray:
        return self.amateur if contrast.takeover else self.expert

    def above(self, contrast: Contrast) -> np.ndarray:
        return self.expert if contrast.takeover else self.target.get((contrast.alpha, contrast.cap), self.expert)

    def taken(self, contrast: Contrast) -> np.ndarray:
        return np.where(self.kl > contrast.beta, self.above(contrast), self.own(contrast))

    def at(self, places: np.ndarray) -> Choices:
        target = {numbers: ids[places] for numbers, ids in self.target.items()}
        return Choices(self.kl[places], self.expert[places], self.amateur[places], target)


def choices(
    pair: Pair, expert_logits: torch.Tensor, amateur_logits: torch.Tensor, contrasts: Sequence[Contrast]
) -> Choices:
    """The choices that these contrasts are made of. Logits: (steps, each model's output rows).

    Padding rows of the output tables are never chosen. Raises NotADistribution.
    """
    wanted = [contrast for contrast in contrasts if not contrast.takeover and contrast != NOTHING]
    wanted = list(dict.fromkeys((contrast.alpha, contrast.cap) for contrast in wanted))
    floor = min((contrast.beta for contrast in contrasts if not contrast.takeover), default=0.0)
    logits = pair.alignment.expert(expert_logits), pair.alignment.amateur(amateur_logits)
    if expert_logits.device.type != "cpu":
        return _choices_queued(pair, expert_logits, *logits, wanted, floor)
    log_e, log_a = map(log_probs, logits)
    divergence = kl(log_e, log_a)
    expert, amateur = own_choices(pair, expert_logits, log_a)
    high, target = (divergence > floor).nonzero()[:, 0], {}
    log_e, log_a = log_e[high], log_a[high]
    for numbers in wanted:
        found = target[numbers] = expert.clone()
        found[high] = _to_expert(pair, contrastive_choice(log_e, log_a, *numbers))
    ids = torch.stack([expert, amateur, *target.values()]).numpy()
    return Choices(divergence.numpy(), ids[0], ids[1], dict(zip(target, ids[2:], strict=True)))


def _choices_queued(
    pair: Pair,
    expert_logits: torch.Tensor,
    shared_e: torch.Tensor,
    shared_a: torch.Tensor,
    wanted: list[tuple[float, float | None]],
    floor: float,
) -> Choices:
    """choices where a look at a value makes the host wait for all that it has queued, which is a GPU: it looks once.

    shared_e, shared_a: (steps, shared vocabulary); wanted: α and cap of the targets, where KL is above the floor.
    """
    parts = []
    for run in blocks(shared_e):
        (log_e, legal_e), (log_a, legal_a) = log_probs_unseen(shared_e[run]), log_probs_unseen(shared_a[run])
        divergence = kl(log_e, log_a, expectation_by_row)
        expert, amateur = own_choices(pair, expert_logits[run], log_a)
        targets = (_to_expert(pair, contrastive_choice(log_e, log_a, *numbers)) for numbers in wanted)
        targets = [torch.where(divergence > floor, target, expert) for target in targets]
        parts.append((legal_e & legal_a, divergence, expert, amateur, *targets))
    legal, *columns = (x.numpy() for x in on_host(*(torch.cat(column) for column in zip(*parts, strict=True))))
    if not legal.all():
        raise NotADistribution(np.flatnonzero(~legal).tolist())
    return Choices(*columns[:3], dict(zip(wanted, columns[3:], strict=True)))


def choices_across(
    pair: Pair,
    expert_logits: torch.Tensor,
    asked: Sequence[int],
    scores: StepTensors,
    amateurs: list[int],
    contrasts: Sequence[Contrast],
) -> Choices:
    """The same for a pair across tokenizers, from the scores of the steps (`cross_tokenizer_ahead`): KL is a lower
    bound, and a step whose target is not known, so that training leaves it out, is the expert's own.

    asked: the steps that scores and the amateur's choices are of; no contrast asks about the others, whose KL is NaN.
    """
    expert = expert_logits[:, : len(pair.expert.tokenizer)].float().argmax(-1).cpu()
    divergence, amateur = np.full(len(expert), np.nan, np.float32), expert.numpy().copy()
    divergence[asked], amateur[asked] = scores.kl.numpy(), amateurs
    floor = min((contrast.beta for contrast in contrasts if not contrast.takeover), default=0.0)
    ends, counts = scores.counts.cumsum(0).tolist(), scores.counts.tolist()
    high = [n for n, own in enumerate(scores.kl.tolist()) if counts[n] and own > floor]
    written = (contrast for contrast in contrasts if not contrast.takeover and contrast != NOTHING)
    wanted = {(contrast.alpha, contrast.cap): expert.clone() for contrast in written}
    if high:
        runs = [slice(ends[n] - counts[n], ends[n]) for n in high]
        ids, log_e, log_a = (
            pad_sequence([getattr(scores, name)[run] for run in runs], batch_first=True, padding_value=fill)
            for name, fill in zip(CANDIDATES, (0, -torch.inf, 0.0), strict=True)
        )
        for (alpha, cap), found in wanted.items():
            place = contrastive_choice(log_e, log_a, alpha, cap)
            found[[asked[n] for n in high]] = ids.gather(-1, place[:, None])[:, 0]
    target = {numbers: found.numpy() for numbers, found in wanted.items()}
    return Choices(divergence, expert.numpy(), amateur, target)


def own_choices(pair: Pair, expert_logits: torch.Tensor, log_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the expert alone would write, what the amateur alone would), each (rows,), in expert ids.

    expert_logits: (rows, output rows), of which padding is never chosen; log_a: the amateur's log-probabilities (rows,
    shared vocabulary).
    """
    return expert_logits[:, : len(pair.expert.tokenizer)].float().argmax(-1), _to_expert(pair, log_a.argmax(-1))


def _to_expert(pair: Pair, shared: torch.Tensor) -> torch.Tensor:
    return shared if pair.alignment.expert_ids is None else pair.alignment.expert_ids[shared]


@dataclass
class _Branch:
    """The common response of some cells to a prompt, from the step on at which they parted from others."""

    prompt: int
    cells: list[int]  # the first stays in the branch to its end
    parent: int | None = None  # the branch that it parted from
    start: int = 0  # its first step; those before it are the parent's
    end: int | None = None  # steps until its end, those before its start included


class _Grid:
    """The state of `contrast_grid`. A row of both decoders holds a branch, named by its number; None once it ended."""

    def __init__(self, pair: Pair, prompts: list[tuple[list[int], list[int]]], contrasts: Sequence[Contrast]):
        self.pair, self.prompts, self.contrasts = pair, prompts, list(contrasts)
        cells = list(range(len(self.contrasts)))
        self.branches = [_Branch(n, cells) for n in range(len(prompts))]
        self.rows: list[int | None] = list(range(len(prompts)))
        self.steps: list[tuple[list[int | None], Choices]] = []
        self.across: AcrossAhead | None = None  # the amateur, where it has another tokenizer
        self.full: list[int] = []  # rows that end with this step: the amateur's context does
        self.floor = min((contrast.beta for contrast in contrasts if not contrast.takeover), default=0.0)

    def run(self, most: int, checkpoint: Callable[[], None], stop: tuple[str, ...]) -> list[list[ContrastResponse]]:
        pair, ends = self.pair, ResponseEnds(self.pair.expert, stop)
        expert, amateur = BatchDecoder(pair.expert, len(self.rows), None, most), None
        expert.prefill([own[:-1] for own, _ in self.prompts])
        if pair.across:
            self.across = amateur = AcrossAhead(pair, [other for _, other in self.prompts], apart=False)
        elif not pair.same_model:
            amateur = BatchDecoder(pair.amateur, len(self.rows), None, most)
            amateur.prefill([other[:-1] for _, other in self.prompts])
        self.decoders = [decoder for decoder in (expert, amateur) if decoder]
        unread = [own[-1] for own, _ in self.prompts]
        amateur_unread = [other[-1:] for _, other in self.prompts]
        for step in range(most):
            checkpoint()
            logits = expert.step(torch.tensor(unread, device=pair.expert.device))
            with self._naming(step):
                if self.across:
                    asked, takeovers = self._read_along(), any(contrast.takeover for contrast in self.contrasts)
                    seen = self.across.look(logits, asked, self.floor, takeovers)
                    found = choices_across(pair, logits, asked, seen, self.across.choices, self.contrasts)
                    self.full = [row for row in asked if self.across.rows[row].full]
                else:
                    others = _step(amateur, amateur_unread) if amateur else logits
                    found = choices(pair, logits, others, self.contrasts)
            self.steps.append((list(self.rows), found))
            unread = self._advance(found, step, most, ends)
            if not unread:
                break
            if self.across:
                with self._naming(step):
                    self.across.take({row: unread[row] for row in self._read_along()})
            elif amateur:
                amateur_unread = [pair.alignment.retokenize([token])[0] for token in unread]
        return self._collect()

    def _read_along(self) -> list[int]:
        """The rows of which a contrast asks for what the amateur says: not where the expert alone goes on."""
        cells = [[] if number is None else self.branches[number].cells for number in self.rows]
        return [row for row, own in enumerate(cells) if any(self.contrasts[cell] != NOTHING for cell in own)]

    @contextmanager
    def _naming(self, step: int) -> Iterator[None]:
        """Raises UserError for a NotADistribution at a step."""
        try:
            yield
        except NotADistribution as error:
            raise UserError(
                f"At step {step} of a response a model's output is not a distribution: {error}. Load it in another "
                "dtype, or use another model; what was written before is saved."
            ) from error

    def _advance(self, found: Choices, step: int, most: int, ends: ResponseEnds) -> list[int]:
        """Take the next tokens: part the cells that choose differently, and give up rows that have ended.

        Returns the token of each row.
        """
        taken = np.stack([found.taken(contrast) for contrast in self.contrasts])  # (cells, rows)
        same, table = (taken == taken[0]).all(0).tolist(), taken.T.tolist()
        tokens, parted = [row[0] for row in table], []  # parted: (row, branch, token) of new branches
        for row, number in enumerate(self.rows):
            if number is None:
                continue
            branch, groups, last = self.branches[number], {}, step + 1 if row in self.full else most
            for cell in branch.cells[:1] if same[row] else branch.cells:
                groups.setdefault(table[row][cell], []).append(cell)
            (tokens[row], first), *others = groups.items()
            for token, cells in others:
                new = len(self.branches)
                self.branches.append(_Branch(branch.prompt, cells, number, step + 1))
                ends.copy(number, new)
                if not self._ended(new, token, step, last, ends):
                    parted.append((row, new, token))
            branch.cells = branch.cells if same[row] else first
            if self._ended(number, tokens[row], step, last, ends):
                self.rows[row] = None
        return self._place(tokens, parted)

    def _ended(self, number: int, token: int, step: int, most: int, ends: ResponseEnds) -> bool:
        ended = ends.ended(token, number) or step + 1 == most
        if ended:
            self.branches[number].end = step + 1
        return ended

    def _place(self, tokens: list[int], parted: list[tuple[int, int, int]]) -> list[int]:
        """Give rows to new branches and take them from ended ones; the tokens of the rows."""
        copies = []
        for row, number, token in parted:
            place = row if self.rows[row] is None else None  # its branch has ended, so nothing is to be copied
            if place is None:
                copies.append((row, number, token))
            else:
                self.rows[place], tokens[place] = number, token
        free = iter([row for row, number in enumerate(self.rows) if number is None])
        places = []
        for _, number, token in copies:
            places.append(next(free, len(self.rows)))
            self.rows[places[-1] : places[-1] + 1] = [number]
            tokens[places[-1] : places[-1] + 1] = [token]
        staying = [row for row, number in enumerate(self.rows) if number is not None]
        ended = len(self.rows) - len(staying)
        for decoder in self.decoders if staying else ():
            if copies:
                decoder.copy([row for row, _, _ in copies], places)
            if ended > ENDED_SHARE * len(self.rows):
                decoder.select(torch.tensor(staying, device=decoder.loaded.device))
        if not staying:
            return []
        if ended > ENDED_SHARE * len(self.rows):
            self.rows, tokens = [self.rows[row] for row in staying], [tokens[row] for row in staying]
        return tokens

    def _collect(self) -> list[list[ContrastResponse]]:
        """Join the steps of each response: those of its branch, and before these its parents'."""
        numbers = np.array([-1 if number is None else number for rows, _ in self.steps for number in rows])
        parts = [found for _, found in self.steps]
        target = {numbers: np.concatenate([part.target[numbers] for part in parts]) for numbers in parts[0].target}
        whole = [np.concatenate([getattr(part, name) for part in parts]) for name in ("kl", "expert", "amateur")]
        every = Choices(*whole, target)
        order = np.argsort(numbers, kind="stable")  # by branch, then by step
        bounds = np.searchsorted(numbers[order], np.arange(len(self.branches) + 1))
        responses: list[list[ContrastResponse]] = [[None] * len(self.prompts) for _ in self.contrasts]
        chains: list[np.ndarray] = []  # the places of each branch's steps, from the first on
        for number, branch in enumerate(self.branches):  # parents come before their children
            own = order[bounds[number] : bounds[number + 1]]
            before = own[:0] if branch.parent is None else chains[branch.parent][: branch.start]
            chains.append(np.concatenate([before, own]))
            for cell in branch.cells:
                contrast, seen = self.contrasts[cell], every.at(chains[-1][: branch.end])
                decoded = len(own) if cell == branch.cells[0] else 0
                found = (seen.taken(contrast), seen.kl, seen.own(contrast), seen.above(contrast), decoded)
                responses[cell][branch.prompt] = ContrastResponse(*found)
        return responses


def _step(decoder: BatchDecoder, unread: list[list[int]]) -> torch.Tensor:
    """The logits (rows, output rows) after each row's next ids, at least one."""
    if all(len(ids) == 1 for ids in unread):
        return decoder.step(torch.tensor([ids[0] for ids in unread], device=decoder.loaded.device))
    return decoder.read(unread, keep=1)[:, 0]
