"""The events that a trace yields, and the contents of one step."""

from dataclasses import dataclass, field

from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.scoring.divergence import StepScore


@dataclass(frozen=True)
class TuningShift:
    """What training changed at one step; see TUNING_MEASURES in scoring/measures.py. In nats.

    Numbers of the taken token are None where it lies outside the shared vocabulary.
    """

    tuned_kl: float  # KL(E′ ‖ E)
    tuned_reverse_kl: float  # KL(E ‖ E′)
    tuned_changed: bool  # the most likely tokens of E and E′ differ
    tuned_logprob: float | None
    tuned_rank: int | None
    tuned_logprobs: tuple[float, ...]  # of the step's candidates, in their order


@dataclass(frozen=True)
class PromptEvent:
    """The expert's prompt, with its chat template; the settings that made it, and what is not as they ask.

    opening: the beginning of the answer that the prompt holds, see prompts.Prompt.
    """

    ids: list[int]
    text: str
    settings: PromptSettings = PAPER
    notes: tuple[str, ...] = ()
    opening: str = ""


@dataclass(frozen=True)
class Choice:
    token_id: int  # the expert's id
    text: str


@dataclass(frozen=True)
class Step:
    """One position of the response: the token taken there, and how the models' expectations of it compare."""

    index: int
    token_id: int  # the expert's id
    text: str
    score: StepScore
    shift: TuningShift | None = None  # where a tuned expert is compared
    expert_choice: Choice | None = None  # where a contrast writes: what the expert alone would have written
    amateur_choice: Choice | None = None  # where the amateur writes, in a takeover: what it alone would have written
    other_kls: tuple[float, ...] = ()  # KL(expert ‖ amateur) of each further amateur that reads along, nats
    #: Candidate → the texts of the amateur's tokens, where its tokenizer spells it with several.
    spelled: dict[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepsEvent:
    steps: list[Step]


@dataclass(frozen=True)
class EndEvent:
    """Why the response ended: "stop" (end of turn), "length" (token limit) or "given" (a given text was scored)."""

    finish_reason: str
    text: str
    seconds: float  # in the models and the scorer


#: Fields of a Step: a contrast has the first, a takeover both.
OWN_CHOICES = ("expert_choice", "amateur_choice")

Event = PromptEvent | StepsEvent | EndEvent
