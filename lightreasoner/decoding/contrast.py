"""Selective contrastive decoding: both models read every token, and decide step by step who chooses the next.

Where KL(expert ‖ amateur) is above β, the contrastive target's most likely token is taken, elsewhere the expert's own
choice. Fine-tuning on the selected steps pulls the expert towards just this, so the response previews a training that
reaches its target (cf. arXiv 2309.09117 and 2311.08981). In a takeover the amateur writes, and above β the expert's
choice is taken in place of the amateur's (cf. arXiv 2605.16874).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder, decode_rows
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import Pair
from lightreasoner.models.turn_ends import ResponseEnds
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.scoring.divergence import NotADistribution, contrastive_choice, kl, log_probs
from lightreasoner.validation import check_alpha_beta

MOST_CELLS = 64  # of a grid


@dataclass(frozen=True)
class Contrast:
    """Who chooses the next token."""

    alpha: float = ALPHA  # without meaning in a takeover, and there 0
    beta: float = BETA  # nats
    takeover: bool = False  # the amateur writes, and above β the expert's choice is taken

    @property
    def title(self) -> str:
        return f"takeover β {self.beta:g}" if self.takeover else f"contrast α {self.alpha:g} β {self.beta:g}"


def takeover(beta: float) -> Contrast:
    return Contrast(0.0, beta, takeover=True)


def check_greedy(temperature: float) -> None:
    """Raises UserError for a temperature that a contrast would ignore."""
    if temperature:
        raise UserError(f"The temperature is {temperature:g}, but decoding by contrast draws nothing; set it to 0.")


def parse_contrasts(
    alphas: str, betas: str, takeovers: bool, names: tuple[str, str] = ("α", "β")
) -> tuple[Contrast, ...]:
    """A contrast of each α with each β, both as a user writes them: "0.1, 0.2"; takeovers have no α.

    names: of both, in messages. Raises UserError.
    """
    lists = [_numbers(name, text) for name, text in zip(names, (alphas, betas), strict=True)]
    checked = [check_alpha_beta(alpha, beta, names) for alpha in lists[0] for beta in lists[1]]
    found = tuple(dict.fromkeys(takeover(beta) if takeovers else Contrast(alpha, beta) for alpha, beta in checked))
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
    """A response with both models' reading of it, from which responses at other α and β can be continued.

    Arrays have one entry per token; ids are the expert's.
    """

    tokens: np.ndarray
    kl: np.ndarray  # nats
    own: np.ndarray  # the writer's own choice: the expert's, in a takeover the amateur's
    above: dict[float, np.ndarray]  # α → the choice above β; in a takeover the only α is 0
    decoded: int  # how many tokens were decoded for this response, not taken over from another

    @property
    def changed(self) -> int:
        """Tokens that differ from the writer's own choice."""
        return int((self.tokens != self.own).sum())

    def choices(self, contrast: Contrast) -> np.ndarray:
        """What would be taken at each step under this contrast, after the same beginning."""
        return np.where(self.kl > contrast.beta, self.above[contrast.alpha], self.own)

    def shared(self, contrast: Contrast) -> int:
        """With how many of these tokens a response under this contrast begins."""
        differing = (self.choices(contrast) != self.tokens).nonzero()[0]
        return int(differing[0]) if len(differing) else len(self.tokens)

    def until(self, contrast: Contrast) -> ContrastResponse:
        """The beginning that a response under this contrast shares with this one, and its next token."""
        size = min(self.shared(contrast) + 1, len(self.tokens))
        above = {alpha: ids[:size] for alpha, ids in self.above.items()}
        return ContrastResponse(self.choices(contrast)[:size], self.kl[:size], self.own[:size], above, 0)


def contrast_generate(
    pair: Pair,
    prompts: list[tuple[list[int], list[int]]],
    contrast: Contrast,
    max_new_tokens: int,
    checkpoint: Callable[[], None] = lambda: None,
    stop: tuple[str, ...] = (),
    alphas: Iterable[float] = (),
    known: Sequence[Sequence[ContrastResponse]] | None = None,
) -> list[ContrastResponse]:
    """A response per prompt (expert's, amateur's ids), each with its end-of-turn token unless the limit cut it off.

    alphas: others for which choices are kept. known: for each prompt, responses under other contrasts with the same
    writer and α among theirs; what they share with the new one is not decoded again. `checkpoint` is called before each
    step and may raise. Raises UserError where a model's output is not a distribution.
    """
    for loaded in (pair.expert, pair.amateur):
        check_reading(loaded)
    alphas = [contrast.alpha] if contrast.takeover else sorted({contrast.alpha, *alphas})
    begun = [_longest(found, contrast, alphas) for found in known or [()] * len(prompts)]
    ended = [len(start.tokens) >= max_new_tokens or _has_ended(pair, start, stop) for start in begun]
    places = [place for place, done in enumerate(ended) if not done]
    if not places:
        return begun
    with torch.inference_mode():
        batch = _Batch(pair, [prompts[n] for n in places], [begun[n] for n in places], contrast, alphas)
        responses = batch.run(max_new_tokens, checkpoint, stop)
    for place, response in zip(places, responses, strict=True):
        begun[place] = response
    return begun


def _longest(found: Sequence[ContrastResponse], contrast: Contrast, alphas: list[float]) -> ContrastResponse:
    """The longest beginning that is known, which may be empty."""
    able = [response for response in found if set(alphas) <= response.above.keys()]
    starts = [response.until(contrast) for response in able]
    none = np.zeros(0, np.int64)
    empty = ContrastResponse(none, np.zeros(0, np.float32), none, dict.fromkeys(alphas, none), 0)
    return max(starts, key=lambda start: len(start.tokens), default=empty)


def _has_ended(pair: Pair, start: ContrastResponse, stop: tuple[str, ...]) -> bool:
    ends, ended = ResponseEnds(pair.expert, stop), False
    for token in start.tokens.tolist():
        ended = ends.ended(token)
    return ended


def contrast_choices(
    pair: Pair, expert_logits: torch.Tensor, amateur_logits: torch.Tensor, contrast: Contrast, alphas: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor, dict[float, torch.Tensor], torch.Tensor]:
    """(tokens to take, the writer's own choices, α → the choices above β, KL in nats), each (rows,), in expert ids.

    Logits: (rows, each model's output rows). In a takeover the choices above β are the expert's, for every α. Padding
    rows of the output tables are never chosen. Raises NotADistribution.
    """
    alignment = pair.alignment
    log_e = log_probs(alignment.expert(expert_logits))
    log_a = log_probs(alignment.amateur(amateur_logits).to(log_e.device))

    divergence = kl(log_e, log_a)
    favourite, amateurs = own_choices(pair, expert_logits, log_a)
    if contrast.takeover:
        own, above = amateurs, dict.fromkeys(alphas, favourite)
    else:
        own, above = favourite, {alpha: _to_expert(pair, contrastive_choice(log_e, log_a, alpha)) for alpha in alphas}
    return torch.where(divergence > contrast.beta, above[contrast.alpha], own), own, above, divergence


def own_choices(pair: Pair, expert_logits: torch.Tensor, log_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the expert alone would write, what the amateur alone would), each (rows,), in expert ids.

    expert_logits: (rows, output rows), of which padding is never chosen; log_a: the amateur's log-probabilities (rows,
    shared vocabulary).
    """
    return expert_logits[:, : len(pair.expert.tokenizer)].float().argmax(-1), _to_expert(pair, log_a.argmax(-1))


def _to_expert(pair: Pair, shared: torch.Tensor) -> torch.Tensor:
    return shared if pair.alignment.expert_ids is None else pair.alignment.expert_ids[shared]


class _Batch:
    """The state of `contrast_generate`. A row is named by its index."""

    def __init__(
        self,
        pair: Pair,
        prompts: list[tuple[list[int], list[int]]],
        begun: list[ContrastResponse],
        contrast: Contrast,
        alphas: list[float],
    ):
        self.pair, self.begun, self.contrast, self.alphas = pair, begun, contrast, alphas
        self.device = pair.expert.device
        self.tokens = [start.tokens.tolist() for start in begun]
        self.expert_prompts = [own + more for (own, _), more in zip(prompts, self.tokens, strict=True)]
        self.unread = [  # the amateur's ids
            own + pair.alignment.retokenize(more)[0] for (_, own), more in zip(prompts, self.tokens, strict=True)
        ]
        #: Per step: the rows; ids (2 + alphas, rows), those taken, the writer's own and those above β; KL (rows,).
        self.steps: list[tuple[list[int], torch.Tensor, torch.Tensor]] = []

    def run(self, max_new_tokens: int, checkpoint: Callable[[], None], stop: tuple[str, ...]) -> list[ContrastResponse]:
        expert = BatchDecoder(self.pair.expert, len(self.begun), None, max_new_tokens)
        expert.prefill([prompt[:-1] for prompt in self.expert_prompts])
        self.amateur = None
        if not self.pair.same_model:
            self.amateur = BatchDecoder(self.pair.amateur, len(self.begun), None, max_new_tokens)
        if self.amateur:
            self.amateur.prefill([ids[:-1] for ids in self.unread])
            self.unread = [ids[-1:] for ids in self.unread]
        self.amateur_rows = list(range(len(self.begun)))  # the rows in the amateur's cache
        unread = torch.tensor([prompt[-1] for prompt in self.expert_prompts], device=self.device)
        begun = self.tokens if any(self.tokens) else None
        counts = [0] * len(self.begun)
        for step in decode_rows(
            expert, unread, self._choose, max_new_tokens, lambda ended: checkpoint(), stop=stop, begun=begun
        ):
            for row, token in zip(step.rows, step.tokens, strict=True):
                counts[row] += 1
                if self.amateur:
                    self.unread[row] = self.pair.alignment.retokenize([token])[0]
        return self._collect(counts)

    def _choose(self, logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
        """The next tokens (rows,) of these rows. logits: the expert's (rows, output rows)."""
        amateur = self._amateur_logits(rows) if self.amateur else logits
        try:
            taken, own, above, divergence = contrast_choices(self.pair, logits, amateur, self.contrast, self.alphas)
        except NotADistribution as error:
            where = len(self.tokens[rows[error.rows[0]]]) + step
            raise UserError(
                f"At step {where} of a response a model's output is not a distribution: {error}. Load it in another "
                "dtype, or use another model; what was written before is saved."
            ) from error
        self.steps.append((rows, torch.stack([taken, own, *above.values()]), divergence))
        return taken

    def _amateur_logits(self, rows: list[int]) -> torch.Tensor:
        """The amateur's logits (rows, its output rows) after what these rows hold."""
        if len(rows) < len(self.amateur_rows):
            places = {row: place for place, row in enumerate(self.amateur_rows)}
            index = torch.tensor([places[row] for row in rows], device=self.pair.amateur.device)
            self.amateur.select(index)
            self.amateur_rows = rows
        unread = [self.unread[row] for row in rows]
        if all(len(ids) == 1 for ids in unread):
            return self.amateur.step(torch.tensor([ids[0] for ids in unread], device=self.pair.amateur.device))
        return self.amateur.read(unread, keep=1)[:, 0]

    def _collect(self, counts: list[int]) -> list[ContrastResponse]:
        """Join the steps of each row. counts: the tokens decoded for each; what followed its end is left out."""
        ids: list[list[np.ndarray]] = [[] for _ in counts]
        divergences: list[list[float]] = [[] for _ in counts]
        for rows, tensor, divergence in self.steps:
            columns, values = tensor.cpu().numpy().T, divergence.cpu().tolist()
            for row, column, value in zip(rows, columns, values, strict=True):
                if len(ids[row]) < counts[row]:
                    ids[row].append(column)
                    divergences[row].append(value)
        responses = []
        for start, columns, values, count in zip(self.begun, ids, divergences, counts, strict=True):
            new = np.stack(columns, 1)  # (2 + alphas, tokens)
            whole = [start.tokens, start.own, *(start.above[alpha] for alpha in self.alphas)]
            joined = [np.concatenate(parts) for parts in zip(whole, new, strict=True)]
            divergence = np.concatenate([start.kl, np.asarray(values, np.float32)])
            above = dict(zip(self.alphas, joined[2:], strict=True))
            responses.append(ContrastResponse(joined[0], divergence, joined[1], above, count))
        return responses
