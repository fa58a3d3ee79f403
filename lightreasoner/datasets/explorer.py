"""Explorer: a dataset's statistics, also while it is being sampled. It reads each shard once.

Imported datasets are explored in the same way; they have no measures other than KL and no complete responses.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from lightreasoner.datasets.annotations import (
    Annotations,
    Kind,
    StepKey,
    annotations_path,
    check_step_key,
    load_annotations,
    set_annotation,
)
from lightreasoner.datasets.explorer_columns import (
    ExplorerColumns,
    concatenate,
    imported_columns,
    no_columns,
    read_shard_columns,
)
from lightreasoner.datasets.imported import FILE, is_imported, read_imported, refuse_missing_measures
from lightreasoner.datasets.samples import SelectionReport
from lightreasoner.datasets.selectors import Selection, above_beta, select, thin_evenly
from lightreasoner.datasets.token_categories import CATEGORIES, CATEGORY_NAMES, token_category
from lightreasoner.datasets.trajectories import FOLDER, kl_histogram, read_shard, shards
from lightreasoner.errors import UserError
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.paper import TEACHES
from lightreasoner.storage.atomic import stamp
from lightreasoner.storage.runs import read_run

DRAWN, CELLS = 2000, (40, 30)  # points and cells of the plane of entropy and KL
FARTHEST = 100.0  # nats in that plane, where the KL is larger or infinite
MOST_ALPHAS = 8  # whose teaching signals stay in memory, 4 bytes per step each


class IdTexts:
    """Replaces a tokenizer that is not available: a token's text is its id in brackets."""

    def text(self, id: int) -> str:
        return f"[{id}]"

    def bytes(self, id: int) -> bytes:
        return self.text(id).encode()

    def special(self, id: int) -> bool:
        return False


@dataclass(frozen=True)
class View:
    """A dataset at one moment: answers from the same View are consistent with each other."""

    data: ExplorerColumns
    annotations: Annotations
    #: (problem id, sample) → row; in an imported dataset (…, step) → the step's position
    positions: MappingProxyType[tuple, int]
    imported: bool
    corrupt: tuple[str, ...]  # an error message per damaged shard

    def position(self, key: StepKey) -> int | None:
        """A step's position among all steps, or None if the dataset does not contain it."""
        if self.imported:
            return self.positions.get(key)
        row = self.positions.get(key[:2])
        starts = self.data.starts
        return None if row is None or not 0 <= key[2] < starts[row + 1] - starts[row] else int(starts[row]) + key[2]

    def annotated(self) -> dict[int, str]:
        """The step's position → annotation, for all annotated steps that the dataset contains."""
        positions = ((self.position(key), kind) for key, kind in self.annotations.by_step.items())
        return {position: kind for position, kind in positions if position is not None}


@dataclass(frozen=True)
class Taught:
    """What training samples teach, by the teaching signal: KL(target ‖ expert) in nats."""

    samples: int
    teaching: int  # samples whose signal is at least TEACHES
    loss: float  # their mean, the loss that training starts from


class Explorer:
    """Reads the dataset in a run folder; `refresh` reads only what is new. Thread-safe."""

    def __init__(self, folder: Path):
        """Reads no steps yet. Raises UserError when the folder is not a dataset."""
        self.folder = Path(folder)
        self.run = read_run(self.folder, "dataset")
        self.imported = is_imported(self.run)
        self.note: str | None = None  # why token ids have no texts
        self._texts: TokenTexts | IdTexts | None = None
        self._parts: dict[Path, tuple[tuple, ExplorerColumns | str]] = {}  # shard → (version, columns or an error)
        self._version: tuple = ()
        self._lock = threading.Lock()
        self._selected: tuple[Selection | None, ExplorerColumns | None, np.ndarray] = (None, None, np.zeros(0, bool))
        #: The tables of these columns by α and cap, the last one used at the end.
        self._tables: tuple[ExplorerColumns | None, dict[tuple[float, float | None], pd.DataFrame]] = (None, {})
        self.view = View(no_columns(), Annotations(), MappingProxyType({}), self.imported, ())

    @property
    def texts(self) -> TokenTexts | IdTexts:
        """Texts of token ids, by the dataset's tokenizer; without one, `note` says why."""
        if self._texts is None:
            from lightreasoner.datasets.tokenizer import dataset_tokenizer

            try:
                self._texts = TokenTexts(dataset_tokenizer(self.folder, self.run))
            except UserError as error:
                self.note, self._texts = str(error), IdTexts()
        return self._texts

    def refresh(self) -> View:
        """The dataset as it is now, also as `self.view`. A damaged shard is skipped and reported in `view.corrupt`.

        Raises UserError when the dataset was deleted, or when its annotations or imported samples are damaged.
        """
        with self._lock:
            if not self.folder.is_dir():
                raise UserError("This dataset no longer exists; it was deleted.")
            paths = [self.folder / FILE] if self.imported else shards(self.folder)
            parts = {path: self._part(path) for path in paths}
            version = (*(part[0] for part in parts.values()), stamp(annotations_path(self.folder)))
            if version == self._version:
                return self.view
            self._parts = parts
            readable = [part for _, part in parts.values() if isinstance(part, ExplorerColumns) and part.steps]
            data = concatenate(readable) if readable else no_columns()
            corrupt = tuple(part for _, part in parts.values() if isinstance(part, str))
            annotations = load_annotations(self.folder)
            self.view = View(data, annotations, _positions(data, self.imported), self.imported, corrupt)
            self._version = version
            return self.view

    def _part(self, path: Path) -> tuple[tuple, ExplorerColumns | str]:
        version = (path, stamp(path))
        known = self._parts.get(path)
        if known and known[0] == version:
            return known
        if self.imported:
            category = lambda text: CATEGORY_NAMES.index(token_category(text))  # noqa: E731
            return version, concatenate(imported_columns(table, category) for table in read_imported(self.folder))
        try:
            return version, read_shard_columns(path, self._categories)
        except UserError as error:
            return version, str(error)

    def _categories(self, ids: np.ndarray) -> np.ndarray:
        distinct, back = np.unique(ids, return_inverse=True)
        texts = self.texts
        if isinstance(texts, IdTexts):
            return np.full(len(ids), CATEGORY_NAMES.index("other"), np.int8)
        names = (token_category(texts.text(id), texts.special(id)) for id in distinct.tolist())
        return np.array([CATEGORY_NAMES.index(name) for name in names], np.int8)[back]

    def table(self, alpha: float, view: View | None = None, cap: float | None = None) -> pd.DataFrame:
        """The data's table with the column "teaching", the teaching signal at this α and cap; remembers some."""
        data = (view or self.view).data
        of, tables = self._tables
        if of is not data:
            self._tables = data, (tables := {})
        table = tables.pop((alpha, cap), None)
        if table is None:
            table = data.table_with({"teaching": data.teaching(alpha, cap)})
        tables[alpha, cap] = table
        if len(tables) > MOST_ALPHAS:
            tables.pop(next(iter(tables)), None)
        return table

    def histogram(self, edges: Sequence[float], alpha: float | None = None, cap: float | None = None) -> list[int]:
        """`kl_histogram` of KL, or of the teaching signal at an α and cap, where it is known."""
        values = self.view.data.values["kl"] if alpha is None else self.table(alpha, cap=cap)["teaching"]
        return kl_histogram(values, edges).tolist()

    def plane(self, alpha: float, cap: float | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(at most DRAWN steps, evenly spaced, with their expert_entropy, kl and teaching signal at this α; the number
        of all steps in cells of the first two, at their middles). Both are clipped at FARTHEST nats."""
        view = self.view
        measured = self.table(alpha, view, cap)[["expert_entropy", "kl", "teaching"]]
        x, y = (np.sqrt(measured[name].to_numpy().clip(0, FARTHEST)) for name in ("expert_entropy", "kl"))
        counts, xs, ys = np.histogram2d(x, y, CELLS)
        column, row = np.nonzero(counts)
        middles = [((edges[1:] + edges[:-1]) / 2) ** 2 for edges in (xs, ys)]
        cells = {"expert_entropy": middles[0][column], "kl": middles[1][row], "steps": counts[column, row].astype(int)}
        shown = measured.take(thin_evenly(np.arange(len(measured)), DRAWN)).clip(upper=FARTHEST)
        return shown, pd.DataFrame(cells)

    def steps_above(self, betas: Iterable[float]) -> list[dict]:
        """For each β: the number of steps with a larger KL, and their share of all steps."""
        kl = np.sort(self.view.data.values["kl"].astype(np.float64))
        counts = ((beta, len(kl) - int(np.searchsorted(kl, beta, side="right"))) for beta in betas)
        return [{"beta": beta, "steps": n, "share": n / max(1, len(kl))} for beta, n in counts]

    def alpha_effect(self, alphas: Iterable[float], beta: float) -> list[dict]:
        """For each α, over the targets of the steps above β: mean number of tokens, share of one-token targets.

        Counts only steps stored in detail; without any, both are None.
        """
        data = self.view.data
        which = data.detail[above_beta(data.values["kl"], beta) & (data.detail >= 0)]
        rows = []
        for alpha in alphas:
            sizes = data.target_sizes(alpha)[which]
            mean, one = (float(sizes.mean()), float((sizes == 1).mean())) if len(sizes) else (None, None)
            rows.append({"alpha": alpha, "tokens": mean, "one_token": one, "targets": len(sizes)})
        return rows

    def categories(self) -> list[dict]:
        """Number of steps and mean finite KL per token category; categories without steps are left out."""
        table = self.view.data.table
        kl = table["kl"].where(np.isfinite(table["kl"])).astype("float64")
        found = kl.groupby(table["category"]).agg(["size", "mean"]).fillna({"mean": 0.0})
        return [
            {"kind": category.name, "title": category.title, "says": category.description, "steps": n, "mean_kl": mean}
            for category, n, mean in ((CATEGORIES[at], *row) for at, *row in found.itertuples())
        ]

    def selected_steps(self, selection: Selection, view: View | None = None) -> np.ndarray:
        """(steps,) booleans, before annotations. Remembers the last selection. Raises UserError."""
        view = view or self.view
        data = view.data
        last, last_data, selected = self._selected
        if last != selection or last_data is not data:
            if self.imported:
                refuse_missing_measures(selection)
            values = {**data.values, "agree": data.agree}
            if selection.selector == "teaching":
                values["teaching"] = self.table(selection.alpha, view, selection.cap)["teaching"].to_numpy()
            selected = select(values, selection)
            self._selected = (selection, data, selected)
        return selected

    def taught(self, selection: Selection) -> Taught:
        """What the samples of `report` teach. Raises UserError."""
        view = self.view
        used = self._used(selection, view) & (view.data.detail >= 0)
        signal = self.table(selection.alpha, view, selection.cap)["teaching"].to_numpy()[used].astype(np.float64)
        if not len(signal) or view.imported:
            return Taught(0, 0, 0.0)
        return Taught(len(signal), int((signal >= TEACHES).sum()), float(signal.mean()))

    def report(self, selection: Selection) -> SelectionReport:
        """The report of `select_steps.training_samples`, without reading any file. Raises UserError."""
        view = self.view
        selected, used = self.selected_steps(selection, view), self._used(selection, view)
        return SelectionReport.count(selected, used, view.data.detail >= 0, selection.selector == "teaching")

    def _used(self, selection: Selection, view: View) -> np.ndarray:
        """(steps,) booleans: the selected steps, after annotations."""
        used = self.selected_steps(selection, view).copy()
        for position, kind in view.annotated().items():
            if kind != "pin":
                used[position] = kind == "keep"
        return used

    def past_end(self) -> tuple[int, int]:
        """(responses that run on past the end of their turn, their steps after it), by the dataset's own tokenizer.

        As versions until 0.4 sampled models whose chat template alone names that end.
        """
        data, ends = self.view.data, self._ends()
        if self.imported or not ends:
            return 0, 0
        found = np.flatnonzero(np.isin(data.token_id, ends))
        rows, first = np.unique(data.row[found], return_index=True)
        after = data.starts[rows + 1] - found[first] - 1
        return int((after > 0).sum()), int(after.sum())

    def _ends(self) -> list[int]:
        from lightreasoner.models.turn_ends import template_ends

        tokenizer = getattr(self.texts, "tokenizer", None)
        named = [*template_ends(tokenizer), tokenizer.eos_token_id] if tokenizer else []
        return [end for end in named if isinstance(end, int)]

    def annotate(self, problem_id: str, sample: int, step: int, kind: Kind | None) -> None:
        """Annotate a step (see `annotations.set_annotation`) and refresh. Raises UserError."""
        key = check_step_key((problem_id, sample, step))
        if self.view.position(key) is None:
            raise UserError(f"This dataset has no step {step} of {problem_id[:80]!r}; it may have been sampled again.")
        set_annotation(self.folder, key, kind)
        self.refresh()

    def row(self, problem_id: str, sample: int = 0) -> dict:
        """A complete trajectory as stored (see trajectories.SCHEMA). Raises UserError."""
        problem_id, sample, _ = check_step_key((problem_id, sample, 0))
        row = None if self.imported else self.view.positions.get((problem_id, sample))
        if row is None:
            reason = "an imported dataset has no trajectories" if self.imported else "it belongs to another dataset"
            raise UserError(f"There is no trajectory {problem_id[:80]!r}, {sample} to show: {reason}.")
        response = self.view.data.responses[row]
        found = read_shard(self.folder / FOLDER / response.shard).slice(response.row, 1).to_pylist()
        if not found or (found[0]["problem_id"], found[0]["sample"]) != (problem_id, sample):
            raise UserError(f"The shard {response.shard} was changed while it was shown; reload the page.")
        return found[0]


def _positions(data: ExplorerColumns, imported: bool) -> MappingProxyType:
    keys = ((r.problem_id, r.sample) for r in data.responses)
    if imported:
        keys = ((*key, step) for key, step in zip(keys, data.index.tolist(), strict=True))
    return MappingProxyType({key: n for n, key in enumerate(keys)})
