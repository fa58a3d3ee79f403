"""Sample, the unit of training: a prefix and the contrastive target after it. And how many were chosen, and why."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Sample:
    """One step to train on.

    `prefix_ids` are the expert's ids before the step, prompt and response so far; the last `len(prefix_ids) -
    prompt_tokens` of them are response. In a set imported as text both are None, and `prefix` holds the response so
    far instead, which continues the prompt that `question` makes.
    """

    problem_id: str
    sample: int  # which of the problem's responses
    question: str
    step: int  # position in the response, from 0
    prefix_ids: list[int] | None
    token_ids: list[int]  # the plausible set at α
    weights: list[float]  # the contrastive target on it, summing to 1
    kl: float  # nats; infinite where the amateur denies what the expert holds possible
    prompt_tokens: int | None = None
    prefix: str | None = None
    tokens: list[str] | None = None  # texts of token_ids, in an imported set


@dataclass(frozen=True)
class SelectionReport:
    """selected − dropped_by_mark + kept_by_mark = usable + missing."""

    steps: int = 0  # all that there are
    selected: int = 0  # by the selector, before marks
    usable: int = 0  # became samples
    missing: int = 0  # chosen, but their details were not stored, so they cannot become samples
    kept_by_mark: int = 0  # in only because of a mark
    dropped_by_mark: int = 0  # out only because of a mark

    def __add__(self, other: SelectionReport) -> SelectionReport:
        return SelectionReport(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))
