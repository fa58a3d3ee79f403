"""Sample, the unit of training: a prefix and the contrastive target after it; SelectionReport counts them."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One step to train on.

    `prefix_ids` are the expert's ids before the step: `prompt_tokens` of the prompt, then the response so far. In an
    imported dataset both are None; instead `prefix` is the text of the response so far, after the prompt made from
    `question`.
    """

    problem_id: str
    sample: int  # which of the problem's responses
    question: str
    step: int  # position in the response, from 0
    prefix_ids: list[int] | None
    token_ids: list[int]  # the plausible set at α
    weights: list[float]  # the contrastive target on it, summing to 1
    kl: float  # nats; infinite where the amateur gives a token of the expert probability 0
    prompt_tokens: int | None = None
    prefix: str | None = None
    tokens: list[str] | None = None  # texts of token_ids, in an imported dataset


@dataclass(frozen=True)
class SelectionReport:
    """selected − dropped_by_annotation + kept_by_annotation = usable + missing."""

    steps: int = 0  # of the whole dataset
    selected: int = 0  # by the selector, before annotations
    usable: int = 0  # became samples
    missing: int = 0  # selected, but not stored in detail, so they cannot become samples
    kept_by_annotation: int = 0  # not selected, but annotated with keep
    dropped_by_annotation: int = 0  # selected, but annotated with drop
    unknown: int = 0  # not stored in detail, so a selector by the teaching signal could not select them

    @classmethod
    def count(cls, chosen: np.ndarray, used: np.ndarray, stored: np.ndarray, unknown: bool = False) -> SelectionReport:
        """Of (steps,) booleans: chosen by the selector, used after annotations, stored in detail. unknown: whether the
        selector could not choose the steps that are not."""
        counts = chosen, used & stored, used & ~stored, used & ~chosen, chosen & ~used
        return cls(len(used), *(int(count.sum()) for count in counts), int((~stored).sum()) if unknown else 0)

    def as_json(self) -> dict[str, int]:
        """For an event log; `unknown` is left out where there is nothing to say."""
        return {name: count for name, count in asdict(self).items() if count or name != "unknown"}

    def __add__(self, other: SelectionReport) -> SelectionReport:
        return SelectionReport(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))
