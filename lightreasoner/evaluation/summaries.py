"""What a model's answers come to: pass@1 with its interval, pass@k, maj@k, lengths, speed, and results by group."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lightreasoner.grading.grading import answer_key
from lightreasoner.scoring.significance import Estimate, estimate, pass_at_k

GROUPINGS = ("level", "subject")
UNGRADED = dict.fromkeys(("right", "pass_at_1", "low", "high"))  # of a Summary where no answers are known


class Answer(NamedTuple):
    """One model's answer to one problem."""

    question: str  # its beginning
    answer: str | None  # the reference answer
    extracted: str | None  # the model's; None where none was found
    right: bool | None  # None where no answer is known
    finish_reason: str | None
    length: int | None  # tokens
    seconds: float
    path: Path  # the file that holds the whole row
    sample: int = 0
    groups: tuple[str | None, ...] = (None, None)  # of GROUPINGS
    judged: bool | None = False  # the grader's verdict; `right` is another where it was set by hand
    by_hand: bool = False
    changed: int | None = None  # tokens, see SCHEMA
    decoded: int | None = None


@dataclass(frozen=True)
class Summary:
    """One model's results. Shares from 0 to 1, lengths in tokens."""

    name: str
    problems: int
    right: int | None  # None where no answers are known, like the next three
    pass_at_1: float | None
    low: float | None  # 95 % interval
    high: float | None
    extraction_failures: int
    truncations: int
    mean_length: float | None  # None for texts of which no tokens are known
    tokens_per_second: float | None  # None where other cells of a contrast's grid, or other software, wrote a part
    seconds: float
    by_hand: int = 0  # verdicts set by hand
    samples: int = 1  # responses per problem; with several, pass_at_1 is avg@k, and `right` counts problems by maj@k
    responses: int = 0  # of all problems, where they have several; extraction_failures and truncations are of these
    pass_at: dict[int, Estimate] = field(default_factory=dict)  # k → pass@k
    majority: Estimate | None = None  # maj@k
    groups: dict[str, list[dict]] = field(default_factory=dict)  # "level" and "subject" → results of each
    changed: float | None = None  # of a contrast: the share of tokens that are not the writer's own choice

    def as_json(self) -> dict:
        """As in results.json; what an evaluation lacks is left out."""
        numbers = asdict(self)
        optional = {"by_hand": 0, "samples": 1, "responses": 0, "pass_at": {}, "majority": None, "groups": {}}
        optional |= {"changed": None}
        numbers = {name: value for name, value in numbers.items() if optional.get(name, self) != value}
        if self.pass_at:
            numbers["pass_at"] = {str(k): asdict(found) for k, found in self.pass_at.items()}
        return numbers | {"interval": [numbers.pop("low"), numbers.pop("high")]}


def summarise(name: str, problems: list[list[Answer]]) -> Summary:
    """problems: the responses to each, at least one."""
    answers = [answer for responses in problems for answer in responses]
    n, samples = len(answers), max(map(len, problems))
    tokens, seconds = sum(answer.length or 0 for answer in answers), sum(answer.seconds for answer in answers)
    decoded = sum((answer.length or 0) if answer.decoded is None else answer.decoded for answer in answers)
    changed = [answer.changed for answer in answers if answer.changed is not None]
    return Summary(
        name,
        len(problems),
        **_accuracy(problems) if all(answer.right is not None for answer in answers) else UNGRADED,
        by_hand=sum(answer.by_hand for answer in answers),
        samples=samples,
        responses=n if samples > 1 else 0,
        extraction_failures=sum(answer.extracted is None for answer in answers),
        truncations=sum(answer.finish_reason == "length" for answer in answers),
        mean_length=tokens / n if all(answer.length is not None for answer in answers) else None,
        tokens_per_second=tokens / seconds if decoded == tokens and seconds else None,
        seconds=seconds,
        changed=sum(changed) / max(1, tokens) if changed else None,
    )


def _accuracy(problems: list[list[Answer]]) -> dict[str, Any]:
    """The fields of a Summary that need known answers."""
    shares = [sum(answer.right for answer in responses) / len(responses) for responses in problems]
    voted = [responses[majority([answer.extracted for answer in responses])].right for responses in problems]
    average, found = estimate(shares), {"right": sum(voted), "groups": _groups(problems, shares)}
    found |= {"pass_at_1": average.value, "low": average.low, "high": average.high}
    if max(map(len, problems)) > 1:
        found |= {"pass_at": _pass_at(problems), "majority": estimate([float(right) for right in voted])}
    return found


def _pass_at(problems: list[list[Answer]]) -> dict[int, Estimate]:
    """pass@k for k = 1, 2, 4, … up to the responses that every problem has."""
    fewest = min(map(len, problems))
    sizes = sorted({fewest, *(2**n for n in range(fewest.bit_length()) if 2**n <= fewest)})
    right = [(len(responses), sum(answer.right for answer in responses)) for responses in problems]
    return {k: estimate([pass_at_k(n, c, k) for n, c in right]) for k in sizes}


def _groups(problems: list[list[Answer]], shares: list[float]) -> dict[str, list[dict]]:
    """Results by level and by subject, where at least two are named."""
    found: dict[str, list[dict]] = {}
    for place, grouping in enumerate(GROUPINGS):
        by_name: dict[str, list[float]] = {}
        for responses, share in zip(problems, shares, strict=True):
            if name := responses[0].groups[place]:
                by_name.setdefault(name, []).append(share)
        if len(by_name) > 1:
            found[grouping] = [
                {"name": name, "problems": len(of), "pass_at_1": (average := estimate(of)).value}
                | {"interval": [average.low, average.high]}
                for name, of in sorted(by_name.items(), key=lambda item: _in_order(item[0]))
            ]
    return found


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names with numbers by these: level 2 before level 10."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def majority(extracted: list[str | None]) -> int:
    """The place of the first response that gives the most frequent answer; of equally frequent ones the first.

    A response without an answer has no vote.
    """
    keys = [None if answer is None else answer_key(answer) for answer in extracted]
    votes = Counter(key for key in keys if key is not None)
    return keys.index(votes.most_common(1)[0][0]) if votes else 0
