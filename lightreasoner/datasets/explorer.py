"""A dataset's numbers for people, while it grows and after: an Explorer reads each shard once and keeps what it needs.

Imported sets are explored the same way; what they lack (every measure but KL, the responses' other steps) is left out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lightreasoner.datasets.annotations import Key, Kind, Marks, checked_key, load_marks, marks_path, set_mark
from lightreasoner.datasets.explorer_columns import Explored, join, nothing, read_imported_part, read_trajectories
from lightreasoner.datasets.external import FILE, is_imported, read_imported
from lightreasoner.datasets.samples import SelectionReport
from lightreasoner.datasets.selectors import Selection, above, select, selector_named
from lightreasoner.datasets.token_categories import KINDS, NAMES, kind_of
from lightreasoner.datasets.trajectories import read_shard, shards
from lightreasoner.errors import UserError
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.storage.runs import read_run


class IdTexts:
    """What stands in for a tokenizer that cannot be had: a token's text is its id in brackets."""

    def text(self, id: int) -> str:
        return f"[{id}]"

    def bytes(self, id: int) -> bytes:
        return self.text(id).encode()

    def special(self, id: int) -> bool:
        return False


@dataclass(frozen=True)
class View:
    """A dataset at one moment. Whoever asks several things of one View gets answers that fit together."""

    data: Explored
    marks: Marks
    places: MappingProxyType[tuple, int]  # (problem id, sample) → row; in an imported set (…, step) → step's position
    imported: bool
    corrupt: tuple[str, ...]  # a sentence for each shard that was passed over

    def place(self, key: Key) -> int | None:
        """Where a step lies among all steps, or None where the dataset has none of this name."""
        if self.imported:
            return self.places.get(key)
        row = self.places.get(key[:2])
        starts = self.data.starts
        return None if row is None or not 0 <= key[2] < starts[row + 1] - starts[row] else int(starts[row]) + key[2]

    def marked(self) -> dict[int, str]:
        """Position of the step → mark, for marks of steps that there are."""
        found = ((self.place(key), mark) for key, mark in self.marks.by_step.items())
        return {place: mark for place, mark in found if place is not None}


class Explorer:
    """Reads the dataset in a run folder; `refresh` takes in what has come since, and only that. Safe with threads."""

    def __init__(self, folder: Path):
        """Raises UserError when the folder is no dataset. Reads no steps yet."""
        self.folder = Path(folder)
        self.run = read_run(self.folder)
        if self.run["kind"] != "dataset":
            raise UserError(f"{folder} holds a run of the kind {self.run['kind']}, not a dataset.")
        self.imported = is_imported(self.run)
        self.note: str | None = None  # why the tokens have no texts
        self._texts: TokenTexts | IdTexts | None = None
        self._parts: dict[
            Path, tuple[tuple, Explored | str]
        ] = {}  # shard → (its stamp, what it holds or what is wrong)
        self._stamp: tuple = ()
        self._reading = threading.Lock()
        self._chosen: tuple[Selection | None, Explored | None, np.ndarray] = (None, None, np.zeros(0, bool))
        self.view = View(nothing(), Marks(), MappingProxyType({}), self.imported, ())

    @property
    def texts(self) -> TokenTexts | IdTexts:
        """Texts of token ids: from the expert's tokenizer, loaded without the model; else `note` says why not."""
        if self._texts is None:
            from lightreasoner.datasets.tokenizer import dataset_tokenizer

            try:
                self._texts = TokenTexts(dataset_tokenizer(self.folder, self.run))
            except UserError as error:
                self.note, self._texts = str(error), IdTexts()
        return self._texts

    def refresh(self) -> View:
        """The dataset as it is now; also `self.view`. Raises UserError when it is gone, or when its marks or an
        imported set's rows are damaged. A damaged shard of trajectories is passed over and named in `view.corrupt`."""
        with self._reading:
            if not self.folder.is_dir():
                raise UserError("This dataset is not there any more; it was deleted.")
            paths = [self.folder / FILE] if self.imported else shards(self.folder)
            parts = {path: self._part(path) for path in paths}
            stamp = (*(part[0] for part in parts.values()), _stamp_of(marks_path(self.folder)))
            if stamp == self._stamp:
                return self.view
            self._parts = parts
            sound = [part for _, part in parts.values() if isinstance(part, Explored) and part.steps]
            data = join(sound) if sound else nothing()
            corrupt = tuple(part for _, part in parts.values() if isinstance(part, str))
            self.view = View(data, load_marks(self.folder), _places(data, self.imported), self.imported, corrupt)
            self._stamp = stamp
            return self.view

    def _part(self, path: Path) -> tuple[tuple, Explored | str]:
        stamp = (path, _stamp_of(path))
        known = self._parts.get(path)
        if known and known[0] == stamp:
            return known
        if self.imported:
            parts = [
                read_imported_part(table, lambda t: NAMES.index(kind_of(t))) for table in read_imported(self.folder)
            ]
            return stamp, join(parts)
        try:
            return stamp, read_trajectories(path, self._kinds)
        except UserError as error:
            return stamp, str(error)

    def _kinds(self, ids: np.ndarray) -> np.ndarray:
        distinct, back = np.unique(ids, return_inverse=True)
        texts = self.texts
        if isinstance(texts, IdTexts):
            return np.full(len(ids), NAMES.index("other"), np.int8)
        kinds = [NAMES.index(kind_of(texts.text(id), texts.special(id))) for id in distinct.tolist()]
        return np.array(kinds, np.int8)[back]

    def histogram(self, edges: Iterable[float]) -> list[int]:
        """How many steps' KL lies in [edge, next edge); the last bin takes everything above, infinite ones included."""
        edges = np.asarray(list(edges), np.float64)
        kl = self.view.data.values["kl"].astype(np.float64)
        return np.histogram(kl.clip(0, np.nextafter(edges[-1], 0)), edges)[0].tolist()

    def kept(self, betas: Iterable[float]) -> list[dict]:
        """For each β: how many steps have a larger KL, and which share of all."""
        kl = np.sort(self.view.data.values["kl"].astype(np.float64))
        counts = ((beta, len(kl) - int(np.searchsorted(kl, beta, side="right"))) for beta in betas)
        return [{"beta": beta, "steps": n, "share": n / max(1, len(kl))} for beta, n in counts]

    def alpha_effect(self, alphas: Iterable[float], beta: float) -> list[dict]:
        """For each α: the mean number of tokens in the targets of steps above β, and the share of one-token targets.

        Only steps whose details were stored; both are None where there is no such step.
        """
        data = self.view.data
        which = data.detail[above(data.values["kl"], beta) & (data.detail >= 0)]
        rows = []
        for alpha in alphas:
            sizes = data.target_sizes(alpha)[which]
            mean, one = (float(sizes.mean()), float((sizes == 1).mean())) if len(sizes) else (None, None)
            rows.append({"alpha": alpha, "tokens": mean, "one_token": one, "targets": len(sizes)})
        return rows

    def kinds(self) -> list[dict]:
        """Steps and mean KL (of those where it is finite) per kind of token; kinds that do not occur are left out."""
        data = self.view.data
        kl = np.where(np.isfinite(data.values["kl"]), data.values["kl"], np.nan).astype(np.float64)
        counts = np.bincount(data.kind, minlength=len(KINDS))
        finite = np.bincount(data.kind[~np.isnan(kl)], minlength=len(KINDS))
        sums = np.bincount(data.kind, np.nan_to_num(kl), len(KINDS))
        rows = zip(KINDS, counts.tolist(), (sums / np.maximum(1, finite)).tolist(), strict=True)
        return [
            {"kind": kind.name, "title": kind.title, "says": kind.says, "steps": n, "mean_kl": mean}
            for kind, n, mean in rows
            if n
        ]

    def chosen(self, selection: Selection, view: View | None = None) -> np.ndarray:
        """(steps,) which steps the selector takes, before marks. The last answer is remembered. Raises UserError."""
        data = (view or self.view).data
        asked, of, chosen = self._chosen
        if asked != selection or of is not data:
            needs = set(selector_named(selection.selector).needs) - {"kl"}
            if self.imported and needs:
                raise UserError(
                    f"The selector {selection.selector} needs more than an imported set holds; use kl, top-percent, "
                    "random or every-k."
                )
            chosen = select({**data.values, "agree": data.agree}, selection)
            self._chosen = (selection, data, chosen)
        return chosen

    def report(self, selection: Selection) -> SelectionReport:
        """What supervision.samples would report at this selection, without reading anything. Raises UserError."""
        view = self.view
        selected = self.chosen(selection, view)
        takes = selected.copy()
        for place, mark in view.marked().items():
            if mark != "pin":
                takes[place] = mark == "keep"
        stored = view.data.detail >= 0
        counts = (takes & stored, takes & ~stored, takes & ~selected, selected & ~takes)
        return SelectionReport(len(selected), int(selected.sum()), *(int(count.sum()) for count in counts))

    def mark(self, problem_id: str, sample: int, step: int, kind: Kind | None) -> None:
        """Mark a step of this dataset (see marks.set_mark) and take it in. Raises UserError."""
        key = checked_key((problem_id, sample, step))
        if self.view.place(key) is None:
            raise UserError(f"This dataset has no step {step} of {problem_id[:80]!r}; it may have been sampled anew.")
        set_mark(self.folder, key, kind)
        self.refresh()

    def row(self, problem_id: str, sample: int = 0) -> dict:
        """A trajectory in full, as stored (see trajectories.SCHEMA). Raises UserError."""
        problem_id, sample, _ = checked_key((problem_id, sample, 0))
        place = None if self.imported else self.view.places.get((problem_id, sample))
        if place is None:
            why = "an imported set has no trajectories" if self.imported else "the link names another dataset's"
            raise UserError(f"There is no trajectory {problem_id[:80]!r}, {sample} to show: {why}.")
        response = self.view.data.responses[place]
        path = next(path for path in self._parts if path.name == response.shard)
        return read_shard(path).slice(response.place, 1).to_pylist()[0]


def _places(data: Explored, imported: bool) -> MappingProxyType:
    names = ((r.problem_id, r.sample) for r in data.responses)
    if imported:
        names = ((*name, step) for name, step in zip(names, data.index.tolist(), strict=True))
    return MappingProxyType({name: n for n, name in enumerate(names)})


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
