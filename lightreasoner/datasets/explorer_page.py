"""One page of a dataset's steps, filtered and sorted, pinned steps first, as rows for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lightreasoner.datasets.annotations import KINDS
from lightreasoner.datasets.explorer import Explorer, View
from lightreasoner.datasets.explorer_columns import ExplorerColumns
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.token_categories import CATEGORIES, CATEGORY_NAMES
from lightreasoner.datasets.trajectories import is_across
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA_FLOOR, TIE
from lightreasoner.validation import number

#: Orders of the steps: name → (title, measure, whether large values come first).
ORDERS = {
    "kl": ("Most divergent first", "kl", True),
    "-kl": ("Least divergent first", "kl", False),
    "teaching": ("Teaches most first", "teaching", True),
    "js": ("Highest Jensen–Shannon first", "js", True),
    "expert-entropy": ("Expert least certain first", "expert_entropy", True),
    "amateur-entropy": ("Amateur least certain first", "amateur_entropy", True),
    "order": ("As sampled", None, False),
}
#: Measures that a range may bound: key → name in a sentence. All are in nats.
RANGED = {"kl": "the KL", "teaching": "the teaching signal", "expert_entropy": "the expert's entropy"}
MAX_ROWS = 200
BEFORE, AFTER = 24, 8  # tokens of context
CONTEXT_CHARS = 80


@dataclass(frozen=True)
class Filters:
    """Which steps to show; a step must pass all filters. Raises UserError for invalid values.

    low ≤ KL < high in nats (None: no bound); ranges: the same of any of RANGED. category: a token category, "" for all.
    search: text in the token, the question or the response, ignoring case. annotation: keep, drop, pin, any, or "" for
    all steps. agree: whether the models' top-1 tokens are the same. one_each: of every response only the step that
    comes first in the order; else one response that went wrong fills the first pages.
    """

    low: float | None = None
    high: float | None = None
    category: str = ""
    search: str = ""
    annotation: str = ""
    agree: bool | None = None
    ranges: Mapping[str, Sequence[float | None]] = field(default_factory=dict)  # measure → (low, high)
    one_each: bool = False

    def __post_init__(self):
        _check_range("kl", (self.low, self.high))
        if not isinstance(self.ranges, Mapping):
            raise UserError("The ranges must be measures and bounds; reload the page.")
        for measure, bounds in self.ranges.items():
            _check_range(measure, bounds)
        if self.category not in ("", *CATEGORY_NAMES):
            names = ", ".join(CATEGORY_NAMES)
            raise UserError(f"There is no token category {str(self.category)[:20]!r}; use one of {names}.")
        if self.annotation not in ("", "any", *KINDS):
            raise UserError(f"There is no annotation {str(self.annotation)[:20]!r}; use any, keep, drop or pin.")
        if not isinstance(self.search, str) or len(self.search) > 200:
            raise UserError("The search must be a text of at most 200 characters.")
        if not isinstance(self.one_each, bool):
            raise UserError(f"The filter one_each is {str(self.one_each)[:20]}; it must be true or false.")
        if self.agree not in (None, True, False):
            raise UserError(f"The filter agree is {str(self.agree)[:20]}; it must be true, false or null.")


def _check_range(measure: object, bounds: object) -> None:
    if measure not in RANGED:
        raise UserError(f"Steps have no range of {str(measure)[:20]!r}; use one of {', '.join(RANGED)}.")
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise UserError(f"A range of {RANGED[measure]} has two bounds, the lowest and the highest, or null for none.")
    for bound in bounds:
        if bound is not None:
            number(f"A bound of {RANGED[measure]}", bound, -1e9, 1e9)


def page(
    explorer: Explorer,
    filters: Filters | None = None,
    sort: str = "kl",
    offset: int = 0,
    limit: int = 50,
    selection: Selection | None = None,
) -> dict:
    """{"total": number of steps that pass the filters, "rows": `limit` of them from `offset`}, as last refreshed.

    selection: decides which rows are marked as selected, before annotations, and the α of the targets' sizes and of the
    teaching signal; None is the paper's. Raises UserError.
    """
    filters, selection = filters or Filters(), selection or Selection()
    if not isinstance(sort, str) or sort not in ORDERS:
        raise UserError(f"Steps cannot be sorted by {str(sort)[:20]!r}; use one of {', '.join(ORDERS)}.")
    integers = all(isinstance(n, int) and not isinstance(n, bool) for n in (offset, limit))
    if not integers or offset < 0 or not 1 <= limit <= MAX_ROWS:
        raise UserError(f"A page starts at row 0 or later and has 1 to {MAX_ROWS} rows.")
    view = explorer.view
    table = explorer.table(selection.alpha, view, selection.cap)
    annotated = view.annotated()
    passing = _filter(explorer, view, table, filters, annotated)
    if filters.one_each:
        passing = _one_each(view.data, table, passing, sort)
    pins = [place for place, kind in annotated.items() if kind == "pin"]
    pinned = table.index.isin(pins) if pins else None
    groups = [passing] if pinned is None else [passing & pinned, passing & ~pinned]
    places = np.concatenate([_first(table, group, sort, offset + limit) for group in groups])[offset : offset + limit]
    shown, responses = table.take(places), np.searchsorted(view.data.starts, places, side="right") - 1
    selected = explorer.selected_steps(selection, view)
    sizes = _target_sizes(view.data, shown["detail"], selection.alpha)
    across = {"least": True} if is_across(explorer.run) else {}  # the KL is a lower bound
    rows = [
        _row(explorer, view, step, response)
        | across
        | {"selected": bool(selected[step.Index]), "target_tokens": size, "mark": annotated.get(step.Index)}
        for step, response, size in zip(shown.itertuples(), responses.tolist(), sizes, strict=True)
    ]
    return {"total": int(passing.sum()), "rows": rows}


def _filter(
    explorer: Explorer, view: View, table: pd.DataFrame, filters: Filters, annotated: dict[int, str]
) -> pd.Series:
    """Whether each step passes the filters. A step whose measure is unknown passes no range of it."""
    passing = pd.Series(True, index=table.index)
    for measure, (low, high) in [("kl", (filters.low, filters.high)), *filters.ranges.items()]:
        if low is not None:
            passing &= table[measure].astype("float64") >= low  # as in the histogram
        if high is not None:
            passing &= table[measure].astype("float64") < high
    if filters.category:
        passing &= table["category"] == CATEGORY_NAMES.index(filters.category)
    if filters.agree is not None:
        passing &= table["agree"] == int(filters.agree)
    if filters.annotation:
        passing &= table.index.isin([p for p, kind in annotated.items() if filters.annotation in ("any", kind)])
    if filters.search:
        passing &= _search(explorer, view.data, filters.search.casefold())
    return passing


def _one_each(data: ExplorerColumns, table: pd.DataFrame, which: pd.Series, sort: str) -> pd.Series:
    """Of these steps, the one of each response that is first in an order."""
    ordered = _first(table, which, sort, len(table)).to_numpy()
    response = np.searchsorted(data.starts, ordered, side="right") - 1
    _, first = np.unique(response, return_index=True)
    return pd.Series(np.isin(np.arange(len(table)), ordered[first]), index=table.index)


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


def _first(table: pd.DataFrame, which: pd.Series, sort: str, most: int) -> pd.Index:
    """The positions of the first `most` of these steps in an order; equal values as sampled, undefined values last."""
    _, measure, descending = ORDERS[sort]
    if measure is None:
        return table.index[which][:most]
    values = table.loc[which, measure]
    if len(values) > most:  # sort only the steps that can be on the page
        keys = (-values if descending else values).fillna(math.inf).to_numpy()
        values = values[keys <= np.partition(keys, most - 1)[most - 1]]
    return values.sort_values(ascending=not descending, kind="stable").index[:most]


def _target_sizes(data: ExplorerColumns, details: pd.Series, alpha: float) -> list[int | None]:
    floor = math.log(max(alpha, ALPHA_FLOOR)) - TIE
    gaps = [data.gaps[data.gap_starts[d] : data.gap_starts[d + 1]] if d >= 0 else None for d in details]
    return [None if gap is None else int((gap >= floor).sum()) for gap in gaps]


def _row(explorer: Explorer, view: View, step: Any, at: int) -> dict:
    """step: a row of the data's table; at: the number of its response."""
    data, place, texts = view.data, step.Index, explorer.texts if not view.imported else None
    response = data.responses[at]
    if texts is None:
        token, before, after = data.texts[place], data.before[place][-CONTEXT_CHARS:], ""
        expert = amateur = None
    else:
        token = texts.text(step.token_id)
        start, end = int(data.starts[at]), int(data.starts[at + 1])
        before = _decode(texts, data.token_id[max(start, place - BEFORE) : place])[-CONTEXT_CHARS:]
        after = _decode(texts, data.token_id[place + 1 : min(end, place + 1 + AFTER)])[:CONTEXT_CHARS]
        top1 = data.top1[step.detail].tolist() if step.detail >= 0 else []
        expert, amateur = [texts.text(id) for id in top1] or (None, None)
    measures = ("kl", "teaching", "js", "expert_entropy", "amateur_entropy")
    return {
        "problem": response.problem_id,
        "sample": response.sample,
        "step": step.index_in_response,
        "question": response.question,
        "token": token,
        "token_id": step.token_id,
        "kind": CATEGORIES[step.category].title,
        "before": before,
        "after": after,
        **{name: _json_number(getattr(step, name)) for name in measures},
        "agree": None if step.agree < 0 else bool(step.agree),
        "expert": expert,
        "amateur": amateur,
        "details": step.detail >= 0,
    }


def _decode(texts: Any, ids: np.ndarray) -> str:
    return b"".join(texts.bytes(id) for id in ids.tolist()).decode("utf-8", "replace")


def _json_number(value: Any) -> float | None:
    """JSON has neither infinity nor NaN."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
