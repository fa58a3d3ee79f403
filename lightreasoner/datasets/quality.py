"""Is this dataset fit to train on? A card of numbers, each with a short verdict in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.selectors import above

GOOD, WARN, BAD = "good", "warn", "bad"
JUDGING_SECONDS = 0.3  # spent on comparing answers per card; the rest is compared for the next one


@dataclass(frozen=True)
class Finding:
    """One line of the card. tone: good, warn or bad; says: "fine", "nothing here yet", or "look at this: …"."""

    name: str
    title: str
    value: float | int | None
    shown: str  # the value, for people
    tone: str
    says: str


@dataclass
class Judged:
    """Answers that were compared already, by (problem id, sample). `right`: (response, known answer) → is it right."""

    right: Callable[[str, str], bool]
    known: dict[tuple[str, int], bool] = field(default_factory=dict)


def health(explorer: Explorer, alpha: float, beta: float, judged: Judged | None = None) -> list[Finding]:
    """The card of a dataset at this α and β, as of the explorer's last refresh."""
    view = explorer.view
    findings = [*_sizes(view, beta), *_samples(view, beta), _one_token(explorer, alpha, beta)]
    if not view.imported:
        findings += [_undetailed(view, beta), _truncated(view)]
    findings += [_duplicate_questions(view), _duplicate_responses(view)]
    if view.corrupt:
        count = len(view.corrupt)
        findings.append(
            Finding("corrupt", "Damaged shards", count, f"{count:,}", BAD, f"look at this: {view.corrupt[0]}")
        )
    if judged:
        findings += _right(view, judged)
    return [finding for finding in findings if finding]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(1, whole):.0%})"


def _count(name: str, title: str, value: int) -> Finding:
    return Finding(name, title, value, f"{value:,}", GOOD if value else WARN, "fine" if value else "nothing here yet")


def _sizes(view: View, beta: float) -> list[Finding]:
    data = view.data
    over = int(above(data.values["kl"], beta).sum())
    findings = [_count("problems", "Problems", len({r.problem_id for r in data.responses}))]
    if not view.imported:
        findings.append(_count("responses", "Responses", len(data.responses)))
    findings.append(_count("steps", "Samples" if view.imported else "Steps", data.steps))
    share = over / max(1, data.steps)
    tone, says = (GOOD, "fine") if data.steps else (WARN, "nothing here yet")
    if data.steps and not over:
        tone, says = BAD, "look at this: nothing is selected; lower β, or take an amateur that is weaker"
    elif not view.imported and data.steps and share < 0.03:
        tone, says = WARN, "look at this: the two models hardly diverge; lower β, or take a weaker amateur"
    elif not view.imported and share > 0.6:
        tone, says = WARN, "look at this: nearly everything diverges; raise β, or take a stronger amateur"
    return [*findings, Finding("above", "Steps above β", over, _share(over, data.steps), tone, says)]


def _samples(view: View, beta: float) -> list[Finding]:
    """How the steps above β fall on the problems."""
    data = view.data
    names: dict[str, int] = {}
    problem = np.array([names.setdefault(r.problem_id, len(names)) for r in data.responses], np.int64)
    over = above(data.values["kl"], beta)
    counts = np.bincount(problem[data.row][over], minlength=len(names))
    if not len(counts):
        return []
    mean, most, none = float(counts.mean()), int(counts.max()), int((counts == 0).sum())
    lopsided = len(counts) > 4 and most > 20 * max(1.0, mean)
    few = none > len(counts) / 4
    return [
        Finding(
            *("per_problem", "Samples a problem", mean, f"{mean:.1f} on average, {most:,} at most"),
            *((WARN, "look at this: one problem gives far more than its share") if lopsided else (GOOD, "fine")),
        ),
        Finding(
            *("without", "Problems without a sample", none, _share(none, len(counts))),
            *((WARN, "look at this: on many problems nothing diverges") if few else (GOOD, "fine")),
        ),
    ]


def _one_token(explorer: Explorer, alpha: float, beta: float) -> Finding | None:
    effect = explorer.alpha_effect([alpha], beta)[0]
    if not effect["targets"]:
        return None
    one = round(effect["one_token"] * effect["targets"])
    verdict = (GOOD, "fine")
    if effect["one_token"] > 0.9:
        remedy = "" if explorer.imported else "; lower α"
        verdict = (WARN, f"look at this: most targets say one token and nothing else{remedy}")
    shown = f"{_share(one, effect['targets'])}, {effect['tokens']:.1f} tokens on average"
    return Finding("one_token", "One-token targets", one, shown, *verdict)


def _undetailed(view: View, beta: float) -> Finding | None:
    data = view.data
    missing = int((above(data.values["kl"], beta) & (data.detail < 0)).sum())
    if not missing:
        return None
    says = "look at this: they cannot be trained on; raise β, or sample anew with a lower β floor"
    return Finding("missing", "Steps above β without details", missing, f"{missing:,}", WARN, says)


def _truncated(view: View) -> Finding | None:
    rows = view.data.responses
    cut = sum(r.finish_reason == "length" for r in rows)
    verdict = (GOOD, "fine")
    if cut > len(rows) / 2:
        verdict = (WARN, "look at this: most responses never end, so few teach how to; allow more tokens")
    return Finding("truncated", "Truncated responses", cut, _share(cut, len(rows)), *verdict) if rows else None


def _duplicate_questions(view: View) -> Finding | None:
    rows = view.data.responses
    problems = {r.problem_id: " ".join(r.question.split()).casefold() for r in rows}
    twice = len(problems) - len(set(problems.values()))
    verdict = (WARN, "look at this: they weigh double") if twice else (GOOD, "fine")
    return Finding("duplicate_questions", "Repeated questions", twice, f"{twice:,}", *verdict) if rows else None


def _duplicate_responses(view: View) -> Finding | None:
    """The same words in answer to the same question; in an imported set, the same step of it."""
    data = view.data
    if view.imported:
        steps = data.index.tolist()
        seen = {(r.question, step, r.text) for r, step in zip(data.responses, steps, strict=True)}
    else:
        seen = {(r.question, r.text) for r in data.responses}
    twice = len(data.responses) - len(seen)
    verdict = (GOOD, "fine")
    if twice > len(data.responses) / 10:
        verdict = (WARN, "look at this: many say the same again; sample at a higher temperature, or fewer a problem")
    title = "Repeated samples" if view.imported else "Repeated responses"
    return Finding("duplicate_responses", title, twice, f"{twice:,}", *verdict) if data.responses else None


def _right(view: View, judged: Judged) -> list[Finding]:
    """Right final answers, where the problems came with theirs. Compared a little at a time."""
    answered = [r for r in view.data.responses if r.answer]
    until = time.monotonic() + JUDGING_SECONDS
    for response in answered:
        name = (response.problem_id, response.sample)
        if name not in judged.known:
            if time.monotonic() > until:
                break
            judged.known[name] = judged.right(response.text, response.answer)
    found = [judged.known[name] for r in answered if (name := (r.problem_id, r.sample)) in judged.known]
    if not found:
        return []
    share, rest = sum(found) / len(found), len(answered) - len(found)
    verdict = (GOOD, "fine")
    if share < 0.2:
        verdict = (WARN, "look at this: the expert is mostly wrong, so its steps may not be worth learning")
    shown = _share(sum(found), len(found)) + (f", {rest:,} still to compare" if rest else "")
    return [Finding("right", "Right final answers", sum(found), shown, *verdict)]
