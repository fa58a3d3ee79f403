"""Two traces of one problem side by side: which tokens and steps belong together, and what was asked differently."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate

from lightreasoner.errors import UserError
from lightreasoner.tracing.records import contrast_of

#: What is compared: a word with the space before it, a digit, a sign. Tokens of two tokenizers cut a text differently.
_UNIT = re.compile(r"[^\S\n]*(?:\d|[^\W\d]+|[^\w\s])|\n|[^\S\n]+")
_LONGEST = 4000  # units on either side beyond which frequent ones are no anchors, or comparing takes minutes


@dataclass(frozen=True)
class Alignment:
    """How the steps of two responses belong together. Indices count steps from 0.

    same: whether a step's text is in both, one list per side. partner: the step of the other side to go to, None where
    that side has nothing there; the first of some inserted ones goes to where the other side goes on. first: the first
    step of each side that differs, None where none does. rows: where a new row begins on both sides, at line ends that
    they share.
    """

    same: tuple[list[bool], list[bool]]
    partner: tuple[list[int | None], list[int | None]]
    first: tuple[int | None, int | None]
    rows: list[tuple[int, int]]


def align(left: Sequence[str], right: Sequence[str]) -> Alignment:
    """Align two responses by their characters. left, right: the texts of the tokens."""
    sides = ("".join(left), "".join(right))
    ends = [list(accumulate(map(len, tokens))) for tokens in (left, right)]
    to_right = _matched_characters(*sides)
    to_left = {there: here for here, there in to_right.items()}
    same = tuple(
        [all(n in matched for n in range(end - len(token), end)) for token, end in zip(tokens, at, strict=True)]
        for tokens, at, matched in zip((left, right), ends, (to_right, to_left), strict=True)
    )
    maps = (to_right, to_left)
    partner = tuple(_partners(ends[n], ends[1 - n], same[n], same[1 - n], maps[n]) for n in (0, 1))
    first = tuple(next((n for n, is_same in enumerate(side) if not is_same), None) for side in same)
    rows = [(0, 0)]
    for i, token in enumerate(left[:-1]):
        if not (token.endswith("\n") and same[0][i]):
            continue
        j = partner[0][i]
        ended = ends[1][j] == to_right[ends[0][i] - 1] + 1  # the other one's token ends there as well
        if ended and j + 1 < len(right):
            rows.append((i + 1, j + 1))
    return Alignment(same, partner, first, rows)


def _matched_characters(left: str, right: str) -> dict[int, int]:
    """Place in the left text → place in the right one, for the characters of units that are the same in both."""
    units = [[(m.start(), m.group()) for m in _UNIT.finditer(text)] for text in (left, right)]
    words = [[text for _, text in side] for side in units]
    # what both begin with belongs together, also where a longer part of it comes again later
    begin = next((n for n, (a, b) in enumerate(zip(*words, strict=False)) if a != b), min(map(len, words)))
    rest = [side[begin:] for side in words]
    matcher = SequenceMatcher(None, *rest, autojunk=max(map(len, rest)) > _LONGEST)
    blocks = [(0, 0, begin), *((begin + a, begin + b, size) for a, b, size in matcher.get_matching_blocks())]
    found = {}
    for at, other, size in blocks:
        for n in range(size):
            (a, text), (b, _) = units[0][at + n], units[1][other + n]
            found.update((a + k, b + k) for k in range(len(text)))
    return found


def _partners(
    ends: list[int], other_ends: list[int], same: list[bool], other_same: list[bool], matched: dict[int, int]
) -> list[int | None]:
    """For each step of a side its step on the other one: what differs pairs up in order, between steps that do not."""
    partner: list[int | None] = [
        bisect_right(other_ends, matched[end - 1]) if is_same and end - 1 in matched else None
        for end, is_same in zip(ends, same, strict=True)
    ]
    n = 0
    while n < len(same):
        stop = next((m for m in range(n, len(same)) if partner[m] is not None), len(same))
        before = partner[n - 1] if n else 0
        after = partner[stop] if stop < len(same) else len(other_same) - 1
        theirs = [m for m in range(before, after + 1) if not other_same[m]]
        for place in range(n, stop):
            partner[place] = theirs[min(place - n, len(theirs) - 1)] if theirs else None
        if not theirs and n < stop < len(same):  # inserted: it stands where the other side goes on
            partner[n] = after
        n = stop + 1
    return partner


def compare(left: dict, right: dict) -> dict:
    """{"alignment", "differences"} of two traces' JSON. Raises UserError unless they have steps and one problem."""
    for record in (left, right):
        if not record["steps"]:
            raise UserError(
                f"The trace {record['id'][:8]} has no steps, so there is nothing to compare; choose another."
            )
    questions = [_asked(record) for record in (left, right)]
    if questions[0] != questions[1]:
        short = " and ".join(f"“{question[:60]}{'…' if len(question) > 60 else ''}”" for question in questions)
        raise UserError(
            f"These traces are of two problems, {short}, so nothing can be aligned; choose two of one problem."
        )
    found = align(*([step["text"] for step in record["steps"]] for record in (left, right)))
    alignment = {"same": found.same, "partner": found.partner, "first": found.first, "rows": found.rows}
    return {"alignment": alignment, "differences": differences(left, right)}


def _asked(record: dict) -> str:
    turns = [f"{role}: {text}" for role, text in record["request"].get("context") or ()]
    return "\n\n".join([*turns, record["request"]["question"].strip()])


def differences(left: dict, right: dict) -> list[dict]:
    """What was asked differently: [{"what", "left", "right"}], in words for the page."""
    facts = [_facts(record) for record in (left, right)]
    names = dict.fromkeys([*facts[0], *facts[1]])
    usual = {name: "the paper's" if name.startswith("Prompt") else "–" for name in names}
    changed = [(name, *(side.get(name, usual[name]) for side in facts)) for name in names]
    found = [{"what": name, "left": a, "right": b} for name, a, b in changed if a != b]
    return forced_token(left, right) + found


def forced_token(left: dict, right: dict) -> list[dict]:
    """Where one trace is a branch of the other: the token that was forced, and the one in its place."""
    for child, parent in ((right, left), (left, right)):
        origin = child["parent"]
        if origin and origin["id"] == parent["id"] and not origin.get("contrast"):
            step = origin["step"]
            texts = [record["steps"][step]["text"] if step < len(record["steps"]) else "–" for record in (left, right)]
            return [{"what": f"Forced token, step {step}", "left": texts[0], "right": texts[1]}]
    return []


def _facts(record: dict) -> dict[str, str]:
    request, pair, tuned = record["request"], record["pair"], record.get("lens")
    contrast, scored = contrast_of(record), request["response"] is not None
    writer = "given text" if scored else "tuned expert" if (tuned or {}).get("writer") == "tuned" else "expert"
    facts = {"Expert": pair["expert"], "Amateur": pair["amateur"], "Written by": contrast.title if contrast else writer}
    facts |= {"Tuned expert": tuned.get("name") or tuned["tuned"]} if tuned else {}
    if not scored:
        temperature = request["temperature"]
        facts |= {"Temperature": f"{temperature:g}" if temperature else "0, greedy"}
        facts |= {"Seed": str(request["seed"])} if temperature else {}
        facts |= {"Token limit": f"{request['max_new_tokens']:,}"}
        facts |= {"Stop strings": ", ".join(map(repr, request["stop"]))} if request.get("stop") else {}
    prompt = request.get("prompt") or {}  # only what differs from the paper's
    return facts | {f"Prompt: {name.replace('_', ' ')}": str(prompt[name] or "none") for name in prompt}
