"""A page of a dataset's steps: filtered, sorted, pinned ones first, as rows ready for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightreasoner.datasets.annotations import KINDS as MARKS
from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.explorer_columns import Explored
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.token_categories import KINDS, NAMES
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA_FLOOR, TIE

#: Orders of the steps: name → (title, measure, whether large values come first).
ORDERS = {
    "kl": ("Most divergent first", "kl", True),
    "-kl": ("Least divergent first", "kl", False),
    "js": ("Highest Jensen–Shannon first", "js", True),
    "expert-entropy": ("Expert least certain first", "expert_entropy", True),
    "amateur-entropy": ("Amateur least certain first", "amateur_entropy", True),
    "order": ("As sampled", None, False),
}
MOST_ROWS = 200
BEFORE, AFTER = 24, 8  # tokens of context
CONTEXT_CHARS = 80


@dataclass(frozen=True)
class Filters:
    """Which steps to show; everything given must hold. Raises UserError for values that make no sense.

    low ≤ KL < high in nats (None: no bound). kind: a name of token_kinds, "" for all. search: text in the token, the
    question or the response, whatever its case. mark: keep, drop, pin, any, or "" for all steps. agree: whether the
    two models prefer the same token.
    """

    low: float | None = None
    high: float | None = None
    kind: str = ""
    search: str = ""
    mark: str = ""
    agree: bool | None = None

    def __post_init__(self):
        for bound in (self.low, self.high):
            number = isinstance(bound, int | float) and not isinstance(bound, bool) and not math.isnan(bound)
            if bound is not None and not number:
                raise UserError(f"A bound of the KL is {str(bound)[:20]}; it must be a number or nothing.")
        if self.kind not in ("", *NAMES):
            raise UserError(f"There is no kind of token {str(self.kind)[:20]!r}; take one of {', '.join(NAMES)}.")
        if self.mark not in ("", "any", *MARKS):
            raise UserError(f"There is no mark {str(self.mark)[:20]!r}; take any, keep, drop or pin.")
        if not isinstance(self.search, str) or len(self.search) > 200:
            raise UserError("The search is no text of at most 200 characters; shorten it.")
        if self.agree not in (None, True, False):
            raise UserError("Whether the models agree must be yes, no or nothing.")


def page(
    explorer: Explorer,
    filters: Filters | None = None,
    sort: str = "kl",
    offset: int = 0,
    limit: int = 50,
    selection: Selection | None = None,
) -> dict:
    """{"total": how many steps fit, "rows": `limit` of them from `offset` on}, as of the explorer's last refresh.

    selection: says which steps are trained on, before a person's marks, and the α of the targets' sizes; the paper's
    if None. Raises UserError.
    """
    filters, selection = filters or Filters(), selection or Selection()
    if not isinstance(sort, str) or sort not in ORDERS:
        raise UserError(f"Steps cannot be sorted by {str(sort)[:20]!r}; take one of {', '.join(ORDERS)}.")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (offset, limit))
    if not whole or offset < 0 or not 1 <= limit <= MOST_ROWS:
        raise UserError(f"A page begins at 0 or later and has 1 to {MOST_ROWS} rows.")
    view = explorer.view
    marks = view.marked()
    fits = _fitting(explorer, view, filters, marks)
    _, measure, descending = ORDERS[sort]
    shown = np.flatnonzero(fits)
    pinned = [place for place, mark in marks.items() if mark == "pin" and fits[place]]
    if pinned:
        shown = shown[~np.isin(shown, pinned)]
    first = np.sort(np.array(pinned, np.int64))
    ordered = [_sorted(view.data, part, measure, descending, offset + limit) for part in (first, shown)]
    places = np.concatenate(ordered)[offset : offset + limit]
    chosen = explorer.chosen(selection, view)
    sizes = _sizes(view.data, places, selection.alpha)
    rows = [
        _row(explorer, view, place, size) | {"selected": bool(chosen[place]), "mark": marks.get(place)}
        for place, size in zip(places.tolist(), sizes, strict=True)
    ]
    return {"total": int(np.count_nonzero(fits)), "rows": rows}


def _fitting(explorer: Explorer, view: View, filters: Filters, marks: dict[int, str]) -> np.ndarray:
    data = view.data
    fits = np.ones(data.steps, bool)
    kl = data.values["kl"].astype(np.float64)  # as the histogram counts
    if filters.low is not None:
        fits &= kl >= filters.low
    if filters.high is not None:
        fits &= kl < filters.high
    if filters.kind:
        fits &= data.kind == NAMES.index(filters.kind)
    if filters.agree is not None:
        fits &= data.agree == int(filters.agree)
    if filters.mark:
        wanted = [place for place, mark in marks.items() if filters.mark in ("any", mark)]
        marked = np.zeros(data.steps, bool)
        marked[wanted] = True
        fits &= marked
    if filters.search:
        fits &= _found(explorer, data, filters.search.casefold())
    return fits


def _found(explorer: Explorer, data: Explored, wanted: str) -> np.ndarray:
    in_row = np.array([wanted in response.searched for response in data.responses], bool)
    found = np.repeat(in_row, np.diff(data.starts))
    if data.texts is not None:
        return found | np.array([wanted in text.casefold() for text in data.texts], bool)
    ids = np.zeros(int(data.token_id.max(initial=0)) + 1, bool)
    ids[data.token_id] = True
    for id in np.flatnonzero(ids).tolist():
        ids[id] = wanted in explorer.texts.text(id).casefold()
    return found | ids[data.token_id]


def _sorted(data: Explored, places: np.ndarray, measure: str | None, descending: bool, most: int) -> np.ndarray:
    """The first `most` of these steps in an order; equal ones as sampled, undefined ones last."""
    if measure is None:
        return places[:most]
    values = data.values[measure][places].astype(np.float64)
    values = np.where(np.isnan(values), np.inf, -values if descending else values)
    if len(values) > most:  # only what can be on the page is sorted
        limit = np.partition(values, most - 1)[most - 1]
        near = np.flatnonzero(values <= limit)
        places, values = places[near], values[near]
    return places[np.argsort(values, kind="stable")][:most]


def _sizes(data: Explored, places: np.ndarray, alpha: float) -> list[int | None]:
    details = data.detail[places]
    floor = math.log(max(alpha, ALPHA_FLOOR)) - TIE
    gaps = [data.gaps[data.gap_starts[d] : data.gap_starts[d + 1]] if d >= 0 else None for d in details]
    return [None if gap is None else int((gap >= floor).sum()) for gap in gaps]


def _row(explorer: Explorer, view: View, place: int, size: int | None) -> dict:
    data, texts = view.data, explorer.texts if not view.imported else None
    row = int(np.searchsorted(data.starts, place, side="right")) - 1
    response, detail, agree = data.responses[row], int(data.detail[place]), int(data.agree[place])
    token_id = int(data.token_id[place])
    if texts is None:
        token, before, after = data.texts[place], data.before[place][-CONTEXT_CHARS:], ""
        expert = amateur = None
    else:
        token = texts.text(token_id)
        begin, end = int(data.starts[row]), int(data.starts[row + 1])
        before = _spelled(texts, data.token_id[max(begin, place - BEFORE) : place])[-CONTEXT_CHARS:]
        after = _spelled(texts, data.token_id[place + 1 : min(end, place + 1 + AFTER)])[:CONTEXT_CHARS]
        expert, amateur = (texts.text(int(id)) for id in data.favourites[detail]) if detail >= 0 else (None, None)
    return {
        "problem": response.problem_id,
        "sample": response.sample,
        "step": int(data.index[place]),
        "question": response.question,
        "token": token,
        "token_id": token_id,
        "kind": KINDS[data.kind[place]].title,
        "before": before,
        "after": after,
        "kl": _number(data.values["kl"][place]),
        "js": _number(data.values["js"][place]),
        "expert_entropy": _number(data.values["expert_entropy"][place]),
        "amateur_entropy": _number(data.values["amateur_entropy"][place]),
        "agree": None if agree < 0 else bool(agree),
        "expert": expert,
        "amateur": amateur,
        "details": detail >= 0,
        "target_tokens": size,
    }


def _spelled(texts: Any, ids: np.ndarray) -> str:
    return b"".join(texts.bytes(id) for id in ids.tolist()).decode("utf-8", "replace")


def _number(value: Any) -> float | None:
    """JSON has neither infinity nor NaN."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
