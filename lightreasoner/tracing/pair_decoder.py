"""Expert and amateur decoding the same response, step by step, with every step scored."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lightreasoner.decoding.cached_decoder import CachedDecoder, left_unread
from lightreasoner.decoding.contrast import Contrast, choices, choices_across, own_choices
from lightreasoner.decoding.cross_tokenizer_ahead import AcrossAhead
from lightreasoner.decoding.cross_tokenizer_reader import AcrossScorer, Seen
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import (
    NotADistribution,
    StepScore,
    expectation_by_row,
    kl,
    log_probs,
    log_probs_unseen,
    on_host,
    score_steps,
    step_scores,
)
from lightreasoner.tracing.events import OWN_CHOICES, Choice, Step, StepsEvent, TuningShift


class FurtherAmateur:
    """One more amateur of the same expert that reads along; of it only KL(expert ‖ amateur) is kept."""

    def __init__(self, pair: Pair, prompt: list[int]):
        self.pair = pair
        count = left_unread(pair.amateur, prompt)
        self.across = AcrossScorer(pair, [prompt]) if pair.across else None
        alone = pair.same_model or self.across
        self.decoder = None if alone else CachedDecoder(pair.amateur, prompt, unread=count)

    def kls(self, tokens: list[int], expert_logits: torch.Tensor) -> list[float]:
        """KL at each of the next tokens, nats; lower bounds where the amateur has another tokenizer.

        expert_logits: (steps, output rows). Raises NotADistribution.
        """
        if self.across:
            return self.across.measure(tokens, expert_logits)[0].kl.tolist()
        alignment, logits = self.pair.alignment, expert_logits
        if self.decoder:
            ids, places, self.decoder.unread = alignment.retokenize_chunk(self.decoder.unread, tokens)
            logits = _at(self.decoder.read(ids, len(ids) - places[0]), places)
        shared = alignment.expert(expert_logits), alignment.amateur(logits)
        if expert_logits.device.type == "cpu":
            return kl(*map(log_probs, shared)).tolist()
        (log_e, legal_e), (log_a, legal_a) = map(log_probs_unseen, shared)  # each look makes the host wait
        found, legal = on_host(kl(log_e, log_a, expectation_by_row), legal_e & legal_a)
        if not legal.all():
            raise NotADistribution((~legal).nonzero().flatten().tolist())
        return found.tolist()


class PairDecoder:
    """Both models at the same position of the same response. `writer` is the decoder that generates it."""

    def __init__(
        self,
        pair: Pair,
        expert_prompt: list[int],
        amateur_prompt: list[int],
        contrast: Contrast | None = None,
        others: Sequence[FurtherAmateur] = (),
    ):
        """contrast: decides on the tokens; every step then says what the models alone would have written.

        others: that read along.
        """
        self.contrast, self.others = contrast, others
        self._other_kls: list[list[float]] = []  # of each, at the steps that were scored last
        self.pair, self.alignment, self.texts = pair, pair.alignment, TokenTexts(pair.expert.tokenizer)
        self.writer = self.expert = self._decoder(pair.expert, expert_prompt)
        self.across = AcrossAhead(pair, [amateur_prompt]) if pair.across else None
        alone = pair.same_model or self.across
        self.amateur = None if alone else self._decoder(pair.amateur, amateur_prompt)
        self.index = 0  # of the next step to score
        self._ahead: list[torch.Tensor] = []  # the amateur's logits (output rows,) of steps that are not scored yet
        self._chosen: list[tuple[int, int]] = []  # what the models alone would have written at such steps
        self._seen: list[tuple[Seen, int, int]] = []  # of a pair across tokenizers: their scores, and both own choices

    @staticmethod
    def _decoder(loaded: LoadedModel, prompt: list[int]) -> CachedDecoder:
        """What the sampler reads a given response with (decoding/generate.py), so that the numbers are the same."""
        return CachedDecoder(loaded, prompt, unread=left_unread(loaded, prompt))

    def choose_by_contrast(self, logits: torch.Tensor) -> int:
        """The next token, to which both models have their say, so the amateur reads ahead of the scorer.

        logits: the expert's (output rows,). Raises UserError where a model's output is not a distribution.
        """
        try:
            if self.across:
                return self._choose_across(logits)
            amateur = self.amateur.read(self.amateur.unread, keep=1)[0] if self.amateur else logits
            found = choices(self.pair, logits[None], amateur[None], [self.contrast])
        except ValueError as error:
            raise self._not_a_distribution(self.index + len(self._ahead) + len(self._seen), error) from error
        token = int(found.taken(self.contrast)[0])
        self._chosen.append((int(found.expert[0]), int(found.amateur[0])))
        if self.amateur:
            self._ahead.append(amateur)
            self.amateur.unread = self.alignment.retokenize([token])[0]
        return token

    def _choose_across(self, logits: torch.Tensor, token: int | None = None) -> int:
        """The same for a pair across tokenizers. The scores of the step are those that it is chosen by. Raises
        UserError where the response is longer than the amateur's context.

        token: that was taken, of a given beginning.
        """
        scores = self.across.look(logits[None], [0], amateurs=self.contrast.takeover)
        if self.across.rows[0].full:
            raise UserError(
                f"The response is too long for {self.pair.amateur.ref}, which has a say in it and reads "
                f"{self.pair.amateur.max_positions:,} tokens; lower the token limit, or choose another amateur."
            )
        found = choices_across(self.pair, logits[None], [0], scores, self.across.choices, [self.contrast])
        token = int(found.taken(self.contrast)[0]) if token is None else token
        self._seen.append((self.across.scores([token]), int(found.expert[0]), int(found.amateur[0])))
        self.across.take({0: token})
        return token

    @staticmethod
    def _not_a_distribution(step: int, error: ValueError) -> UserError:
        return UserError(
            f"At step {step} a model's output is not a distribution: {error}. "
            "Load it in another dtype, or use another model."
        )

    def score(self, tokens: list[int], logits: torch.Tensor) -> StepsEvent:
        """Score the next tokens of the response. logits: (steps, output rows), the writer's.

        Raises UserError where a model's output is not a distribution.
        """
        shared = [self.alignment.to_shared(token) for token in tokens]
        try:
            scores = self._score(tokens, logits, shared)
        except ValueError as error:
            raise self._not_a_distribution(self.index, error) from error
        if self.alignment.expert_ids is not None:  # stored ids are the expert's
            scores = [(replace(s, ids=tuple(map(self.alignment.to_expert, s.ids))), shift) for s, shift in scores]
        steps = [
            Step(
                *(self.index + n, token, self.texts.text(token), *score),
                **self._own_choices(n),
                other_kls=tuple(kls[n] for kls in self._other_kls),
                **self._spelled(score[0]),
            )
            for n, (token, score) in enumerate(zip(tokens, scores, strict=True))
        ]
        self.index += len(steps)
        return StepsEvent(steps)

    def _score(
        self, tokens: list[int], logits: torch.Tensor, shared: list[int | None]
    ) -> list[tuple[StepScore, TuningShift | None]]:
        """shared: the tokens' ids in the shared vocabulary, None where one has none."""
        if self.across:
            return [(score, None) for score in self._score_across(tokens, logits)]
        return [(score, None) for score in score_steps(*self._pair_logits(tokens, logits), shared)]

    def _score_across(self, tokens: list[int], logits: torch.Tensor) -> list[StepScore]:
        """The scores of a pair across tokenizers. logits: the expert's (steps, output rows)."""
        if self.contrast and not self._seen:  # a given beginning
            for token, row in zip(tokens, logits, strict=True):
                self._choose_across(row, token)
        seen, self._seen, scores = self._seen, [], []
        self._own = [[one[n] for one in seen] for n in (1, 2)]
        for found, known, compared in [one[0] for one in seen] or [self.across.measure(tokens, logits)]:
            scores += step_scores(found, known.tolist(), compared.tolist())
        self._other_kls = [other.kls(tokens, logits) for other in self.others]
        return scores

    def _pair_logits(self, tokens: list[int], logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Expert's and amateur's logits (steps, shared vocabulary). logits: the expert's (steps, output rows)."""
        amateur = self.alignment.amateur(self._amateur_logits(tokens) if self.amateur else logits)
        if self._chosen:
            self._own, self._chosen = list(zip(*self._chosen, strict=True)), []
        elif self.contrast:
            self._own = [ids.tolist() for ids in own_choices(self.pair, logits, log_probs(amateur))]
        self._other_kls = [other.kls(tokens, logits) for other in self.others]
        return self.alignment.expert(logits), amateur

    def _spelled(self, score: StepScore) -> dict[str, dict[int, tuple[str, ...]]]:
        """How the amateur's tokenizer spells the candidates, for a pair across tokenizers."""
        if not self.across:
            return {}
        return {"spelled": {id: parts for id in score.ids if len(parts := self.pair.across.parts(id)) > 1}}

    def _own_choices(self, n: int) -> dict[str, Choice]:
        """What the models alone would have written at the n-th of the steps that were scored last."""
        if not self.contrast:
            return {}
        names = OWN_CHOICES if self.contrast.takeover else OWN_CHOICES[:1]
        return {name: Choice(ids[n], self.texts.text(ids[n])) for name, ids in zip(names, self._own, strict=False)}

    def _amateur_logits(self, tokens: list[int]) -> torch.Tensor:
        """(steps, output rows): the amateur is teacher-forced with the tokens in its own ids, unless it read ahead."""
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return torch.stack(ahead)
        ids, rows, self.amateur.unread = self.alignment.retokenize_chunk(self.amateur.unread, tokens)
        return _at(self.amateur.read(ids, len(ids) - rows[0]), rows)


def _at(logits: torch.Tensor, places: list[int]) -> torch.Tensor:
    """The logits at these places, which ascend, of logits (columns, output rows) from the first place on."""
    return logits if len(places) == len(logits) else logits[[place - places[0] for place in places]]
