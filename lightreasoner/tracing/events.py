"""The events that a trace yields, and what one step holds."""

from __future__ import annotations

from dataclasses import dataclass

from lightreasoner.scoring.divergence import StepScore


@dataclass(frozen=True)
class TuningShift:
    """What training moved at one step, in nats. What belongs to the taken token is None where it is not shared."""

    tuned_kl: float  # KL(E′ ‖ E)
    tuned_reverse_kl: float  # KL(E ‖ E′)
    tuned_changed: bool  # E′'s most likely token is not E's
    tuned_logprob: float | None
    tuned_rank: int | None
    tuned_logprobs: tuple[float, ...]  # of the step's candidates, in their order


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
    shift: TuningShift | None = None  # where a tuned expert is compared


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
