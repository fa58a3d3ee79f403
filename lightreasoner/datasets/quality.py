"""Quality report: is a dataset fit to train on? Findings, each a number with an assessment and advice."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.selectors import above_beta
from lightreasoner.formatting import percent

GOOD, WARN, BAD = "good", "warn", "bad"
GRADING_SECONDS = 0.3  # per report; the remaining answers are graded for the next reports


@dataclass(frozen=True)
class Finding:
    name: str
    title: str
    value: float | int
    shown: str  # the value as text
    tone: str  # good, warn or bad
    advice: str = ""  # what is wrong and what to do; empty if the tone is good


@dataclass
class GradedAnswers:
    """Answers graded so far, by (problem id, sample). grade(response, known answer) says whether it is right."""

    grade: Callable[[str, str], bool]
    right: dict[tuple[str, int], bool] = field(default_factory=dict)


def quality_report(explorer: Explorer, alpha: float, beta: float, graded: GradedAnswers | None = None) -> list[Finding]:
    """The findings at this α and β, as of the explorer's last refresh."""
    view = explorer.view
    findings = [*_sizes(view, beta), *_samples(view, beta), _one_token(explorer, alpha, beta)]
    if not view.imported:
        findings += [_missing_details(view, beta), _truncated(view)]
    if view.data.responses:
        findings += [_repeated_questions(view), _repeated_responses(view)]
    if view.corrupt:
        count = len(view.corrupt)
        findings.append(Finding("corrupt", "Damaged shards", count, f"{count:,}", BAD, view.corrupt[0]))
    if graded:
        findings.append(_right_answers(view, graded))
    return [finding for finding in findings if finding]


def _finding(name: str, title: str, value: float | int, shown: str, warning: str | None = None) -> Finding:
    return Finding(name, title, value, shown, WARN if warning else GOOD, warning or "")


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({percent(part / max(1, whole))})"


def _count(name: str, title: str, value: int) -> Finding:
    return _finding(name, title, value, f"{value:,}", None if value else "nothing yet")


def _sizes(view: View, beta: float) -> list[Finding]:
    data = view.data
    above = int(above_beta(data.values["kl"], beta).sum())
    findings = [_count("problems", "Problems", len({r.problem_id for r in data.responses}))]
    if not view.imported:
        findings.append(_count("responses", "Responses", len(data.responses)))
    findings.append(_count("steps", "Samples" if view.imported else "Steps", data.steps))
    share = above / max(1, data.steps)
    tone, advice = (GOOD, "") if data.steps else (WARN, "nothing yet")
    if data.steps and not above:
        tone, advice = BAD, "no step is selected; lower β, or use a weaker amateur"
    elif not view.imported and data.steps and share < 0.03:
        tone, advice = WARN, "the models hardly diverge; lower β, or use a weaker amateur"
    elif not view.imported and share > 0.6:
        tone, advice = WARN, "the models diverge nearly everywhere; raise β, or use a stronger amateur"
    return [*findings, Finding("above", "Steps above β", above, _share(above, data.steps), tone, advice)]


def _samples(view: View, beta: float) -> list[Finding]:
    """How the steps above β are distributed over the problems."""
    data = view.data
    numbers: dict[str, int] = {}
    problem = np.array([numbers.setdefault(r.problem_id, len(numbers)) for r in data.responses], np.int64)
    above = above_beta(data.values["kl"], beta)
    counts = np.bincount(problem[data.row][above], minlength=len(numbers))
    if not len(counts):
        return []
    mean, most, none = float(counts.mean()), int(counts.max()), int((counts == 0).sum())
    uneven = len(counts) > 4 and most > 20 * max(1.0, mean)
    shown = f"{mean:.1f} on average, {most:,} at most"
    warning = "one problem gives far more samples than the others"
    without = "on many problems the models do not diverge"
    many = without if none > len(counts) / 4 else None
    return [
        _finding("per_problem", "Samples per problem", mean, shown, warning if uneven else None),
        _finding("without", "Problems without a sample", none, _share(none, len(counts)), many),
    ]


def _one_token(explorer: Explorer, alpha: float, beta: float) -> Finding | None:
    effect = explorer.alpha_effect([alpha], beta)[0]
    if not effect["targets"]:
        return None
    one = round(effect["one_token"] * effect["targets"])
    warning = "most targets are a single token" + ("" if explorer.imported else "; lower α")
    shown = f"{_share(one, effect['targets'])}, {effect['tokens']:.1f} tokens on average"
    return _finding("one_token", "One-token targets", one, shown, warning if effect["one_token"] > 0.9 else None)


def _missing_details(view: View, beta: float) -> Finding | None:
    data = view.data
    missing = int((above_beta(data.values["kl"], beta) & (data.detail < 0)).sum())
    warning = "they cannot be trained on; raise β, or sample again with a lower β floor"
    return _finding("missing", "Steps above β without details", missing, f"{missing:,}", warning) if missing else None


def _truncated(view: View) -> Finding | None:
    if not (rows := view.data.responses):
        return None
    cut = sum(r.finish_reason == "length" for r in rows)
    warning = "most responses do not end, so few samples train how to end one; allow more tokens"
    shown = _share(cut, len(rows))
    return _finding("truncated", "Truncated responses", cut, shown, warning if cut > len(rows) / 2 else None)


def _repeated_questions(view: View) -> Finding:
    questions = {r.problem_id: " ".join(r.question.split()).casefold() for r in view.data.responses}
    repeated = len(questions) - len(set(questions.values()))
    warning = "they have double weight" if repeated else None
    return _finding("duplicate_questions", "Repeated questions", repeated, f"{repeated:,}", warning)


def _repeated_responses(view: View) -> Finding:
    """Equal responses to the same question; in an imported dataset, equal prefixes of the same step."""
    data = view.data
    if view.imported:
        steps = data.index.tolist()
        seen = {(r.question, step, r.text) for r, step in zip(data.responses, steps, strict=True)}
    else:
        seen = {(r.question, r.text) for r in data.responses}
    repeated = len(data.responses) - len(seen)
    warning = None
    if repeated > len(data.responses) / 10:
        warning = "many responses are equal; sample at a higher temperature, or fewer times per problem"
    title = "Repeated samples" if view.imported else "Repeated responses"
    return _finding("duplicate_responses", title, repeated, f"{repeated:,}", warning)


def _right_answers(view: View, graded: GradedAnswers) -> Finding | None:
    """Right final answers, for problems with a known answer."""
    known = [response for response in view.data.responses if response.answer]
    deadline = time.monotonic() + GRADING_SECONDS
    for response in known:
        key = (response.problem_id, response.sample)
        if key not in graded.right:
            if time.monotonic() > deadline:
                break
            graded.right[key] = graded.grade(response.text, response.answer)
    grades = [graded.right[key] for r in known if (key := (r.problem_id, r.sample)) in graded.right]
    if not grades:
        return None
    shown = _share(sum(grades), len(grades))
    if rest := len(known) - len(grades):
        shown += f", {rest:,} still to grade"
    warning = "the expert is mostly wrong, so its steps may not be worth learning"
    low = sum(grades) < 0.2 * len(grades)
    return _finding("right", "Right final answers", sum(grades), shown, warning if low else None)
