"""One page of a dataset's steps, filtered and sorted, pinned steps first, as rows for JSON."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightreasoner.datasets.annotations import KINDS
from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.explorer_columns import ExplorerColumns
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.token_categories import CATEGORIES, CATEGORY_NAMES
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA_FLOOR, TIE
from lightreasoner.validation import number

#: Orders of the steps: name → (title, measure, whether large values come first).
ORDERS = {
    "kl": ("Most divergent first", "kl", True),
    "-kl": ("Least divergent first", "kl", False),
    "js": ("Highest Jensen–Shannon first", "js", True),
    "expert-entropy": ("Expert least certain first", "expert_entropy", True),
    "amateur-entropy": ("Amateur least certain first", "amateur_entropy", True),
    "order": ("As sampled", None, False),
}
MAX_ROWS = 200
BEFORE, AFTER = 24, 8  # tokens of context
CONTEXT_CHARS = 80


@dataclass(frozen=True)
class Filters:
    """Which steps to show; a step must pass all filters. Raises UserError for invalid values.

    low ≤ KL < high in nats (None: no bound). category: a token category, "" for all. search: text in the token, the
    question or the response, ignoring case. annotation: keep, drop, pin, any, or "" for all steps. agree: whether the
    models' top-1 tokens are the same.
    """

    low: float | None = None
    high: float | None = None
    category: str = ""
    search: str = ""
    annotation: str = ""
    agree: bool | None = None

    def __post_init__(self):
        for bound in (self.low, self.high):
            if bound is not None:
                number("A bound of the KL", bound, -1e9, 1e9)
        if self.category not in ("", *CATEGORY_NAMES):
            names = ", ".join(CATEGORY_NAMES)
            raise UserError(f"There is no token category {str(self.category)[:20]!r}; use one of {names}.")
        if self.annotation not in ("", "any", *KINDS):
            raise UserError(f"There is no annotation {str(self.annotation)[:20]!r}; use any, keep, drop or pin.")
        if not isinstance(self.search, str) or len(self.search) > 200:
            raise UserError("The search must be a text of at most 200 characters.")
        if self.agree not in (None, True, False):
            raise UserError(f"The filter agree is {str(self.agree)[:20]}; it must be true, false or null.")


def page(
    explorer: Explorer,
    filters: Filters | None = None,
    sort: str = "kl",
    offset: int = 0,
    limit: int = 50,
    selection: Selection | None = None,
) -> dict:
    """{"total": number of steps that pass the filters, "rows": `limit` of them from `offset`}, as last refreshed.

    selection: decides which rows are marked as selected, before annotations, and the α of the targets' sizes; None is
    the paper's. Raises UserError.
    """
    filters, selection = filters or Filters(), selection or Selection()
    if not isinstance(sort, str) or sort not in ORDERS:
        raise UserError(f"Steps cannot be sorted by {str(sort)[:20]!r}; use one of {', '.join(ORDERS)}.")
    integers = all(isinstance(n, int) and not isinstance(n, bool) for n in (offset, limit))
    if not integers or offset < 0 or not 1 <= limit <= MAX_ROWS:
        raise UserError(f"A page starts at row 0 or later and has 1 to {MAX_ROWS} rows.")
    view = explorer.view
    annotated = view.annotated()
    passing = _filter(explorer, view, filters, annotated)
    _, measure, descending = ORDERS[sort]
    others = np.flatnonzero(passing)
    pinned = np.array(sorted(p for p, kind in annotated.items() if kind == "pin" and passing[p]), np.int64)
    if len(pinned):
        others = others[~np.isin(others, pinned)]
    ordered = [_sorted(view.data, part, measure, descending, offset + limit) for part in (pinned, others)]
    positions = np.concatenate(ordered)[offset : offset + limit]
    selected = explorer.selected_steps(selection, view)
    sizes = _target_sizes(view.data, positions, selection.alpha)
    rows = [
        _row(explorer, view, position, size) | {"selected": bool(selected[position]), "mark": annotated.get(position)}
        for position, size in zip(positions.tolist(), sizes, strict=True)
    ]
    return {"total": int(np.count_nonzero(passing)), "rows": rows}


def _filter(explorer: Explorer, view: View, filters: Filters, annotated: dict[int, str]) -> np.ndarray:
    """(steps,) booleans: the steps that pass the filters."""
    data = view.data
    passing = np.ones(data.steps, bool)
    kl = data.values["kl"].astype(np.float64)  # as in the histogram
    if filters.low is not None:
        passing &= kl >= filters.low
    if filters.high is not None:
        passing &= kl < filters.high
    if filters.category:
        passing &= data.category == CATEGORY_NAMES.index(filters.category)
    if filters.agree is not None:
        passing &= data.agree == int(filters.agree)
    if filters.annotation:
        wanted = [position for position, kind in annotated.items() if filters.annotation in ("any", kind)]
        passing &= np.isin(np.arange(data.steps), wanted)
    if filters.search:
        passing &= _search(explorer, data, filters.search.casefold())
    return passing


def _search(explorer: Explorer, data: ExplorerColumns, text: str) -> np.ndarray:
    """(steps,) booleans: the steps whose response, question or token contains the text. text: casefolded."""
    in_row = np.array([text in response.search_text for response in data.responses], bool)
    in_response = np.repeat(in_row, np.diff(data.starts))
    if data.texts is not None:
        return in_response | np.array([text in token.casefold() for token in data.texts], bool)
    ids = np.zeros(int(data.token_id.max(initial=0)) + 1, bool)
    ids[data.token_id] = True
    for id in np.flatnonzero(ids).tolist():
        ids[id] = text in explorer.texts.text(id).casefold()
    return in_response | ids[data.token_id]


def _sorted(
    data: ExplorerColumns, positions: np.ndarray, measure: str | None, descending: bool, most: int
) -> np.ndarray:
    """The first `most` of these steps in an order; equal values as sampled, undefined values last."""
    if measure is None:
        return positions[:most]
    values = data.values[measure][positions].astype(np.float64)
    values = np.where(np.isnan(values), np.inf, -values if descending else values)
    if len(values) > most:  # sort only the steps that can be on the page
        limit = np.partition(values, most - 1)[most - 1]
        near = np.flatnonzero(values <= limit)
        positions, values = positions[near], values[near]
    return positions[np.argsort(values, kind="stable")][:most]


def _target_sizes(data: ExplorerColumns, positions: np.ndarray, alpha: float) -> list[int | None]:
    details = data.detail[positions]
    floor = math.log(max(alpha, ALPHA_FLOOR)) - TIE
    gaps = [data.gaps[data.gap_starts[d] : data.gap_starts[d + 1]] if d >= 0 else None for d in details]
    return [None if gap is None else int((gap >= floor).sum()) for gap in gaps]


def _row(explorer: Explorer, view: View, position: int, size: int | None) -> dict:
    data, texts = view.data, explorer.texts if not view.imported else None
    row = int(np.searchsorted(data.starts, position, side="right")) - 1
    response, detail, agree = data.responses[row], int(data.detail[position]), int(data.agree[position])
    token_id = int(data.token_id[position])
    if texts is None:
        token, before, after = data.texts[position], data.before[position][-CONTEXT_CHARS:], ""
        expert = amateur = None
    else:
        token = texts.text(token_id)
        start, end = int(data.starts[row]), int(data.starts[row + 1])
        before = _decode(texts, data.token_id[max(start, position - BEFORE) : position])[-CONTEXT_CHARS:]
        after = _decode(texts, data.token_id[position + 1 : min(end, position + 1 + AFTER)])[:CONTEXT_CHARS]
        expert, amateur = (texts.text(int(id)) for id in data.top1[detail]) if detail >= 0 else (None, None)
    return {
        "problem": response.problem_id,
        "sample": response.sample,
        "step": int(data.index[position]),
        "question": response.question,
        "token": token,
        "token_id": token_id,
        "kind": CATEGORIES[data.category[position]].title,
        "before": before,
        "after": after,
        "kl": _json_number(data.values["kl"][position]),
        "js": _json_number(data.values["js"][position]),
        "expert_entropy": _json_number(data.values["expert_entropy"][position]),
        "amateur_entropy": _json_number(data.values["amateur_entropy"][position]),
        "agree": None if agree < 0 else bool(agree),
        "expert": expert,
        "amateur": amateur,
        "details": detail >= 0,
        "target_tokens": size,
    }


def _decode(texts: Any, ids: np.ndarray) -> str:
    return b"".join(texts.bytes(id) for id in ids.tolist()).decode("utf-8", "replace")


def _json_number(value: Any) -> float | None:
    """JSON has neither infinity nor NaN."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
